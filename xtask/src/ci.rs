//! `cargo xtask ci`: all that a change must pass, in the least time that two cores take for it.
//!
//! Steps that do not wait for each other run side by side: what is downloaded beside what is
//! compiled, what is compiled with one profile beside what is compiled with another.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::artifacts;
use crate::not_run;
use crate::toolchain::{cargo, sysroot, target_dir};

/// One of the things that must succeed.
struct Step {
    name: &'static str,
    /// It starts when these have succeeded, besides those before it in its lane.
    after: &'static [&'static str],
    command: Command,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Passed,
    Failed,
    /// Something that it needs failed.
    NotRun,
}

struct Done {
    end: End,
    start: Duration,
    seconds: f64,
    processor_seconds: Option<f64>,
}

/// What all lanes share.
struct Board {
    start: Instant,
    done: Mutex<BTreeMap<&'static str, Done>>,
    changed: Condvar,
    logs: PathBuf,
}

/// Runs everything, prints what each step printed when it ends, and a table when all have.
pub fn ci() -> Outcome {
    let lanes = lanes()?;
    let order: Vec<&str> = lanes.iter().flatten().map(|step| step.name).collect();
    let board = Board {
        start: Instant::now(),
        done: Mutex::default(),
        changed: Condvar::new(),
        logs: target_dir().join("ci"),
    };
    fs::create_dir_all(&board.logs)?;
    thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| board.run_lane(lane));
        }
    });
    board.report(&order)
}

/// With the features that the tests of quant-simd ask for: what clippy has checked is not checked again.
const DOCUMENTATION: &[&str] = &[
    "--workspace",
    "--no-deps",
    "--features",
    "quant-simd/ndarray",
];

/// Each is a sequence; a failure ends its own.
fn lanes() -> Result<Vec<Vec<Step>>, Box<dyn Error>> {
    let machine = vec![
        Step::xtask("setup", &["setup", "ci"]),
        Step::xtask("swift's Debian", &["swift", "--prepare"]),
        // Most of it is the build for AArch64, in a folder of its own.
        Step::xtask("asm", &["asm"]),
    ];
    let sources = vec![
        Step::new("formatting", cargo("fmt"), &["--all", "--check"]),
        Step::xtask("header", &["codegen", "--check"]),
        Step::new("clippy", cargo("check"), &["--workspace", "--all-targets"]).by_clippy(),
        Step::new("documentation", cargo("doc"), DOCUMENTATION)
            .by_clippy()
            .with("RUSTDOCFLAGS", "-D warnings"),
        Step::new("tests", cargo("test"), &["--workspace"]),
    ];
    let mut programs = cargo("build");
    artifacts::checked(&mut programs)?;
    let programs = vec![
        Step::new("optimized build", programs, &[]),
        Step::xtask("exhaustive", &["exhaustive", "--reduced"]),
        Step::xtask("dist", &["dist", "--checked"]).after(&["setup"]),
        Step::xtask("equivalence", &["equivalence", "--require", "all"]).after(&["asm"]),
        Step::xtask("swift", &["swift"]).after(&["swift's Debian"]),
    ];
    Ok(vec![machine, sources, programs])
}

impl Step {
    fn new(name: &'static str, mut command: Command, arguments: &[&str]) -> Self {
        command.args(arguments);
        Self {
            name,
            after: &[],
            command,
        }
    }

    /// Another of this program's tasks.
    fn xtask(name: &'static str, arguments: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| "xtask".into());
        let mut command = Command::new(program);
        command.current_dir(crate::toolchain::root());
        Self::new(name, command, arguments)
    }

    fn after(mut self, steps: &'static [&'static str]) -> Self {
        self.after = steps;
        self
    }

    fn with(mut self, variable: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    /// Has clippy in the place of rustc, as `cargo clippy -- -Dwarnings` does. That would have it for
    /// itself: rustdoc would let rustc check every crate that another one needs, once more.
    fn by_clippy(self) -> Self {
        let root = sysroot(&"rustc".into()).unwrap_or_default();
        self.with("RUSTC_WORKSPACE_WRAPPER", root.join("bin/clippy-driver"))
            .with("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")
    }
}

impl Board {
    fn run_lane(&self, lane: Vec<Step>) {
        let mut good = true;
        for step in lane {
            good &= step.after.iter().all(|needed| self.wait_for(needed));
            let name = step.name;
            let start = self.start.elapsed();
            let (end, processor_seconds) = match good {
                false => (End::NotRun, None),
                true => self.run(step),
            };
            good = end == End::Passed;
            let seconds = (self.start.elapsed() - start).as_secs_f64();
            let done = Done {
                end,
                start,
                seconds,
                processor_seconds,
            };
            self.done.lock().expect("no panic").insert(name, done);
            self.changed.notify_all();
        }
    }

    /// Whether a step has succeeded, once it has ended.
    fn wait_for(&self, name: &str) -> bool {
        let done = self.done.lock().expect("no panic");
        let waiting = |done: &mut BTreeMap<&str, Done>| !done.contains_key(name);
        let done = self.changed.wait_while(done, waiting).expect("no panic");
        done.get(name).is_some_and(|it| it.end == End::Passed)
    }

    fn run(&self, mut step: Step) -> (End, Option<f64>) {
        let at = self.start.elapsed().as_secs();
        println!("[{at:>4} s] {}: starts: {:?}", step.name, step.command);
        let log = self.logs.join(step.name.replace([' ', '\''], "-") + ".log");
        let outcome = File::create(&log).and_then(|file| {
            let command = step.command.stdin(Stdio::null());
            command.stdout(file.try_clone()?).stderr(file);
            wait(command)
        });
        let (end, processor, what) = match outcome {
            Ok((status, processor)) if status.success() => (End::Passed, processor, String::new()),
            Ok((status, processor)) => (End::Failed, processor, format!(": FAILED, {status}")),
            Err(error) => (End::Failed, None, format!(": FAILED, {error}")),
        };
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let left_out = text.lines().filter_map(|it| it.strip_prefix("NOT RUN: "));
        left_out.for_each(|what| not_run::note(what.to_owned()));
        let at = self.start.elapsed().as_secs();
        let mut out = io::stdout().lock();
        // Who does not want to read it, has closed it.
        let _ = writeln!(out, "[{at:>4} s] {}: has ended{what}", step.name)
            .and_then(|()| out.write_all(text.as_bytes()))
            .and_then(|()| writeln!(out));
        (end, processor)
    }

    fn report(&self, order: &[&str]) -> Outcome {
        let done = self.done.lock().expect("no panic");
        println!(
            "{:<16} {:>8} {:>8} {:>10}",
            "step", "start, s", "takes, s", "processor"
        );
        let mut failed = Vec::new();
        for name in order {
            let Some(step) = done.get(name) else { continue };
            let processor = step.processor_seconds.map(|it| format!("{it:.0} s"));
            let end = match step.end {
                End::Passed => "",
                End::Failed => "  FAILED",
                End::NotRun => "  not run",
            };
            println!(
                "{name:<16} {:>8} {:>8.0} {:>10}{end}",
                step.start.as_secs(),
                step.seconds,
                processor.unwrap_or_default()
            );
            if step.end != End::Passed {
                failed.push(*name);
            }
        }
        println!("{:<16} {:>17}", "all", self.start.elapsed().as_secs());
        match failed.as_slice() {
            [] => Ok(()),
            failed => Err(format!("failed, or not run: {}", failed.join(", ")).into()),
        }
    }
}

/// How a command ended, and the processor time that it and all its children took.
fn wait(command: &mut Command) -> io::Result<(ExitStatus, Option<f64>)> {
    let mut child = command.spawn()?;
    let stat = format!("/proc/{}/stat", child.id());
    // What has ended, and has not been waited for, still says what it took (Linux).
    let processor = loop {
        match fs::read_to_string(&stat).ok().and_then(|text| usage(&text)) {
            Some((false, _)) => thread::sleep(Duration::from_millis(50)),
            Some((true, seconds)) => break Some(seconds),
            None => break None,
        }
    };
    Ok((child.wait()?, processor))
}

/// Of a line of /proc/PID/stat: whether the process has ended, and what it and its children took.
fn usage(stat: &str) -> Option<(bool, f64)> {
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().map(|it| it.parse::<u64>().ok());
    let ticks: u64 = ticks.sum::<Option<u64>>()?;
    // Linux counts a hundred a second for programs, whatever the kernel's own clock.
    Some((fields[0] == "Z", ticks as f64 / 100.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::{DOCUMENTATION, lanes, usage, wait};
    use crate::toolchain::{cargo, stdout};

    #[test]
    fn steps_wait_for_steps_of_other_lanes_only() {
        let lanes = lanes().unwrap();
        for (i, lane) in lanes.iter().enumerate() {
            for needed in lane.iter().flat_map(|step| step.after) {
                let lane = lanes
                    .iter()
                    .position(|lane| lane.iter().any(|step| step.name == *needed));
                assert!(lane.is_some_and(|lane| lane < i), "{needed}");
            }
        }
    }

    /// The packages that a step compiles or checks, each with its features.
    fn packages(edges: &str, selected: &[&str]) -> BTreeSet<String> {
        let mut tree = cargo("tree");
        tree.args(["--edges", edges, "--prefix", "none", "--no-dedupe"]);
        tree.args(["--format", "{p} {f}"]).args(selected);
        let text = stdout(&mut tree).expect("cargo tree works");
        text.lines().map(str::to_owned).collect()
    }

    /// With other features, it would be compiled once more: `xtask/Cargo.toml` asks for what is missing.
    #[test]
    fn what_several_steps_need_has_the_same_features() {
        let all = packages("normal,build,dev", &["--workspace"]);
        let documentation: Vec<&str> = DOCUMENTATION
            .iter()
            .copied()
            .filter(|it| *it != "--no-deps")
            .collect();
        let others = packages("normal,build", &documentation);
        let xtask = packages("normal,build", &["--package", "xtask"]);
        // Small, and xtask's own profile compiles quant-core again anyway.
        let own = |it: &&String| it.starts_with("half ") || it.starts_with("quant-core ");
        let again: Vec<&String> = others
            .iter()
            .chain(xtask.iter().filter(|it| !own(it)))
            .filter(|it| !all.contains(*it))
            .collect();
        assert!(xtask.len() > 50 && again.is_empty(), "{again:#?}");
    }

    #[test]
    fn usage_is_read_whatever_the_name() {
        let stat = "7 (a) b) Z 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0";
        assert_eq!(usage(stat), Some((true, 1.27)));
        assert_eq!(usage("7 (a) R 1"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn processor_time_is_that_of_children_too() {
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let mut command = Command::new("sh");
        let (status, seconds) =
            wait(command.args(["-c", &format!("sh -c '{spin}'; true")])).unwrap();
        assert!(status.success() && seconds.unwrap() > 0.0);
    }
}
