/* Multiply-adds of registers alone, as many as the processor can keep under way: what no program of them can exceed.
   L numbers to a register (-DL=…), as in the package's native/vectors.h. */

#include <stdint.h>

typedef float vec __attribute__((vector_size(4 * L)));
#define CHAINS 12

/* rounds · CHAINS · L multiply-adds; what comes out is of no use but that the compiler cannot leave it out */
void peak(int64_t rounds, float *out) {
    vec sums[CHAINS], by, plus;
    for (int l = 0; l < L; l++) {
        by[l] = out[0];
        plus[l] = out[1];
    }
    for (int i = 0; i < CHAINS; i++) sums[i] = plus * (float)i;
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * by + plus;
    for (int i = 1; i < CHAINS; i++) sums[0] += sums[i];
    for (int l = 0; l < L; l++) out[2] += sums[0][l];
}
