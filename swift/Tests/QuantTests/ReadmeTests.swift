import XCTest

import Quant

/// The README's example, to the letter: a test of quant-capi compares them.
final class ReadmeTests: XCTestCase {
    func testExample() throws {
        let weights = [Float](repeating: 0.5, count: 64 * 128)
        let quantizer = Quantizer(Scheme(.int4), granularity: .perChannel(axis: 0))
        let tensor = try quantizer.quantize(weights, shape: [64, 128])
        print("\(tensor.codes.count) bytes, \(tensor.stats.sqnr_db) dB")

        XCTAssertEqual(tensor.codes.count, 64 * 64)
    }
}
