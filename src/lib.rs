//! watchpost: cameras in, detections out, memory that cannot grow. Modules in reading order.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod metrics;
pub mod model;
mod os_words;

pub mod camera;
pub mod source;

pub mod frame;

pub mod batch;
pub mod engine;

pub mod decode;
pub mod filter;

pub mod publish;

pub mod budget;
pub mod offline;
pub mod supervisor;

pub mod cli;
