//! Proves the GPU route on a machine with an NVIDIA GPU. What the two programs share.
//!
//! `prove` runs each check in a process of its own, because an error on a GPU can cost the whole process, gathers what
//! they found, and writes the report.

pub mod child;
pub mod outcome;
pub mod pictures;
pub mod settings;
