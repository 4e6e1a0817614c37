//! Test inputs shared by the crates.

#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

pub mod compressed_tensors;
pub mod coreai;
pub mod ggml;
pub mod golden;
pub mod hurtful;
pub mod mlx;
pub mod observers;

/// How many cases a proptest takes: `PROPTEST_CASES` where it is set (slow machines, emulators),
/// else `default`.
pub fn cases(default: u32) -> u32 {
    let wanted = std::env::var("PROPTEST_CASES");
    wanted.map_or(default, |cases| cases.parse().expect("PROPTEST_CASES"))
}

/// Whether a check that stands in a loop over very many is to be made: always; every n-th time
/// where `TEST_EVERY=n` is set (valgrind). Each thread counts for itself.
pub fn is_due() -> bool {
    thread_local! {
        static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    static EVERY: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let wanted = std::env::var("TEST_EVERY");
        wanted.map_or(1, |every| every.parse().expect("TEST_EVERY"))
    });
    let count = COUNT.get();
    COUNT.set(count + 1);
    count.is_multiple_of(*EVERY)
}
