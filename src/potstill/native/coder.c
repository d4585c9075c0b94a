/* Codes of few bits as an arithmetic-coded stream. potstill/codecs/bitstream says what is computed; its twin.py does the
   same in Python, to the last bit. Integers only. Whatever a stream holds, nothing is read or written beyond the
   memory that is given, and no more decisions are made than the shape needs. */

#include <stdint.h>
#include <string.h>

typedef int64_t num;

enum {
    INPUTS = 32, CONTEXTS = 15, SETS = 3, EDGE = 2815, SPAN = 2 * EDGE + 2, BUCKETS = 16, STEPS = 32, FINAL = 34,
    PLACES = 256, CHOICES = 1024, LEVELS = 16, FEATURES = 50, WEIGHT = 1 << 19, PAD = 4, FAST = 512
};

/* ---- range coder: an interval of 32 bits ---- */

typedef struct {
    uint32_t low, high, code;
    uint8_t *bytes;
    num at, room;
    num *counts;
    int decoding;
} Range;

static Range opened(num decoding, uint8_t *bytes, num room, num *counts) {
    Range r = {.high = ~0u, .bytes = bytes, .room = room, .counts = counts, .decoding = (int)decoding};
    for (; decoding && r.at < 4; r.at++) r.code = r.code << 8 | (r.at < room ? bytes[r.at] : 0);
    return r;
}

/* decoding: 1 or 0, known where this is expanded, so that each way has a loop of its own. The empty assembly keeps a
   decoded decision a branch: foreseen rightly, the next slot is read before this decision is computed. */
static inline __attribute__((always_inline)) int narrow(Range *r, int decoding, int y, uint32_t p) {
    uint32_t middle = r->low + (uint32_t)(((uint64_t)(r->high - r->low) * p) >> 16);
    if (decoding ? r->code <= middle : y) {
        r->high = middle;
        y = 1;
        if (decoding) __asm__("" : "+r"(y));
    } else {
        r->low = middle + 1;
        y = 0;
        if (decoding) __asm__("" : "+r"(y));
    }
    while (!((r->low ^ r->high) >> 24)) {
        if (decoding)
            r->code = r->code << 8 | (r->at < r->room ? r->bytes[r->at] : 0);
        else if (r->at < r->room)
            r->bytes[r->at] = (uint8_t)(r->high >> 24);
        r->at++;
        r->low <<= 8;
        r->high = r->high << 8 | 255;
    }
    return y;
}

static inline int code_bit(Range *r, int y, uint32_t p) {
    y = r->decoding ? narrow(r, 1, y, p) : narrow(r, 0, y, p);
    if (r->counts) r->counts[y ? p : 65536 - p]++;
    return y;
}

/* Bytes of the stream without the zeros at its end, which a decoder reads beyond it; -1 if it ends otherwise than the
   encoder ends it. */
static num closed(Range *r) {
    num sent = r->decoding ? r->at - 4 : r->at, size = sent;
    uint8_t tail = r->low ? (uint8_t)((r->low + 0xFFFFFFu) >> 24) : 0;
    if (tail) {
        if (!r->decoding && sent < r->room) r->bytes[sent] = tail;
        if (r->decoding && (sent >= r->room || r->bytes[sent] != tail)) return -1;
        size++;
    }
    if (!r->decoding && size > r->room) return size;
    if (!tail)
        while (size > 0 && (size > r->room || !r->bytes[size - 1])) size--;
    return r->decoding && size != r->room ? -1 : size;
}

/* ---- mixed model ---- */

typedef struct {
    Range range;
    const int32_t *squash, *stretch, *shares, *bucket;
    uint32_t *slots, *maps, *final;
    int32_t *weights, *last;
    num contexts, log, time;
    uint32_t hash[CONTEXTS];
    uint32_t *line[CONTEXTS];
    uint32_t place, choice;
    int limit, map_limit, rate, least_rate, half;
} Model;

/* 22 bits of probability, 10 bits of how often it was seen */
static inline uint32_t learned(uint32_t slot, int y, uint32_t limit, const int32_t *shares) {
    int64_t p = slot >> 10;
    uint32_t seen = slot & 1023;
    p += (((y ? (1 << 22) - 1 : 0) - p) * shares[seen]) >> 16;
    return (uint32_t)p << 10 | (seen + (seen < limit));
}

static inline int32_t bounded(int32_t x, int32_t most) { return x > most ? most : x < -most ? -most : x; }

static void open_block(Model *m, uint32_t block) {
    for (num k = 0; k < m->contexts; k++) {
        uint32_t h = (m->hash[k] + block * 0x85EBCA6Bu) * 0xC2B2AE35u;
        h = (h ^ h >> 15) * 0x2C1B3C6Du;
        h ^= h >> 13;
        m->line[k] = m->slots + (k << m->log) + (h >> (32 - m->log) & ~15u);
        __builtin_prefetch(m->line[k]);
    }
}

static int decide(Model *m, int y, uint32_t node, uint32_t level) {
    int32_t in[INPUTS] = {0}, x[SETS], *w[SETS];
    uint32_t *map[CONTEXTS], seen[2] = {0, 0};
    num contexts = m->contexts;
    for (num k = 0; k < contexts; k++) {
        uint32_t slot = m->line[k][node], b = (uint32_t)m->bucket[slot & 1023];
        int32_t st = m->stretch[slot >> 20];
        if (k < 2) seen[k] = b;
        map[k] = m->maps + (k * BUCKETS + b) * STEPS + ((st + 2048) >> 7);
        in[2 * k] = b ? st : 0;
        in[2 * k + 1] = m->stretch[*map[k] >> 20];
    }
    in[2 * contexts] = 256;
    uint32_t where = node + 16 * level, set[SETS] = {where, 256 + seen[0] * 16 + seen[1], 512 + m->choice};
    int32_t *last = m->last + where * SETS, joined = 0;
    for (int s = 0; s < SETS; s++) {
        w[s] = m->weights + set[s] * INPUTS;
        int32_t sum = 0;
        for (int i = 0; i < INPUTS; i++) sum += w[s][i] * in[i] >> 8;
        x[s] = bounded(sum >> 8, EDGE);
        joined += last[s] * x[s] >> 8;
    }
    joined = bounded(joined >> 8, EDGE);
    int32_t p = m->squash[joined + EDGE + 1];
    int32_t far = (joined + EDGE + 1) * (FINAL - 1), step = far / SPAN, part = far % SPAN;
    uint32_t *f = m->final + (m->place * 16 + node) * FINAL + step;
    int64_t between = ((int64_t)(f[0] >> 10) * (SPAN - part) + (int64_t)(f[1] >> 10) * part) / SPAN >> 6;
    int32_t q = (int32_t)((3 * p + between) >> 2);
    q = q < 1 ? 1 : q > 65535 ? 65535 : q;
    y = code_bit(&m->range, y, (uint32_t)q);
    f += 2 * part > SPAN;
    *f = learned(*f, y, 255, m->shares);
    int64_t rate = m->least_rate + (int64_t)(m->rate - m->least_rate) * m->half / (m->half + m->time);
    m->time++;
    int32_t aim = y << 16;
    for (int s = 0; s < SETS; s++) {
        int32_t e = (int32_t)((aim - m->squash[x[s] + EDGE + 1]) * rate >> 8);
        for (int i = 0; i < INPUTS; i++) w[s][i] = bounded(w[s][i] + ((in[i] * e + (1 << 13)) >> 14), WEIGHT);
        last[s] = bounded(last[s] + ((x[s] * (int32_t)((aim - p) * rate >> 8) + (1 << 12)) >> 13), WEIGHT);
    }
    for (num k = 0; k < contexts; k++) {
        *map[k] = learned(*map[k], y, (uint32_t)m->map_limit, m->shares);
        m->line[k][node] = learned(m->line[k][node], y, (uint32_t)m->limit, m->shares);
    }
    return y;
}

/* bits from the highest on */
static int code_tree(Model *m, int value, int bits) {
    uint32_t node = 1;
    int out = 0;
    for (int j = 0; j < bits; j++) {
        if (j % 4 == 0) {
            open_block(m, 1u << j | (uint32_t)out);
            node = 1;
        }
        int y = decide(m, value >> (bits - 1 - j) & 1, node, (uint32_t)j / 4);
        node = node << 1 | (uint32_t)y;
        out = out << 1 | y;
    }
    return out;
}

/* whether it is the centre, its side, the length of its distance in unary, and the bits of the distance */
static int code_folded(Model *m, int value, int centre, int most) {
    int sign, e = 0, out = 1, size = value < centre ? centre - value : value - centre;
    open_block(m, 1u << 16);
    if (decide(m, size == 0, 1, 0)) return centre;
    sign = centre == 0 ? 0 : centre == most ? 1 : decide(m, value < centre, 2, 0);
    int reach = sign ? centre : most - centre;
    while (2 << e <= reach && decide(m, size >= 2 << e, 3 + (e > 12 ? 12 : (uint32_t)e), 0)) e++;
    uint32_t node = 1;
    for (int j = e - 1; j >= 0; j--) {
        if ((e - 1 - j) % 3 == 0) {
            open_block(m, 1u << 21 | (uint32_t)sign << 20 | (uint32_t)e << 16 | (uint32_t)out);
            node = 1;
        }
        int y = decide(m, size >> j & 1, node, 4 + (uint32_t)(e - 1 - j) / 3);
        node = node << 1 | (uint32_t)y;
        out = out << 1 | y;
    }
    return sign ? centre - out : centre + out;
}

static inline int32_t length(int64_t x) {
    int32_t bits = 0;
    while (x) bits++, x >>= 1;
    return bits;
}

static inline int32_t apart(int32_t a, int32_t b) { return a < b ? b - a : a - b; }

/* shape: items, channels, height, width, bits, folded, centre, contexts, log of the slots of a context
   classes: of each item; parents: of each column an earlier one, or -1; plan: features of each context, each ended by
   -1; memory: as `memory_size` of twin.py; counts: NULL, or how often each probability of what was coded was used
   Returns the bytes of the stream, more than room where it does not fit; decoding: -1 if it is damaged. */
num code_mixed(num decoding, const num *shape, const int32_t *classes, int32_t *values, const int32_t *parents,
               const int32_t *plan, const int32_t *settings, const int32_t *tables, int32_t *memory, uint8_t *bytes,
               num room, num *counts) {
    num n = shape[0], c = shape[1], h = shape[2], w = shape[3], cells = c * h * w;
    int bits = (int)shape[4], folded = (int)shape[5], centre = (int)shape[6], most = (1 << bits) - 1;
    Model model = {.range = opened(decoding, bytes, room, counts)}, *m = &model;
    m->squash = tables;
    m->stretch = m->squash + SPAN;
    m->shares = m->stretch + 4096;
    m->bucket = m->shares + 1024;
    m->contexts = shape[7];
    m->log = shape[8];
    m->limit = settings[0];
    m->map_limit = settings[1];
    m->rate = settings[2];
    m->least_rate = settings[3];
    m->half = settings[4];
    int64_t *sums = (int64_t *)memory, *all = sums + cells;
    uint32_t *free = (uint32_t *)(all + cells);
    m->slots = free, free += m->contexts << m->log;
    m->maps = free, free += m->contexts * BUCKETS * STEPS;
    m->final = free, free += PLACES * 16 * FINAL;
    m->weights = (int32_t *)free, free += CHOICES * INPUTS;
    m->last = (int32_t *)free, free += 16 * LEVELS * SETS;
    num pitch = w + PAD + 2, plane = (h + 3) * pitch;
    int32_t *now = (int32_t *)free, *one = now + c * plane, *two = one + c * plane;
    memset(sums, 0, (size_t)cells * 16);
    memset(now, 0, (size_t)(c * plane) * 12);
    for (num i = 0; i < m->contexts << m->log; i++) m->slots[i] = 1u << 31;
    for (num i = 0; i < m->contexts * BUCKETS * STEPS; i++)
        m->maps[i] = (uint32_t)m->squash[EDGE + 1 + i % STEPS * 128 - 2048 + 64] << 16;
    for (num i = 0; i < PLACES * 16 * FINAL; i++) {
        num x = i % FINAL * SPAN / (FINAL - 1);
        m->final[i] = (uint32_t)m->squash[x < 1 ? 1 : x > SPAN - 1 ? SPAN - 1 : x] << 16;
    }
    for (num i = 0; i < CHOICES * INPUTS; i++)
        m->weights[i] = i % INPUTS < 2 * m->contexts ? settings[5] / (int32_t)m->contexts : 0;
    for (num i = 0; i < 16 * LEVELS * SETS; i++) m->last[i] = 65536 / SETS;

    int lift = bits > 4 ? bits - 4 : 0;
    num count = 0;
    for (num i = 0; i < n; i++, count++) {
        if (i && classes[i] != classes[i - 1]) {
            memset(sums, 0, (size_t)cells * 8);
            count = 0;
        }
        for (num ch = 0, cell = 0; ch < c; ch++)
            for (num y = 0; y < h; y++)
                for (num x = 0; x < w; x++, cell++) {
                    num o = ch * plane + (y + 2) * pitch + x + PAD, mirror = o + w - 1 - 2 * x;
                    int32_t *p = now, right = x >= (w + 1) / 2, v[FEATURES];
                    int32_t W = p[o - 1], N = p[o - pitch], g = W + N - p[o - pitch - 1];
                    const int32_t *b1 = ch ? p - plane : 0, *b2 = ch > 1 ? b1 - plane : b1;
                    g = g < 0 ? 0 : g > most ? most : g;
                    v[0] = W;
                    v[1] = N;
                    v[2] = p[o - pitch - 1];
                    v[3] = p[o - pitch + 1];
                    v[4] = p[o - 2];
                    v[5] = p[o - 2 * pitch];
                    v[6] = right ? p[mirror] : -1;
                    v[7] = right ? p[mirror - 1] : -1;
                    v[8] = right ? p[mirror + 1] : -1;
                    v[9] = b1 ? b1[o] : 0;
                    v[10] = b2 ? b2[o] : 0;
                    v[11] = (int32_t)(y * w + x);
                    v[12] = (int32_t)ch;
                    v[13] = classes[i];
                    v[14] = one[o];
                    v[15] = two[o];
                    if (folded) {
                        v[16] = count ? length(sums[cell] * 4 / count) : 32;
                        v[17] = i ? length(all[cell] * 4 / i) : 32;
                    } else {
                        v[16] = count ? (int32_t)(sums[cell] * 31 / (count * most)) : 32;
                        v[17] = i ? (int32_t)(all[cell] * 31 / (i * most)) : 32;
                    }
                    v[18] = p[o - pitch + 2];
                    v[19] = p[o - pitch - 2];
                    v[20] = one[o + 1];
                    v[21] = one[o + pitch];
                    v[22] = (int32_t)y;
                    v[23] = (int32_t)x;
                    v[24] = g;
                    v[25] = b1 ? b1[o] + W - b1[o - 1] : g;
                    v[26] = b1 ? b1[o] + N - b1[o - pitch] : g;
                    v[27] = b1 ? b1[o + 1] : 0;
                    v[28] = b1 ? b1[o + pitch] : 0;
                    v[29] = W >> lift;
                    v[30] = N >> lift;
                    v[31] = (2 * (W + N) + v[2] + v[3] + 3) / 6;
                    v[32] = p[o - 2 * pitch - 1];
                    v[33] = p[o - 2 * pitch + 1];
                    v[34] = v[16] >> 2;
                    v[35] = p[mirror - pitch];
                    v[36] = g >> lift;
                    v[37] = v[9] >> lift;
                    v[38] = right;
                    v[39] = one[o - 1];
                    v[40] = parents[x] < 0 ? -1 : p[o - x + parents[x]];
                    v[41] = v[40] < 0 ? -1 : v[40] >> lift;
                    v[42] = length(apart(W, centre));
                    v[43] = length(apart(v[4], centre));
                    v[44] = length(apart(one[o], centre));
                    v[45] = length(apart(v[9], centre));
                    v[46] = v[31] >> lift;
                    v[47] = one[o] >> lift;
                    v[48] = p[o - 3];
                    v[49] = p[o - 4];
                    const int32_t *t = plan;
                    for (num k = 0; k < m->contexts; k++, t++) {
                        uint32_t hash = (uint32_t)k * 0x9E3779B1u;
                        for (; *t >= 0; t++) {
                            hash = (hash ^ (uint32_t)(v[*t] + 2)) * 0x9E3779B1u;
                            hash ^= hash >> 15;
                        }
                        m->hash[k] = hash;
                    }
                    m->choice = (uint32_t)(v[16] * 4 + (W ? 1 : 0) + (N ? 2 : 0));
                    m->place = (uint32_t)(v[29] * 16 + v[30]);
                    int32_t *value = values + i * cells + cell;
                    int32_t got = folded ? code_folded(m, *value, centre, most) : code_tree(m, *value, bits);
                    if (got < 0 || got > most) return -1;
                    *value = p[o] = got;
                    int32_t size = folded ? apart(got, centre) : got;
                    sums[cell] += size;
                    all[cell] += size;
                }
        int32_t *spare = two;
        two = one, one = now, now = spare;
        memset(now, 0, (size_t)(c * plane) * 4);
    }
    return closed(&m->range);
}

/* ---- one context for each decision ---- */

/* way: 1 decodes, 0 encodes, 2 does either and counts probabilities */
static inline __attribute__((always_inline)) int fast_bit(Range *r, int way, int y, uint16_t *slot) {
    uint32_t p = *slot, used = (p >> 4) * 16 + 8;
    y = way == 2 ? code_bit(r, y, used) : narrow(r, way, y, used);
    *slot = (uint16_t)(y ? p + ((65535 - p) >> 5) : p - (p >> 5));
    return y;
}

/* the whole of code_fast: an interval of its own stays in registers */
static inline __attribute__((always_inline)) Range code_values(Range range, int way, const num *shape, int32_t *values,
                                                               uint16_t *memory) {
    num planes = shape[0] * shape[1], h = shape[2], w = shape[3];
    int bits = (int)shape[4], top = bits > 8 ? 8 : bits, lift = bits > 3 ? bits - 3 : 0;
    for (num q = 0; q < planes; q++)
        for (num y = 0; y < h; y++) {
            int32_t *v = values + (q * h + y) * w;
            for (num x = 0; x < w; x++) {
                num place = x % FAST;
                if (h > 1) {
                    int W = x ? v[x - 1] >> lift : 0, N = y ? v[x - w] >> lift : 0;
                    place = W << 6 | N << 3 | (y && x + 1 < w ? v[x - w + 1] >> lift : 0);
                }
                uint16_t *slots = memory + (place << 8);
                int value = v[x];
                uint32_t node = 1;
                for (int j = bits - 1; j >= bits - top; j--)
                    node = node << 1 | (uint32_t)fast_bit(&range, way, value >> j & 1, slots + node);
                int out = (int)node - (1 << top);
                if (bits > 8) {
                    slots = memory + (FAST << 8) + (out << 8);
                    node = 1;
                    for (int j = bits - 9; j >= 0; j--)
                        node = node << 1 | (uint32_t)fast_bit(&range, way, value >> j & 1, slots + node);
                    out = out << (bits - 8) | (int)(node - (1u << (bits - 8)));
                }
                v[x] = out;
            }
        }
    return range;
}

/* shape: items, channels, height, width, bits; memory: uint16 (FAST + 1) x 2^8, and 2^8 x 2^8 beyond 8 bits */
num code_fast(num decoding, const num *shape, int32_t *values, uint16_t *memory, uint8_t *bytes, num room, num *counts) {
    Range range = opened(decoding, bytes, room, counts);
    for (num i = 0; i < (FAST << 8) + (256 << 8); i++) memory[i] = 1 << 15;
    if (counts)
        range = code_values(range, 2, shape, values, memory);
    else if (decoding)
        range = code_values(range, 1, shape, values, memory);
    else
        range = code_values(range, 0, shape, values, memory);
    return closed(&range);
}
