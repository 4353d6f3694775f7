//! What the programs are told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

/// Proves the GPU route on this machine and writes a report.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "prove", version)]
pub struct Settings {
    /// Folder for the report and what the checks leave behind
    #[arg(long, value_name = "DIR", default_value = "prove-out")]
    pub out: PathBuf,
    /// Folder with `watchpost`, `watchpost-testcam` and `prove-nvdec`; without it, where this program is
    #[arg(long, value_name = "DIR")]
    pub bin: Option<PathBuf>,
    /// Minutes that all checks together may take
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub minutes: u64,
    /// Model to prove engines with: a name, or an .onnx file; may be given several times
    #[arg(long, value_name = "MODEL", default_value = "demo")]
    pub model: Vec<String>,
    /// Folder whose .onnx files are models, too
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// H.264 or H.265 file for the decoder; without it, a test camera films a scene
    #[arg(long, value_name = "FILE")]
    pub clip: Option<PathBuf>,
    /// Cameras of the check from end to end
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cameras: u32,
    /// Frames a second of each of them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub fps: u32,
    /// Restarts after which memory has to be where it was
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub cycles: u32,
    /// Run only these checks
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<String>,
    /// Small pictures and short measurements
    #[arg(long)]
    pub quick: bool,
    /// Break one thing in each check, to see that it can fail
    #[arg(long)]
    pub control: bool,
    /// Commit of the programs, where they do not know it themselves
    #[arg(long, value_name = "ID")]
    pub commit: Option<String>,
    /// Run this check in this process
    #[arg(long, hide = true)]
    pub child: Option<String>,
    /// Of the time, what is left
    #[arg(long, hide = true)]
    pub seconds_left: Option<u64>,
}

impl Settings {
    /// The command line. Paths are made absolute, because other programs get them, too.
    ///
    /// # Errors
    /// What is wrong with it, or that help was asked for.
    pub fn read() -> Result<Self, clap::Error> {
        let mut settings = Self::try_parse()?;
        for path in
            [Some(&mut settings.out), settings.bin.as_mut(), settings.clip.as_mut()].into_iter().flatten()
        {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        Ok(settings)
    }

    /// The program `name` of this build.
    pub fn program(&self, name: &str) -> PathBuf {
        let own = std::env::current_exe().ok();
        let folder = self.bin.clone().or_else(|| own.as_deref().and_then(Path::parent).map(Path::to_owned));
        folder.unwrap_or_default().join(name)
    }

    /// What is left of the time.
    pub fn time_left(&self) -> Duration {
        Duration::from_secs(self.seconds_left.unwrap_or(self.minutes * 60))
    }

    /// How long one thing is measured.
    pub fn measure(&self) -> Duration {
        if self.quick { Duration::from_millis(100) } else { Duration::from_secs(2) }
    }

    /// Names and files of all models.
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub fn all_models(&self) -> Result<Vec<String>, String> {
        let mut models = self.model.clone();
        if let Some(folder) = &self.models {
            let entries =
                std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let files = entries.flatten().map(|entry| entry.path());
            let mut files: Vec<_> =
                files.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
            files.sort();
            models.extend(files.iter().map(|path| path.to_string_lossy().into_owned()));
        }
        Ok(models)
    }
}
