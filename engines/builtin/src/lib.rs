//! The engine that is always there: ONNX in pure Rust, no library to install.
