//! What a command writes, and what it must leave alone: the command at work in folders of models,
//! photos and notes.

mod folder;
mod force;
mod leftovers;
mod modes;
mod places;
mod reports;
mod shards;
mod shortened;
