//! Prints the backends that this machine can run, the fastest first.

fn main() {
    for backend in quant_simd::Backend::available() {
        println!("{}", backend.name());
    }
}
