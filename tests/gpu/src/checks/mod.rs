//! The checks, one file each.

mod end_to_end;
mod engine;
mod kernel;
mod machine;
mod memory;

use watchpost_cuda::Gpu;
use watchpost_prove::outcome::{Figures, Stop};
use watchpost_prove::settings::Settings;

/// Their names, in the order in which they run.
pub const ALL: [&str; 6] = ["machine", "kernel", "memory", "nvdec", "engine", "end_to_end"];

/// Runs one of them.
///
/// # Errors
/// [`Stop`]: why it did not pass.
pub fn run(name: &str, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    match name {
        "machine" => machine::run(settings, figures),
        "kernel" => kernel::run(settings, figures),
        "memory" => memory::run(settings, figures),
        "engine" => engine::run(settings, figures),
        "end_to_end" => end_to_end::run(settings, figures),
        _ => Err(Stop::failed(format!("there is no check {name} in this program"))),
    }
}

/// The GPU that is proved.
fn gpu() -> Result<Gpu, Stop> {
    watchpost_cuda::devices().map_err(|why| Stop::skipped(why.to_string()))?;
    Ok(Gpu::open(0)?)
}
