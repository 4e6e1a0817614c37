//! What a command writes, and what it must leave alone: the command at work in folders of models,
//! photos and notes.

#[cfg(feature = "run")]
mod beside;
#[cfg(target_os = "linux")]
mod file_systems;
mod folder;
mod force;
#[cfg(target_os = "linux")]
mod interrupted;
mod leftovers;
mod modes;
mod places;
mod reports;
mod shards;
mod shortened;
#[cfg(target_os = "linux")]
#[path = "../signals/mod.rs"]
mod signals;
