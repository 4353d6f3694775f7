//! `watchpost-testcam`: a test camera as a process of its own.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
