//! `watchpost model pull`: a model of the catalogue is fetched, verified, and described beside itself.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::common::{output_failure, print};
use super::draft::replace;
use super::{Failure, exit};
use crate::clock;
use crate::download::{self, DownloadError, News, Patience, Wanted};
use crate::model::{self, Manifest, ModelSource};

/// Arguments of `watchpost model pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Licence, project and size are printed before anything is fetched. What arrives is checked against the
SHA-256 of the manifest, and only a right file gets its name: an interrupted download is gone on with the
next time. Proxies are those of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

Examples:
    watchpost model pull yolox-nano
    # For the service of this box
    sudo watchpost model pull yolox-nano
    # From a mirror of your own, where the file lies under its own name
    watchpost model pull yolox-nano --mirror http://depot.local/models

Exit codes: 0 there now, 64 another model has the name, 66 unknown name or the wrong file behind the URL,
69 not to be had (no network, the server says no), 74 cannot be written, 75 another process fetches it.")]
pub struct PullArgs {
    /// A name from `model list`.
    #[arg(value_name = "NAME")]
    name: String,
    /// Folder for the model [default: the service's for root, else your own: `model list` finds both].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Fetch the file from this URL; it must be the same file.
    #[arg(long, conflicts_with = "mirror")]
    url: Option<String>,
    /// Fetch the file from under this URL, where it has the name that its manifest gives it.
    #[arg(long, value_name = "URL", env = "WATCHPOST_MODEL_MIRROR")]
    mirror: Option<String>,
    /// Replace another model of this name.
    #[arg(long)]
    force: bool,
    /// Seconds after which a connection that brings nothing is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Further attempts when the connection fails.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: u32,
}

/// Runs the sub-command.
pub(super) fn run(args: &PullArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut manifest = model::downloadable(&args.name, &model::search_dirs())?;
    let dir = args.dir.clone().or_else(model::pull_dir).ok_or_else(|| {
        Failure::new(exit::USAGE, "there is no home to put the model into; say where with --dir DIR")
    })?;
    let weights = dir.join(file_name(&manifest));
    let description = dir.join(format!("{}.toml", manifest.name));
    refuse_another(&manifest, &description, args.force)?;
    let url = url(args, &manifest);
    print(out, &introduction(&manifest, &url))?;
    manifest.source = ModelSource::File(weights.clone());
    if model::digest(&manifest.source).is_ok_and(|digest| digest == manifest.sha256) {
        print(out, &format!("\nAlready there: {}\n", weights.display()))?;
    } else {
        let fetched = fetch(args, &manifest, &url, &weights)?;
        let (weights, size) = (weights.display(), mebibytes(fetched));
        print(out, &format!("\nWritten: {weights} ({size} fetched, SHA-256 is right)\n"))?;
    }
    // The digest says that it is the file that was meant; this, that the manifest's author meant it well.
    model::verify(&manifest)?;
    let text = manifest.to_toml(file_name(&manifest));
    if fs::read_to_string(&description).ok().as_deref() != Some(text.as_str()) {
        let written = replace(&description, |file| file.write_all(text.as_bytes()));
        written.map_err(|error| output_failure(&description.display().to_string(), &error))?;
        print(out, &format!("Written: {}\n", description.display()))?;
    }
    print(out, &format!("Use it:  {}\n", how_to_use(&manifest.name, &dir, &weights)))
}

fn file_name(manifest: &Manifest) -> &str {
    let name = manifest.file().and_then(|file| file.file_name()).and_then(|name| name.to_str());
    name.unwrap_or("model.onnx")
}

fn url(args: &PullArgs, manifest: &Manifest) -> String {
    let published = manifest.download.as_ref().map_or("", |download| &download.url);
    match (&args.url, &args.mirror) {
        (Some(url), _) => url.clone(),
        (None, Some(mirror)) => format!("{}/{}", mirror.trim_end_matches('/'), file_name(manifest)),
        (None, None) => published.to_owned(),
    }
}

/// A manifest of this name that describes other weights is somebody's own.
fn refuse_another(manifest: &Manifest, description: &Path, force: bool) -> Result<(), Failure> {
    if force || !description.exists() {
        return Ok(());
    }
    match Manifest::load(description) {
        Ok(there) if there.sha256 == manifest.sha256 => Ok(()),
        _ => {
            let place = description.display();
            let name = &manifest.name;
            Err(Failure::new(
                exit::USAGE,
                format!(
                    "{place} describes another model; --force replaces it by {name}, --dir DIR keeps both"
                ),
            ))
        }
    }
}

fn introduction(manifest: &Manifest, url: &str) -> String {
    let mut text = format!("{}: {}\n", manifest.name, manifest.description);
    let download = manifest.download.as_ref();
    let size = download.map_or(0, |download| download.size_bytes);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  licence  {}", manifest.license);
    let _ = writeln!(text, "  project  {}", download.map_or("", |download| &download.project));
    let _ = writeln!(text, "  from     {url}");
    let _ = writeln!(text, "  size     {}", mebibytes(size));
    let figure = manifest.evaluation.get("map_50_95").and_then(toml::Value::as_float);
    if let Some(figure) = figure {
        let dataset = manifest.evaluation.get("dataset").and_then(toml::Value::as_str).unwrap_or("COCO");
        let _ = writeln!(text, "  mAP      {figure:.3} (50-95, {dataset})");
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn fetch(args: &PullArgs, manifest: &Manifest, url: &str, weights: &Path) -> Result<u64, Failure> {
    let size_bytes = manifest.download.as_ref().map_or(0, |download| download.size_bytes);
    let wanted = Wanted {
        url: url.to_owned(),
        sha256: manifest.sha256.clone(),
        size_bytes,
        target: weights.to_owned(),
    };
    let stall_timeout = Duration::from_secs(args.timeout);
    let patience = Patience { stall_timeout, retries: args.retries, ..Patience::default() };
    let mut progress = Progress::start(size_bytes);
    let fetched = download::fetch(&wanted, patience, &mut |news| progress.tell(&news));
    progress.end();
    fetched.map_err(failure)
}

fn failure(error: DownloadError) -> Failure {
    let code = match &error {
        DownloadError::Url { .. } => exit::USAGE,
        DownloadError::Unreachable { .. }
        | DownloadError::Untrusted { .. }
        | DownloadError::Busy { .. }
        | DownloadError::Refused { .. }
        | DownloadError::Redirect { .. } => exit::UNAVAILABLE,
        DownloadError::WrongSize { .. } | DownloadError::WrongDigest { .. } => exit::NO_INPUT,
        DownloadError::NoRoom { .. } => exit::IO,
        DownloadError::InProgress { .. } => exit::TRY_AGAIN,
        DownloadError::Disk { path, cause } => {
            let mut failure = output_failure(&path.display().to_string(), cause);
            failure.message += "; --dir DIR chooses another place";
            return failure;
        }
    };
    Failure::new(code, error.to_string())
}

fn how_to_use(name: &str, dir: &Path, weights: &Path) -> String {
    let same = |searched: &PathBuf| {
        fs::canonicalize(searched)
            .is_ok_and(|searched| fs::canonicalize(dir).is_ok_and(|dir| dir == searched))
    };
    if model::search_dirs().iter().any(same) {
        return format!("model = \"{name}\" in [detector], or -m {name}");
    }
    let path = fs::canonicalize(weights).unwrap_or_else(|_| weights.to_owned());
    format!("model = \"{0}\" in [detector], or -m {0}", path.display())
}

/// How far it is, on stderr: on a terminal a bar that is written over, else a line every few seconds.
struct Progress {
    is_terminal: bool,
    total: u64,
    began: Instant,
    said: Option<Instant>,
    /// There when this run began.
    before: u64,
    is_open: bool,
}

impl Progress {
    const PLAIN_EVERY: Duration = Duration::from_secs(5);
    const DRAWN_EVERY: Duration = Duration::from_millis(100);

    fn start(total: u64) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { is_terminal, total, began: clock::now(), said: None, before: 0, is_open: false }
    }

    fn tell(&mut self, news: &News<'_>) {
        match news {
            News::Bytes(bytes) => self.bytes(*bytes),
            News::Resumed(bytes) => {
                self.before = *bytes;
                self.line(&format!("going on after {} of an earlier download", mebibytes(*bytes)));
            }
            News::StartedOver => {
                self.before = 0;
                self.line("starting over: what was there cannot be gone on with");
            }
            News::Retrying { error, delay } => {
                self.line(&format!("{error}"));
                self.line(&format!("trying again in {:.0} s", delay.as_secs_f64()));
            }
        }
    }

    fn bytes(&mut self, bytes: u64) {
        let now = clock::now();
        let every = if self.is_terminal { Self::DRAWN_EVERY } else { Self::PLAIN_EVERY };
        let due = self.said.is_none_or(|said| now.saturating_duration_since(said) >= every);
        // Short downloads need no plain line, and a bar should end full.
        if bytes < self.total && (!due || !self.is_terminal && self.said.is_none()) {
            self.said.get_or_insert(now);
            return;
        }
        self.said = Some(now);
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        let text = progress_text(bytes, self.before, self.total, seconds);
        if self.is_terminal {
            self.is_open = true;
            let _nobody_listens = write!(io::stderr(), "\r\x1b[K{} {text}", bar(bytes, self.total));
        } else {
            self.line(&text);
        }
    }

    fn line(&mut self, text: &str) {
        self.end();
        let _nobody_listens = writeln!(io::stderr(), "{}", watchpost_pipelines::scrub(text));
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _nobody_listens = writeln!(io::stderr());
        }
    }
}

/// `1.5 of 3.5 MiB (43 %), 0.8 MiB/s, 3 s left`
fn progress_text(bytes: u64, before: u64, total: u64, seconds: f64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let percent = bytes * 100 / total.max(1);
    let mut text = format!("{:.1} of {:.1} MiB ({percent} %)", mib(bytes), mib(total));
    let rate = mib(bytes.saturating_sub(before)) / seconds.max(1e-3);
    if seconds >= 1.0 && rate > 0.0 {
        let _ = write!(text, ", {rate:.1} MiB/s");
        if bytes < total {
            let _ = write!(text, ", {:.0} s left", mib(total - bytes) / rate);
        }
    }
    text
}

fn bar(bytes: u64, total: u64) -> String {
    const WIDTH: usize = 24;
    let full = (bytes as usize * WIDTH / (total as usize).max(1)).min(WIDTH);
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_the_rate_of_this_run_only() {
        let mib = 1 << 20;
        assert_eq!(progress_text(0, 0, 4 * mib, 0.0), "0.0 of 4.0 MiB (0 %)");
        assert_eq!(
            progress_text(3 * mib, 2 * mib, 4 * mib, 2.0),
            "3.0 of 4.0 MiB (75 %), 0.5 MiB/s, 2 s left"
        );
        assert_eq!(progress_text(4 * mib, 0, 4 * mib, 2.0), "4.0 of 4.0 MiB (100 %), 2.0 MiB/s");
        assert_eq!(bar(0, 100), format!("[{}]", ".".repeat(24)));
        assert_eq!(bar(100, 100), format!("[{}]", "#".repeat(24)));
    }
}
