import CQuant

/// What values are quantized to, and how.
public struct Scheme: Hashable, Sendable {
    public var code: Code
    public var mode: Mode
    public var dialect: Dialect

    public init(_ code: Code, _ mode: Mode = .symmetric, dialect: Dialect = .coremltools) {
        self.code = code
        self.mode = mode
        self.dialect = dialect
    }

    var c: QuantScheme {
        // The numbers are the header's, whose enumerations are open.
        QuantScheme(
            dtype: QuantCode(rawValue: code.rawValue)!, mode: QuantMode(rawValue: mode.rawValue)!,
            dialect: QuantDialect(rawValue: dialect.rawValue)!)
    }
}

extension Scheme.Dialect {
    /// The first name of `f32`.
    public static let wide = Self.f32
}

/// How many elements share a scale. Negative axes count from the end.
public enum Granularity: Hashable, Sendable {
    /// One scale for the whole tensor.
    case perTensor
    /// One scale per index of `axis`.
    case perChannel(axis: Int = 0)
    /// One scale per index of `axis` and `size` indices of `blockAxis`.
    case perBlock(axis: Int = 0, blockAxis: Int = 1, size: Int)
    /// A block size per axis; 0 means the whole axis.
    case blocks([Int])

    /// A block size for each axis.
    func blockSizes(rank: Int) throws -> [Int] {
        func index(_ axis: Int) throws -> Int {
            let index = axis < 0 ? axis + rank : axis
            guard (0..<rank).contains(index) else {
                throw QuantError.invalidArgument("axis \(axis) of a tensor of rank \(rank)")
            }
            return index
        }
        var sizes = [Int](repeating: 0, count: rank)
        switch self {
        case .perTensor:
            break
        case .perChannel(let axis):
            sizes[try index(axis)] = 1
        case .perBlock(let axis, let blockAxis, let size):
            guard size > 0, try index(axis) != index(blockAxis) else {
                throw QuantError.invalidArgument("blocks of \(size) along axis \(blockAxis)")
            }
            sizes[try index(axis)] = 1
            sizes[try index(blockAxis)] = size
        case .blocks(let given):
            guard given.count == rank, given.allSatisfy({ $0 >= 0 }) else {
                throw QuantError.invalidArgument("block sizes \(given) for rank \(rank)")
            }
            sizes = given
        }
        return sizes
    }
}

/// Why something was not quantized or dequantized.
public enum QuantError: Error, Hashable, Sendable {
    /// So many values are NaN or infinite, the first at this row-major position.
    case nonFinite(position: Int, count: Int)
    /// The values that share the scale at this row-major position are too large or too small;
    /// `Scheme.Dialect.f32` is for such values, where they are not `Float`.
    case outOfRange(scale: Int)
    /// The scale at this row-major position, or its zero point, cannot be.
    case invalidParams(scale: Int)
    /// A shape, an axis or a size does not fit the others.
    case invalidArgument(String)
    /// What the library says else.
    case failed(String)

    static func check(_ status: QuantStatus, _ failure: QuantFailure = QuantFailure()) throws {
        switch status {
        case .ok:
            return
        case .nonFinite:
            throw nonFinite(position: failure.position, count: Int(failure.count))
        case .outOfRange:
            throw outOfRange(scale: failure.position)
        case .invalidParams:
            throw invalidParams(scale: failure.position)
        case .invalidBlocks, .invalidLength, .invalidShape, .invalidValuesSize, .invalidCodesSize,
            .invalidScalesSize, .invalidZeroPointsSize, .invalidSettings, .cannotMerge:
            throw invalidArgument(String(cString: quant_status_string(status)))
        default:
            throw failed(String(cString: quant_status_string(status)))
        }
    }
}
