// Throws wrong arguments at every function, and expects the documented status each time.

#include <quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int calls;
static int failures;

static void expect_at(int line, const char *call, QuantStatus got, QuantStatus expected) {
  calls++;
  if (got != expected) {
    failures++;
    fprintf(stderr, "line %d: \"%s\", not \"%s\": %s\n", line, quant_status_string(got),
            quant_status_string(expected), call);
  }
}

#define EXPECT(expected, call) expect_at(__LINE__, #call, (call), QUANT_STATUS_##expected)

static void expect_text(const char *got, const char *expected) {
  calls++;
  if (strcmp(got, expected) != 0) {
    failures++;
    fprintf(stderr, "\"%s\", not \"%s\"\n", got, expected);
  }
}

// Sizes that no memory has: alone, times 2, and times 4.
static const size_t HUGE_COUNTS[] = {SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX / 4 + 1, SIZE_MAX / 8 + 1};
static const QuantFloat NO_FLOATS[] = {(QuantFloat)3, (QuantFloat)77, (QuantFloat)-1};

static const QuantScheme INT8 = {QUANT_CODE_INT8, QUANT_MODE_SYMMETRIC, QUANT_DIALECT_COREMLTOOLS};
static const QuantScheme UINT4 = {QUANT_CODE_UINT4, QUANT_MODE_AFFINE, QUANT_DIALECT_COREMLTOOLS};
static const QuantScheme NO_SCHEMES[] = {
    {(QuantCode)12, QUANT_MODE_SYMMETRIC, QUANT_DIALECT_COREMLTOOLS},
    {(QuantCode)-1, QUANT_MODE_SYMMETRIC, QUANT_DIALECT_COREMLTOOLS},
    {QUANT_CODE_INT8, (QuantMode)2, QUANT_DIALECT_COREMLTOOLS},
    {QUANT_CODE_INT8, QUANT_MODE_SYMMETRIC, (QuantDialect)99},
};
static const QuantParams ONE = {1, 0, 0};

#define F32 QUANT_FLOAT_F32
#define F16 QUANT_FLOAT_F16
#define FOR_EACH(type, name, list)                                                                 \
  for (const type *name = list; name < list + sizeof(list) / sizeof(list[0]); name++)

// On the heap, and no larger than they must be, so that a step too far is seen.
static float *values;  // 10
static float *dequantized;  // 10
static uint8_t *codes; // 10
static float *scales;  // 3

static void texts(void) {
  expect_text(quant_status_string((QuantStatus)19), "unknown status");
  expect_text(quant_status_string((QuantStatus)-1), "unknown status");
  expect_text(quant_backend_name((QuantBackend)4), "unknown");
  expect_text(quant_version(), QUANT_VERSION);
  QuantBackend backends[1];
  EXPECT(UNKNOWN_VALUE, quant_backend_use((QuantBackend)4));
  EXPECT(OK, quant_backend_use(QUANT_BACKEND_SCALAR));
  // Fewer than there are; and nowhere to write.
  size_t count = quant_backend_list(backends, 1);
  calls++;
  if (backends[0] != quant_backend_detect() || quant_backend_list(NULL, count) != count) {
    failures++;
    fprintf(stderr, "quant_backend_list\n");
  }
}

static void ranges(void) {
  QuantRange range;
  QuantParams params;
  EXPECT(OK, quant_range(F32, values, 10, &range));
  EXPECT(OK, quant_range(F32, NULL, 0, &range));
  EXPECT(OK, quant_params_from_range(F32, range, INT8, &params)); // of no values
  EXPECT(NULL_POINTER, quant_range(F32, NULL, 1, &range));
  EXPECT(NULL_POINTER, quant_range(F32, values, 10, NULL));
  FOR_EACH(QuantFloat, dtype, NO_FLOATS) {
    EXPECT(UNKNOWN_VALUE, quant_range(*dtype, values, 10, &range));
    EXPECT(UNKNOWN_VALUE, quant_params_from_range(*dtype, range, INT8, &params));
  }
  FOR_EACH(size_t, count, HUGE_COUNTS) {
    EXPECT(INVALID_LENGTH, quant_range(F32, values, *count, &range));
  }
  // More than lies above this address.
  EXPECT(INVALID_LENGTH, quant_range(F32, (const void *)(UINTPTR_MAX - 2), 4, &range));

  const QuantRange good = {-1, 1, 0}, wrong = {1, -1, 0}, infinite = {0, INFINITY, 0},
                   nan = {NAN, 0, 0}, counted = {-1, 1, 2}, large = {-3e38f, 3e38f, 0},
                   small = {0, 1e-7f, 0};
  EXPECT(OK, quant_params_from_range(F32, good, INT8, &params));
  EXPECT(NULL_POINTER, quant_params_from_range(F32, good, INT8, NULL));
  EXPECT(INVALID_PARAMS, quant_params_from_range(F32, wrong, INT8, &params));
  EXPECT(NON_FINITE, quant_params_from_range(F32, infinite, INT8, &params));
  EXPECT(NON_FINITE, quant_params_from_range(F32, nan, UINT4, &params));
  EXPECT(NON_FINITE, quant_params_from_range(F32, counted, INT8, &params));
  EXPECT(OUT_OF_RANGE, quant_params_from_range(F32, large, INT8, &params));
  EXPECT(OUT_OF_RANGE, quant_params_from_range(F16, small, INT8, &params));
  FOR_EACH(QuantScheme, scheme, NO_SCHEMES) {
    EXPECT(UNKNOWN_VALUE, quant_params_from_range(F32, good, *scheme, &params));
  }
}

static void slices(void) {
  size_t size;
  EXPECT(OK, quant_codes_size(QUANT_CODE_INT4, SIZE_MAX, &size));
  EXPECT(NULL_POINTER, quant_codes_size(QUANT_CODE_INT4, 1, NULL));
  EXPECT(UNKNOWN_VALUE, quant_codes_size((QuantCode)12, 1, &size));

  EXPECT(OK, quant_quantize(F32, values, 10, INT8, ONE, codes, 10, NULL));
  EXPECT(OK, quant_quantize(F32, values, 9, UINT4, ONE, codes, 5, NULL));
  EXPECT(OK, quant_quantize(F32, NULL, 0, INT8, ONE, NULL, 0, NULL));
  EXPECT(NULL_POINTER, quant_quantize(F32, NULL, 10, INT8, ONE, codes, 10, NULL));
  EXPECT(NULL_POINTER, quant_quantize(F32, values, 10, INT8, ONE, NULL, 10, NULL));
  EXPECT(INVALID_CODES_SIZE, quant_quantize(F32, values, 10, INT8, ONE, codes, 9, NULL));
  EXPECT(INVALID_CODES_SIZE, quant_quantize(F32, values, 9, UINT4, ONE, codes, 4, NULL));
  EXPECT(OVERLAP, quant_quantize(F32, values, 10, INT8, ONE, (uint8_t *)values, 10, NULL));
  EXPECT(OVERLAP, quant_quantize(F32, values, 9, INT8, ONE, (uint8_t *)values + 35, 9, NULL));

  EXPECT(OK, quant_dequantize(F32, codes, 10, INT8, ONE, dequantized, 10));
  EXPECT(OK, quant_dequantize(F32, NULL, 0, INT8, ONE, NULL, 0));
  EXPECT(NULL_POINTER, quant_dequantize(F32, NULL, 10, INT8, ONE, dequantized, 10));
  EXPECT(NULL_POINTER, quant_dequantize(F32, codes, 10, INT8, ONE, NULL, 10));
  EXPECT(INVALID_CODES_SIZE, quant_dequantize(F32, codes, 10, INT8, ONE, dequantized, 9));
  EXPECT(OVERLAP, quant_dequantize(F32, (uint8_t *)dequantized, 10, INT8, ONE, dequantized, 10));

  EXPECT(OK, quant_fake_quantize(F32, values, 10, INT8, ONE, dequantized, NULL));
  EXPECT(OK, quant_fake_quantize(F32, dequantized, 10, INT8, ONE, dequantized, NULL));
  EXPECT(OK, quant_fake_quantize(F32, NULL, 0, INT8, ONE, NULL, NULL));
  EXPECT(NULL_POINTER, quant_fake_quantize(F32, NULL, 10, INT8, ONE, dequantized, NULL));
  EXPECT(NULL_POINTER, quant_fake_quantize(F32, values, 10, INT8, ONE, NULL, NULL));
  EXPECT(OVERLAP, quant_fake_quantize(F32, dequantized, 9, INT8, ONE, dequantized + 1, NULL));

  QuantErrorStats stats;
  EXPECT(OK, quant_error_stats(F32, values, F32, dequantized, 10, &stats));
  EXPECT(OK, quant_error_stats(F32, values, F32, values, 10, &stats));
  EXPECT(OK, quant_error_stats(F32, NULL, F16, NULL, 0, &stats));
  EXPECT(NULL_POINTER, quant_error_stats(F32, NULL, F32, dequantized, 10, &stats));
  EXPECT(NULL_POINTER, quant_error_stats(F32, values, F32, NULL, 10, &stats));
  EXPECT(NULL_POINTER, quant_error_stats(F32, values, F32, dequantized, 10, NULL));

  const QuantParams bad[] = {
      {-1, 0, 0}, {NAN, 0, 0}, {INFINITY, 0, 0}, {1, 128, 0}, {1, -128, 0}};
  FOR_EACH(QuantParams, params, bad) {
    EXPECT(INVALID_PARAMS, quant_quantize(F32, values, 10, INT8, *params, codes, 10, NULL));
    EXPECT(INVALID_PARAMS, quant_dequantize(F32, codes, 10, INT8, *params, dequantized, 10));
    EXPECT(INVALID_PARAMS, quant_fake_quantize(F32, values, 10, INT8, *params, dequantized, NULL));
  }
  // No f16.
  const QuantParams fine = {0.1f, 0, 0};
  EXPECT(INVALID_PARAMS, quant_quantize(F16, values, 10, INT8, fine, codes, 10, NULL));
  FOR_EACH(QuantScheme, scheme, NO_SCHEMES) {
    EXPECT(UNKNOWN_VALUE, quant_quantize(F32, values, 10, *scheme, ONE, codes, 10, NULL));
    EXPECT(UNKNOWN_VALUE, quant_dequantize(F32, codes, 10, *scheme, ONE, dequantized, 10));
    EXPECT(UNKNOWN_VALUE, quant_fake_quantize(F32, values, 10, *scheme, ONE, dequantized, NULL));
  }
  FOR_EACH(QuantFloat, dtype, NO_FLOATS) {
    EXPECT(UNKNOWN_VALUE, quant_quantize(*dtype, values, 10, INT8, ONE, codes, 10, NULL));
    EXPECT(UNKNOWN_VALUE, quant_dequantize(*dtype, codes, 10, INT8, ONE, dequantized, 10));
    EXPECT(UNKNOWN_VALUE, quant_fake_quantize(*dtype, values, 10, INT8, ONE, dequantized, NULL));
    EXPECT(UNKNOWN_VALUE, quant_error_stats(*dtype, values, F32, dequantized, 10, &stats));
    EXPECT(UNKNOWN_VALUE, quant_error_stats(F32, values, *dtype, dequantized, 10, &stats));
  }
  FOR_EACH(size_t, count, HUGE_COUNTS) {
    EXPECT(INVALID_LENGTH, quant_quantize(F32, values, *count, INT8, ONE, codes, *count, NULL));
    EXPECT(INVALID_LENGTH, quant_dequantize(F32, codes, *count, INT8, ONE, dequantized, *count));
    EXPECT(INVALID_LENGTH, quant_fake_quantize(F32, values, *count, INT8, ONE, dequantized, NULL));
    EXPECT(INVALID_LENGTH, quant_error_stats(F32, values, F32, dequantized, *count, &stats));
  }
}

static void packing(void) {
  uint8_t *packed = malloc(5);
  EXPECT(OK, quant_pack4(codes, 10, packed, 5));
  EXPECT(OK, quant_unpack4(QUANT_CODE_INT4, packed, 5, codes, 10));
  EXPECT(OK, quant_pack4(NULL, 0, NULL, 0));
  EXPECT(OK, quant_unpack4(QUANT_CODE_INT4, NULL, 0, NULL, 0));
  EXPECT(NULL_POINTER, quant_pack4(NULL, 10, packed, 5));
  EXPECT(NULL_POINTER, quant_pack4(codes, 10, NULL, 5));
  EXPECT(NULL_POINTER, quant_unpack4(QUANT_CODE_INT4, NULL, 5, codes, 10));
  EXPECT(NULL_POINTER, quant_unpack4(QUANT_CODE_INT4, packed, 5, NULL, 10));
  EXPECT(INVALID_CODES_SIZE, quant_pack4(codes, 9, packed, 4));
  EXPECT(INVALID_CODES_SIZE, quant_unpack4(QUANT_CODE_INT4, packed, 5, codes, 8));
  EXPECT(INVALID_LENGTH, quant_pack4(codes, SIZE_MAX, packed, SIZE_MAX / 2 + 1));
  EXPECT(INVALID_LENGTH,
         quant_unpack4(QUANT_CODE_INT4, packed, SIZE_MAX / 2 + 1, codes, SIZE_MAX));
  EXPECT(OVERLAP, quant_pack4(codes, 10, codes, 5));
  EXPECT(OVERLAP, quant_unpack4(QUANT_CODE_INT4, codes, 5, codes, 10));
  EXPECT(UNKNOWN_VALUE, quant_unpack4((QuantCode)12, packed, 5, codes, 10));
  EXPECT(UNKNOWN_VALUE, quant_unpack4(QUANT_CODE_INT8, packed, 5, codes, 10));
  free(packed);
}

static void ggml(void) {
  float values[32] = {0};
  uint8_t blocks[34];
  size_t size;
#define GGML(status, dtype, values, count, type, blocks, size)                                     \
  do {                                                                                             \
    EXPECT(status, quant_ggml_quantize(dtype, values, count, type, blocks, size));                 \
    EXPECT(status, quant_ggml_dequantize(dtype, blocks, size, type, values, count));               \
  } while (0)
  GGML(OK, F32, values, 32, QUANT_GGML_Q8_0, blocks, 34);
  GGML(OK, F32, NULL, 0, QUANT_GGML_Q8_0, NULL, 0);
  GGML(NULL_POINTER, F32, NULL, 32, QUANT_GGML_Q8_0, blocks, 34);
  GGML(NULL_POINTER, F32, values, 32, QUANT_GGML_Q8_0, NULL, 34);
  GGML(INVALID_BLOCKS, F32, values, 31, QUANT_GGML_Q8_0, blocks, 34);
  GGML(INVALID_CODES_SIZE, F32, values, 32, QUANT_GGML_Q4_0, blocks, 34);
  GGML(UNKNOWN_VALUE, F32, values, 32, (QuantGgml)5, blocks, 34);
  GGML(UNKNOWN_VALUE, (QuantFloat)3, values, 32, QUANT_GGML_Q8_0, blocks, 34);
  GGML(INVALID_LENGTH, F32, values, SIZE_MAX - 31, QUANT_GGML_Q8_0, blocks, 34);
  GGML(OVERLAP, F32, values, 32, QUANT_GGML_Q8_0, (uint8_t *)values + 1, 34);
  EXPECT(OK, quant_ggml_size(QUANT_GGML_Q5_1, 64, &size));
  EXPECT(INVALID_BLOCKS, quant_ggml_size(QUANT_GGML_Q5_1, 33, &size));
  EXPECT(INVALID_LENGTH, quant_ggml_size(QUANT_GGML_Q8_0, SIZE_MAX - 31, &size));
  EXPECT(NULL_POINTER, quant_ggml_size(QUANT_GGML_Q5_1, 64, NULL));
  blocks[1] = 0x7c;
  EXPECT(INVALID_PARAMS, quant_ggml_dequantize(F32, blocks, 34, QUANT_GGML_Q8_0, values, 32));
  values[5] = INFINITY;
  EXPECT(NON_FINITE, quant_ggml_quantize(F32, values, 32, QUANT_GGML_Q8_0, blocks, 34));
  values[5] = 1e30f;
  EXPECT(OUT_OF_RANGE, quant_ggml_quantize(F32, values, 32, QUANT_GGML_Q8_0, blocks, 34));
}

static void blocks(void) {
  uint8_t *zeros = malloc(3);
#define QUANTIZE(dtype, values, count, block, scheme, codes, size, scales, scale_count, zeros,     \
                 zero_count)                                                                       \
  quant_quantize_blocks(dtype, values, count, block, scheme, codes, size, scales, scale_count,     \
                        zeros, zero_count)
#define DEQUANTIZE(dtype, values, count, block, scheme, codes, size, scales, scale_count, zeros,   \
                   zero_count)                                                                     \
  quant_dequantize_blocks(dtype, codes, size, block, scheme, scales, scale_count, zeros,           \
                          zero_count, values, count)
  EXPECT(OK, QUANTIZE(F32, values, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3));
  EXPECT(OK, DEQUANTIZE(F32, dequantized, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3));
  EXPECT(OK, QUANTIZE(F32, values, 10, SIZE_MAX, INT8, codes, 10, scales, 4, NULL, 0));
  EXPECT(OK, QUANTIZE(F32, NULL, 0, 4, UINT4, NULL, 0, NULL, 0, NULL, 0));
  EXPECT(OK, DEQUANTIZE(F32, NULL, 0, 4, UINT4, NULL, 0, NULL, 0, NULL, 0));
#define BOTH(status, dtype, values, count, block, scheme, codes, size, scales, scale_count, zeros, \
             zero_count)                                                                           \
  do {                                                                                             \
    EXPECT(status, QUANTIZE(dtype, values, count, block, scheme, codes, size, scales, scale_count, \
                            zeros, zero_count));                                                   \
    EXPECT(status, DEQUANTIZE(dtype, values, count, block, scheme, codes, size, scales,            \
                              scale_count, zeros, zero_count));                                    \
  } while (0)
  BOTH(NULL_POINTER, F32, NULL, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3);
  BOTH(NULL_POINTER, F32, dequantized, 10, 4, UINT4, NULL, 5, scales, 12, zeros, 3);
  BOTH(NULL_POINTER, F32, dequantized, 10, 4, UINT4, codes, 5, NULL, 12, zeros, 3);
  BOTH(NULL_POINTER, F32, dequantized, 10, 4, UINT4, codes, 5, scales, 12, NULL, 3);
  BOTH(INVALID_CODES_SIZE, F32, dequantized, 10, 4, UINT4, codes, 10, scales, 12, zeros, 3);
  BOTH(INVALID_SCALES_SIZE, F32, dequantized, 10, 4, UINT4, codes, 5, scales, 8, zeros, 3);
  BOTH(INVALID_ZERO_POINTS_SIZE, F32, dequantized, 10, 4, UINT4, codes, 5, scales, 12, zeros, 0);
  BOTH(INVALID_ZERO_POINTS_SIZE, F32, dequantized, 10, 4, INT8, codes, 10, scales, 12, zeros, 3);
  BOTH(INVALID_BLOCKS, F32, dequantized, 10, 0, UINT4, codes, 5, scales, 12, zeros, 3);
  BOTH(OVERLAP, F32, dequantized, 10, 4, UINT4, (uint8_t *)dequantized, 5, scales, 12, zeros, 3);
  BOTH(OVERLAP, F32, dequantized, 10, 4, UINT4, codes, 5, dequantized + 9, 12, zeros, 3);
  BOTH(OVERLAP, F32, dequantized, 10, 4, UINT4, codes, 5, scales, 12, (uint8_t *)dequantized, 3);
  EXPECT(OVERLAP, QUANTIZE(F32, values, 10, 4, UINT4, codes, 5, scales, 12, codes + 4, 3));
  FOR_EACH(QuantFloat, dtype, NO_FLOATS) {
    BOTH(UNKNOWN_VALUE, *dtype, dequantized, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3);
  }
  FOR_EACH(QuantScheme, scheme, NO_SCHEMES) {
    BOTH(UNKNOWN_VALUE, F32, dequantized, 10, 4, *scheme, codes, 10, scales, 12, NULL, 0);
  }
  FOR_EACH(size_t, count, HUGE_COUNTS) {
    BOTH(INVALID_LENGTH, F32, dequantized, *count, *count, INT8, codes, *count, scales, 4, NULL, 0);
  }
  const float kept = values[9];
  values[9] = NAN;
  EXPECT(NON_FINITE, QUANTIZE(F32, values, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3));
  values[9] = 3e38f;
  EXPECT(OUT_OF_RANGE, QUANTIZE(F32, values, 10, 4, INT8, codes, 10, scales, 12, NULL, 0));
  values[9] = kept;
  EXPECT(OK, QUANTIZE(F32, values, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3));
  scales[2] = -1;
  EXPECT(INVALID_PARAMS, DEQUANTIZE(F32, dequantized, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3));
  scales[2] = 1;
  zeros[0] = 16;
  EXPECT(INVALID_PARAMS, DEQUANTIZE(F32, dequantized, 10, 4, UINT4, codes, 5, scales, 12, zeros, 3));
  free(zeros);
}

static size_t shape[2] = {2, 5};
static size_t block_sizes[2] = {1, 2};

static QuantStatus sizes_of(QuantFloat dtype, QuantScheme scheme, size_t rank, const size_t *dims,
                            const size_t *sizes) {
  const QuantTensor tensor = {dtype, scheme, rank, dims, sizes, {0}};
  QuantTensorSizes found;
  return quant_tensor_sizes(&tensor, &found);
}

static void tensors(void) {
  QuantTensorSizes sizes;
  const QuantTensor good = {F32, UINT4, 2, shape, block_sizes, {0}};
  EXPECT(OK, quant_tensor_sizes(&good, &sizes));
  EXPECT(NULL_POINTER, quant_tensor_sizes(NULL, &sizes));
  EXPECT(NULL_POINTER, quant_tensor_sizes(&good, NULL));
  EXPECT(OK, sizes_of(F32, INT8, 0, NULL, NULL));
  EXPECT(OK, sizes_of(F32, INT8, 2, shape, NULL));
  EXPECT(NULL_POINTER, sizes_of(F32, INT8, 2, NULL, NULL));
  EXPECT(INVALID_SHAPE, sizes_of(F32, INT8, 65, shape, NULL));
  EXPECT(INVALID_SHAPE, sizes_of(F32, INT8, SIZE_MAX, shape, block_sizes));
  const size_t too_large[] = {3, 5}, huge[] = {SIZE_MAX / 2, 3}, large[] = {SIZE_MAX / 4, 1};
  EXPECT(INVALID_BLOCKS, sizes_of(F32, INT8, 2, shape, too_large));
  EXPECT(INVALID_SHAPE, sizes_of(F32, INT8, 2, huge, NULL));
  EXPECT(INVALID_SHAPE, sizes_of(F32, INT8, 2, large, NULL));
  FOR_EACH(QuantFloat, dtype, NO_FLOATS) {
    EXPECT(UNKNOWN_VALUE, sizes_of(*dtype, INT8, 2, shape, block_sizes));
  }
  FOR_EACH(QuantScheme, scheme, NO_SCHEMES) {
    EXPECT(UNKNOWN_VALUE, sizes_of(F32, *scheme, 2, shape, block_sizes));
  }

  float *six = malloc(6 * sizeof(float));
  uint8_t *zeros = malloc(6);
  QuantFailure where;
#define TO(tensor, values, size, codes, codes_size, scales, scales_size, zeros, zeros_size)        \
  quant_quantize_tensor(tensor, values, size, codes, codes_size, scales, scales_size, zeros,       \
                        zeros_size, 1, NULL, &where)
#define FROM(tensor, values, size, codes, codes_size, scales, scales_size, zeros, zeros_size)      \
  quant_dequantize_tensor(tensor, codes, codes_size, scales, scales_size, zeros, zeros_size, F32,  \
                          values, size, 1, &where)
  EXPECT(OK, TO(&good, values, 40, codes, 5, six, 24, zeros, 6));
  EXPECT(OK, FROM(&good, dequantized, 40, codes, 5, six, 24, zeros, 6));
#define EITHER(status, tensor, values, size, codes, codes_size, scales, scales_size, zeros,        \
               zeros_size)                                                                         \
  do {                                                                                             \
    EXPECT(status,                                                                                 \
           TO(tensor, values, size, codes, codes_size, scales, scales_size, zeros, zeros_size));   \
    EXPECT(status,                                                                                 \
           FROM(tensor, values, size, codes, codes_size, scales, scales_size, zeros, zeros_size)); \
  } while (0)
  EITHER(NULL_POINTER, NULL, dequantized, 40, codes, 5, six, 24, zeros, 6);
  EITHER(NULL_POINTER, &good, NULL, 40, codes, 5, six, 24, zeros, 6);
  EITHER(NULL_POINTER, &good, dequantized, 40, NULL, 5, six, 24, zeros, 6);
  EITHER(NULL_POINTER, &good, dequantized, 40, codes, 5, NULL, 24, zeros, 6);
  EITHER(NULL_POINTER, &good, dequantized, 40, codes, 5, six, 24, NULL, 6);
  EITHER(INVALID_VALUES_SIZE, &good, dequantized, 36, codes, 5, six, 24, zeros, 6);
  EITHER(INVALID_CODES_SIZE, &good, dequantized, 40, codes, 10, six, 24, zeros, 6);
  EITHER(INVALID_SCALES_SIZE, &good, dequantized, 40, codes, 5, six, 6, zeros, 6);
  EITHER(INVALID_ZERO_POINTS_SIZE, &good, dequantized, 40, codes, 5, six, 24, zeros, 0);
  EITHER(OVERLAP, &good, dequantized, 40, (uint8_t *)dequantized + 35, 5, six, 24, zeros, 6);
  EITHER(OVERLAP, &good, dequantized, 40, codes, 5, dequantized, 24, zeros, 6);
  EITHER(OVERLAP, &good, dequantized, 40, codes, 5, six, 24, (uint8_t *)dequantized, 6);
  QuantTensor wrong = good;
  wrong.block_sizes = too_large;
  EITHER(INVALID_BLOCKS, &wrong, dequantized, 40, codes, 5, six, 24, zeros, 6);
  wrong = good;
  wrong.reserved[3] = 1;
  EITHER(UNKNOWN_VALUE, &wrong, dequantized, 40, codes, 5, six, 24, zeros, 6);
  wrong = good;
  wrong.dtype = (QuantFloat)3;
  EITHER(UNKNOWN_VALUE, &wrong, dequantized, 40, codes, 5, six, 24, zeros, 6);
  EXPECT(UNKNOWN_VALUE, quant_dequantize_tensor(&good, codes, 5, six, 24, zeros, 6, (QuantFloat)3,
                                                dequantized, 40, 1, NULL));
  const float kept = values[7];
  values[7] = -INFINITY;
  EXPECT(NON_FINITE, TO(&good, values, 40, codes, 5, six, 24, zeros, 6));
  if (where.position != 7 || where.count != 1) EXPECT(OK, QUANT_STATUS_INTERNAL);
  values[7] = 3e38f;
  EXPECT(OK, TO(&good, values, 40, codes, 5, six, 24, zeros, 6));
  values[8] = -3e38f;
  EXPECT(OUT_OF_RANGE, TO(&good, values, 40, codes, 5, six, 24, zeros, 6));
  if (where.position != 4) EXPECT(OK, QUANT_STATUS_INTERNAL);
  values[7] = values[8] = kept;
  EXPECT(OK, TO(&good, values, 40, codes, 5, six, 24, zeros, 6));
  six[5] = NAN;
  EXPECT(INVALID_PARAMS, FROM(&good, dequantized, 40, codes, 5, six, 24, zeros, 6));
  if (where.position != 5) EXPECT(OK, QUANT_STATUS_INTERNAL);
  free(six);
  free(zeros);
}

static void observers(void) {
  QuantObserverConfig config = {.kind = QUANT_OBSERVER_KIND_PERCENTILE};
  QuantObserver *observer = NULL, *other = NULL, *average = NULL;
  QuantRange range;
  QuantParams params;
  EXPECT(NULL_POINTER, quant_observer_new(NULL, &observer));
  EXPECT(NULL_POINTER, quant_observer_new(&config, NULL));
  config.kind = (QuantObserverKind)5;
  EXPECT(UNKNOWN_VALUE, quant_observer_new(&config, &observer));
  config.kind = QUANT_OBSERVER_KIND_PERCENTILE;
  config.reserved[3] = 1;
  EXPECT(UNKNOWN_VALUE, quant_observer_new(&config, &observer));
  config.reserved[3] = 0;
  config.bins = 1000;
  EXPECT(INVALID_SETTINGS, quant_observer_new(&config, &observer));
  config.bins = SIZE_MAX;
  EXPECT(INVALID_SETTINGS, quant_observer_new(&config, &observer));
  config.bins = 128;
  config.percentile = 100.5;
  EXPECT(INVALID_SETTINGS, quant_observer_new(&config, &observer));
  config.percentile = NAN;
  EXPECT(INVALID_SETTINGS, quant_observer_new(&config, &observer));
  config.percentile = 99;
  EXPECT(OK, quant_observer_new(&config, &observer));
  config.bins = 256;
  EXPECT(OK, quant_observer_new(&config, &other));
  config.kind = QUANT_OBSERVER_KIND_MOVING_AVERAGE;
  config.constant = -1;
  EXPECT(INVALID_SETTINGS, quant_observer_new(&config, &average));
  config.constant = 0.5;
  EXPECT(OK, quant_observer_new(&config, &average));

  EXPECT(NULL_POINTER, quant_observer_observe(NULL, F32, values, 10));
  EXPECT(NULL_POINTER, quant_observer_observe(observer, F32, NULL, 10));
  EXPECT(NULL_POINTER, quant_observer_observe_part(NULL, F32, values, 10));
  EXPECT(NULL_POINTER, quant_observer_end_sample(NULL));
  EXPECT(OK, quant_observer_observe(observer, F32, NULL, 0));
  FOR_EACH(QuantFloat, dtype, NO_FLOATS) {
    EXPECT(UNKNOWN_VALUE, quant_observer_observe(observer, *dtype, values, 10));
    EXPECT(UNKNOWN_VALUE, quant_observer_params(observer, *dtype, INT8, &params));
  }
  FOR_EACH(size_t, count, HUGE_COUNTS) {
    EXPECT(INVALID_LENGTH, quant_observer_observe(observer, F32, values, *count));
  }
  EXPECT(OK, quant_observer_range(observer, QUANT_CODE_INT8, QUANT_MODE_SYMMETRIC, &range));
  calls++;
  if (!(range.min == INFINITY && range.max == -INFINITY)) failures++;
  EXPECT(OK, quant_observer_params(observer, F32, INT8, &params));
  EXPECT(OK, quant_observer_observe(observer, F32, values, 10));
  EXPECT(OK, quant_observer_observe(average, F32, values, 10));
  EXPECT(NULL_POINTER, quant_observer_range(NULL, QUANT_CODE_INT8, QUANT_MODE_AFFINE, &range));
  EXPECT(NULL_POINTER, quant_observer_range(observer, QUANT_CODE_INT8, QUANT_MODE_AFFINE, NULL));
  EXPECT(UNKNOWN_VALUE, quant_observer_range(observer, (QuantCode)99, QUANT_MODE_AFFINE, &range));
  EXPECT(UNKNOWN_VALUE, quant_observer_range(observer, QUANT_CODE_INT8, (QuantMode)2, &range));
  EXPECT(NULL_POINTER, quant_observer_params(NULL, F32, INT8, &params));
  EXPECT(NULL_POINTER, quant_observer_params(observer, F32, INT8, NULL));
  FOR_EACH(QuantScheme, scheme, NO_SCHEMES) {
    EXPECT(UNKNOWN_VALUE, quant_observer_params(observer, F32, *scheme, &params));
  }
  EXPECT(NULL_POINTER, quant_observer_merge(NULL, other));
  EXPECT(NULL_POINTER, quant_observer_merge(observer, NULL));
  EXPECT(NULL_POINTER, quant_observer_merge(NULL, NULL));
  EXPECT(CANNOT_MERGE, quant_observer_merge(observer, other));
  EXPECT(CANNOT_MERGE, quant_observer_merge(observer, average));
  EXPECT(CANNOT_MERGE, quant_observer_merge(average, average));
  EXPECT(OK, quant_observer_merge(observer, observer));
  EXPECT(OK, quant_observer_range(average, QUANT_CODE_INT8, QUANT_MODE_AFFINE, &range));
  calls++;
  if (range.min != -4 || range.max != 5) failures++;
  quant_observer_free(observer);
  quant_observer_free(other);
  quant_observer_free(average);
  quant_observer_free(NULL);
}

int main(void) {
  values = malloc(10 * sizeof(float));
  dequantized = malloc(10 * sizeof(float));
  codes = malloc(10);
  scales = malloc(3 * sizeof(float));
  for (int i = 0; i < 10; i++) values[i] = (float)i - 4;
  texts();
  ranges();
  slices();
  packing();
  blocks();
  ggml();
  tensors();
  observers();
  free(values);
  free(dequantized);
  free(codes);
  free(scales);
  printf("%d calls, %d wrong\n", calls, failures);
  return failures != 0;
}
