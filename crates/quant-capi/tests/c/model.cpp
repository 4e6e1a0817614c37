// What model.c does, in C++ and by the functions on blocks:
//
//     model MODEL QUANTIZED CODE MODE BLOCK
//
// Only for what is a matrix of rows: BLOCK is a part of a row, or 0 for a whole one.

#include <quant.h>

#include <iostream>
#include <string>
#include <vector>

#include "safetensors.h"

namespace {

void check(QuantStatus status, const std::string &name) {
  if (status != QUANT_STATUS_OK) fail(quant_status_string(status), name.c_str());
}

template <typename T>
void compare(const Model &quantized, const std::string &name, const std::vector<T> &found) {
  Tensor expected;
  const bool exists = model_find(&quantized, name.c_str(), &expected) != 0;
  const size_t size = found.size() * sizeof(T);
  if (!exists && size == 0) return;
  if (!exists || expected.size != size || memcmp(expected.bytes, found.data(), size) != 0) {
    fail("other bytes than those of quant", name.c_str());
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 6) fail("MODEL QUANTIZED CODE MODE BLOCK", argv[0]);
  const Model model = model_open(argv[1]);
  const Model quantized = model_open(argv[2]);
  const QuantScheme scheme{static_cast<QuantCode>(std::stoi(argv[3])),
                           static_cast<QuantMode>(std::stoi(argv[4])), QUANT_DIALECT_COREMLTOOLS};
  const size_t block = std::stoull(argv[5]);
  const bool has_zero_points = scheme.mode == QUANT_MODE_AFFINE ||
                               scheme.dtype == QUANT_CODE_UINT8 ||
                               scheme.dtype == QUANT_CODE_UINT4;

  char key[128];
  int count = 0;
  for (size_t place = 0; model_next(&model, &place, key) != 0;) {
    const std::string name = key;
    Tensor values, ignored;
    if (!model_find(&quantized, (name + ".scale").c_str(), &ignored)) continue;
    if (!model_find(&model, name.c_str(), &values)) fail("is not there", key);
    if (block != 0 && values.rank != 2) continue;

    const size_t elements = values.size / sizeof(float);
    const size_t block_size = block != 0 ? block : elements / values.shape[0];
    const size_t blocks = elements / block_size;
    size_t codes_size = 0;
    check(quant_codes_size(scheme.dtype, elements, &codes_size), name);
    std::vector<uint8_t> codes(codes_size), zero_points(has_zero_points ? blocks : 0);
    std::vector<float> scales(blocks);
    check(quant_quantize_blocks(QUANT_FLOAT_F32, values.bytes, elements, block_size, scheme,
                                codes.data(), codes.size(), scales.data(),
                                scales.size() * sizeof(float),
                                zero_points.data(), zero_points.size()),
          name);
    compare(quantized, name, codes);
    compare(quantized, name + ".scale", scales);
    compare(quantized, name + ".zero_point", zero_points);
    count++;
  }
  std::cout << "quant " << quant_version() << ": " << count << " tensors are the same\n";
  return count == 0 ? 1 : 0;
}
