//! Which of the CPU's backends `auto` takes: measured once on this box, kept, and explained.
//!
//! Each backend is measured by a child process, `watchpost bench --backend B`, so that neither the libraries that lose nor
//! their crashes stay with the daemon. What was measured holds for this model, precision, number of threads, processor and
//! these very library files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stopwatch::Timing;
use super::{cache, onnxruntime, openvino, threads};
use crate::config::DetectorOptions;
use crate::model::Manifest;
use crate::os_words::os_words;

/// How long each backend is measured.
const EACH: Duration = Duration::from_secs(1);
/// Measurements that are kept; the oldest go first.
const KEPT_MAX: usize = 32;
/// A file larger than this is none of ours.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Below the folder of caches.
const FILE: &str = "backends.json";

/// What a measurement holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    model_sha256: String,
    precision: String,
    threads: usize,
    processor: String,
    version: String,
    /// Library files: path, size, time of change.
    libraries: Vec<(PathBuf, u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    key: Key,
    timings: Vec<Timing>,
}

/// The backends that this box has, the fastest first, and one line that says why.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Names.
    pub backends: Vec<String>,
    /// For the log and for `check`.
    pub explanation: String,
}

/// Ranks `candidates`; measures them if that has not been done. `None` where nothing can be kept: then the order in which
/// they stand has to do.
pub fn rank(
    candidates: &[&'static str],
    options: &DetectorOptions,
    manifest: &Manifest,
    say: &mut dyn FnMut(&str),
) -> Option<Ranking> {
    let file = cache::default_folder()?.with_file_name(FILE);
    let key = key(options, manifest);
    let mut kept = read(&file);
    if let Some(known) = kept.iter().find(|known| known.key == key) {
        return Some(ranking(&known.timings, "measured on this box before"));
    }
    say(&format!("measuring once which backend is the fastest here: {}", candidates.join(", ")));
    let mut timings = Vec::new();
    for backend in candidates {
        match measure(backend, options) {
            Ok(found) => timings.extend(found.into_iter().filter(|one| one.what == "inference").take(1)),
            Err(words) => tracing::warn!("backend auto passes over {backend}: {words}"),
        }
    }
    if timings.is_empty() {
        return None;
    }
    let ranking = ranking(&timings, "measured on this box now");
    kept.retain(|known| {
        known.key.model_sha256 != key.model_sha256
            || known.key.precision != key.precision
            || known.key.threads != key.threads
    });
    kept.push(Kept { key, timings });
    let surplus = kept.len().saturating_sub(KEPT_MAX);
    kept.drain(..surplus);
    if let Err(error) = write(&file, &kept) {
        tracing::warn!(
            "what was measured cannot be kept in {}: {}; the next start measures again",
            file.display(),
            os_words(&error)
        );
    }
    Some(ranking)
}

/// PURE: the quickest first.
fn ranking(timings: &[Timing], when: &str) -> Ranking {
    let mut sorted: Vec<&Timing> = timings.iter().collect();
    sorted.sort_by(|a, b| a.median_ms.total_cmp(&b.median_ms));
    let line = |one: &&Timing| format!("{} {} {:.1} ms", one.backend, one.precision, one.median_ms);
    Ranking {
        backends: sorted.iter().map(|one| one.backend.clone()).collect(),
        explanation: format!("{} a frame ({when})", sorted.iter().map(line).collect::<Vec<_>>().join(", ")),
    }
}

fn key(options: &DetectorOptions, manifest: &Manifest) -> Key {
    let libraries = [openvino::library(), onnxruntime::library()].into_iter().flatten().map(|path| {
        let found = fs::metadata(&path).ok();
        let changed = found.as_ref().and_then(|found| found.modified().ok());
        let changed = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        (path, found.map_or(0, |found| found.len()), changed.map_or(0, |at| at.as_secs()))
    });
    Key {
        model_sha256: manifest.sha256.clone(),
        precision: options.precision.as_str().to_owned(),
        threads: threads(options),
        processor: processor(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        libraries: libraries.collect(),
    }
}

/// As the kernel names it; ARM's kernels name only parts, which together tell one from another.
pub(super) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let parts = ["model name", "CPU implementer", "CPU part", "CPU revision"];
    parts.iter().filter_map(|name| value(name)).collect::<Vec<_>>().join(" ")
}

fn measure(backend: &str, options: &DetectorOptions) -> Result<Vec<Timing>, String> {
    let executable = std::env::current_exe().unwrap_or_else(|_| "watchpost".into());
    let mut command = Command::new(executable);
    command.args(["--log-level", "error", "bench", "--json", "--backend", backend]);
    command.args(["--precision", options.precision.as_str(), "--threads", &threads(options).to_string()]);
    command.args(["--seconds", &EACH.as_secs().to_string(), "--model", &options.model]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().map_err(|error| os_words(&error))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|line| !line.trim().is_empty());
        let last = last.map(|line| line.trim_start_matches("watchpost: ").to_owned());
        return Err(last.unwrap_or_else(|| format!("measuring it ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("what it measured cannot be read: {error}"))
}

/// What was kept; nothing of a file that is not whole.
fn read(file: &Path) -> Vec<Kept> {
    let is_small = fs::metadata(file).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
    let text = if is_small { fs::read(file).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write(file: &Path, kept: &[Kept]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut new| {
        new.write_all(&serde_json::to_vec_pretty(kept)?)?;
        new.sync_all()?;
        fs::rename(&temporary, file)
    });
    if written.is_err() {
        let _never_there = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(backend: &str, median_ms: f64) -> Timing {
        Timing {
            what: "inference".to_owned(),
            backend: backend.to_owned(),
            precision: "fp32".to_owned(),
            batch: 1,
            threads: 2,
            median_ms,
            p95_ms: median_ms,
            per_second: 1e3 / median_ms,
            max_rss_mib: 50.0,
        }
    }

    #[test]
    fn the_quickest_comes_first_and_all_are_explained() {
        let ranking = ranking(&[timing("builtin", 31.6), timing("onnxruntime", 13.5)], "measured before");
        assert_eq!(ranking.backends, ["onnxruntime", "builtin"]);
        assert_eq!(
            ranking.explanation,
            "onnxruntime fp32 13.5 ms, builtin fp32 31.6 ms a frame (measured before)"
        );
    }

    #[test]
    fn what_is_kept_reads_back_and_what_is_broken_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join(FILE);
        let manifest = crate::model::find("demo", &[]).unwrap();
        let key = key(&DetectorOptions::new("demo"), &manifest);
        let kept = vec![Kept { key, timings: vec![timing("builtin", 1.0)] }];
        write(&file, &kept).unwrap();
        assert_eq!(read(&file), kept);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
        let whole = fs::read(&file).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..cut]).unwrap();
            assert_eq!(read(&file), []);
        }
    }
}
