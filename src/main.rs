//! Arguments to exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// So that the built-in engine need not ask the system for its memory anew at each inference.
#[global_allocator]
static ALLOCATOR: watchpost_blocks::Allocator = watchpost_blocks::Allocator;

fn main() -> ExitCode {
    watchpost::cli::main()
}
