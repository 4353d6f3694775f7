//! Arguments to exit code.
#![forbid(unsafe_code)]

fn main() {}
