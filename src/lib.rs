//! watchpost: cameras in, detections out, memory that cannot grow. Modules in reading order.
//!
//! A room may use rooms above it, never rooms below it; `tests/tidy.rs` holds the house to that.
#![forbid(unsafe_code)]

// What every room may use.
pub mod clock;
mod descriptors;
mod folders;
mod os_words;

pub mod affinity;
pub mod shape;
pub mod wake;

// What is asked for.
pub mod config;
pub mod model;

// The flow, from camera to published record.
pub mod camera;
pub mod metrics;
pub mod source;

pub mod frame;

pub mod batch;
pub mod engine;

pub mod decode;
pub mod track;

pub mod filter;

pub mod publish;

pub mod annotate;
pub mod snapshots;

// Who runs it.
pub mod budget;
pub mod download;
pub mod evaluate;
pub mod offline;
pub mod supervisor;

pub mod cli;
