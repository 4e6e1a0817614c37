//! Gives the shared library the name by which programs ask for it, where `cargo xtask dist` wants one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=QUANT_SONAME");
    if let Ok(name) = std::env::var("QUANT_SONAME") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}");
    }
}
