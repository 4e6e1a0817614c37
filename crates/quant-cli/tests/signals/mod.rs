//! Commands that signals reach.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The same with the signals' default actions: a shell that runs tests in the background has them ignore
/// signals, and quant what is ignored.
pub fn with_default_signals(plain: &Command) -> Command {
    // Of GNU; elsewhere tests are run in the foreground.
    let mut command = Command::new("env");
    if cfg!(target_os = "linux") {
        command.arg("--default-signal=HUP,INT,TERM");
    }
    command.arg(plain.get_program()).args(plain.get_args());
    command.current_dir(plain.get_current_dir().unwrap());
    command
}

/// Until it has handlers for SIGHUP, SIGINT and SIGTERM, or has ended.
pub fn wait_until_it_listens(child: &mut Child) {
    let file = format!("/proc/{}/status", child.id());
    let handled = || {
        let status = fs::read_to_string(&file).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        u64::from_str_radix(mask?.trim(), 16).ok()
    };
    // Bit n - 1 is signal n: 1, 2 and 15.
    let all = 0x4003;
    if cfg!(not(target_os = "linux")) {
        return std::thread::sleep(Duration::from_millis(500));
    }
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && handled().is_none_or(|mask| mask & all != all) {
        assert!(begun.elapsed().as_secs() < 60, "it does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    // A signal has more than one action, and the last signal's are just being set.
    std::thread::sleep(Duration::from_millis(50));
}
