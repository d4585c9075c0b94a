/* 16 numbers of single precision to a register, wherever they lie. */

#include <stdint.h>
#include <string.h>

#define L 16

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
