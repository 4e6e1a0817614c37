// Linear quantization of neural-network tensors.
//
// Made from the documentation of quant-capi by `cargo xtask codegen`: change it there.
//
// Every function works on the caller's buffers.
//
// - Pointers may have any alignment. Where values or scales are not aligned to their size they are
//   copied through 8 KiB of stack, some at a time.
// - Codes, scales, zero points and values that are written must not overlap with any other buffer;
//   inputs may. This is checked. Counts and statistics must lie apart from all buffers, which is
//   not checked.
// - What a pointer points to must be as large as the size beside it says. Where that is 0 the
//   pointer may be null. Sizes are in bytes, counts in elements.
// - What can be wrong with arguments is checked before anything is written, and told by the status;
//   what makes a call fail later (NON_FINITE, OUT_OF_RANGE, INVALID_PARAMS) leaves outputs
//   partly written.
// - Functions may be called from any thread at any time; an observer may be changed by one thread at a
//   time, and meanwhile be used by no other. Nothing else is kept between calls but which instruction
//   sets the processor has, and what quant_backend_use chose. Only functions on tensors start threads;
//   only these and functions on observers allocate.
// - Where memory runs out, functions on tensors return NO_MEMORY. With one thread that is promised for
//   each of their allocations. With more it is promised for the library's own; these look first
//   whether there is memory for all that they will do. What starts threads and hands work to them
//   (Rust's std::thread, the library rayon, and std::thread::available_parallelism where `threads`
//   is 0) ends the process, should others take that memory meanwhile. Functions on observers look
//   first, too. All other functions allocate nothing.
// - A defect of the library is INTERNAL where panics unwind; in the libraries for Apple's systems it
//   ends the process.
// - Statistics, sizes, failures, tensors and settings of observers have fields `reserved`, which are 0:
//   later versions may use them. Initialize such a structure by name, or set it to 0 first. Schemes,
//   ranges and parameters, which are passed by value, get no further fields.
// - Results are the same bytes on every machine.

#pragma once

#include <stddef.h>
#include <stdint.h>

#define QUANT_VERSION "0.1.0"
#define QUANT_VERSION_MAJOR 0
#define QUANT_VERSION_MINOR 1
#define QUANT_VERSION_PATCH 0
// 1000000 * major + 1000 * minor + patch, to be compared.
#define QUANT_VERSION_NUMBER \
  (1000000 * QUANT_VERSION_MAJOR + 1000 * QUANT_VERSION_MINOR + QUANT_VERSION_PATCH)

// Pointers to buffers may be null where their size is 0; other pointers may not.
#if defined(__clang__)
#define QUANT_NULLABLE _Nullable
#define QUANT_NONNULL _Nonnull
#define QUANT_OPEN_ENUM __attribute__((enum_extensibility(open)))
#define QUANT_SWIFT_NAME(name) __attribute__((swift_name(#name)))
#pragma clang assume_nonnull begin
#else
#define QUANT_NULLABLE
#define QUANT_NONNULL
#define QUANT_OPEN_ENUM
#define QUANT_SWIFT_NAME(name)
#endif

// The result of a call. Unless it is `QUANT_STATUS_OK`, outputs hold nothing of use.
typedef enum QUANT_OPEN_ENUM QuantStatus {
  // Done.
  QUANT_STATUS_OK QUANT_SWIFT_NAME(ok) = 0,
  // A pointer is null although there is something behind it.
  QUANT_STATUS_NULL_POINTER QUANT_SWIFT_NAME(nullPointer) = 1,
  // A size is more than can be addressed.
  QUANT_STATUS_INVALID_LENGTH QUANT_SWIFT_NAME(invalidLength) = 2,
  // An output overlaps with another buffer.
  QUANT_STATUS_OVERLAP QUANT_SWIFT_NAME(overlap) = 3,
  // A number that its enumeration does not have; or codes, or a mode, that the dialect does not
  // have.
  QUANT_STATUS_UNKNOWN_VALUE QUANT_SWIFT_NAME(unknownValue) = 4,
  // A block size is 0 where there must be one, or larger than its axis; or there is a part of a
  // block where there must be whole ones.
  QUANT_STATUS_INVALID_BLOCKS QUANT_SWIFT_NAME(invalidBlocks) = 5,
  // A scale is negative where none is, not finite, or not of its type; a zero point is out of range.
  QUANT_STATUS_INVALID_PARAMS QUANT_SWIFT_NAME(invalidParams) = 6,
  // There are NaN or infinities among values whose parameters were to be found.
  QUANT_STATUS_NON_FINITE QUANT_SWIFT_NAME(nonFinite) = 7,
  // The values are too large or too small: the scale or the zero point would overflow, or the
  // scale would become 0. `QUANT_DIALECT_F32` is for such values, where they are not f32.
  QUANT_STATUS_OUT_OF_RANGE QUANT_SWIFT_NAME(outOfRange) = 8,
  // The system starts no more threads.
  QUANT_STATUS_NO_THREADS QUANT_SWIFT_NAME(noThreads) = 9,
  // A defect of this library.
  QUANT_STATUS_INTERNAL QUANT_SWIFT_NAME(internal) = 10,
  // There is not enough memory.
  QUANT_STATUS_NO_MEMORY QUANT_SWIFT_NAME(noMemory) = 11,
  // A tensor has more axes or elements than there can be.
  QUANT_STATUS_INVALID_SHAPE QUANT_SWIFT_NAME(invalidShape) = 12,
  // The values do not have the size that the other arguments ask for.
  QUANT_STATUS_INVALID_VALUES_SIZE QUANT_SWIFT_NAME(invalidValuesSize) = 13,
  // The codes do not have the size that the other arguments ask for.
  QUANT_STATUS_INVALID_CODES_SIZE QUANT_SWIFT_NAME(invalidCodesSize) = 14,
  // The scales do not have the size that the other arguments ask for.
  QUANT_STATUS_INVALID_SCALES_SIZE QUANT_SWIFT_NAME(invalidScalesSize) = 15,
  // The zero points, or biases, do not have the size that the other arguments ask for.
  QUANT_STATUS_INVALID_ZERO_POINTS_SIZE QUANT_SWIFT_NAME(invalidZeroPointsSize) = 16,
  // A setting of an observer is out of its range.
  QUANT_STATUS_INVALID_SETTINGS QUANT_SWIFT_NAME(invalidSettings) = 17,
  // Observers of different settings, or moving averages, which depend on the order of the samples.
  QUANT_STATUS_CANNOT_MERGE QUANT_SWIFT_NAME(cannotMerge) = 18,
} QuantStatus;

// A set of kernels. All of them give the same bytes.
typedef enum QUANT_OPEN_ENUM QuantBackend {
  // Plain code, on every machine.
  QUANT_BACKEND_SCALAR QUANT_SWIFT_NAME(scalar) = 0,
  // AVX2, FMA and F16C, on x86-64.
  QUANT_BACKEND_AVX2 QUANT_SWIFT_NAME(avx2) = 1,
  // AVX-512 F, BW, CD, DQ and VL, on x86-64.
  QUANT_BACKEND_AVX512 QUANT_SWIFT_NAME(avx512) = 2,
  // NEON, on 64-bit ARM.
  QUANT_BACKEND_NEON QUANT_SWIFT_NAME(neon) = 3,
} QuantBackend;

// The type of values, and of scales.
typedef enum QUANT_OPEN_ENUM QuantFloat {
  // IEEE 754 binary32: `float`. 4 bytes.
  QUANT_FLOAT_F32 QUANT_SWIFT_NAME(f32) = 0,
  // IEEE 754 binary16: `_Float16`. 2 bytes.
  QUANT_FLOAT_F16 QUANT_SWIFT_NAME(f16) = 1,
  // bfloat16, the upper half of a binary32. 2 bytes.
  QUANT_FLOAT_BF16 QUANT_SWIFT_NAME(bf16) = 2,
} QuantFloat;

// The type of codes. Codes of fewer than 8 bits are packed: they are a stream of bits, the first
// code in the lowest bits of the first byte. Of 4 bits, code `2 * i` is in the low nibble of byte
// `i`; of 3, 5 and 6 bits, 8, 8 and 4 codes fill 3, 5 and 3 bytes. Bits behind the last code are 0.
typedef enum QUANT_OPEN_ENUM QuantCode {
  // Signed, 8 bits, two's complement.
  QUANT_CODE_INT8 QUANT_SWIFT_NAME(int8) = 0,
  // Unsigned, 8 bits.
  QUANT_CODE_UINT8 QUANT_SWIFT_NAME(uint8) = 1,
  // Signed, 4 bits, two's complement.
  QUANT_CODE_INT4 QUANT_SWIFT_NAME(int4) = 2,
  // Unsigned, 4 bits.
  QUANT_CODE_UINT4 QUANT_SWIFT_NAME(uint4) = 3,
  // Signed, 2 bits, two's complement.
  QUANT_CODE_INT2 QUANT_SWIFT_NAME(int2) = 4,
  // Unsigned, 2 bits.
  QUANT_CODE_UINT2 QUANT_SWIFT_NAME(uint2) = 5,
  // Signed, 3 bits, two's complement.
  QUANT_CODE_INT3 QUANT_SWIFT_NAME(int3) = 6,
  // Unsigned, 3 bits.
  QUANT_CODE_UINT3 QUANT_SWIFT_NAME(uint3) = 7,
  // Signed, 5 bits, two's complement.
  QUANT_CODE_INT5 QUANT_SWIFT_NAME(int5) = 8,
  // Unsigned, 5 bits.
  QUANT_CODE_UINT5 QUANT_SWIFT_NAME(uint5) = 9,
  // Signed, 6 bits, two's complement.
  QUANT_CODE_INT6 QUANT_SWIFT_NAME(int6) = 10,
  // Unsigned, 6 bits.
  QUANT_CODE_UINT6 QUANT_SWIFT_NAME(uint6) = 11,
} QuantCode;

// How the range of codes is laid over the range of values.
typedef enum QUANT_OPEN_ENUM QuantMode {
  // Symmetric about 0.
  QUANT_MODE_SYMMETRIC QUANT_SWIFT_NAME(symmetric) = 0,
  // From the smallest value to the largest, and 0 in any case.
  QUANT_MODE_AFFINE QUANT_SWIFT_NAME(affine) = 1,
} QuantMode;

// Whose arithmetic: the type that is computed in, that of the scales, and the range of codes.
typedef enum QUANT_OPEN_ENUM QuantDialect {
  // As coremltools 9.0: each step is rounded to the type of the values, and scales have it.
  QUANT_DIALECT_COREMLTOOLS QUANT_SWIFT_NAME(coremltools) = 0,
  // The same steps, all in f32, and scales are f32. `QUANT_DIALECT_WIDE` is its first name.
  QUANT_DIALECT_F32 QUANT_SWIFT_NAME(f32) = 1,
  // As torch's observers: f32, a scale of at least 2^-23, the whole range of codes in both modes.
  QUANT_DIALECT_TORCH QUANT_SWIFT_NAME(torch) = 2,
  // As coremltools 9.0's activations: computed in f16, a scale of 0 becomes 1, the whole range of
  // codes in both modes.
  QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS QUANT_SWIFT_NAME(coremltoolsActivations) = 3,
  // As MLX 0.32 on the CPU: a scale, which may be negative, and a float bias, which code 0 stands
  // for, both in the type of the values. Unsigned codes and `QUANT_MODE_AFFINE` only. Biases take
  // the place of zero points: where these are bytes, they are the biases' own.
  QUANT_DIALECT_MLX QUANT_SWIFT_NAME(mlx) = 4,
  // As compressed-tensors 0.20: each step is rounded to the type of the values, and scales have it;
  // the whole range of codes in both modes; the zero point is added before a quotient is rounded
  // to an integer. Unsigned codes are signed ones less the smallest.
  QUANT_DIALECT_COMPRESSED_TENSORS QUANT_SWIFT_NAME(compressedTensors) = 5,
  // As coreai-opt 0.4's pass on Core AI programs: each step is rounded to the type of the values, and
  // scales have it; 1e-6 is added to the width of a range.
  QUANT_DIALECT_COREAI QUANT_SWIFT_NAME(coreai) = 6,
  // As coreai-opt 0.4's fake quantization of weights: scales have the type of the values and are at
  // least 2^-23, quotients are f32; symmetric codes of signed types lack the smallest one.
  QUANT_DIALECT_COREAI_TORCH QUANT_SWIFT_NAME(coreaiTorch) = 7,
} QuantDialect;

// A block type of ggml, as GGUF files hold it: 32 values and what they share, interleaved.
typedef enum QUANT_OPEN_ENUM QuantGgml {
  // A scale in f16 and 32 codes of 8 bits: 34 bytes.
  QUANT_GGML_Q8_0 QUANT_SWIFT_NAME(q80) = 0,
  // A scale in f16 and 32 codes of 4 bits: 18 bytes.
  QUANT_GGML_Q4_0 QUANT_SWIFT_NAME(q40) = 1,
  // Scale and minimum in f16, and 32 codes of 4 bits: 20 bytes.
  QUANT_GGML_Q4_1 QUANT_SWIFT_NAME(q41) = 2,
  // A scale in f16 and 32 codes of 5 bits: 22 bytes.
  QUANT_GGML_Q5_0 QUANT_SWIFT_NAME(q50) = 3,
  // Scale and minimum in f16, and 32 codes of 5 bits: 24 bytes.
  QUANT_GGML_Q5_1 QUANT_SWIFT_NAME(q51) = 4,
} QuantGgml;

// How an observer finds the range of an activation.
typedef enum QUANT_OPEN_ENUM QuantObserverKind {
  // The smallest and the largest value.
  QUANT_OBSERVER_KIND_MIN_MAX QUANT_SWIFT_NAME(minMax) = 0,
  // Averages of the samples' smallest and largest values, as torch moves them.
  QUANT_OBSERVER_KIND_MOVING_AVERAGE QUANT_SWIFT_NAME(movingAverage) = 1,
  // So many percent of the values, by a histogram.
  QUANT_OBSERVER_KIND_PERCENTILE QUANT_SWIFT_NAME(percentile) = 2,
  // The range of the least entropy between the values and their codes, by a histogram.
  QUANT_OBSERVER_KIND_ENTROPY QUANT_SWIFT_NAME(entropy) = 3,
  // The range of the least squared error, by a histogram.
  QUANT_OBSERVER_KIND_MSE QUANT_SWIFT_NAME(mse) = 4,
} QuantObserverKind;

// The range of an activation, from values that come sample by sample and are not kept. One thread at
// a time may change it.
typedef struct QuantObserver QuantObserver;

// The range of some values. NaN takes no part in it.
typedef struct QuantRange {
  // The smallest value; +infinity where there is none.
  float min;
  // The largest value; -infinity where there is none.
  float max;
  // How many values are NaN or infinite.
  uint64_t non_finite;
} QuantRange;

// What values are quantized to, and how.
typedef struct QuantScheme {
  // The type of the codes.
  QuantCode dtype;
  // Symmetric or affine. Zero points are stored beside the scales where this is affine or the
  // codes are unsigned.
  QuantMode mode;
  // The type that is computed in. 0 is coremltools.
  QuantDialect dialect;
} QuantScheme;

// Scale and zero point, or bias: a code stands for `scale * (code - zero_point)`, or for
// `scale * code + bias`.
typedef struct QuantParams {
  // What one step of the code is worth: exact in the type of the scales; at least 0, but for a bias, or
  // symmetric signed codes of less than 8 bits in the dialects coremltools and f32.
  float scale;
  // The code that stands for 0.
  int32_t zero_point;
  // The value that code 0 stands for, in a dialect that stores biases; else it is not read, and
  // written as 0.
  float bias;
} QuantParams;

// What a quantization lost. The order of summation is fixed: the figures are the same on every
// machine and with any number of threads.
typedef struct QuantErrorStats {
  // Values compared, non-finite ones included.
  uint64_t count;
  // Values that are NaN or infinite, or whose error is: left out of everything else.
  uint64_t non_finite;
  // Values whose code was clipped. 0 from `quant_error_stats`, which sees no codes.
  uint64_t saturated;
  // Sum of the squared values.
  double signal;
  // Sum of the squared errors.
  double noise;
  // Sum of the absolute errors.
  double absolute;
  // The largest absolute error.
  double max_absolute;
  // The mean absolute error; 0 where nothing was compared.
  double mean_absolute;
  // Signal to noise, `10 * log10(signal / noise)`; +infinity without any error.
  double sqnr_db;
  // Zeros: room for what later versions tell.
  uint64_t reserved[3];
} QuantErrorStats;

// A tensor, and how it is quantized. Row-major.
typedef struct QuantTensor {
  // The type of the values.
  QuantFloat dtype;
  // What they are quantized to.
  QuantScheme scheme;
  // Number of axes, at most 64; 0 for a single value.
  size_t rank;
  // `rank` lengths.
  const size_t *QUANT_NULLABLE shape;
  // `rank` block sizes: how many indices of each axis share a scale; 0 means the whole axis.
  // The last block of an axis may be shorter. Null means one scale for the whole tensor.
  const size_t *QUANT_NULLABLE block_sizes;
  // Zeros: room for what later versions ask.
  size_t reserved[4];
} QuantTensor;

// The sizes of a tensor's buffers.
typedef struct QuantTensorSizes {
  // Number of elements.
  size_t count;
  // Number of scales: the product of `shape[i] / block_sizes[i]`, each rounded up.
  size_t scale_count;
  // Bytes of values.
  size_t values;
  // Bytes of codes.
  size_t codes;
  // Bytes of scales.
  size_t scales;
  // Bytes of zero points, which have the type of the codes but are not packed: one for each
  // scale, or 0 where the scheme stores none. Bytes of biases in a dialect that stores these.
  size_t zero_points;
  // Zeros: room for what later versions tell.
  size_t reserved[2];
} QuantTensorSizes;

// Where a tensor could not be quantized or dequantized.
typedef struct QuantFailure {
  // With `QUANT_STATUS_NON_FINITE`: the row-major position of the first NaN or infinity. With
  // `QUANT_STATUS_OUT_OF_RANGE` and `QUANT_STATUS_INVALID_PARAMS`: that of a block's scale.
  size_t position;
  // How many there are; 1 for a block.
  uint64_t count;
  // Zeros: room for what later versions tell.
  uint64_t reserved[2];
} QuantFailure;

// Which observer, and its settings. What is 0 is as usual.
typedef struct QuantObserverConfig {
  // How the range is found.
  QuantObserverKind kind;
  // Bins of a histogram: a power of two from 128 to 8192. 0 means 2048.
  size_t bins;
  // Percent of the values that `QUANT_OBSERVER_KIND_PERCENTILE` keeps, above 0 and at most 100. 0
  // means 99.999.
  double percentile;
  // What `QUANT_OBSERVER_KIND_MOVING_AVERAGE` moves by, above 0 and at most 1. 0 means 0.01.
  double constant;
  // Zeros: room for what later versions ask.
  uint64_t reserved[4];
} QuantObserverConfig;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library that is linked: `QUANT_VERSION` is that of this header. Static.
const char *quant_version(void);

// What a status means, in a few English words; "unknown status" for a number that is none.
// Static, never null.
const char *quant_status_string(QuantStatus status);

// How many backends this machine can run, and which: the first `capacity` of them are written to
// `backends`, the fastest first. `backends` may be null where `capacity` is 0.
size_t quant_backend_list(QuantBackend *QUANT_NULLABLE backends, size_t capacity);

// The fastest backend that this machine can run: the first of `quant_backend_list`. Every function
// uses it unless `quant_backend_use` was called.
QuantBackend quant_backend_detect(void);

// Chooses the backend of every later call, of all threads. Results are the same bytes with any.
//
// Status: `UNKNOWN_VALUE`; also for a backend that this machine cannot run.
QuantStatus quant_backend_use(QuantBackend backend);

// The version of the library that is linked, as a number: `QUANT_VERSION_NUMBER` is that of this
// header.
uint32_t quant_version_number(void);

// "scalar", "avx2", "avx512" or "neon"; "unknown" for a number that is none of them. Static,
// never null.
const char *quant_backend_name(QuantBackend backend);

// The range of `count` values.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`.
QuantStatus quant_range(QuantFloat dtype, const void *QUANT_NULLABLE values, size_t count, QuantRange *range);

// Scale and zero point for values of type `dtype` with this range. An empty range is that of
// zeros; zeros have the scale 0.
//
// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `INVALID_PARAMS` (bounds in the wrong order),
// `NON_FINITE`, `OUT_OF_RANGE`.
QuantStatus quant_params_from_range(QuantFloat dtype,
                                    QuantRange range,
                                    QuantScheme scheme,
                                    QuantParams *params);

// The bytes that `count` codes take, packed where they have fewer than 8 bits.
//
// Status: `NULL_POINTER`, `UNKNOWN_VALUE`.
QuantStatus quant_codes_size(QuantCode dtype, size_t count, size_t *size);

// Quantizes `count` values with given parameters into `codes_size` bytes (`quant_codes_size`).
// NaN becomes the zero point; infinities saturate; with the scale 0 every code is 0. How many
// values are NaN or infinite goes to `non_finite`, unless that is null.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
// `INVALID_PARAMS`.
QuantStatus quant_quantize(QuantFloat dtype,
                           const void *QUANT_NULLABLE values,
                           size_t count,
                           QuantScheme scheme,
                           QuantParams params,
                           uint8_t *QUANT_NULLABLE codes,
                           size_t codes_size,
                           uint64_t *QUANT_NULLABLE non_finite);

// The `count` values that codes stand for: `scale * (code - zero_point)`, rounded to the type of
// the scale and from there to `dtype`.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
// `INVALID_PARAMS`.
QuantStatus quant_dequantize(QuantFloat dtype,
                             const uint8_t *QUANT_NULLABLE codes,
                             size_t codes_size,
                             QuantScheme scheme,
                             QuantParams params,
                             void *QUANT_NULLABLE values,
                             size_t count);

// Quantizes and dequantizes `count` values in one pass: `dequantized` is what `quant_dequantize` makes
// of what `quant_quantize` does. `dequantized` may be `values`, but not overlap with it otherwise. How
// many values are NaN or infinite goes to `non_finite`, unless that is null.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `OVERLAP`, `UNKNOWN_VALUE`, `INVALID_PARAMS`.
QuantStatus quant_fake_quantize(QuantFloat dtype,
                                const void *QUANT_NULLABLE values,
                                size_t count,
                                QuantScheme scheme,
                                QuantParams params,
                                void *QUANT_NULLABLE dequantized,
                                uint64_t *QUANT_NULLABLE non_finite);

// The error of `count` values of type `dtype` against their dequantized ones, of type `dequantized_dtype`. Fast
// where `dequantized` is f32 and both are aligned.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`.
QuantStatus quant_error_stats(QuantFloat dtype,
                              const void *QUANT_NULLABLE values,
                              QuantFloat dequantized_dtype,
                              const void *QUANT_NULLABLE dequantized,
                              size_t count,
                              QuantErrorStats *stats);

// Packs `count` 4-bit codes, one per byte, of which the high bits are ignored, into half as many
// bytes, rounded up. The last high nibble after an odd number of codes becomes 0.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`.
QuantStatus quant_pack4(const uint8_t *QUANT_NULLABLE codes, size_t count, uint8_t *QUANT_NULLABLE packed, size_t packed_size);

// Unpacks `count` 4-bit codes to one per byte, with the sign where `dtype` is signed.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`; also
// for a type of other than 4 bits.
QuantStatus quant_unpack4(QuantCode dtype,
                          const uint8_t *QUANT_NULLABLE packed,
                          size_t packed_size,
                          uint8_t *QUANT_NULLABLE codes,
                          size_t count);

// Scales, zero points and codes of blocks of `block_size` consecutive values, of which the last
// may be shorter. There are `count / block_size` blocks, rounded up; as many scales, of type
// `dtype` (f32 with `QUANT_DIALECT_F32`, `QUANT_DIALECT_TORCH` and, but for values of f16,
// `QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS`); as many zero points, one per byte, in the type of the codes, or none where the scheme stores none
// (see `QuantScheme`); with `QUANT_DIALECT_MLX` biases in their place, of type `dtype`. All sizes
// are in bytes. Codes are packed without gaps between blocks. Blocks of 32, 64, 128 and 256 are the
// fastest; where values or scales are not aligned, blocks are done one by one.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`,
// `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `NON_FINITE`,
// `OUT_OF_RANGE`.
QuantStatus quant_quantize_blocks(QuantFloat dtype,
                                  const void *QUANT_NULLABLE values,
                                  size_t count,
                                  size_t block_size,
                                  QuantScheme scheme,
                                  uint8_t *QUANT_NULLABLE codes,
                                  size_t codes_size,
                                  void *QUANT_NULLABLE scales,
                                  size_t scales_size,
                                  uint8_t *QUANT_NULLABLE zero_points,
                                  size_t zero_points_size);

// The values of what `quant_quantize_blocks` wrote.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`,
// `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `INVALID_PARAMS`.
QuantStatus quant_dequantize_blocks(QuantFloat dtype,
                                    const uint8_t *QUANT_NULLABLE codes,
                                    size_t codes_size,
                                    size_t block_size,
                                    QuantScheme scheme,
                                    const void *QUANT_NULLABLE scales,
                                    size_t scales_size,
                                    const uint8_t *QUANT_NULLABLE zero_points,
                                    size_t zero_points_size,
                                    void *QUANT_NULLABLE values,
                                    size_t count);

// How many bytes `count` values take in blocks of ggml.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`, `INVALID_BLOCKS` where `count` is no
// multiple of 32.
QuantStatus quant_ggml_size(QuantGgml block_type, size_t count, size_t *size);

// Quantizes to blocks of ggml, with the bytes of ggml's reference quantizer. `count` is a multiple
// of 32, and `blocks_size` what `quant_ggml_size` says.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
// `INVALID_BLOCKS`, `NON_FINITE`; `OUT_OF_RANGE` where f16 cannot hold a scale or minimum.
QuantStatus quant_ggml_quantize(QuantFloat dtype,
                                const void *QUANT_NULLABLE values,
                                size_t count,
                                QuantGgml block_type,
                                uint8_t *QUANT_NULLABLE blocks,
                                size_t blocks_size);

// The values of blocks of ggml. `count` is a multiple of 32, and `blocks_size` what
// `quant_ggml_size` says.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_CODES_SIZE`, `OVERLAP`, `UNKNOWN_VALUE`,
// `INVALID_BLOCKS`; `INVALID_PARAMS` where a scale or minimum is not finite.
QuantStatus quant_ggml_dequantize(QuantFloat dtype,
                                  const uint8_t *QUANT_NULLABLE blocks,
                                  size_t blocks_size,
                                  QuantGgml block_type,
                                  void *QUANT_NULLABLE values,
                                  size_t count);

// What the buffers of a tensor must measure.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_SHAPE`, `UNKNOWN_VALUE`, `INVALID_BLOCKS`,
// `NO_MEMORY`.
QuantStatus quant_tensor_sizes(const QuantTensor *tensor, QuantTensorSizes *sizes);

// Quantizes a whole tensor: `values_size` bytes of values in, bytes of codes, scales and zero
// points out, of the sizes that `quant_tensor_sizes` gives. Scales have the tensor's type (f32
// with `QUANT_DIALECT_F32`, `QUANT_DIALECT_TORCH` and, but for values of f16,
// `QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS`).
//
// It runs on so many `threads`: 1 is the caller's own, and no other is started; 0 is one for each
// core. Others are started, and ended before this returns; no more than there is work for. The
// bytes do not depend on the number. Every thread allocates some hundred KiB; block sizes above 1
// on several axes, of which the blocks lie apart, take 12 bytes for each scale.
//
// The error goes to `error_stats`, unless that is null: then it is faster. On failure, where goes to
// `failure`, unless that is null. A tensor without elements is done at once.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_SHAPE`, `INVALID_VALUES_SIZE`,
// `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`, `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`,
// `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `NO_MEMORY`, `NON_FINITE`, `OUT_OF_RANGE`, `NO_THREADS`.
QuantStatus quant_quantize_tensor(const QuantTensor *tensor,
                                  const void *QUANT_NULLABLE values,
                                  size_t values_size,
                                  uint8_t *QUANT_NULLABLE codes,
                                  size_t codes_size,
                                  void *QUANT_NULLABLE scales,
                                  size_t scales_size,
                                  uint8_t *QUANT_NULLABLE zero_points,
                                  size_t zero_points_size,
                                  size_t threads,
                                  QuantErrorStats *QUANT_NULLABLE error_stats,
                                  QuantFailure *QUANT_NULLABLE failure);

// The values of what `quant_quantize_tensor` wrote, in the type `target`, which need not be the
// tensor's: `values_size` is the number of elements times its size. `threads` and `failure` as
// there.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `INVALID_SHAPE`, `INVALID_VALUES_SIZE`,
// `INVALID_CODES_SIZE`, `INVALID_SCALES_SIZE`, `INVALID_ZERO_POINTS_SIZE`, `OVERLAP`,
// `UNKNOWN_VALUE`, `INVALID_BLOCKS`, `NO_MEMORY`, `INVALID_PARAMS`, `NO_THREADS`.
QuantStatus quant_dequantize_tensor(const QuantTensor *tensor,
                                    const uint8_t *QUANT_NULLABLE codes,
                                    size_t codes_size,
                                    const void *QUANT_NULLABLE scales,
                                    size_t scales_size,
                                    const uint8_t *QUANT_NULLABLE zero_points,
                                    size_t zero_points_size,
                                    QuantFloat target,
                                    void *QUANT_NULLABLE values,
                                    size_t values_size,
                                    size_t threads,
                                    QuantFailure *QUANT_NULLABLE failure);

// Makes an observer of no values, which `quant_observer_free` ends.
//
// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `NO_MEMORY`; `INVALID_SETTINGS` for settings out of their
// range.
QuantStatus quant_observer_new(const QuantObserverConfig *config,
                               QuantObserver *QUANT_NULLABLE *QUANT_NONNULL observer);

// Ends an observer. Null is none.
void quant_observer_free(QuantObserver *QUANT_NULLABLE ended);

// Takes `count` values, a whole sample: what one run of the model gives. NaN and infinities are left
// out.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`, `NO_MEMORY`.
QuantStatus quant_observer_observe(QuantObserver *observer,
                                   QuantFloat dtype,
                                   const void *QUANT_NULLABLE values,
                                   size_t count);

// Takes `count` values, a part of a sample, which `quant_observer_end_sample` ends. Only moving
// averages depend on where samples end.
//
// Status: `NULL_POINTER`, `INVALID_LENGTH`, `UNKNOWN_VALUE`, `NO_MEMORY`.
QuantStatus quant_observer_observe_part(QuantObserver *observer,
                                        QuantFloat dtype,
                                        const void *QUANT_NULLABLE values,
                                        size_t count);

// Counts what came since the last one as a sample.
//
// Status: `NULL_POINTER`.
QuantStatus quant_observer_end_sample(QuantObserver *observer);

// As if `observer` had seen what `other`, which stays as it is, saw. The order in which observers
// are merged does not matter.
//
// Status: `NULL_POINTER`, `NO_MEMORY`; `CANNOT_MERGE` for moving averages and for observers of
// different settings.
QuantStatus quant_observer_merge(QuantObserver *observer, const QuantObserver *other);

// The range that activations are to be quantized over. As long as no finite value came (of moving
// averages, no sample with one ended), it is empty: `min` is +infinity, `max` -infinity. Type and mode
// matter to percentiles and the mean squared error only.
//
// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `NO_MEMORY`.
QuantStatus quant_observer_range(const QuantObserver *observer,
                                 QuantCode dtype,
                                 QuantMode mode,
                                 QuantRange *range);

// Scale and zero point of that range, for values of type `dtype`. For activations the dialects
// `QUANT_DIALECT_TORCH` and `QUANT_DIALECT_COREMLTOOLS_ACTIVATIONS` are made.
//
// Status: `NULL_POINTER`, `UNKNOWN_VALUE`, `NO_MEMORY`, `OUT_OF_RANGE`.
QuantStatus quant_observer_params(const QuantObserver *observer,
                                  QuantFloat dtype,
                                  QuantScheme scheme,
                                  QuantParams *params);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus


// The first name of QUANT_DIALECT_F32.
#define QUANT_DIALECT_WIDE QUANT_DIALECT_F32
#if defined(__clang__)
#pragma clang assume_nonnull end
#endif
