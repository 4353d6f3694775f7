//! watchpost: cameras in, detections out, memory that cannot grow. Modules in reading order.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod model;

pub mod camera;

pub mod decode;
pub mod engine;
pub mod frame;

pub mod metrics;
pub mod publish;

pub mod cli;
