//! The small tables: `[detector]`, `[memory]`, `[supervisor]`, `[debug]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::Origin;
use super::engine_options::{EngineMode, OpenVinoDevice};
use super::environment::Environment;
use super::measure::show_size;
use super::options::{
    Auto, Backend, CameraOptions, DetectorOptions, MemoryOptions, OnnxProvider, Precision, SnapshotOptions,
    SupervisorOptions,
};
use super::reading::{Reading, Section, Wrong, float_of, integer_of, is_word, size_of, text_of};
use super::tree::{Node, Table, Value};
use crate::affinity::CpuSet;

const DEVICES: [(&str, OpenVinoDevice); 3] =
    [("cpu", OpenVinoDevice::Cpu), ("gpu", OpenVinoDevice::Gpu), ("npu", OpenVinoDevice::Npu)];
const MODES: [(&str, EngineMode); 2] =
    [("latency", EngineMode::Latency), ("throughput", EngineMode::Throughput)];
/// As many frames as a batch may hold.
const BATCH_MAX: i64 = 64;
const PROVIDERS: [(&str, OnnxProvider); 4] = [
    ("auto", OnnxProvider::Auto),
    ("cpu", OnnxProvider::Cpu),
    ("cuda", OnnxProvider::Cuda),
    ("tensorrt", OnnxProvider::Tensorrt),
];

/// `[detector]`
pub(super) fn detector(reading: &mut Reading, root: &Table) -> DetectorOptions {
    let defaults = DetectorOptions::new("");
    let mut section = Section::new(reading, "detector", root.get("detector"));
    let has_model_key = section.find("model").is_some();
    let model = if has_model_key { section.text("model", None) } else { None };
    let options = DetectorOptions {
        model: model.unwrap_or_default(),
        backend: section.choice("backend", defaults.backend, &Backend::NAMES),
        provider: section.choice("provider", defaults.provider, &PROVIDERS),
        device: section.choice("device", defaults.device, &DEVICES),
        precision: section.choice("precision", defaults.precision, &Precision::NAMES),
        max_batch_size: auto_count(&mut section, "max_batch_size", 1..=64),
        max_batch_delay: section.duration(
            "max_batch_delay",
            defaults.max_batch_delay,
            Duration::ZERO..=Duration::from_secs(1),
        ),
        score_threshold: fraction(&mut section, "score_threshold", defaults.score_threshold),
        iou_threshold: fraction(&mut section, "iou_threshold", defaults.iou_threshold),
        max_objects: section.integer("max_objects", defaults.max_objects as i64, 1..=10_000) as usize,
        mode: section.choice("mode", defaults.mode, &MODES),
        streams: auto_count(&mut section, "streams", 1..=BATCH_MAX),
        threads: auto_count(&mut section, "threads", 1..=256),
        cpus: cpus(&mut section, "cpus"),
        engine_cache_limit_bytes: section.read(
            "engine_cache_limit",
            defaults.engine_cache_limit_bytes,
            |node| size_of(node, &(LEAST_LIMIT_BYTES..=MOST_LIMIT_BYTES)),
            |bytes| Some(Json::from(show_size(*bytes))),
        ),
    };
    if options.mode == EngineMode::Latency
        && let Some(node) = section.find("streams")
    {
        let message = "`streams` goes with mode = \"throughput\": with \"latency\" there is one";
        section.reading.error_at_key(node.key_place, message, None);
    }
    if !has_model_key {
        let hint = "write model = \"NAME\" (see `watchpost model list`) or the path of an .onnx file";
        section.reading.missing(section.header, "[detector] names no model", Some(hint));
    }
    section.finish(belongs_to("detector"));
    options
}

/// CPUs, or none named.
fn cpus(section: &mut Section<'_, '_>, key: &'static str) -> Option<CpuSet> {
    let parse = |node: &Node| match &node.value {
        Value::Integer(cpu, _) => {
            let one = usize::try_from(*cpu).ok().and_then(CpuSet::one);
            one.map(Some).ok_or_else(|| "must be the number of a CPU, or CPUs like \"2-3\"".to_owned())
        }
        _ => text_of(node)?.parse().map(Some),
    };
    section.read(key, None, parse, |cpus| cpus.as_ref().map(|cpus| Json::from(cpus.to_string())))
}

/// A count or `"auto"`.
fn auto_count(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<i64>,
) -> Auto<usize> {
    let parse = |node: &Node| match is_word(node, "auto") {
        true => Ok(Auto::Auto),
        false => integer_of(node, &range)
            .map(|count| Auto::Fixed(count as usize))
            .map_err(|wrong| format!("{wrong}; or \"auto\"")),
    };
    section.read(key, Auto::Auto, parse, |value| {
        Some(match value {
            Auto::Auto => Json::from("auto"),
            Auto::Fixed(count) => Json::from(*count),
        })
    })
}

fn fraction(section: &mut Section<'_, '_>, key: &'static str, default: f32) -> f32 {
    section.read(key, default, fraction_of, |value| Some(fraction_json(*value)))
}

/// A number from 0 to 1.
pub(super) fn fraction_of(node: &Node) -> Result<f32, Wrong> {
    float_of(node, &(0.0..=1.0)).map(|value| value as f32)
}

/// The shortest decimal that reads back as the same f32; widening to f64 would show 0.3499999940395355.
pub(super) fn fraction_json(value: f32) -> Json {
    value.to_string().parse::<f64>().map_or(Json::Null, Json::from)
}

const LEAST_LIMIT_BYTES: u64 = 32 << 20;
const MOST_LIMIT_BYTES: u64 = 1 << 50;

/// `[memory]`
pub(super) fn memory(reading: &mut Reading, root: &Table) -> MemoryOptions {
    let mut section = Section::new(reading, "memory", root.get("memory"));
    let soft_limit_bytes = limit(&mut section, "soft_limit");
    let hard_limit_bytes = limit(&mut section, "hard_limit");
    if let (Some(soft), Some(hard)) = (soft_limit_bytes, hard_limit_bytes)
        && soft >= hard
        && let (Some(soft_node), Some(hard_node)) = (section.find("soft_limit"), section.find("hard_limit"))
    {
        let there = section.reading.sources.describe(hard_node.place);
        let message =
            format!("`soft_limit` must be below `hard_limit`, which is {} ({there})", show_size(hard));
        let hint = "at the soft limit load is shed, at the hard limit the process ends";
        section.reading.error(soft_node.place, message, Some(hint));
    }
    section.finish(belongs_to("memory"));
    MemoryOptions { soft_limit_bytes, hard_limit_bytes }
}

fn limit(section: &mut Section<'_, '_>, key: &'static str) -> Option<u64> {
    let parse = |node: &Node| match is_word(node, "off") {
        true => Ok(None),
        false => size_of(node, &(LEAST_LIMIT_BYTES..=MOST_LIMIT_BYTES)).map(Some),
    };
    section.read(key, None, parse, |value| {
        Some(value.map_or(Json::from("off"), |bytes| Json::from(show_size(bytes))))
    })
}

/// `[snapshots]`
pub(super) fn snapshots(reading: &mut Reading, root: &Table, cameras: &[CameraOptions]) -> SnapshotOptions {
    let defaults = SnapshotOptions::default();
    let mut section = Section::new(reading, "snapshots", root.get("snapshots"));
    let show = |path: &Option<PathBuf>| path.as_ref().map(|path| Json::from(path.to_string_lossy()));
    let options = SnapshotOptions {
        dir: section.read("dir", None, |node| absolute_path_of(node).map(Some), show),
        max_files: section.integer("max_files", defaults.max_files as i64, 1..=100_000) as usize,
        max_bytes: section.size("max_size", defaults.max_bytes, 1 << 20..=MOST_LIMIT_BYTES),
        min_free_bytes: section.size("min_free", defaults.min_free_bytes, 0..=MOST_LIMIT_BYTES),
    };
    if let Some(camera) = cameras.iter().find(|camera| camera.snapshots)
        && section.find("dir").is_none()
    {
        let message = format!("camera `{}` wants snapshots, and [snapshots] names no folder", camera.name);
        let hint = "write dir = \"/var/lib/watchpost/snapshots\" under [snapshots]";
        section.reading.missing(section.header, message, Some(hint));
    }
    section.finish(belongs_to("snapshots"));
    options
}

/// `[supervisor]`
pub(super) fn supervisor(reading: &mut Reading, root: &Table) -> SupervisorOptions {
    let defaults = SupervisorOptions::default();
    let mut section = Section::new(reading, "supervisor", root.get("supervisor"));
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let options = SupervisorOptions {
        teardown_timeout: section.duration("teardown_timeout", defaults.teardown_timeout, ms(100)..=s(60)),
        inference_timeout: section.duration("inference_timeout", defaults.inference_timeout, s(1)..=s(600)),
        max_wedged: section.integer("max_wedged", defaults.max_wedged as i64, 0..=64) as usize,
        backoff_min: section.duration("backoff_min", defaults.backoff_min, ms(10)..=s(600)),
        backoff_max: section.duration("backoff_max", defaults.backoff_max, ms(10)..=s(3600)),
        healthy_after: section.duration("healthy_after", defaults.healthy_after, s(0)..=s(86_400)),
        camera_cpus: cpus(&mut section, "camera_cpus"),
    };
    if options.backoff_min > options.backoff_max
        && let Some(node) = section.find("backoff_min").or(section.find("backoff_max"))
    {
        let message = "`backoff_min` must not be longer than `backoff_max` (30s unless set)";
        section.reading.error(node.place, message, None);
    }
    section.finish(belongs_to("supervisor"));
    options
}

/// `[debug]`: the socket that `watchpost debug` asks.
pub(super) fn debug_socket(
    reading: &mut Reading,
    root: &Table,
    environment: &Environment,
) -> Option<PathBuf> {
    let mut section = Section::new(reading, "debug", root.get("debug"));
    let show = |socket: &Option<PathBuf>| {
        Some(socket.as_ref().map_or(Json::from("off"), |path| Json::from(path.to_string_lossy())))
    };
    let socket = if section.find("socket").is_some() {
        let parse = |node: &Node| match is_word(node, "off") || is_word(node, "") {
            true => Ok(None),
            false => socket_path_of(node).map(Some).map_err(|wrong| format!("{wrong}; or \"off\"")),
        };
        section.read("socket", None, parse, show)
    } else {
        let (socket, origin) = default_debug_socket(environment);
        section.record("socket", show(&socket), origin);
        socket
    };
    section.finish(belongs_to("debug"));
    socket
}

fn default_debug_socket(environment: &Environment) -> (Option<PathBuf>, Origin) {
    let beside = |variable: &str, name: &str| {
        // systemd puts several folders into one variable with colons between them.
        let folder = environment.get(variable)?.split(':').next().filter(|folder| folder.starts_with('/'))?;
        let path = Path::new(folder).join(name);
        (path.as_os_str().len() <= SOCKET_PATH_BYTES)
            .then(|| (Some(path), Origin::Variable(variable.to_owned())))
    };
    beside("RUNTIME_DIRECTORY", "debug.sock")
        .or_else(|| beside("XDG_RUNTIME_DIR", "watchpost/debug.sock"))
        .unwrap_or((None, Origin::Default))
}

/// `sun_path` holds 108 bytes, the last of them zero.
const SOCKET_PATH_BYTES: usize = 107;

/// The absolute path of a Unix socket.
pub(super) fn socket_path_of(node: &Node) -> Result<PathBuf, Wrong> {
    let path = absolute_path_of(node)?;
    if path.as_os_str().len() > SOCKET_PATH_BYTES {
        return Err(format!("is too long for a socket: at most {SOCKET_PATH_BYTES} bytes"));
    }
    if node_text_ends_with_slash(node) {
        return Err("names a folder; a socket needs a file name".to_owned());
    }
    Ok(path)
}

fn node_text_ends_with_slash(node: &Node) -> bool {
    text_of(node).is_ok_and(|text| text.ends_with('/'))
}

/// An absolute path: the daemon's working folder is nobody's home.
pub(super) fn absolute_path_of(node: &Node) -> Result<PathBuf, Wrong> {
    let text = text_of(node)?;
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err("must be an absolute path (beginning with /)".to_owned()),
    }
}

const PASSWORD_ADVICE: &str = "is not written into the configuration: use password_credential = \"NAME\" \
    (systemd LoadCredential=), password_file = \"/PATH\" or password_env = \"VARIABLE\"";

/// What to say about a key that is unknown in one table but means something: it is known in another, or
/// it would hold a password.
pub(super) fn belongs_to(here: &'static str) -> impl Fn(&str) -> Option<String> {
    move |key| {
        if here == "camera"
            && super::masking::is_secret_name(key)
            && !key.to_lowercase().contains("password_")
        {
            return Some(PASSWORD_ADVICE.to_owned());
        }
        let known_there = |(section, keys): &&(&str, &[&str])| *section != here && keys.contains(&key);
        let (section, _) = super::KEYS.iter().find(known_there)?;
        Some(match *section {
            "camera" if key == "url" => "belongs to a camera: write it below [camera.NAME]".to_owned(),
            "camera" => "belongs to a camera: write it below [camera.NAME] or [defaults]".to_owned(),
            "output" => "belongs to an output: write it below [output.NAME]".to_owned(),
            section => format!("belongs to [{section}]: write it below that line"),
        })
    }
}
