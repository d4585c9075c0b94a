/* L numbers of single precision to a register, wherever they lie: 16 or 8, as the compiler is told (-DL=…).
   ROWS pairs of registers hold sums, of 32 registers or of 16. */

#include <stdint.h>
#include <string.h>

#if L == 16
#define ROWS 8
#define LANES(of, s) LANES_8(of, s, 0), LANES_8(of, s, 8)
#elif L == 8
#define ROWS 4
#define LANES(of, s) LANES_8(of, s, 0)
#else
#error "L is 16 or 8"
#endif
#define LANES_8(of, s, i) \
    of(i, s), of(i + 1, s), of(i + 2, s), of(i + 3, s), of(i + 4, s), of(i + 5, s), of(i + 6, s), of(i + 7, s)

typedef float vec __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef int64_t num;

#define AT(pointer) (*(vec *)(pointer))
#define SEEN(pointer) (*(const vec *)(pointer))

static inline float total(vec v) {
    float sum[L];
    AT(sum) = v;
    for (int width = L / 2; width; width /= 2)
        for (int l = 0; l < width; l++) sum[l] += sum[l + width];
    return sum[0];
}

/* v where y is not at most 0, else 0: what is not a number goes through, as it does in torch */
static inline vec where_positive(vec y, vec v) { return (vec)(~(y <= 0) & (bits)v); }
