/* What stands between two convolutions of a ConvNet: instance norm, ReLU and 2x2 average pooling, a plane at a time
   while it lies in a core's first cache, with the derivatives of the text in nn/fused.py; and the product, ReLU and
   pooling of nn/product.py.

   A plane has h rows of w numbers, both even; size = h w. With scale = weight / deviation and
   shift = bias - mean scale, y = scale x + shift, and u = [y > 0] spread(g) where g is what reaches the pooled plane. */

#include "vectors.h"
#include <math.h>

/* ---- parts of one plane ---- */

#define SUM(name, arguments, term, single)                        \
    static inline float name arguments {                          \
        vec sum = {0};                                            \
        num i = 0;                                                \
        for (; i + L <= size; i += L) sum += term;                \
        float rest = 0;                                           \
        for (; i < size; i++) rest += single;                     \
        return total(sum) + rest;                                 \
    }
SUM(sum_of, (const float *x, num size), SEEN(x + i), x[i])
SUM(dot_of, (const float *x, const float *y, num size), SEEN(x + i) * SEEN(y + i), x[i] * y[i])
SUM(square_of, (const float *x, float mean, num size), (SEEN(x + i) - mean) * (SEEN(x + i) - mean),
    (x[i] - mean) * (x[i] - mean))

/* 2x2 means of a pair of rows whose sum is ``pair`` */
static inline void halve(const float *pair, num w, float *out) {
    for (num j = 0; j < w / 2; j++) out[j] = 0.25f * (pair[2 * j] + pair[2 * j + 1]);
}

static void relu_pooled(const float *x, float scale, float shift, num h, num w, float *out) {
    float pair[w];
    for (num r = 0; r < h; r += 2, x += 2 * w, out += w / 2) {
        num j = 0;
        for (; j + L <= w; j += L) {
            vec above = scale * SEEN(x + j) + shift, below = scale * SEEN(x + w + j) + shift;
            AT(pair + j) = where_positive(above, above) + where_positive(below, below);
        }
        for (; j < w; j++) {
            float above = scale * x[j] + shift, below = scale * x[w + j] + shift;
            pair[j] = (above <= 0 ? 0 : above) + (below <= 0 ? 0 : below);
        }
        halve(pair, w, out);
    }
}

/* u of a plane from the 2x2 cells' gradients g */
static void reached(const float *g, const float *x, float scale, float shift, num h, num w, float *u) {
    float wide[w];
    for (num r = 0; r < h; r += 2, g += w / 2) {
        for (num j = 0; j < w / 2; j++) wide[2 * j] = wide[2 * j + 1] = 0.25f * g[j];
        for (num q = 0; q < 2; q++, x += w, u += w) {
            num j = 0;
            for (; j + L <= w; j += L) AT(u + j) = where_positive(scale * SEEN(x + j) + shift, SEEN(wide + j));
            for (; j < w; j++) u[j] = scale * x[j] + shift <= 0 ? 0 : wide[j];
        }
    }
}

/* ---- the block, its gradient, and the gradient of that ---- */

void block_forward(const float *x, const float *weight, const float *bias, float *out, float *mean, float *rstd,
                   double eps, num n, num c, num h, num w, num threads) {
    num size = h * w;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num i = 0; i < n * c; i++) {
        const float *plane = x + i * size;
        float m = sum_of(plane, size) / size, r = 1 / sqrtf(square_of(plane, m, size) / size + (float)eps);
        float scale = weight[i % c] * r;
        mean[i] = m, rstd[i] = r;
        relu_pooled(plane, scale, bias[i % c] - m * scale, h, w, out + i * (size / 4));
    }
}

/* of_x may be null; of_weight and of_bias are (n, c), to be summed over n */
void block_backward(const float *grad, const float *x, const float *weight, const float *bias, const float *mean,
                    const float *rstd, float *of_x, float *of_weight, float *of_bias, num n, num c, num h, num w,
                    num threads) {
    num size = h * w;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num i = 0; i < n * c; i++) {
        const float *plane = x + i * size;
        float m = mean[i], r = rstd[i], scale = weight[i % c] * r, shift = bias[i % c] - m * scale, u[size];
        reached(grad + i * (size / 4), plane, scale, shift, h, w, u);
        float sum = sum_of(u, size), along = r * (dot_of(u, plane, size) - m * sum); /* of u, of u times x^ */
        of_weight[i] = along, of_bias[i] = sum;
        if (!of_x) continue;
        /* scale (u - sum / size - x^ along / size) with x^ = r (x - m) */
        float by_x = -scale * along / size * r, constant = -scale * sum / size - by_x * m, *to = of_x + i * size;
        num j = 0;
        for (; j + L <= size; j += L) AT(to + j) = scale * SEEN(u + j) + by_x * SEEN(plane + j) + constant;
        for (; j < size; j++) to[j] = scale * u[j] + by_x * plane[j] + constant;
    }
}

/* cotangents a (n, c, h, w), alpha (c) and beta (c) of the three gradients; by_weight is (n, c), to be summed */
void block_second(const float *grad, const float *x, const float *weight, const float *bias, const float *mean,
                  const float *rstd, const float *a, const float *alpha, const float *beta, float *by_grad, float *by_x,
                  float *by_weight, num n, num c, num h, num w, num threads) {
    num size = h * w;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num i = 0; i < n * c; i++) {
        const float *plane = x + i * size, *b = a + i * size;
        float m = mean[i], r = rstd[i], gain = weight[i % c], scale = gain * r, shift = bias[i % c] - m * scale;
        float u[size], normal[size], pair[w];
        reached(grad + i * (size / 4), plane, scale, shift, h, w, u);
        for (num j = 0; j < size; j++) normal[j] = r * (plane[j] - m);
        float a_mean = sum_of(b, size) / size, a_along = dot_of(normal, b, size) / size;
        float u_mean = sum_of(u, size) / size, u_along = dot_of(normal, u, size) / size;
        float inner = dot_of(b, u, size) - size * (a_mean * u_mean + a_along * u_along); /* <P(a), u> */
        by_weight[i] = r * inner;
        /* q = of_u u + of_a a, and r P(q) - weight r^2 inner x^ / size */
        float of_u = alpha[i % c] - scale * a_along, of_a = -scale * u_along;
        float q_mean = of_u * u_mean + of_a * a_mean, q_along = of_u * u_along + of_a * a_along;
        float of_normal = -r * q_along - scale * r * inner / size, *to = by_x + i * size;
        for (num j = 0; j < size; j++) to[j] = r * (of_u * u[j] + of_a * b[j] - q_mean) + of_normal * normal[j];
        /* pool([y > 0] (weight r P(a) + alpha x^ + beta)) */
        float by_normal = alpha[i % c] - scale * a_along, constant = beta[i % c] - scale * a_mean;
        for (num k = 0; k < h; k += 2) {
            for (num j = 0; j < w; j++) {
                num p = k * w + j, q = p + w;
                float above = scale * b[p] + by_normal * normal[p] + constant;
                float below = scale * b[q] + by_normal * normal[q] + constant;
                pair[j] = (scale * plane[p] + shift <= 0 ? 0 : above) + (scale * plane[q] + shift <= 0 ? 0 : below);
            }
            halve(pair, w, by_grad + i * (size / 4) + k / 2 * (w / 2));
        }
    }
}

/* ---- avg_pool(relu(s patches)): s (n, o, p), patches (n, p, h w) ---- */

#define QUAD (ROWS / 2)

static inline void pooled_rows(const float *s, const float *patches, num p, num size, num w, float *out, int count) {
    vec above[ROWS], below[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) above[i] = below[i] = (vec){0};
    for (num k = 0; k < p; k++) {
        vec first = SEEN(patches + k * size), second = SEEN(patches + k * size + w);
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) above[i] += s[i * p + k] * first, below[i] += s[i * p + k] * second;
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        float pair[L];
        AT(pair) = where_positive(above[i], above[i]) + where_positive(below[i], below[i]);
        halve(pair, L, out + i * (size / 4));
    }
}

/* w is a multiple of L, and in what follows o one of QUAD */
void product_forward(const float *s, const float *patches, float *out, num n, num o, num p, num h, num w, num threads) {
    num size = h * w;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num i = 0; i < n; i++)
        for (num k = 0; k < h; k += 2)
            for (num j = 0; j < w; j += L) {
                const float *from = patches + i * p * size + k * w + j;
                float *to = out + i * o * (size / 4) + k / 2 * (w / 2) + j / 2;
                num c = 0;
                for (; c + ROWS <= o; c += ROWS) pooled_rows(s + (i * o + c) * p, from, p, size, w, to + c * (size / 4), ROWS);
                for (; c < o; c++) pooled_rows(s + (i * o + c) * p, from, p, size, w, to + c * (size / 4), 1);
            }
}

/* sums over k of left[i][k] right[k] for count rows of left and two rows of positions */
static inline void pair_of_rows(const float *left, const float *right, num p, num size, num w, vec *above, vec *below,
                                int count) {
    for (num k = 0; k < p; k++) {
        vec first = SEEN(right + k * size), second = SEEN(right + k * size + w);
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) above[i] += left[i * p + k] * first, below[i] += left[i * p + k] * second;
    }
}

/* With u of y = s patches: by_s = u right', by_patches = left' u and, where asked for, what the cotangents left and
   right of s and patches are for grad: by_grad = pool([y > 0] (left patches + s right)). Each of the three may be null.
   Scratch: for each thread, room for (o, p) and for (o, 2) vectors. */
void product_gradients(const float *grad, const float *s, const float *patches, const float *left, const float *right,
                       float *by_grad, float *by_s, float *by_patches, float *scratch, num n, num o, num p, num h,
                       num w, num threads) {
    num size = h * w, each = (o * p + 2 * o) * L;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num t = 0; t < threads; t++)
        for (num i = n * t / threads; i < n * (t + 1) / threads; i++) {
            float *lanes = scratch + t * each, *u = lanes + o * p * L;
            if (by_s) memset(lanes, 0, o * p * L * sizeof(float));
            for (num k = 0; k < h; k += 2)
                for (num j = 0; j < w; j += L) {
                    num at = i * p * size + k * w + j, pooled = i * o * (size / 4) + k / 2 * (w / 2) + j / 2;
                    for (num c = 0; c < o; c += QUAD) {
                        vec above[QUAD] = {{0}}, below[QUAD] = {{0}};
                        pair_of_rows(s + (i * o + c) * p, patches + at, p, size, w, above, below, QUAD);
                        for (int q = 0; q < QUAD; q++) {
                            float wide[L];
                            const float *g = grad + pooled + (c + q) * (size / 4);
                            for (int l = 0; l < L / 2; l++) wide[2 * l] = wide[2 * l + 1] = 0.25f * g[l];
                            AT(u + (c + q) * 2 * L) = where_positive(above[q], AT(wide));
                            AT(u + (c + q) * 2 * L + L) = where_positive(below[q], AT(wide));
                        }
                        if (!by_grad) continue;
                        vec first[QUAD] = {{0}}, second[QUAD] = {{0}};
                        pair_of_rows(left + (i * o + c) * p, patches + at, p, size, w, first, second, QUAD);
                        pair_of_rows(s + (i * o + c) * p, right + at, p, size, w, first, second, QUAD);
                        for (int q = 0; q < QUAD; q++) {
                            float pair[L];
                            AT(pair) = where_positive(above[q], first[q]) + where_positive(below[q], second[q]);
                            halve(pair, L, by_grad + pooled + (c + q) * (size / 4));
                        }
                    }
                    if (by_s)
                        for (num b = 0; b < p; b++) {
                            vec first = SEEN(right + at + b * size), second = SEEN(right + at + b * size + w);
                            for (num c = 0; c < o; c++)
                                AT(lanes + (b * o + c) * L) += SEEN(u + c * 2 * L) * first + SEEN(u + c * 2 * L + L) * second;
                        }
                    if (by_patches)
                        for (num b = 0; b < p; b++) {
                            vec first = {0}, second = {0};
                            const float *column = left + i * o * p + b;
                            for (num c = 0; c < o; c++) {
                                first += column[c * p] * SEEN(u + c * 2 * L);
                                second += column[c * p] * SEEN(u + c * 2 * L + L);
                            }
                            AT(by_patches + at + b * size) = first;
                            AT(by_patches + at + b * size + w) = second;
                        }
                }
            if (by_s)
                for (num b = 0; b < p; b++)
                    for (num c = 0; c < o; c++) by_s[(i * o + c) * p + b] = total(AT(lanes + (b * o + c) * L));
        }
}
