import CQuant

/// The range of an activation, from values that come sample by sample and are not kept.
///
/// An observer may be changed by one thread at a time.
public final class Observer {
    private let handle: OpaquePointer

    /// Of no values. `bins`, of histograms, is a power of two from 128 to 8192; `percentile` is above 0
    /// and at most 100; `constant`, of moving averages, above 0 and at most 1.
    public init(
        _ kind: Kind = .minMax, bins: Int = 2048, percentile: Double = 99.999, constant: Double = 0.01
    ) throws {
        var config = QuantObserverConfig()
        config.kind = QuantObserverKind(rawValue: kind.rawValue)!
        // What is 0 would be as usual.
        config.bins = max(bins, 1)
        config.percentile = percentile == 0 ? -1 : percentile
        config.constant = constant == 0 ? -1 : constant
        var handle: OpaquePointer?
        try QuantError.check(quant_observer_new(&config, &handle))
        self.handle = handle!
    }

    deinit {
        quant_observer_free(handle)
    }

    /// Takes a whole sample: what one run of the model gives. NaN and infinities are left out.
    public func observe<Value: QuantizableFloat>(_ values: [Value]) throws {
        try values.withUnsafeBufferPointer { try observe($0) }
    }

    /// Takes a whole sample in memory that the caller holds.
    public func observe<Value: QuantizableFloat>(_ values: UnsafeBufferPointer<Value>) throws {
        try QuantError.check(
            quant_observer_observe(handle, Value.quantFloat, values.baseAddress, values.count))
    }

    /// As if this observer had seen what `other` saw. Moving averages cannot be merged.
    public func merge(_ other: Observer) throws {
        try QuantError.check(quant_observer_merge(handle, other.handle))
    }

    /// The range that activations are to be quantized over; nothing as long as no finite value came.
    public func range(for scheme: Scheme) throws -> ClosedRange<Float>? {
        var range = QuantRange()
        let c = scheme.c
        try QuantError.check(quant_observer_range(handle, c.dtype, c.mode, &range))
        return range.min <= range.max ? range.min...range.max : nil
    }

    /// Scale and zero point of that range, for values of that type.
    public func params<Value: QuantizableFloat>(for scheme: Scheme, of type: Value.Type)
        throws -> (scale: Float, zeroPoint: Int)
    {
        var params = QuantParams()
        try QuantError.check(
            quant_observer_params(handle, Value.quantFloat, scheme.c, &params))
        return (params.scale, Int(params.zero_point))
    }
}
