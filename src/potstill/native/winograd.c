/* 3x3 convolution, stride 1, border of one zero, by the minimal filtering F(4x4, 3x3) of Winograd
   (Lavin and Gray, CVPR 2016, arXiv:1509.09308): 36 products for 16 outputs in place of 144.

   A plane is cut into tiles of 4x4 outputs, each of which sees 6x6 inputs d. With g the 3x3 weights,
       y = A' [ sum over channels of (G g G') * (B' d B) ] A          (A' is A transposed, * is element by element)
   and for the gradient by the weights, with e the gradient that reaches a tile,
       dg = G' [ sum over tiles of (B' d B) * (A e A') ] G .
   The matrices are those of the points 0, P, -P, Q, -Q and infinity. The usual 1 and 2 are simpler, but with
   5/8 and 3/2 entries of the matrices are nearer to each other and less is lost by rounding; their squares and the
   products of those are exact in single precision.

   All sums over channels or tiles are products of matrices, 36 of them, of which a few samples' worth stays in a
   core's cache. Numbers of L channels lie side by side, so that a transform is arithmetic on whole vectors.

   Layouts: x (n, ch, h, w), y (n, k, h, w), weights (k, ch, 3, 3); v (36, tiles, ch), m (36, tiles, KB or k),
   u (k / KB, 36, ch, KB), du (36, ch, k). ch and k are multiples of KB. */

#include "vectors.h"

#define KB (2 * L)
#define P 0.625f
#define Q 1.5f
#define P2 (P * P)
#define Q2 (Q * Q)

/* ---- L planes of numbers to vectors of L channels, and back ---- */

/* lanes of two vectors whose squares of s by s lanes beside the diagonal are exchanged */
#define LOW(i, s) ((i) & (s) ? (i) - (s) + L : (i))
#define HIGH(i, s) ((i) & (s) ? (i) + L : (i) + (s))
#define EXCHANGE(s)                                                     \
    static inline void exchange##s(vec *a, vec *b) {                    \
        vec x = __builtin_shufflevector(*a, *b, LANES(LOW, s));         \
        *b = __builtin_shufflevector(*a, *b, LANES(HIGH, s));           \
        *a = x;                                                         \
    }
EXCHANGE(1)
EXCHANGE(2)
EXCHANGE(4)
#if L == 16
EXCHANGE(8)
#endif

static inline void transpose(vec *r) {
#pragma GCC unroll 16
    for (int i = 0; i < L; i++)
        if (!(i & 1)) exchange1(r + i, r + i + 1);
#pragma GCC unroll 16
    for (int i = 0; i < L; i++)
        if (!(i & 2)) exchange2(r + i, r + i + 2);
#pragma GCC unroll 16
    for (int i = 0; i < L; i++)
        if (!(i & 4)) exchange4(r + i, r + i + 4);
#if L == 16
#pragma GCC unroll 16
    for (int i = 0; i < L; i++)
        if (!(i & 8)) exchange8(r + i, r + i + 8);
#endif
}

static void interleave(const float *planes, num size, vec *out) {
    num i = 0;
    for (; i + L <= size; i += L) {
        vec r[L];
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) r[l] = *(const vec *)(planes + l * size + i);
        transpose(r);
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) out[i + l] = r[l];
    }
    for (; i < size; i++)
        for (int l = 0; l < L; l++) ((float *)(out + i))[l] = planes[l * size + i];
}

static void separate(const vec *in, num size, float *planes) {
    num i = 0;
    for (; i + L <= size; i += L) {
        vec r[L];
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) r[l] = in[i + l];
        transpose(r);
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) *(vec *)(planes + l * size + i) = r[l];
    }
    for (; i < size; i++)
        for (int l = 0; l < L; l++) planes[l * size + i] = ((const float *)(in + i))[l];
}

/* ---- the transforms along one side: from entries s apart to entries t apart ---- */

static inline void by_b(const vec *d, num s, vec *o, num t) {
    vec a = d[4 * s] - Q2 * d[2 * s], b = P * (d[3 * s] - Q2 * d[s]);
    vec c = d[4 * s] - P2 * d[2 * s], e = Q * (d[3 * s] - P2 * d[s]);
    o[0] = P2 * Q2 * d[0] - (P2 + Q2) * d[2 * s] + d[4 * s];
    o[t] = a + b;
    o[2 * t] = a - b;
    o[3 * t] = c + e;
    o[4 * t] = c - e;
    o[5 * t] = P2 * Q2 * d[s] - (P2 + Q2) * d[3 * s] + d[5 * s];
}

static inline void by_a(const vec *m, num s, vec *o, num t) {
    vec a = m[s] + m[2 * s], b = P * (m[s] - m[2 * s]), c = m[3 * s] + m[4 * s], e = Q * (m[3 * s] - m[4 * s]);
    o[0] = m[0] + a + c;
    o[t] = b + e;
    o[2 * t] = P2 * a + Q2 * c;
    o[3 * t] = P2 * b + Q2 * e + m[5 * s];
}

static inline void by_a_transposed(const vec *e, num s, vec *o, num t) {
    vec a = e[0] + P2 * e[2 * s], b = P * (e[s] + P2 * e[3 * s]);
    vec c = e[0] + Q2 * e[2 * s], d = Q * (e[s] + Q2 * e[3 * s]);
    o[0] = e[0];
    o[t] = a + b;
    o[2 * t] = a - b;
    o[3 * t] = c + d;
    o[4 * t] = c - d;
    o[5 * t] = e[3 * s];
}

static inline void by_g(const vec *g, num s, vec *o, num t) {
    vec a = (g[0] + P2 * g[2 * s]) / (2 * P2 * (P2 - Q2)), b = P / (2 * P2 * (P2 - Q2)) * g[s];
    vec c = (g[0] + Q2 * g[2 * s]) / (2 * Q2 * (Q2 - P2)), e = Q / (2 * Q2 * (Q2 - P2)) * g[s];
    o[0] = g[0] / (P2 * Q2);
    o[t] = a + b;
    o[2 * t] = a - b;
    o[3 * t] = c + e;
    o[4 * t] = c - e;
    o[5 * t] = g[2 * s];
}

/* ---- the transforms of all tiles of n samples; ``apart`` is the distance between two of the 36 matrices ---- */

static void of_inputs(const float *x, float *v, num n, num ch, num h, num w, num apart) {
    num th = (h + 3) / 4, tw = (w + 3) / 4, bw = 4 * tw + 2, bh = 4 * th + 2;
    vec padded[bw * bh], flat[h * w];
    memset(padded, 0, sizeof padded);
    for (num i = 0; i < n; i++)
        for (num c = 0; c < ch; c += L) {
            interleave(x + (i * ch + c) * h * w, h * w, flat);
            for (num r = 0; r < h; r++) memcpy(padded + (r + 1) * bw + 1, flat + r * w, w * sizeof(vec));
            for (num r = 0; r < th; r++)
                for (num z = 0; z < tw; z++) {
                    const vec *d = padded + 4 * r * bw + 4 * z;
                    float *to = v + ((i * th + r) * tw + z) * ch + c;
                    vec half[36], o[36];
#pragma GCC unroll 6
                    for (int j = 0; j < 6; j++) by_b(d + j, bw, half + j, 6);
#pragma GCC unroll 6
                    for (int j = 0; j < 6; j++) by_b(half + 6 * j, 1, o + 6 * j, 1);
#pragma GCC unroll 36
                    for (int j = 0; j < 36; j++) *(vec *)(to + j * apart) = o[j];
                }
        }
}

static void of_gradients(const float *g, float *m, num n, num k, num h, num w, num apart) {
    num th = (h + 3) / 4, tw = (w + 3) / 4, bw = 4 * tw, bh = 4 * th;
    vec padded[bw * bh], flat[h * w];
    memset(padded, 0, sizeof padded);
    for (num i = 0; i < n; i++)
        for (num c = 0; c < k; c += L) {
            interleave(g + (i * k + c) * h * w, h * w, flat);
            for (num r = 0; r < h; r++) memcpy(padded + r * bw, flat + r * w, w * sizeof(vec));
            for (num r = 0; r < th; r++)
                for (num z = 0; z < tw; z++) {
                    const vec *e = padded + 4 * r * bw + 4 * z;
                    float *to = m + ((i * th + r) * tw + z) * k + c;
                    vec half[24], o[36];
#pragma GCC unroll 4
                    for (int j = 0; j < 4; j++) by_a_transposed(e + j, bw, half + j, 4);
#pragma GCC unroll 6
                    for (int j = 0; j < 6; j++) by_a_transposed(half + 4 * j, 1, o + 6 * j, 1);
#pragma GCC unroll 36
                    for (int j = 0; j < 36; j++) *(vec *)(to + j * apart) = o[j];
                }
        }
}

/* KB channels of n samples, from m (36, tiles, KB); y begins at the first of them, and a sample has k in all */
static void to_outputs(const float *m, const float *bias, float *y, num n, num k, num h, num w, num apart) {
    num th = (h + 3) / 4, tw = (w + 3) / 4;
    vec flat[h * w];
    for (num i = 0; i < n; i++)
        for (num c = 0; c < KB; c += L) {
            vec b = {0};
            if (bias) b = *(const vec *)(bias + c);
            for (num r = 0; r < th; r++)
                for (num z = 0; z < tw; z++) {
                    const float *from = m + ((i * th + r) * tw + z) * KB + c;
                    vec half[24], o[16];
#pragma GCC unroll 6
                    for (int j = 0; j < 6; j++) {
                        vec d[6];
#pragma GCC unroll 6
                        for (int q = 0; q < 6; q++) d[q] = *(const vec *)(from + (6 * q + j) * apart);
                        by_a(d, 1, half + j, 6);
                    }
#pragma GCC unroll 4
                    for (int j = 0; j < 4; j++) by_a(half + 6 * j, 1, o + 4 * j, 1);
                    for (num a = 0; a < 4 && 4 * r + a < h; a++)
                        for (num q = 0; q < 4 && 4 * z + q < w; q++) flat[(4 * r + a) * w + 4 * z + q] = o[4 * a + q] + b;
                }
            separate(flat, h * w, y + (i * k + c) * h * w);
        }
}

/* ---- products of matrices ---- */

/* count rows of v (tiles, ch) times u (ch, KB) */
static inline void rows(const float *v, const float *u, float *m, num ch, int count) {
    vec sum[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) sum[i][0] = sum[i][1] = (vec){0};
    for (num c = 0; c < ch; c++) {
        vec a = *(const vec *)(u + c * KB), b = *(const vec *)(u + c * KB + L);
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            sum[i][0] += v[i * ch + c] * a;
            sum[i][1] += v[i * ch + c] * b;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        *(vec *)(m + i * KB) = sum[i][0];
        *(vec *)(m + i * KB + L) = sum[i][1];
    }
}

static void product(const float *v, const float *u, float *m, num tiles, num ch) {
    num i = 0;
    for (; i + ROWS <= tiles; i += ROWS) rows(v + i * ch, u, m + i * KB, ch, ROWS);
    for (; i + 2 <= tiles; i += 2) rows(v + i * ch, u, m + i * KB, ch, 2);
    if (i < tiles) rows(v + i * ch, u, m + i * KB, ch, 1);
}

/* du (ch, k) += v' m, with v (tiles, ch) and m (tiles, k) */
static void product_of_transposed(const float *v, const float *m, float *du, num tiles, num ch, num k) {
    for (num b = 0; b < k; b += KB)
        for (num c = 0; c < ch; c += ROWS) {
            vec sum[ROWS][2];
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                sum[i][0] = *(const vec *)(du + (c + i) * k + b);
                sum[i][1] = *(const vec *)(du + (c + i) * k + b + L);
            }
            for (num t = 0; t < tiles; t++) {
                vec p = *(const vec *)(m + t * k + b), q = *(const vec *)(m + t * k + b + L);
#pragma GCC unroll 8
                for (int i = 0; i < ROWS; i++) {
                    sum[i][0] += v[t * ch + c + i] * p;
                    sum[i][1] += v[t * ch + c + i] * q;
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                *(vec *)(du + (c + i) * k + b) = sum[i][0];
                *(vec *)(du + (c + i) * k + b + L) = sum[i][1];
            }
        }
}

/* ---- what Python calls; ``s`` samples are handled at a time by each of ``threads`` ---- */

/* Numbers between two of the 36 matrices: a little more than the matrix, so that they do not share lines of the cache. */
static num distance(num numbers) { return numbers + 2 * L; }

/* Numbers of scratch memory that a thread needs. */
num winograd_scratch(num ch, num k, num h, num w, num s, num gradient) {
    num tiles = s * ((h + 3) / 4) * ((w + 3) / 4);
    if (!gradient) return 36 * (distance(tiles * ch) + distance(tiles * KB));
    return 36 * (distance(tiles * ch) + distance(tiles * k) + ch * k);
}

void winograd_weights(const float *weights, float *u, num ch, num k, num threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num b = 0; b < k / KB; b++)
        for (num c = 0; c < ch; c++)
            for (num q = 0; q < KB; q += L) {
                vec g[9], half[18], o[36];
                for (int j = 0; j < 9; j++)
                    for (int l = 0; l < L; l++) ((float *)(g + j))[l] = weights[((b * KB + q + l) * ch + c) * 9 + j];
                for (int j = 0; j < 3; j++) by_g(g + j, 3, half + j, 3);
                for (int j = 0; j < 6; j++) by_g(half + 3 * j, 1, o + 6 * j, 1);
                for (int j = 0; j < 36; j++) *(vec *)(u + ((b * 36 + j) * ch + c) * KB + q) = o[j];
            }
}

void winograd_convolution(const float *x, const float *u, const float *bias, float *y, float *scratch, num n, num ch,
                          num k, num h, num w, num s, num threads) {
    num tiles = ((h + 3) / 4) * ((w + 3) / 4), of_v = distance(s * tiles * ch), of_m = distance(s * tiles * KB);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num t = 0; t < threads; t++) {
        float *v = scratch + t * 36 * (of_v + of_m), *m = v + 36 * of_v;
        num first = n * t / threads, last = n * (t + 1) / threads;
        for (num i = first; i < last; i += s) {
            num now = last - i < s ? last - i : s;
            of_inputs(x + i * ch * h * w, v, now, ch, h, w, of_v);
            for (num b = 0; b < k / KB; b++) {
                for (num j = 0; j < 36; j++)
                    product(v + j * of_v, u + (b * 36 + j) * ch * KB, m + j * of_m, now * tiles, ch);
                to_outputs(m, bias ? bias + b * KB : 0, y + (i * k + b * KB) * h * w, now, k, h, w, of_m);
            }
        }
    }
}

void winograd_weight_gradient(const float *x, const float *g, float *du, float *scratch, num n, num ch, num k, num h,
                              num w, num s, num threads) {
    num tiles = ((h + 3) / 4) * ((w + 3) / 4), of_v = distance(s * tiles * ch), of_m = distance(s * tiles * k);
    num each = 36 * (of_v + of_m + ch * k);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num t = 0; t < threads; t++) {
        float *v = scratch + t * each, *m = v + 36 * of_v, *sum = m + 36 * of_m;
        num first = n * t / threads, last = n * (t + 1) / threads;
        memset(sum, 0, 36 * ch * k * sizeof(float));
        for (num i = first; i < last; i += s) {
            num now = last - i < s ? last - i : s;
            of_inputs(x + i * ch * h * w, v, now, ch, h, w, of_v);
            of_gradients(g + i * k * h * w, m, now, k, h, w, of_m);
            for (num j = 0; j < 36; j++)
                product_of_transposed(v + j * of_v, m + j * of_m, sum + j * ch * k, now * tiles, ch, k);
        }
    }
    /* in the order of the threads, so that a number of threads gives one result */
#pragma omp parallel for num_threads(threads) schedule(static)
    for (num j = 0; j < 36; j++) {
        memcpy(du + j * ch * k, scratch + 36 * (of_v + of_m) + j * ch * k, ch * k * sizeof(float));
        for (num t = 1; t < threads; t++) {
            const float *sum = scratch + t * each + 36 * (of_v + of_m) + j * ch * k;
            for (num i = 0; i < ch * k; i += L) *(vec *)(du + j * ch * k + i) += *(const vec *)(sum + i);
        }
    }
}
