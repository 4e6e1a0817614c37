// Calls every function of the library, and no other: what it needs to be linked, it needs.

#include <quant.h>

static float values[64];
static float dequantized[64];
static uint8_t codes[64];
static float scales[2];
static uint8_t zero_points[2];
static const size_t shape[2] = {2, 32};
static const size_t block_sizes[2] = {1, 0};

int main(void) {
  for (int i = 0; i < 64; i++) values[i] = (float)(i - 20) / 16;
  const QuantScheme scheme = {QUANT_CODE_INT8, QUANT_MODE_AFFINE, QUANT_DIALECT_COREMLTOOLS};
  const QuantTensor tensor = {QUANT_FLOAT_F32, scheme, 2, shape, block_sizes, {0}};
  QuantBackend backend;
  QuantRange range;
  QuantParams params;
  QuantTensorSizes sizes;
  QuantErrorStats stats;
  const QuantObserverConfig config = {.kind = QUANT_OBSERVER_KIND_MSE};
  QuantObserver *observer, *other;
  size_t size;

  int failed = quant_version()[0] == 0;
  failed |= quant_status_string(QUANT_STATUS_OK)[0] == 0;
  failed |= quant_backend_list(&backend, 1) == 0;
  failed |= quant_version_number() != QUANT_VERSION_NUMBER;
  failed |= backend != quant_backend_detect();
  failed |= quant_backend_use(backend);
  failed |= quant_backend_name(backend)[0] == 0;
  failed |= quant_range(QUANT_FLOAT_F32, values, 64, &range);
  failed |= quant_params_from_range(QUANT_FLOAT_F32, range, scheme, &params);
  failed |= quant_codes_size(QUANT_CODE_INT8, 64, &size);
  failed |= quant_quantize(QUANT_FLOAT_F32, values, 64, scheme, params, codes, size, NULL);
  failed |= quant_dequantize(QUANT_FLOAT_F32, codes, 64, scheme, params, dequantized, 64);
  failed |= quant_error_stats(QUANT_FLOAT_F32, values, QUANT_FLOAT_F32, dequantized, 64, &stats);
  failed |= stats.max_absolute > params.scale;
  failed |= quant_fake_quantize(QUANT_FLOAT_F32, values, 64, scheme, params, dequantized, NULL);
  failed |= quant_quantize_blocks(QUANT_FLOAT_F32, values, 64, 32, scheme, codes, 64, scales, 8,
                                  zero_points, 2);
  failed |= quant_dequantize_blocks(QUANT_FLOAT_F32, codes, 64, 32, scheme, scales, 8, zero_points,
                                    2, dequantized, 64);
  failed |= quant_ggml_size(QUANT_GGML_Q4_0, 64, &size);
  failed |= quant_ggml_quantize(QUANT_FLOAT_F32, values, 64, QUANT_GGML_Q4_0, codes, size);
  failed |= quant_ggml_dequantize(QUANT_FLOAT_F32, codes, size, QUANT_GGML_Q4_0, dequantized, 64);
  failed |= quant_pack4(zero_points, 2, codes, 1);
  failed |= quant_unpack4(QUANT_CODE_INT4, codes, 1, zero_points, 2);
  failed |= quant_tensor_sizes(&tensor, &sizes);
  failed |= quant_quantize_tensor(&tensor, values, sizes.values, codes, sizes.codes, scales,
                                  sizes.scales, zero_points, sizes.zero_points, 1, &stats, NULL);
  failed |= quant_dequantize_tensor(&tensor, codes, sizes.codes, scales, sizes.scales, zero_points,
                                    sizes.zero_points, QUANT_FLOAT_F32, dequantized, sizes.values, 1,
                                    NULL);
  failed |= quant_observer_new(&config, &observer);
  failed |= quant_observer_new(&config, &other);
  failed |= quant_observer_observe(observer, QUANT_FLOAT_F32, values, 32);
  failed |= quant_observer_observe_part(other, QUANT_FLOAT_F32, values + 32, 32);
  failed |= quant_observer_end_sample(other);
  failed |= quant_observer_merge(observer, other);
  failed |= quant_observer_range(observer, QUANT_CODE_UINT8, QUANT_MODE_AFFINE, &range);
  failed |= range.min < -1.25f || range.max > 2.6875f;
  failed |= quant_observer_params(observer, QUANT_FLOAT_F32, scheme, &params);
  quant_observer_free(observer);
  quant_observer_free(other);
  return failed;
}
