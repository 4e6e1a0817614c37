import XCTest

import CQuant
@testable import Quant

final class QuantizerTests: XCTestCase {
    let weights: [Float] = [0.5, -1.27, 0.02, 1.0, 0.25, 0.125, -0.5, 0]

    func testInt8PerChannel() throws {
        let tensor = try Quantizer().quantize(weights, shape: [2, 4])
        XCTAssertEqual(tensor.codes.map { Int8(bitPattern: $0) }, [50, -127, 2, 100, 64, 32, -127, 0])
        XCTAssertEqual(tensor.scales, [Float(2.54) / 254, Float(1) / 254])
        XCTAssertEqual(tensor.zeroPoints, [])
        XCTAssertEqual(tensor.shape, [2, 4])
        XCTAssertEqual(tensor.blockSizes, [1, 0])
        XCTAssertEqual(tensor.stats.count, 8)
        let back = try tensor.dequantized()
        for (value, dequantized) in zip(weights, back) {
            XCTAssertEqual(value, dequantized, accuracy: 0.005)
        }
    }

    func testEverySchemeAndGranularity() throws {
        let values = (0..<96 * 64).map { Float(($0 * 7919) % 1001) / 500 - 0.8 }
        let granularities: [Granularity] = [
            .perTensor, .perChannel(), .perChannel(axis: -1),
            .perBlock(axis: 0, blockAxis: 1, size: 32), .blocks([3, 7]),
        ]
        for code in Scheme.Code.allCases {
            for mode in Scheme.Mode.allCases {
                for granularity in granularities {
                    let scheme = Scheme(code, mode)
                    let one = Quantizer(scheme, granularity: granularity, threads: 1)
                    let tensor = try one.quantize(values, shape: [96, 64])
                    let all = Quantizer(scheme, granularity: granularity)
                    let same = try all.quantize(values, shape: [96, 64])
                    XCTAssertEqual(tensor.codes, same.codes)
                    XCTAssertEqual(tensor.scaleBytes, same.scaleBytes)
                    XCTAssertEqual(tensor.zeroPoints, same.zeroPoints)
                    let bits: Int
                    switch code {
                    case .int8, .uint8: bits = 8
                    case .int6, .uint6: bits = 6
                    case .int5, .uint5: bits = 5
                    case .int4, .uint4: bits = 4
                    case .int3, .uint3: bits = 3
                    case .int2, .uint2: bits = 2
                    }
                    XCTAssertEqual(tensor.codes.count, 6144 * bits / 8)
                    // Each bit is worth 6 dB.
                    XCTAssertGreaterThan(tensor.stats.sqnr_db, Double(6 * bits - 9))
                    let back = try tensor.dequantized()
                    let largest = zip(values, back).map { abs($0 - $1) }.max()!
                    XCTAssertEqual(Double(largest), tensor.stats.max_absolute)
                    XCTAssertEqual(back, try tensor.dequantized(threads: 1))
                }
            }
        }
    }

    #if !(os(macOS) && arch(x86_64))
    func testFloat16() throws {
        let halves = weights.map { Float16($0) }
        let tensor = try Quantizer().quantize(halves, shape: [2, 4])
        XCTAssertEqual(tensor.scaleBytes.count, 4)
        XCTAssertEqual(tensor.scales[1], Float(Float16(1) / 254))
        let wide = Quantizer(Scheme(.int8, dialect: .wide), granularity: .perTensor)
        let other = try wide.quantize(halves, shape: [8])
        XCTAssertEqual(other.scaleBytes.count, 4)
        XCTAssertEqual(other.scales, [2 * Float(Float16(1.27)) / 254])
        XCTAssertEqual(try other.dequantized().count, 8)
    }
    #endif

    func testBuffersOfTheCaller() throws {
        let tensor = try weights.withUnsafeBufferPointer {
            try Quantizer(Scheme(.uint4, .affine)).quantize($0, shape: [2, 4])
        }
        XCTAssertEqual(tensor.zeroPoints.count, 2)
        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: 8)
        defer { values.deallocate() }
        try tensor.dequantize(into: values)
        XCTAssertEqual(Array(values), try tensor.dequantized())
        let few = UnsafeMutableBufferPointer(rebasing: values[..<7])
        XCTAssertThrowsError(try tensor.dequantize(into: few))
    }

    func testWhatIsWrongIsThrown() throws {
        let quantizer = Quantizer()
        func expect(_ error: QuantError, _ values: [Float]) {
            XCTAssertThrowsError(try quantizer.quantize(values, shape: [2, 2])) {
                XCTAssertEqual($0 as? QuantError, error)
            }
        }
        expect(.nonFinite(position: 1, count: 2), [0, .nan, .infinity, 0])
        expect(.outOfRange(scale: 1), [0, 1, 3e38, -3e38])
        XCTAssertThrowsError(try quantizer.quantize([Float](), shape: [2, 2]))
        XCTAssertThrowsError(try quantizer.quantize(weights, shape: []))
        XCTAssertThrowsError(try quantizer.quantize(weights, shape: [-2, -4]))
        let large = Quantizer(granularity: .blocks([1, 9]))
        XCTAssertThrowsError(try large.quantize(weights, shape: [2, 4])) {
            guard case .invalidArgument = $0 as? QuantError else { return XCTFail("\($0)") }
        }
    }

    func testNoValues() throws {
        let tensor = try Quantizer().quantize([Float](), shape: [0, 4])
        XCTAssertEqual(try tensor.dequantized(), [])
    }

    func testObservers() throws {
        let scheme = Scheme(.uint8, .affine, dialect: .torch)
        for kind in Observer.Kind.allCases {
            let observer = try Observer(kind)
            XCTAssertNil(try observer.range(for: scheme))
            try observer.observe([-1, 0.5, .nan] as [Float])
            try observer.observe([] as [Float])
            let range = try observer.range(for: scheme)!
            XCTAssertTrue(-1...0.5 ~= range.lowerBound && -1...0.5 ~= range.upperBound)
            XCTAssertGreaterThan(try observer.params(for: scheme, of: Float.self).scale, 0)
            let other = try Observer(kind)
            try other.observe([2] as [Float])
            if kind == .movingAverage {
                XCTAssertThrowsError(try observer.merge(other))
            } else {
                try observer.merge(other)
                XCTAssertGreaterThan(try observer.range(for: scheme)!.upperBound, 0.5)
            }
        }
        XCTAssertThrowsError(try Observer(.mse, bins: 1000))
        XCTAssertThrowsError(try Observer(.percentile, percentile: 0))
        XCTAssertThrowsError(try Observer(.movingAverage, constant: 2))
        XCTAssertThrowsError(try Observer(.mse).merge(try Observer(.entropy)))
    }

    func testVersion() {
        XCTAssertEqual(String(cString: quant_version()), QUANT_VERSION)
    }
}
