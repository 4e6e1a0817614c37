// Made from the C library's header by `cargo xtask codegen`: change it there.

extension Scheme {
    /// The type of codes. Codes of fewer than 8 bits are packed: they are a stream of bits, the first
    /// code in the lowest bits of the first byte. Of 4 bits, code `2 * i` is in the low nibble of byte
    /// `i`; of 3, 5 and 6 bits, 8, 8 and 4 codes fill 3, 5 and 3 bytes. Bits behind the last code are 0.
    public enum Code: UInt32, CaseIterable, Sendable {
        /// Signed, 8 bits, two's complement.
        case int8 = 0
        /// Unsigned, 8 bits.
        case uint8 = 1
        /// Signed, 4 bits, two's complement.
        case int4 = 2
        /// Unsigned, 4 bits.
        case uint4 = 3
        /// Signed, 2 bits, two's complement.
        case int2 = 4
        /// Unsigned, 2 bits.
        case uint2 = 5
        /// Signed, 3 bits, two's complement.
        case int3 = 6
        /// Unsigned, 3 bits.
        case uint3 = 7
        /// Signed, 5 bits, two's complement.
        case int5 = 8
        /// Unsigned, 5 bits.
        case uint5 = 9
        /// Signed, 6 bits, two's complement.
        case int6 = 10
        /// Unsigned, 6 bits.
        case uint6 = 11
    }

    /// How the range of codes is laid over the range of values.
    public enum Mode: UInt32, CaseIterable, Sendable {
        /// Symmetric about 0.
        case symmetric = 0
        /// From the smallest value to the largest, and 0 in any case.
        case affine = 1
    }

    /// Whose arithmetic: the type that is computed in, that of the scales, and the range of codes.
    public enum Dialect: UInt32, CaseIterable, Sendable {
        /// As coremltools 9.0: each step is rounded to the type of the values, and scales have it.
        case coremltools = 0
        /// The same steps, all in f32, and scales are f32. `QUANT_DIALECT_WIDE` is its first name.
        case f32 = 1
        /// As torch's observers: f32, a scale of at least 2^-23, the whole range of codes in both modes.
        case torch = 2
        /// As coremltools 9.0's activations: computed in f16, a scale of 0 becomes 1, the whole range of
        /// codes in both modes.
        case coremltoolsActivations = 3
        /// As MLX 0.32 on the CPU: a scale, which may be negative, and a float bias, which code 0 stands
        /// for, both in the type of the values. Unsigned codes and `QUANT_MODE_AFFINE` only. Biases take
        /// the place of zero points: where these are bytes, they are the biases' own.
        case mlx = 4
        /// As compressed-tensors 0.20: each step is rounded to the type of the values, and scales have it;
        /// the whole range of codes in both modes; the zero point is added before a quotient is rounded
        /// to an integer. Unsigned codes are signed ones less the smallest.
        case compressedTensors = 5
        /// As coreai-opt 0.4's pass on Core AI programs: each step is rounded to the type of the values, and
        /// scales have it; 1e-6 is added to the width of a range.
        case coreai = 6
        /// As coreai-opt 0.4's fake quantization of weights: scales have the type of the values and are at
        /// least 2^-23, quotients are f32; symmetric codes of signed types lack the smallest one.
        case coreaiTorch = 7
    }
}

extension Observer {
    /// How an observer finds the range of an activation.
    public enum Kind: UInt32, CaseIterable, Sendable {
        /// The smallest and the largest value.
        case minMax = 0
        /// Averages of the samples' smallest and largest values, as torch moves them.
        case movingAverage = 1
        /// So many percent of the values, by a histogram.
        case percentile = 2
        /// The range of the least entropy between the values and their codes, by a histogram.
        case entropy = 3
        /// The range of the least squared error, by a histogram.
        case mse = 4
    }
}
