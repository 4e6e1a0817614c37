//! The table of `cargo xtask bench`: kernels, limits and peers, interleaved in one process.

#![forbid(unsafe_code)]

mod record;

use std::error::Error;
use std::process::ExitCode;

use benches::timing::{Times, interleaved};
use benches::{Contender, KERNELS, Kernel, SIZES, size_name};
use clap::Parser;
use quant_simd::Backend;
use record::{Record, Row};

/// Measures kernels beside the limit of memory traffic; with `--models` alone, `quant quantize`
/// beside `cp`.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Kernels to measure: letters, or whole identifiers such as G-bf16.
    #[arg(long, value_delimiter = ',')]
    kernels: Vec<String>,
    /// Elements per call: 4Ki, 16Ki, 1Mi, 16Mi.
    #[arg(long, value_delimiter = ',', value_parser = size)]
    sizes: Vec<usize>,
    /// Backends to measure; all that this machine has, if none is named.
    #[arg(long, value_delimiter = ',', value_parser = backend)]
    backend: Vec<Backend>,
    /// Turns that each contender takes.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Measure peers too; builds them, which takes minutes.
    #[arg(long)]
    peers: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Keep the figures under benches/record.
    #[arg(long)]
    record: bool,
}

fn size(name: &str) -> Result<usize, String> {
    let mut sizes = SIZES.into_iter();
    sizes
        .find(|&size| size_name(size).eq_ignore_ascii_case(name))
        .ok_or_else(|| "4Ki, 16Ki, 1Mi or 16Mi".into())
}

fn backend(name: &str) -> Result<Backend, String> {
    Backend::by_name(name).map_err(|error| error.to_string())
}

impl Arguments {
    fn kernels(&self) -> Result<Vec<&'static Kernel>, String> {
        let names = |kernel: &Kernel, name: &str| {
            kernel.id.eq_ignore_ascii_case(name)
                || name.len() == 1 && kernel.id[..1].eq_ignore_ascii_case(name)
        };
        if let Some(unknown) = self
            .kernels
            .iter()
            .find(|name| !KERNELS.iter().any(|kernel| names(kernel, name)))
        {
            let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.id).collect();
            return Err(format!(
                "no kernel {unknown}; there are {}",
                known.join(", ")
            ));
        }
        let chosen = |kernel: &&Kernel| {
            self.kernels.is_empty() || self.kernels.iter().any(|name| names(kernel, name))
        };
        Ok(KERNELS.iter().filter(chosen).collect())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kernels = match arguments.kernels() {
        Ok(kernels) => kernels,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    match report(&kernels, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(kernels: &[&Kernel], arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.peers && !cfg!(feature = "peers") {
        return Err("built without the feature `peers`".into());
    }
    if !arguments.json {
        println!(
            "{:<9} {:<26} {:>5}  {:<28} {:>8} {:>8} {:>7} {:>7}",
            "kernel", "", "size", "", "Gel/s", "GB/s", "limit", "peer"
        );
    }
    let mut rows = Vec::new();
    for kernel in kernels {
        for size in SIZES {
            if arguments.sizes.is_empty() || arguments.sizes.contains(&size) {
                let measured = measure(kernel, size, arguments);
                if !arguments.json {
                    measured.iter().for_each(print);
                }
                rows.extend(measured);
            }
        }
    }
    let record = Record::new(rows)?;
    if arguments.json {
        print!("{}", record.json()?);
    }
    if arguments.record {
        eprintln!("kept in {}", record.keep()?.display());
    }
    Ok(())
}

/// The fastest limit, then everyone else.
fn measure(kernel: &Kernel, size: usize, arguments: &Arguments) -> Vec<Row> {
    let mut case = (kernel.case)(size);
    let mut contenders = case.contenders();
    contenders.retain(|contender| match contender {
        Contender::Backend(backend) => {
            arguments.backend.is_empty() || arguments.backend.contains(backend)
        }
        Contender::Peer(_) => arguments.peers,
        _ => true,
    });
    let times = interleaved(&mut *case, &contenders, arguments.rounds as usize);
    let fastest = |of: fn(Contender) -> bool| {
        let candidates = times.iter().filter(|times| of(times.contender));
        candidates.min_by(|a, b| a.seconds().total_cmp(&b.seconds()))
    };
    let limit = fastest(|it| matches!(it, Contender::Limit(_))).expect("a limit");
    let peer = fastest(|it| matches!(it, Contender::Peer(_)));
    let shown = times.iter().filter(|times| {
        !matches!(times.contender, Contender::Limit(_)) || times.contender == limit.contender
    });
    let row = |times: &Times| Row {
        kernel: kernel.id,
        name: kernel.name,
        elements: size,
        by: times.contender.name(),
        gels: size as f64 / times.seconds() / 1e9,
        gbs: case.bytes(times.contender) as f64 / times.seconds() / 1e9,
        of_limit: times.speed_against(limit),
        of_peer: peer.map(|peer| times.speed_against(peer)),
    };
    shown.map(row).collect()
}

fn print(row: &Row) {
    println!(
        "{:<9} {:<26} {:>5}  {:<28} {:>8.2} {:>8.1} {:>7.2} {:>7}",
        row.kernel,
        row.name,
        size_name(row.elements),
        row.by,
        row.gels,
        row.gbs,
        row.of_limit,
        row.of_peer.map(|of| format!("{of:.2}")).unwrap_or_default(),
    );
}
