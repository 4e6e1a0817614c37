//! `cargo xtask bench`: kernels beside limits and peers.

use std::error::Error;
use std::process::Command;

/// Measures kernels. The report itself reads the options; `--peers` builds the peers in.
pub fn run(options: &[&str]) -> Result<(), Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut run = Command::new(cargo);
    run.args([
        "run",
        "--quiet",
        "--profile",
        "bench",
        "--package",
        "benches",
    ]);
    run.args(["--example", "report"]);
    if options.contains(&"--peers") {
        run.args(["--features", "peers"]);
    }
    let status = run.arg("--").args(options).status()?;
    if !status.success() {
        return Err(format!("the report ended with {status}").into());
    }
    Ok(())
}
