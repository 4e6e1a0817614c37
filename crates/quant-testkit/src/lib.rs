//! Test inputs shared by the crates.

pub mod golden;
