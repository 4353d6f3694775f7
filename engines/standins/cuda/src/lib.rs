//! Test only: a stand-in `libcuda.so.1`. Device memory is host memory with an owner for each byte, streams are threads
//! that carry their operations out in order and not before their turn, and everything can be told to fail.
//!
//! It is no GPU: its device's name begins with "watchpost stand-in", and nothing measured on it says anything about one.
//! `engines/standins/README.md` says how tests use it. What each exported function does is specified by NVIDIA's
//! documentation of the CUDA driver API; what is said here is only where the stand-in does less.
#![allow(missing_docs, non_snake_case, reason = "the exported functions are the CUDA driver API's")]

pub mod api;
mod codes;
mod context;
mod driver;
mod event;
mod foreign;
mod graph;
mod kernels;
mod memory;
mod module;
mod settings;
mod stream;
mod work;
