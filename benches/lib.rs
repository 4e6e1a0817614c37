//! Benchmarks of quant-simd; run them with `cargo bench --package benches`.
