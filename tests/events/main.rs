//! Zones, lines and masks: what is told is what happened, on scenes with known truth and through the whole program.

mod daemon;
mod leaving;
#[path = "../program/mod.rs"]
mod program;
mod scenes;
