//! `cargo xtask setup`: installs what other tasks need and this machine lacks.

use std::process::Command;

use crate::Outcome;
use crate::needs::{self, Need};
use crate::toolchain::{DEBIAN_RUSTC_PACKAGES, Target, Toolchain, cargo, program, stdout};

/// Installs what these tasks need, or else what people use most: targets and nightly by rustup,
/// subcommands by cargo, the rest (and targets, where rustup cannot fetch them) by Debian's packages.
pub fn setup(tasks: &[String]) -> Outcome {
    if let Some(unknown) = tasks.iter().find(|it| needs::of(it).is_empty()) {
        let known: Vec<&str> = needs::tasks().filter(|it| !it.contains(' ')).collect();
        return Err(format!(
            "no task {unknown} that needs anything; those that do: {}",
            known.join(" ")
        )
        .into());
    }
    let mut wanted: Vec<&str> = tasks.iter().map(String::as_str).collect();
    if wanted.is_empty() {
        wanted.extend(needs::USUAL);
    }
    let mut needs: Vec<Need> = wanted.iter().flat_map(|task| needs::of(task)).collect();
    needs.retain(|need| need.missing().is_some());
    install(&needs);
    let mut failed: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    failed.dedup();
    match failed.as_slice() {
        [] => {
            println!("installed: all that {} needs", wanted.join(", "));
            Ok(())
        }
        failed => Err(format!("not installed: {}", failed.join("; ")).into()),
    }
}

/// Whether it worked, [`Need::missing`] tells afterwards.
fn install(needs: &[Need]) {
    let mut packages: Vec<String> = needs.iter().filter_map(|need| need.package()).collect();
    let targets = needs.iter().filter_map(|need| match need {
        Need::Target(triple) => Target::all().find(|it| it.triple == *triple),
        _ => None,
    });
    let mut targets: Vec<&str> = targets
        .filter(|target| !Toolchain::has_library(target))
        .map(|target| target.triple)
        .collect();
    targets.dedup();
    let sources = needs.contains(&Need::Sources);
    let by_rustup =
        targets.is_empty() || rustup(&[&["target", "add"], targets.as_slice()].concat());
    if !by_rustup || sources && !rustup(&["component", "add", "rust-src"]) {
        packages.extend(DEBIAN_RUSTC_PACKAGES.map(str::to_owned));
    }
    if needs.contains(&Need::Nightly) {
        rustup(&["toolchain", "install", "nightly", "--profile", "minimal"]);
    }
    packages.sort();
    packages.dedup();
    if !packages.is_empty() {
        apt_get(&packages);
    }
    for need in needs {
        if let Need::Cargo(name) = need {
            println!("{name} is compiled from its sources: that takes minutes");
            run(cargo("install").args(["--locked", name]));
        }
    }
}

fn rustup(arguments: &[&str]) -> bool {
    run(Command::new("rustup").args(arguments))
}

/// Installs packages where that is allowed, and otherwise says how.
fn apt_get(packages: &[String]) -> bool {
    let root = stdout(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    if root && program("apt-get").is_some() {
        let apt_get = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        run(apt_get().arg("update"))
            && run(apt_get()
                .args(["install", "--yes", "--no-install-recommends"])
                // Nothing is lost if the machine stops meanwhile: apt does it again.
                .args(["-o", "Dpkg::Options::=--force-unsafe-io"])
                .args(packages))
    } else {
        println!("run as root: apt-get install {}", packages.join(" "));
        false
    }
}

fn run(command: &mut Command) -> bool {
    println!("{command:?}");
    command.status().is_ok_and(|status| status.success())
}
