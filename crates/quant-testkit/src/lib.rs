//! Test inputs shared by the crates.

pub mod golden;
pub mod hurtful;

/// How many cases a proptest takes: `PROPTEST_CASES` where it is set (slow machines, emulators),
/// else `default`.
pub fn cases(default: u32) -> u32 {
    let wanted = std::env::var("PROPTEST_CASES");
    wanted.map_or(default, |cases| cases.parse().expect("PROPTEST_CASES"))
}
