import CQuant

/// A type of values: `Float`, `Float16`.
public protocol QuantizableFloat: BinaryFloatingPoint {
    /// What the C library calls it.
    static var quantFloat: QuantFloat { get }
}

extension Float: QuantizableFloat {
    public static var quantFloat: QuantFloat { .f32 }
}

#if !(os(macOS) && arch(x86_64))
extension Float16: QuantizableFloat {
    public static var quantFloat: QuantFloat { .f16 }
}
#endif

/// A scheme and a granularity, to be applied to tensors.
public struct Quantizer: Hashable, Sendable {
    public var scheme: Scheme
    public var granularity: Granularity
    /// 1 is the caller's own; 0 is one for each core. The bytes do not depend on it.
    public var threads: Int

    public init(
        _ scheme: Scheme = Scheme(.int8), granularity: Granularity = .perChannel(), threads: Int = 0
    ) {
        self.scheme = scheme
        self.granularity = granularity
        self.threads = threads
    }

    /// Quantizes a tensor, row-major.
    public func quantize<Value: QuantizableFloat>(_ values: [Value], shape: [Int]) throws
        -> QuantizedTensor<Value>
    {
        try values.withUnsafeBufferPointer { try quantize($0, shape: shape) }
    }

    /// Quantizes a tensor, row-major, in memory that the caller holds.
    public func quantize<Value: QuantizableFloat>(
        _ values: UnsafeBufferPointer<Value>, shape: [Int]
    ) throws -> QuantizedTensor<Value> {
        guard threads >= 0, shape.allSatisfy({ $0 >= 0 }) else {
            throw QuantError.invalidArgument("shape \(shape), \(threads) threads")
        }
        let layout = Layout(
            dtype: Value.quantFloat, scheme: scheme, shape: shape,
            blockSizes: try granularity.blockSizes(rank: shape.count))
        let sizes = try layout.sizes()
        guard values.count == sizes.count else {
            throw QuantError.invalidArgument("\(values.count) values of shape \(shape)")
        }
        var codes = [UInt8](repeating: 0, count: sizes.codes)
        var scales = [UInt8](repeating: 0, count: sizes.scales)
        var zeroPoints = [UInt8](repeating: 0, count: sizes.zero_points)
        var stats = QuantErrorStats()
        var failure = QuantFailure()
        let status = layout.withTensor { tensor in
            quant_quantize_tensor(
                &tensor, values.baseAddress, sizes.values, &codes, sizes.codes, &scales,
                sizes.scales, &zeroPoints, sizes.zero_points, threads, &stats, &failure)
        }
        try QuantError.check(status, failure)
        return QuantizedTensor(
            layout: layout, codes: codes, scaleBytes: scales, zeroPoints: zeroPoints, stats: stats)
    }
}

/// A quantized tensor.
public struct QuantizedTensor<Value: QuantizableFloat> {
    let layout: Layout
    /// The codes, row-major, as bytes; packed where they have fewer than 8 bits, the first in the
    /// lowest bits.
    public let codes: [UInt8]
    /// The scales as they are stored: `Value`, or `Float` in other dialects than coremltools'.
    public let scaleBytes: [UInt8]
    /// The zero points, in the type of the codes, one per byte; empty where the scheme has none.
    public let zeroPoints: [UInt8]
    /// What was lost.
    public let stats: QuantErrorStats

    public var scheme: Scheme { layout.scheme }
    public var shape: [Int] { layout.shape }
    /// How many indices of each axis share a scale; 0 means all.
    public var blockSizes: [Int] { layout.blockSizes }

    /// The scales, row-major.
    public var scales: [Float] {
        scaleBytes.withUnsafeBytes { bytes in
            switch scheme.dialect {
            case .coremltools, .mlx, .compressedTensors, .coreai, .coreaiTorch:
                return bytes.bindMemory(to: Value.self).map { Float($0) }
            case .f32, .torch: return bytes.bindMemory(to: Float.self).map { $0 }
            case .coremltoolsActivations:
                // As `Float16`, or else as `Float`.
                return Value.quantFloat == .f16
                    ? bytes.bindMemory(to: Value.self).map { Float($0) }
                    : bytes.bindMemory(to: Float.self).map { $0 }
            }
        }
    }

    /// The values that the codes stand for.
    public func dequantized(threads: Int = 0) throws -> [Value] {
        let count = try layout.sizes().count
        return try [Value](unsafeUninitializedCapacity: count) { buffer, initialized in
            try dequantize(into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]), threads: threads)
            initialized = count
        }
    }

    /// The values that the codes stand for, in memory that the caller holds.
    public func dequantize(into values: UnsafeMutableBufferPointer<Value>, threads: Int = 0) throws {
        guard threads >= 0 else {
            throw QuantError.invalidArgument("\(threads) threads")
        }
        let size = values.count * MemoryLayout<Value>.stride
        var failure = QuantFailure()
        let status = layout.withTensor { tensor in
            quant_dequantize_tensor(
                &tensor, codes, codes.count, scaleBytes, scaleBytes.count, zeroPoints,
                zeroPoints.count, Value.quantFloat, values.baseAddress, size, threads, &failure)
        }
        try QuantError.check(status, failure)
    }
}

/// What the C library must know of a tensor.
struct Layout {
    let dtype: QuantFloat
    let scheme: Scheme
    let shape: [Int]
    let blockSizes: [Int]

    func withTensor<Result>(_ body: (inout QuantTensor) -> Result) -> Result {
        shape.withUnsafeBufferPointer { shape in
            blockSizes.withUnsafeBufferPointer { blockSizes in
                var tensor = QuantTensor()
                tensor.dtype = dtype
                tensor.scheme = scheme.c
                tensor.rank = shape.count
                tensor.shape = shape.baseAddress
                tensor.block_sizes = blockSizes.baseAddress
                return body(&tensor)
            }
        }
    }

    func sizes() throws -> QuantTensorSizes {
        var sizes = QuantTensorSizes()
        try QuantError.check(withTensor { quant_tensor_sizes(&$0, &sizes) })
        return sizes
    }
}
