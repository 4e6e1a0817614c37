// Quantizes the tensors of a model, and compares with what `quant quantize` wrote:
//
//     model MODEL QUANTIZED CODE MODE BLOCK
//
// CODE and MODE are numbers of QuantCode and QuantMode. BLOCK is the block size along axis 1; 0
// means one scale per index of axis 0.

#include <quant.h>

#include "safetensors.h"

static void check(QuantStatus status, const char *name) {
  if (status != QUANT_STATUS_OK) fail(quant_status_string(status), name);
}

static void compare(const Model *quantized, const char *name, const char *suffix,
                    const void *bytes, size_t size) {
  char full[160];
  snprintf(full, sizeof full, "%s%s", name, suffix);
  Tensor expected;
  int found = model_find(quantized, full, &expected);
  if (!found && size == 0) return;
  if (!found || expected.size != size || memcmp(expected.bytes, bytes, size) != 0) {
    fail("other bytes than those of quant", full);
  }
}

int main(int argc, char **argv) {
  if (argc != 6) fail("MODEL QUANTIZED CODE MODE BLOCK", argv[0]);
  Model model = model_open(argv[1]);
  Model quantized = model_open(argv[2]);
  QuantScheme scheme = {(QuantCode)atoi(argv[3]), (QuantMode)atoi(argv[4]),
                        QUANT_DIALECT_COREMLTOOLS};
  size_t block = strtoull(argv[5], NULL, 10);

  char name[128];
  int count = 0;
  for (size_t place = 0; model_next(&model, &place, name);) {
    char scale[160];
    snprintf(scale, sizeof scale, "%s.scale", name);
    Tensor values, ignored;
    if (!model_find(&quantized, scale, &ignored)) continue;
    if (!model_find(&model, name, &values)) fail("is not there", name);

    size_t block_sizes[MAX_RANK] = {1, block};
    QuantTensor tensor = {QUANT_FLOAT_F32, scheme, values.rank, values.shape, block_sizes, {0}};
    QuantTensorSizes sizes;
    check(quant_tensor_sizes(&tensor, &sizes), name);
    unsigned char *codes = malloc(sizes.codes);
    unsigned char *scales = malloc(sizes.scales);
    unsigned char *zero_points = malloc(sizes.zero_points + 1);
    float *back = malloc(sizes.values);
    if (!codes || !scales || !zero_points || !back) fail("out of memory", name);
    for (size_t threads = 0; threads < 3; threads++) {
      QuantErrorStats error_stats;
      check(quant_quantize_tensor(&tensor, values.bytes, values.size, codes, sizes.codes, scales,
                                  sizes.scales, zero_points, sizes.zero_points, threads, &error_stats,
                                  NULL),
            name);
      compare(&quantized, name, "", codes, sizes.codes);
      compare(&quantized, name, ".scale", scales, sizes.scales);
      compare(&quantized, name, ".zero_point", zero_points, sizes.zero_points);

      // What is lost is the same, seen from behind.
      check(quant_dequantize_tensor(&tensor, codes, sizes.codes, scales, sizes.scales, zero_points,
                                    sizes.zero_points, QUANT_FLOAT_F32, back, sizes.values,
                                    threads, NULL),
            name);
      QuantErrorStats seen;
      check(quant_error_stats(QUANT_FLOAT_F32, values.bytes, QUANT_FLOAT_F32, back, sizes.count,
                              &seen),
            name);
      if (seen.noise != error_stats.noise || seen.signal != error_stats.signal) fail("another error", name);
    }
    free(codes);
    free(scales);
    free(zero_points);
    free(back);
    count++;
  }
  printf("quant %s: %d tensors are the same\n", quant_version(), count);
  return count == 0;
}
