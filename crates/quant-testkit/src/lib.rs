//! Test inputs shared by the crates.

pub mod golden;
pub mod hurtful;
