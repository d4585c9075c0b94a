/* Trains a linear softmax head or a small MLP on a header that Potstill writes, and tests it. C99, libc and libm.

   cc -O2 -std=c99 train.c -lm -o train && ./train test.bin [SEED [WEIGHTS.bin]]

   test.bin: for each sample its class (uint16) and its values in data units (float32), in the byte order of the device.
   WEIGHTS.bin gets the trained weights (float32): of each layer the matrix (outputs x inputs), then the biases.
   Numbers are printed one a line, each after its name. potstill.uses.edge.learner is the same arithmetic in NumPy. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef POTSTILL_HEADER
#define POTSTILL_HEADER "set.h"
#endif
#include POTSTILL_HEADER
#if POTSTILL_ITEMS > 65535
#error "more than 65535 items: their order does not fit into 16 bits"
#endif

#ifndef POTSTILL_HIDDEN
#define POTSTILL_HIDDEN 0 /* units of the hidden layer; 0: a linear head */
#endif
#ifndef POTSTILL_UPDATES
#define POTSTILL_UPDATES 500
#endif
#ifndef POTSTILL_BATCH
#define POTSTILL_BATCH 32
#endif
#ifndef POTSTILL_LR
#define POTSTILL_LR 0.01f /* of the first update; it falls along a line to zero */
#endif
#ifndef POTSTILL_MOMENTUM
#define POTSTILL_MOMENTUM 0.9f
#endif

enum {
  N = POTSTILL_ITEMS,
  D = POTSTILL_VALUES,
  K = POTSTILL_CLASSES,
  H = POTSTILL_HIDDEN,
  TOP = H > 0 ? H : D, /* inputs of the last layer */
  FIRST = H > 0 ? H * D + H : 0,
  PARAMETERS = FIRST + K * TOP + K,
  BATCH = POTSTILL_BATCH < N ? POTSTILL_BATCH : N
};

static float weights[PARAMETERS], momentum[PARAMETERS], gradient[PARAMETERS];
static float input[D], hidden[H + 1], back[H + 1], output[K], target[K];
static uint16_t order[N];

/* First word of Philox4x32-10 (Salmon et al., SC 2011). */
static uint32_t word(uint32_t key, uint32_t at, uint32_t stream, uint32_t turn) {
  uint32_t c0 = at, c1 = stream, c2 = turn, c3 = 0, k1 = 0;
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(b >> 32) ^ c1 ^ key;
    c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)b;
    c3 = (uint32_t)a;
    key += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}

static void shuffle(uint32_t seed, uint32_t epoch) {
  for (uint32_t i = 0; i < N; i++) order[i] = (uint16_t)i;
  for (uint32_t i = N - 1; i > 0; i--) {
    uint32_t j = (uint32_t)(((uint64_t)word(seed, i, 0, epoch) * (i + 1)) >> 32);
    uint16_t held = order[i];
    order[i] = order[j];
    order[j] = held;
  }
}

static void initialise(uint32_t seed) {
  memset(weights, 0, sizeof weights);
  memset(momentum, 0, sizeof momentum);
  if (H == 0) return; /* a linear head starts at zero */
  float first = (float)sqrt(6.0 / D), second = (float)sqrt(3.0 / TOP);
  for (int i = 0; i < H * D; i++)
    weights[i] = ((float)(word(seed, (uint32_t)i, 1, 0) >> 8) * 1.1920928955078125e-07f - 1.0f) * first;
  for (int i = 0; i < K * TOP; i++)
    weights[FIRST + i] = ((float)(word(seed, (uint32_t)i, 2, 0) >> 8) * 1.1920928955078125e-07f - 1.0f) * second;
}

static void read_sample(uint32_t n) {
  const uint32_t each = D / POTSTILL_SCALES;
  for (uint32_t i = 0; i < D; i++) {
#if POTSTILL_BITS == 4
    uint32_t at = n * D + i;
    int32_t q = at & 1u ? potstill_inputs[at >> 1] >> 4 : potstill_inputs[at >> 1] & 15;
#else
    int32_t q = potstill_inputs[n * D + i];
#endif
    input[i] = potstill_scale[i / each] * (float)(q - potstill_zero[i / each]);
  }
#if POTSTILL_SOFT
  float sum = 0.0f;
  for (int k = 0; k < K; k++) sum += (float)potstill_labels[n * K + k];
  for (int k = 0; k < K; k++) target[k] = (float)potstill_labels[n * K + k] / sum;
#else
  for (int k = 0; k < K; k++) target[k] = k == potstill_labels[n] ? 1.0f : 0.0f;
#endif
}

/* Scores of `input`, into `output`. */
static void forward(void) {
  const float *top = input, *w = weights + FIRST;
  if (H > 0) {
    for (int h = 0; h < H; h++) {
      float sum = weights[H * D + h];
      for (int i = 0; i < D; i++) sum += weights[h * D + i] * input[i];
      hidden[h] = sum > 0.0f ? sum : 0.0f;
    }
    top = hidden;
  }
  for (int k = 0; k < K; k++) {
    float sum = w[K * TOP + k];
    for (int i = 0; i < TOP; i++) sum += w[k * TOP + i] * top[i];
    output[k] = sum;
  }
}

/* Adds one sample's gradient of the cross-entropy, times `factor`. */
static void backward(float factor) {
  const float *top = H > 0 ? hidden : input, *w = weights + FIRST;
  float *g = gradient + FIRST, most = output[0], sum = 0.0f;
  for (int k = 1; k < K; k++) most = output[k] > most ? output[k] : most;
  for (int k = 0; k < K; k++) sum += output[k] = expf(output[k] - most);
  for (int k = 0; k < K; k++) output[k] = (output[k] / sum - target[k]) * factor;
  for (int k = 0; k < K; k++) {
    for (int i = 0; i < TOP; i++) g[k * TOP + i] += output[k] * top[i];
    g[K * TOP + k] += output[k];
  }
  if (H == 0) return;
  memset(back, 0, sizeof back);
  for (int k = 0; k < K; k++)
    for (int h = 0; h < H; h++) back[h] += output[k] * w[k * TOP + h];
  for (int h = 0; h < H; h++) {
    if (hidden[h] <= 0.0f) continue;
    for (int i = 0; i < D; i++) gradient[h * D + i] += back[h] * input[i];
    gradient[H * D + h] += back[h];
  }
}

static void train(uint32_t seed) {
  uint32_t at = N, epoch = 0;
  initialise(seed);
  for (uint32_t step = 0; step < POTSTILL_UPDATES; step++) {
    float lr = POTSTILL_LR * ((float)(POTSTILL_UPDATES - step) / (float)POTSTILL_UPDATES);
    memset(gradient, 0, sizeof gradient);
    for (int b = 0; b < BATCH; b++) {
      if (at == N) {
        shuffle(seed, epoch++);
        at = 0;
      }
      uint32_t n = order[at++];
      read_sample(n);
      forward();
#if POTSTILL_WEIGHTED
      backward(potstill_weights[n] / (float)BATCH);
#else
      backward(1.0f / (float)BATCH);
#endif
    }
    for (int p = 0; p < PARAMETERS; p++) {
      momentum[p] = POTSTILL_MOMENTUM * momentum[p] + gradient[p];
      weights[p] -= lr * momentum[p];
    }
  }
}

int main(int count, char **words) {
  if (count < 2 || count > 4) {
    fprintf(stderr, "usage: train test.bin [SEED [WEIGHTS.bin]]\n");
    return 2;
  }
  uint32_t seed = count > 2 ? (uint32_t)strtoul(words[2], NULL, 10) : 0;
  FILE *file = fopen(words[1], "rb");
  if (file == NULL) {
    fprintf(stderr, "%s: cannot be read\n", words[1]);
    return 1;
  }
  clock_t started = clock();
  train(seed);
  double seconds = (double)(clock() - started) / CLOCKS_PER_SEC;
  uint32_t tested = 0, right = 0;
  uint16_t label;
  const uint32_t each = D / POTSTILL_CHANNELS;
  while (fread(&label, sizeof label, 1, file) == 1) {
    if (fread(input, sizeof(float), D, file) != D) {
      fprintf(stderr, "%s: ends within a sample of %d values\n", words[1], (int)D);
      return 1;
    }
    for (uint32_t i = 0; i < D; i++) input[i] = (input[i] - potstill_mean[i / each]) / potstill_std[i / each];
    forward();
    int best = 0;
    for (int k = 1; k < K; k++) best = output[k] > output[best] ? k : best;
    tested++;
    right += best == label;
  }
  fclose(file);
  if (tested == 0) {
    fprintf(stderr, "%s: holds no sample\n", words[1]);
    return 1;
  }
  if (count > 3) {
    file = fopen(words[3], "wb");
    if (file == NULL || fwrite(weights, sizeof(float), PARAMETERS, file) != PARAMETERS || fclose(file) != 0) {
      fprintf(stderr, "%s: cannot be written\n", words[3]);
      return 1;
    }
  }
  size_t buffers = sizeof weights + sizeof momentum + sizeof gradient + sizeof input + sizeof hidden + sizeof back +
                   sizeof output + sizeof target + sizeof order;
  printf("accuracy %.6f\ntested %u\nupdates %u\nbuffers %lu\nseconds %.6f\n", (double)right / tested,
         (unsigned)tested, (unsigned)POTSTILL_UPDATES, (unsigned long)buffers, seconds);
  return 0;
}
