//! `watchpost engine list | inspect`: what is in the cache, and what one engine is.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::common::{print, print_json};
use super::super::{Failure, exit};
use super::cache_failure;
use crate::engine::cache::{self, Cache, EngineKey, Header, Listed};
use crate::engine::tensorrt_build::{self, PlanBuilder};

/// Digits of a key that the list shows; the file's name has as many.
const KEY_DIGITS: usize = 16;
/// Fewer digits than this could begin any key.
const KEY_DIGITS_MIN: usize = 4;

pub(super) fn list(cache: &Cache, is_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let listed = cache.list().map_err(|error| cache_failure(&error))?;
    let folder = cache.folder().map_err(|error| cache_failure(&error))?;
    if is_json {
        let engines: Vec<Value> = listed.iter().map(listed_json).collect();
        return print_json(out, &json!({ "folder": folder.display().to_string(), "engines": engines }));
    }
    print(out, &table(&listed, folder))
}

fn table(listed: &[Listed], folder: &Path) -> String {
    if listed.is_empty() {
        return format!("No engines in {}; `watchpost engine build MODEL` builds one.\n", folder.display());
    }
    let mut text = format!(
        "{:<16}  {:<18} {:<9} {:>5}  {:<6} {:<22} {:>9}  {:<20}  STATE\n",
        "KEY", "MODEL", "PRECISION", "BATCH", "GPU", "LIBRARY", "SIZE", "USED"
    );
    // Writing into a String cannot fail.
    for entry in listed {
        let (size, used) = (mebibytes(entry.bytes), time(entry.used));
        match &entry.header {
            Ok(Header { key, facts }) => {
                let _ = writeln!(
                    text,
                    "{:<16}  {:<18} {:<9} {:>5}  {:<6} {:<22} {size:>9}  {used:<20}  {}",
                    &key.digest()[..KEY_DIGITS],
                    facts.model_name,
                    key.precision.as_str(),
                    facts.max_batch,
                    capability(key),
                    format!("{} {}", key.library, key.library_version),
                    if entry.in_use { "in use" } else { "ready" },
                );
            }
            Err(wrong) => {
                let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
                let _ = writeln!(text, "{name}  {size}  {used}  broken: {wrong}");
            }
        }
    }
    let sum: u64 = listed.iter().map(|entry| entry.bytes).sum();
    let _ = writeln!(text, "{} in {}", mebibytes(sum), folder.display());
    text
}

fn listed_json(entry: &Listed) -> Value {
    let mut value = match &entry.header {
        Ok(header) => json(header, entry.bytes),
        Err(wrong) => json!({ "broken": wrong.to_string() }),
    };
    value["file"] = json!(entry.path.display().to_string());
    value["bytes"] = json!(entry.bytes);
    value["used"] = json!(time(entry.used));
    value["in_use"] = json!(entry.in_use);
    value
}

pub(super) fn inspect(
    cache: &Cache,
    engine: &Path,
    is_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = find(cache, engine)?;
    let (header, plan_bytes) = cache::verify(&path).map_err(|wrong| {
        Failure::new(
            exit::NO_INPUT,
            format!(
                "{}: {wrong}; it is never loaded: `watchpost engine build` makes a new one",
                path.display()
            ),
        )
    })?;
    let here = here(&header.key);
    if is_json {
        let mut value = json(&header, plan_bytes);
        value["file"] = json!(path.display().to_string());
        value["whole"] = json!(true);
        value["here"] = json!(here);
        return print_json(out, &value);
    }
    let mut text = text(&header, plan_bytes);
    let _ = writeln!(text, "file         {}", path.display());
    let _ = writeln!(text, "whole        yes: header and plan have their checksums");
    let _ = writeln!(text, "on this box  {here}");
    print(out, &text)
}

/// The file that a path or the beginning of a key names.
fn find(cache: &Cache, engine: &Path) -> Result<PathBuf, Failure> {
    let named = engine.as_os_str().to_string_lossy();
    if engine.is_file() || named.contains('/') {
        return Ok(engine.to_owned());
    }
    let listed = cache.list().map_err(|error| cache_failure(&error))?;
    let begins = |entry: &&Listed| {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        let key = entry.header.as_ref().map(|header| header.key.digest()).unwrap_or_default();
        name.starts_with(&*named) || named.len() >= KEY_DIGITS_MIN && key.starts_with(&*named)
    };
    let found: Vec<&Listed> = listed.iter().filter(begins).collect();
    match found.as_slice() {
        [one] => Ok(one.path.clone()),
        [] => Err(Failure::new(
            exit::NO_INPUT,
            format!(
                "there is no engine {named:?}: no such file, and no key in the cache begins like this (at least \
                 {KEY_DIGITS_MIN} digits); `watchpost engine list` shows the keys"
            ),
        )),
        several => Err(Failure::new(
            exit::USAGE,
            format!("{} engines begin with {named:?}; give more of the key", several.len()),
        )),
    }
}

/// Whether the daemon on this box could load it.
fn here(key: &EngineKey) -> String {
    match tensorrt_build::look() {
        Err(error) => format!("cannot be used: {error}"),
        Ok(builder) => here_on(key, builder.as_ref()),
    }
}

fn here_on(key: &EngineKey, builder: &dyn PlanBuilder) -> String {
    let (library, library_version) = builder.library();
    let compute_capability = builder.device().compute_capability;
    let wanted =
        EngineKey { library: library.to_owned(), library_version, compute_capability, ..key.clone() };
    let differences = wanted.differences(key);
    if differences.is_empty() {
        "can be used".to_owned()
    } else {
        format!("cannot be used: {}", differences.join(", "))
    }
}

/// What an engine is, a line each.
pub(super) fn text(Header { key, facts }: &Header, plan_bytes: u64) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{what:<12} {value}");
    };
    line("key", key.digest());
    line("model", format!("{}, sha256 {}", facts.model_name, key.model_sha256));
    line("library", format!("{} {}", key.library, key.library_version));
    line("GPU", format!("compute capability {}, built on {}", capability(key), facts.gpu_name));
    line("precision", key.precision.as_str().to_owned());
    line("input", format!("{}x{}", key.input_width, key.input_height));
    let best = facts.opt_batch;
    line("batch", format!("1 to {}, best with {best}; asked for: {}", facts.max_batch, key.batch));
    if key.sparse {
        line("sparsity", "2:4 where the weights have it".to_owned());
    }
    if let Some(core) = key.dla_core {
        line("DLA", core.to_string());
    }
    if let Some(pictures) = &key.calibration_sha256 {
        line("calibration", format!("pictures with sha256 {pictures}"));
    }
    let built = Timestamp::from_second(facts.built_unix_s.cast_signed()).unwrap_or_default();
    line("built", format!("{built} by {} in {:.0} s", facts.built_by, facts.build_seconds));
    line("size", mebibytes(plan_bytes));
    if !facts.probe.is_empty() {
        let _ =
            writeln!(text, "\n{:>6} {:>10} {:>13} {:>12}", "BATCH", "MEDIAN MS", "MS PER FRAME", "MEMORY");
        for row in &facts.probe {
            let marks = if row.batch == facts.max_batch { "  <- chosen" } else { "" };
            let _ = writeln!(
                text,
                "{:>6} {:>10.2} {:>13.3} {:>12}{marks}",
                row.batch,
                row.median_ms,
                row.ms_per_frame,
                mebibytes(row.bytes)
            );
        }
        let _ = writeln!(text, "{}\n", facts.probe_ended);
    }
    text
}

/// The same for programs.
pub(super) fn json(Header { key, facts }: &Header, plan_bytes: u64) -> Value {
    let (major, minor) = key.compute_capability;
    json!({
        "key": key.digest(),
        "model": facts.model_name,
        "model_sha256": key.model_sha256,
        "library": key.library,
        "library_version": key.library_version,
        "compute_capability": format!("{major}.{minor}"),
        "gpu": facts.gpu_name,
        "precision": key.precision.as_str(),
        "input": { "width": key.input_width, "height": key.input_height },
        "max_batch": facts.max_batch,
        "opt_batch": facts.opt_batch,
        "batch_asked": key.batch.to_string(),
        "sparse": key.sparse,
        "dla_core": key.dla_core,
        "calibration_sha256": key.calibration_sha256,
        "built_unix_s": facts.built_unix_s,
        "build_seconds": facts.build_seconds,
        "built_by": facts.built_by,
        "plan_bytes": plan_bytes,
        "probe": facts.probe,
        "probe_ended": facts.probe_ended,
    })
}

fn capability(key: &EngineKey) -> String {
    let (major, minor) = key.compute_capability;
    format!("{major}.{minor}")
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch_probe::ProbeRow;
    use crate::engine::cache::{BatchRequest, EngineFacts, PlanPrecision};
    use crate::engine::tensorrt_build::tests::BuilderHere;

    fn header() -> Header {
        let key = EngineKey {
            model_sha256: "ab".repeat(32),
            library: "tensorrt".to_owned(),
            library_version: "10.3.0.30".to_owned(),
            compute_capability: (8, 7),
            precision: PlanPrecision::Int8,
            input_width: 640,
            input_height: 384,
            batch: BatchRequest::Auto { limit: 64 },
            sparse: true,
            dla_core: Some(1),
            calibration_sha256: Some("cd".repeat(32)),
        };
        let row = |batch: usize, median_ms: f64| ProbeRow {
            batch,
            median_ms,
            ms_per_frame: median_ms / batch as f64,
            bytes: (batch as u64) << 20,
        };
        let facts = EngineFacts {
            model_name: "gate".to_owned(),
            gpu_name: "Orin".to_owned(),
            max_batch: 2,
            opt_batch: 2,
            built_unix_s: 1_763_700_000,
            build_seconds: 61.6,
            built_by: "watchpost 0.1.0".to_owned(),
            probe: vec![row(1, 4.0), row(2, 6.0), row(4, 11.9)],
            probe_ended: "no more gain".to_owned(),
        };
        Header { key, facts }
    }

    #[test]
    fn an_engine_is_explained_with_its_table() {
        let text = text(&header(), 3 << 20);
        for words in [
            "tensorrt 10.3.0.30",
            "compute capability 8.7, built on Orin",
            "int8",
            "640x384",
            "1 to 2, best with 2; asked for: auto (up to 64)",
            "2:4",
            "2025-11-21T04:40:00Z by watchpost 0.1.0 in 62 s",
            "3.0 MiB",
            "     2       6.00         3.000      2.0 MiB  <- chosen",
            "     4      11.90         2.975      4.0 MiB\n",
            "no more gain",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        let json = json(&header(), 3 << 20);
        assert_eq!((&json["probe"][1]["batch"], &json["dla_core"]), (&json!(2), &json!(1)));
    }

    #[test]
    fn what_an_engine_lacks_on_this_box_is_said() {
        let builder = BuilderHere::new();
        assert_eq!(here_on(&header().key, &builder), "can be used");
        let newer = BuilderHere { version: "10.16.1.11", ..BuilderHere::new() };
        let words = here_on(&header().key, &newer);
        assert!(words.contains("10.3.0.30, not 10.16.1.11"), "{words}");
    }

    #[test]
    fn a_key_names_one_engine_or_the_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path(), 1 << 30);
        let mut keys = Vec::new();
        for width in 0..40 {
            let key = EngineKey { input_width: width, ..header().key };
            let built =
                cache.get_or_build(&key, &mut |_| {}, || Ok::<_, ()>((vec![1; 10], EngineFacts::default())));
            keys.push((key.digest(), built.unwrap().kept.unwrap()));
        }
        for (digest, path) in &keys {
            assert_eq!(find(&cache, Path::new(&digest[..12])).unwrap(), *path);
            assert_eq!(find(&cache, path).unwrap(), *path);
            assert_eq!(find(&cache, Path::new(path.file_name().unwrap())).unwrap(), *path);
        }
        let failure = |name: &str| find(&cache, Path::new(name)).unwrap_err();
        assert_eq!((failure("abab").code, failure("zzzzzz").code, failure("").code), (64, 66, 64));
        // Too short to be meant, even if it begins some keys.
        assert_eq!(failure(&keys[0].0[..1]).code, 66);
    }
}
