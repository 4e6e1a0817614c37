//! Gives the shared library the name by which programs ask for it, where `cargo xtask dist` wants one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=QUANT_SONAME");
    let is_linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|it| it == "linux");
    if let (Ok(name), true) = (std::env::var("QUANT_SONAME"), is_linux) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}");
    }
}
