//! `cargo xtask equivalence`: the same bytes on every processor and backend, emulated ones included,
//! from every function of quant-simd and from the `quant` command.

mod difference;
mod files;
mod lock;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::not_run::Absent;
use crate::{Equivalence, Outcome, hide, not_run};
use lock::Lock;
use targets::{AllPrograms, Programs, Target};

/// What a function, or the command, gave: how many cases, and the digest of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Digest {
    cases: usize,
    digest: String,
}

/// By the function's name.
type Digests = BTreeMap<String, Digest>;

/// The corpus on one backend of a target, or the command's files.
#[derive(Clone, Copy)]
struct Task<'a> {
    target: &'a Target,
    programs: &'a Programs,
    /// `None` for the command.
    backend: Option<&'static str>,
    /// Whether it runs a share of the cases only.
    share: bool,
}

struct Done<'a> {
    task: Task<'a>,
    digests: Digests,
    seconds: f64,
}

impl Done<'_> {
    /// Whether, of a function's share of cases, all cases are known to differ.
    fn differs_in_all(&self, share: &str, lock: &Lock) -> bool {
        let name = lock::function(share);
        let digest = self.digests.get(name);
        name != share && digest.is_some() && digest != lock.get(name)
    }
}

impl Task<'_> {
    fn name(&self) -> String {
        let what = self.backend.unwrap_or("quant command");
        format!("{:<19} {what:<13}", self.target.name)
    }

    /// Whether it must give a digest of that name.
    fn gives(&self, name: &str) -> bool {
        let is_command = name == files::NAME;
        match self.backend {
            None => is_command,
            Some(_) if self.share => lock::is_share(name),
            Some(_) => !is_command,
        }
    }

    fn run(&self) -> Result<Digests, String> {
        match self.backend {
            Some(backend) => self.target.corpus(self.programs, backend, self.share),
            None => Ok(files::digests(&files::run(self.target, self.programs)?)),
        }
    }
}

/// What of a target is not run, and why.
struct NotRun<'a> {
    target: &'a Target,
    /// `None` for all of it.
    backend: Option<&'static str>,
    why: Absent,
}

impl NotRun<'_> {
    fn backends(&self) -> String {
        self.backend
            .map_or_else(|| self.target.backends.join(" "), str::to_owned)
    }

    /// Whether that is a failure. A machine need not have what it cannot have, but whoever names a
    /// target wants it run.
    fn is_failure(&self, require: &[String]) -> bool {
        let is_named = require.contains(&self.target.name);
        let is_required = is_named || require.iter().any(|it| it == "all");
        match self.why {
            Absent::NotInstalled(_) => is_required,
            Absent::Impossible(_) => is_named && self.backend.is_none(),
        }
    }

    /// Says it in the table, and again at the end.
    fn report(&self, tasks: &[Task<'_>]) {
        let Self { target, why, .. } = self;
        let (name, backends) = (&target.name, self.backends());
        println!("{name:<19} {backends:<13} not run: {why}");
        let same = |task: &&Task| {
            task.backend == self.backend && task.target.architecture == target.architecture
        };
        let elsewhere = self.backend.and_then(|_| tasks.iter().find(same));
        let elsewhere = elsewhere.map(|it| format!("; {} runs it", it.target.name));
        let elsewhere = elsewhere.unwrap_or_default();
        not_run::note(format!("{backends} on {name}: {why}{elsewhere}"));
    }
}

/// Runs all there is.
pub fn equivalence(options: &Equivalence) -> Outcome {
    let &Equivalence {
        ref require,
        update,
        all_cases,
    } = options;
    let targets = targets::all();
    check_names(&targets, require)?;
    let programs = targets::build(&targets)?;
    println!(
        "{:<19} {:<13} {:>9} {:>7} {:>14} {:>8}",
        "target", "backend", "functions", "cases", "digests equal", "seconds"
    );
    let (mut tasks, mut not_run) = (Vec::new(), Vec::new());
    for target in &targets {
        plan(target, &programs, &mut tasks, &mut not_run)?;
    }
    if !all_cases {
        share(&mut tasks);
    }
    for it in &not_run {
        it.report(&tasks);
    }
    let done = run(&tasks)?;
    let lock = match update {
        true => Lock::of(&done)?,
        false => Lock::read()?,
    };
    let differences = compare(&done, &lock)?;
    if update && differences == 0 {
        lock.write()?;
    }
    let failures = not_run.iter().filter(|it| it.is_failure(require));
    let failures: Vec<&str> = failures.map(|it| it.target.name.as_str()).collect();
    match (differences, failures.as_slice()) {
        (0, []) => Ok(()),
        (0, names) => Err(format!("required, but not run: {}", names.join(", ")).into()),
        (differences, _) => Err(format!("{differences} digests differ, see above").into()),
    }
}

/// What is to be run of a target, and what cannot be.
fn plan<'a>(
    target: &'a Target,
    programs: &'a AllPrograms,
    tasks: &mut Vec<Task<'a>>,
    not_run: &mut Vec<NotRun<'a>>,
) -> Result<(), String> {
    let mut leave_out = |backend, why| {
        not_run.push(NotRun {
            target,
            backend,
            why,
        });
    };
    let programs = match &programs[&target.kind()] {
        Ok(programs) => programs,
        Err(why) => {
            leave_out(None, why.clone());
            return Ok(());
        }
    };
    let found = match target.find_backends(programs)? {
        Ok(found) => found,
        Err(why) => {
            leave_out(None, why);
            return Ok(());
        }
    };
    let task = |backend| Task {
        target,
        programs,
        backend,
        share: false,
    };
    for &backend in &target.backends {
        match found.iter().any(|it| it == backend) {
            true => tasks.push(task(Some(backend))),
            false => {
                let why = match hide::IS_HIDDEN && target.processor.is_none() {
                    true => "it is hidden, or this processor does not have it",
                    false => "this processor does not have it",
                };
                leave_out(Some(backend), Absent::Impossible(why.to_owned()));
            }
        }
    }
    if target.runs_command {
        tasks.push(task(None));
    }
    Ok(())
}

/// Leaves all cases to the first of the targets that execute the same instructions. The others show
/// that they can execute them. Where a processor does not convert f16, the half crate does, by the
/// same portable code everywhere: one target without AVX and NEON runs that in all cases.
fn share(tasks: &mut [Task<'_>]) {
    let mut seen = BTreeSet::new();
    for task in tasks {
        let Some(backend) = task.backend else {
            continue;
        };
        let target = task.target;
        let mut is_first = seen.insert((target.architecture, backend, true));
        if backend == "scalar" {
            let converts_by = if target.has_f16 {
                target.architecture
            } else {
                "portable code"
            };
            is_first |= seen.insert((converts_by, backend, false));
        }
        task.share = target.is_slow() || !is_first;
    }
}

fn check_names(targets: &[Target], require: &[String]) -> Outcome {
    for name in require {
        if name != "all" && !targets.iter().any(|target| target.name == *name) {
            let names: Vec<&str> = targets.iter().map(|it| it.name.as_str()).collect();
            return Err(format!("no target {name}; there are: all {}", names.join(" ")).into());
        }
    }
    Ok(())
}

/// As many at a time as there are cores.
fn run<'a>(tasks: &[Task<'a>]) -> Result<Vec<Done<'a>>, String> {
    // Emulated ones take longest.
    let mut queue: Vec<(usize, Task)> = tasks.iter().copied().enumerate().collect();
    queue.sort_by_key(|(_, task)| task.target.processor.is_some());
    let (queue, done) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let work = || {
        while let Some((index, task)) = pop(&queue) {
            let start = Instant::now();
            let digests = task.run().map(|digests| Done {
                task,
                digests,
                seconds: start.elapsed().as_secs_f64(),
            });
            done.lock().expect("no panic").push((index, digests));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, done)| done).collect()
}

fn pop<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().expect("no panic").pop()
}

/// Prints a row of the table; how many digests are not as they must be.
fn row(done: &Done<'_>, lock: &Lock) -> usize {
    let same = |(name, digest): &(&String, &Digest)| lock.get(name) == Some(digest);
    let wrong = done.digests.len() - done.digests.iter().filter(same).count();
    // The cases of the share are among all of them.
    let is_share = done.task.share;
    let counts = |name: &str| lock::is_share(name) == is_share;
    let shown = || done.digests.iter().filter(|(name, _)| counts(name));
    let (functions, equal) = (shown().count(), shown().filter(same).count());
    let cases: usize = shown().map(|(_, digest)| digest.cases).sum();
    let (name, seconds) = (done.task.name(), done.seconds);
    println!("{name} {functions:>9} {cases:>7} {equal:>14} {seconds:>8.1}");
    let missing = lock.names(&[]).filter(|name| done.task.gives(name));
    let missing: Vec<&String> = missing
        .filter(|name| !done.digests.contains_key(*name))
        .collect();
    for function in &missing {
        println!("{}: {function}: nothing came out", done.task.target.name);
    }
    wrong + missing.len()
}

/// Prints the table and explains what differs; how many digests that is.
fn compare(all: &[Done<'_>], lock: &Lock) -> Result<usize, String> {
    let differences = all.iter().map(|done| row(done, lock)).sum();
    for function in lock.names(all) {
        // What differs in all cases has been explained by these.
        let has =
            |it: &&Done| it.digests.contains_key(function) && !it.differs_in_all(function, lock);
        let (good, bad): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(has)
            .partition(|done| lock.get(function) == done.digests.get(function));
        match (good.first(), bad.as_slice()) {
            (_, []) => {}
            (Some(good), bad) => {
                for bad in bad {
                    difference::explain(function, &good.task, &bad.task)?;
                }
            }
            (None, [first, others @ ..]) => {
                let agree = |it: &&&Done| it.digests.get(function) == first.digests.get(function);
                let not: Vec<_> = others.iter().filter(|it| !agree(it)).collect();
                println!(
                    "{function}: not what {} says, on {} of {} runs; `--update` writes it anew if \
                     that is meant",
                    lock::FILE,
                    bad.len(),
                    bad.len()
                );
                for other in not {
                    difference::explain(function, &first.task, &other.task)?;
                }
            }
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Absent, NotRun, Programs, Task, share, targets};

    #[test]
    fn every_backend_runs_all_cases_somewhere() {
        let targets = targets::all();
        let programs = Programs {
            corpus: PathBuf::new(),
            quant: PathBuf::new(),
        };
        let mut tasks = Vec::new();
        for target in &targets {
            let backends = target.backends.iter().map(|it| Some(*it)).chain([None]);
            tasks.extend(backends.map(|backend| Task {
                target,
                programs: &programs,
                backend,
                share: false,
            }));
        }
        share(&mut tasks);
        let all_cases = || tasks.iter().filter(|it| !it.share);
        for one in tasks.iter().filter(|it| it.backend.is_some()) {
            let same = |it: &&Task| {
                (it.target.architecture, it.backend) == (one.target.architecture, one.backend)
            };
            assert!(all_cases().any(|it| same(&it)), "{}", one.name());
        }
        for has_f16 in [false, true] {
            let same = |it: &Task| it.backend == Some("scalar") && it.target.has_f16 == has_f16;
            assert!(all_cases().any(same), "{has_f16}");
        }
    }

    #[test]
    fn only_what_could_be_there_is_a_failure() {
        let targets = targets::all();
        let target = &targets[0];
        let of = |backend, why: fn(String) -> Absent, require: &str| {
            let why = why(String::new());
            let not_run = NotRun {
                target,
                backend,
                why,
            };
            not_run.is_failure(&[require.to_owned()])
        };
        let (impossible, missing) = (Absent::Impossible, Absent::NotInstalled);
        for require in ["all", "native", "another"] {
            assert!(!of(Some("avx512"), impossible, require), "{require}");
        }
        assert!(!of(None, impossible, "all"));
        assert!(of(None, impossible, "native"));
        assert!(of(None, missing, "all"));
        assert!(of(None, missing, "native"));
        assert!(!of(None, missing, "another"));
    }
}
