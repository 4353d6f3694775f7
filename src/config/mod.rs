//! Raw TOML to a validated [`Config`].
//!
//! ```text
//! config.toml ┐
//! conf.d/*    ├─► tree (merged, every value with its place) ─► reading ─► Config + origins + warnings
//! WATCHPOST__ ┘                                                   └─► or every mistake at once
//! ```
//!
//! Later layers win key by key. Nothing that leaves this module, no message, report or `Debug` output,
//! holds a password; [`Secret::expose`] is the only way to one.

mod camera;
mod credentials;
mod engine_options;
mod environment;
mod files;
mod group;
mod locator;
mod masking;
mod measure;
mod names;
mod nearest;
mod options;
mod output;
mod points;
mod problem;
mod reading;
pub mod report;
mod secret;
mod sections;
mod source;
mod tree;
mod zone_options;
mod zones;

use std::fmt;
use std::path::Path;

use environment::Environment;
use problem::in_file_order;
use reading::Reading;
use tree::Layers;

pub use engine_options::*;
pub use group::Group;
pub use locator::{CameraUrl, Locator, parse_url};
pub use measure::{parse_duration, parse_size, show_duration, show_size};
pub use names::check_name;
pub use options::*;
pub use problem::{ConfigErrors, Location, Problem, Severity};
pub use secret::Secret;
pub use source::Excerpt;
pub use zone_options::*;
pub use zones::{LINE_KEYS, ZONE_KEYS};

/// Where the configuration is unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/watchpost/config.toml";

/// Every key, by the table it belongs to. `[defaults]` takes those of a camera except `url`.
pub const KEYS: [(&str, &[&str]); 7] = [
    (
        "detector",
        &[
            "model",
            "backend",
            "provider",
            "device",
            "precision",
            "max_batch_size",
            "max_batch_delay",
            "score_threshold",
            "iou_threshold",
            "max_objects",
            "mode",
            "streams",
            "threads",
            "cpus",
            "engine_cache_limit",
        ],
    ),
    (
        "camera",
        &[
            "url",
            "username",
            "password_credential",
            "password_env",
            "password_file",
            "transport",
            "tls_verify",
            "tls_ca_file",
            "latency",
            "open_timeout",
            "stall_timeout",
            "freeze_timeout",
            "max_frame_age",
            "detect_fps",
            "classes",
            "score_threshold",
            "score_thresholds",
            "min_box_area",
            "max_box_area",
            "min_box_aspect",
            "max_box_aspect",
            "picture_size",
            "privacy_masks",
            "track",
            "track_keep",
            "track_across_restart",
            "snapshots",
            "slots",
            "decode",
            "lazy_buffer",
            "motion_gate",
            "motion_hold",
            "motion_refresh",
            "decoder",
            "decode_threads",
            "priority",
            "template",
            "repeat",
            "read_stamp",
        ],
    ),
    ("output", &["type", "path", "mode", "group", "listen", "buffer", "max_readers"]),
    ("memory", &["soft_limit", "hard_limit"]),
    ("snapshots", &["dir", "max_files", "max_size", "min_free"]),
    (
        "supervisor",
        &[
            "teardown_timeout",
            "inference_timeout",
            "max_wedged",
            "backoff_min",
            "backoff_max",
            "healthy_after",
            "camera_cpus",
        ],
    ),
    ("debug", &["socket"]),
];

/// What a sub-command needs of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// A configuration without a camera is a mistake.
    pub cameras: bool,
    /// A password whose variable or systemd credential is not there is a mistake; otherwise a warning,
    /// because only the service is given it.
    pub passwords: bool,
}

impl Demands {
    /// `run`: everything must be there.
    pub const RUN: Self = Self { cameras: true, passwords: true };
    /// `check`: an administrator's shell has not what systemd gives the service.
    pub const CHECK: Self = Self { cameras: true, passwords: false };
    /// Sub-commands that bring their own cameras, or only look something up.
    pub const LOOK: Self = Self { cameras: false, passwords: false };
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file; its name is relative to the folder of the main file.
    File {
        /// `config.toml`, `conf.d/10-site.toml`
        name: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// Nobody set it, and something else does not work without it.
    Needed {
        /// What needs it: `zone.door`.
        by: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Variable(name) => f.write_str(name),
            Origin::Needed { by } => write!(f, "needed by {by}"),
        }
    }
}

/// One resolved value, as it may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// `detector`, `camera.gate`, …
    pub section: String,
    /// The key; `password` where the URL holds one.
    pub key: &'static str,
    /// The value as it would be written, secrets as `***`; `None` if it is not set.
    pub value: Option<serde_json::Value>,
    /// Where it came from.
    pub origin: Origin,
}

/// All resolved values in the order of the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origins(Vec<Setting>);

impl Origins {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// One by its path: `camera.gate.url`.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        let (section, key) = path.rsplit_once('.')?;
        self.0.iter().find(|setting| setting.section == section && setting.key == key)
    }
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What the user should know, in file order.
    pub warnings: Vec<Problem>,
    /// Where each value came from.
    pub origins: Origins,
}

/// The variables of this process that are UTF-8; `std::env::vars` would panic on any other.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Loads the main file, `conf.d/*.toml` beside it in the order of their names, then `WATCHPOST__…` of
/// the environment. At least one camera is required.
///
/// # Errors
/// Every mistake at once, in file order. The process ends with 78.
pub fn load(
    main: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    load_with(main, environment, Demands::RUN)
}

/// [`load`] for sub-commands that need less than `run`.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    main: &Path,
    environment: impl Iterator<Item = (String, String)>,
    demands: Demands,
) -> Result<Loaded, ConfigErrors> {
    let environment = Environment::new(environment);
    let mut layers = Layers::default();
    files::add_files(&mut layers, main)?;
    settle(layers, &environment, demands)
}

/// A number that changes when the main file or a drop-in beside it does: names, sizes and times of change.
pub fn fingerprint(main: &Path) -> u64 {
    files::fingerprint(main)
}

/// One text without an environment; a camera is not required. `name` stands in its messages.
///
/// # Errors
/// As [`load`].
pub fn load_str(name: &str, text: &str) -> Result<Loaded, ConfigErrors> {
    load_layers(&[(name, text)], std::iter::empty(), Demands { cameras: false, passwords: true })
}

/// Several texts, each laid over the one before, and an environment.
///
/// # Errors
/// As [`load`].
pub fn load_layers(
    texts: &[(&str, &str)],
    environment: impl Iterator<Item = (String, String)>,
    demands: Demands,
) -> Result<Loaded, ConfigErrors> {
    let environment = Environment::new(environment);
    let mut layers = Layers::default();
    for (name, text) in texts {
        layers.add_document(name, name, text);
    }
    settle(layers, &environment, demands)
}

fn settle(mut layers: Layers, environment: &Environment, demands: Demands) -> Result<Loaded, ConfigErrors> {
    environment.lay_over(&mut layers);
    let Layers { sources, root, problems } = layers;
    let mut reading = Reading { sources, problems, settings: Vec::new(), demands };
    report_unknown_sections(&mut reading, &root);
    let detector = sections::detector(&mut reading, &root);
    let cameras = camera::cameras(&mut reading, &root, environment);
    if demands.cameras && !root.contains_key("camera") {
        reading.missing(None, "no camera is configured", Some(files::FIRST_STEPS));
    }
    let first_of_debug = reading.settings.len();
    let debug_socket = sections::debug_socket(&mut reading, &root, environment);
    let debug_settings = reading.settings.split_off(first_of_debug);
    let outputs = output::outputs(&mut reading, &root, debug_socket.as_deref());
    let memory = sections::memory(&mut reading, &root);
    let supervisor = sections::supervisor(&mut reading, &root);
    let snapshots = sections::snapshots(&mut reading, &root, &cameras);
    reading.settings.extend(debug_settings);
    let Reading { problems, settings, .. } = reading;
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(ConfigErrors::new(problems));
    }
    let config = Config { detector, cameras, outputs, memory, snapshots, supervisor, debug_socket };
    Ok(Loaded { config, warnings: in_file_order(problems), origins: Origins(settings) })
}

fn report_unknown_sections(reading: &mut Reading, root: &tree::Table) {
    let known = || KEYS.iter().map(|(section, _)| *section).chain(["defaults"]);
    for (key, node) in root.iter().filter(|(key, _)| !known().any(|known| known == key.as_str())) {
        if reading.is_full() {
            return;
        }
        let shown = reading::shown_key(key);
        if matches!(key.as_str(), "zone" | "line") {
            let message = format!("every {key} belongs to a camera: write [camera.NAME.{key}.NAME]");
            reading.error_at_key(node.key_place, message, None);
            continue;
        }
        let is_table = matches!(node.value, tree::Value::Table(_) | tree::Value::List(_));
        let elsewhere = sections::belongs_to("")(key).filter(|_| !is_table);
        let (message, hint) = match elsewhere {
            Some(advice) => (format!("`{shown}` {advice}"), None),
            None => {
                let guess = nearest::did_you_mean(key, known());
                let hint =
                    guess.is_empty().then(|| format!("known are {}", known().collect::<Vec<_>>().join(", ")));
                let what = if is_table { "section" } else { "key" };
                (format!("unknown {what} `{shown}`{guess}"), hint)
            }
        };
        reading.error_at_key(node.key_place, message, hint.as_deref());
    }
}
