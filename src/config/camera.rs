//! `[defaults]` and `[camera.NAME]`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::Origin;
use super::credentials::{self, PASSWORD_KEYS};
use super::environment::Environment;
use super::locator::{CameraUrl, Locator, parse_url};
use super::measure::show_duration;
use super::names::named_tables;
use super::options::{CameraOptions, Decode, DecoderChoice, Transport};
use super::points::picture_size;
use super::reading::{Reading, Section, Wrong, duration_of, float_of, is_word, text_of};
use super::sections::{absolute_path_of, belongs_to, fraction_json, fraction_of};
use super::tree::{Node, Table, Value};
use super::zones::{box_limits, first_watcher, privacy_masks, score_thresholds, zones_and_lines};

/// One detector serves all; more cameras than this need another box.
const MOST_CAMERAS: usize = 64;
const MOST_CLASSES: usize = 1000;
const MOST_TEMPLATE_BYTES: usize = 64 << 10;
const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];
const DECODES: [(&str, Decode); 5] = [
    ("auto", Decode::Auto),
    ("all", Decode::All),
    ("reference", Decode::Reference),
    ("keyframes", Decode::Keyframes),
    ("lazy", Decode::Lazy),
];
const DECODERS: [(&str, DecoderChoice); 3] = [
    ("auto", DecoderChoice::Auto),
    ("software", DecoderChoice::Software),
    ("hardware", DecoderChoice::Hardware),
];

/// All cameras, sorted by name.
pub(super) fn cameras(reading: &mut Reading, root: &Table, environment: &Environment) -> Vec<CameraOptions> {
    let defaults = root.get("defaults");
    check_defaults(reading, defaults);
    let beneath = match defaults.map(|node| &node.value) {
        Some(Value::Table(table)) => Some(table),
        _ => None,
    };
    let tables = named_tables(reading, root, "camera", "camera", MOST_CAMERAS);
    tables.into_iter().filter_map(|(name, node)| camera(reading, name, node, beneath, environment)).collect()
}

/// Judges `[defaults]` by itself, so that its mistakes are told once and also without a camera.
fn check_defaults(reading: &mut Reading, node: Option<&Node>) {
    let mut section = Section::new(reading, "defaults", node).silent();
    if let Some(url) = section.find("url") {
        section.reading.error_at_key(url.key_place, "`url` belongs to one camera, not to [defaults]", None);
    }
    section.text("username", None);
    let own: Vec<_> =
        PASSWORD_KEYS.into_iter().filter_map(|key| section.find(key).map(|node| (key, node))).collect();
    credentials::check_keys(&mut section, &own, None);
    settings(&mut section, CameraOptions::new("", Locator::Csi { sensor_index: 0 }));
    let size = picture_size(&mut section);
    privacy_masks(&mut section, size);
    for key in ["zone", "line"] {
        if let Some(node) = section.find(key) {
            let message = format!("`{key}` belongs to one camera, not to [defaults]");
            let hint = format!("write [camera.NAME.{key}.NAME]");
            section.reading.error_at_key(node.key_place, message, Some(&hint));
        }
    }
    section.finish(belongs_to("camera"));
}

fn camera(
    reading: &mut Reading,
    name: &str,
    node: &Node,
    beneath: Option<&Table>,
    environment: &Environment,
) -> Option<CameraOptions> {
    let mut section = Section::new(reading, format!("camera.{name}"), Some(node)).over(beneath);
    let url = read_url(&mut section, name);
    let with_node = url.as_ref().map(|(node, url)| (*node, url));
    let credentials = credentials::read(&mut section, name, with_node, environment);
    // Without a URL the other keys are judged all the same.
    let locator = url.as_ref().map_or(Locator::Csi { sensor_index: 0 }, |(_, url)| url.locator.clone());
    let mut camera = settings(&mut section, CameraOptions::new(name, locator));
    camera.username = credentials.username;
    camera.password = credentials.password;
    let size = picture_size(&mut section);
    camera.privacy_masks = privacy_masks(&mut section, size);
    warn_if_nothing_tracks(&mut section, camera.track);
    if let Some(node) = section.find("snapshots").filter(|_| camera.snapshots && !camera.track) {
        let message = "`snapshots` keeps the best picture of each track, and nothing is tracked";
        section.reading.error(node.place, message, Some("write track = true, too"));
    }
    section.finish(belongs_to("camera"));
    if let Value::Table(own) = &node.value {
        zones_and_lines(reading, own, size, &mut camera);
    }
    url.map(|_| camera)
}

fn warn_if_nothing_tracks(section: &mut Section<'_, '_>, tracks: bool) {
    // A mistake in `track` is told by itself.
    let is_off =
        !tracks && section.find("track").is_none_or(|node| matches!(node.value, Value::Boolean(false)));
    for key in ["track_keep", "track_across_restart"] {
        if let Some(node) = section.find_own(key).filter(|_| is_off) {
            let message = format!("`{key}` means nothing without `track = true`");
            section.reading.warning(node.key_place, message, None);
        }
    }
}

fn read_url<'t>(section: &mut Section<'_, 't>, name: &str) -> Option<(&'t Node, CameraUrl)> {
    let Some(node) = section.find_own("url") else {
        let hint = "write url = \"rtsp://HOST/PATH\" (or v4l2:///dev/…, csi://N, file:///…, test://scene)";
        section.reading.missing(section.header, format!("camera `{name}` has no url"), Some(hint));
        return None;
    };
    match text_of(node).and_then(|text| parse_url(text.trim())) {
        Ok(url) => {
            let origin = section.reading.origin(node);
            section.record("url", Some(Json::from(url.locator.to_string())), origin);
            if url.has_secret_parameter {
                let message = "the URL seems to hold a password in its path or query, in plain text";
                let hint = "watchpost hides it, but the camera and the network see it; prefer username and \
                            password_credential if the camera takes them";
                section.reading.warning(node.place, message, Some(hint));
            }
            Some((node, url))
        }
        Err(wrong) => {
            section.reading.error(node.place, format!("`url` {wrong}"), None);
            None
        }
    }
}

/// Every key but the URL and the credentials.
fn settings(section: &mut Section<'_, '_>, defaults: CameraOptions) -> CameraOptions {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    CameraOptions {
        transport: section.choice("transport", defaults.transport, &TRANSPORTS),
        tls_verify: section.boolean("tls_verify", defaults.tls_verify),
        tls_ca_file: tls_ca_file(section),
        latency: section.duration("latency", defaults.latency, s(0)..=s(10)),
        open_timeout: section.duration("open_timeout", defaults.open_timeout, ms(100)..=s(600)),
        stall_timeout: section.duration("stall_timeout", defaults.stall_timeout, ms(100)..=s(3600)),
        freeze_timeout: off_or_duration(section, "freeze_timeout", s(1)..=s(86_400)),
        max_frame_age: section.duration("max_frame_age", defaults.max_frame_age, ms(10)..=s(60)),
        detect_fps: detect_fps(section),
        classes: classes(section),
        score_threshold: score_threshold(section),
        score_thresholds: score_thresholds(section),
        boxes: box_limits(section),
        track: track(section),
        track_keep: section.duration("track_keep", defaults.track_keep, ms(100)..=s(60)),
        track_across_restart: off_or_duration(section, "track_across_restart", ms(100)..=s(60)),
        snapshots: section.boolean("snapshots", defaults.snapshots),
        slots: section.integer("slots", defaults.slots as i64, 1..=16) as usize,
        decode: section.choice("decode", defaults.decode, &DECODES),
        lazy_buffer_bytes: section.size("lazy_buffer", defaults.lazy_buffer_bytes, 64 << 10..=256 << 20),
        motion_gate: section.boolean("motion_gate", defaults.motion_gate),
        motion_hold: section.duration("motion_hold", defaults.motion_hold, s(1)..=s(3600)),
        motion_refresh: section.duration("motion_refresh", defaults.motion_refresh, ms(100)..=s(3600)),
        decoder: section.choice("decoder", defaults.decoder, &DECODERS),
        decode_threads: section.integer("decode_threads", defaults.decode_threads as i64, 1..=16) as usize,
        priority: section.integer("priority", defaults.priority.into(), -1000..=1000) as i32,
        template: template(section),
        repeat: section.boolean("repeat", defaults.repeat),
        read_stamp: section.boolean("read_stamp", defaults.read_stamp),
        ..defaults
    }
}

/// Zones and lines that tell of objects have them tracked.
fn track(section: &mut Section<'_, '_>) -> bool {
    let needed_by = first_watcher(section);
    let (Some(by), None) = (&needed_by, section.find("track")) else {
        let track = section.boolean("track", false);
        if let (Some(by), Some(node)) = (needed_by, section.find("track"))
            && matches!(node.value, Value::Boolean(false))
        {
            let message =
                format!("`track` is false, but `{by}` tells of objects, which have to be tracked for that");
            section.reading.error(node.place, message, Some("write track = true, or leave it out"));
        }
        return track;
    };
    section.record("track", Some(Json::from(true)), Origin::Needed { by: by.clone() });
    true
}

fn tls_ca_file(section: &mut Section<'_, '_>) -> Option<PathBuf> {
    let show = |path: &Option<PathBuf>| path.as_ref().map(|path| Json::from(path.to_string_lossy()));
    let path = section.read("tls_ca_file", None, |node| absolute_path_of(node).map(Some), show);
    if let (Some(path), Some(node)) = (&path, section.find("tls_ca_file"))
        && !path.is_file()
    {
        let message =
            "`tls_ca_file` names no file on this box: rtsps:// connections will fail until it is there";
        section.reading.warning(node.place, message, None);
    }
    path
}

/// A duration or `"off"`, which is the default.
fn off_or_duration(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
) -> Option<Duration> {
    let parse = |node: &Node| match is_word(node, "off") {
        true => Ok(None),
        false => duration_of(node, &range).map(Some).map_err(|wrong| format!("{wrong}; or \"off\"")),
    };
    let show = |value: &Option<Duration>| {
        Some(value.map_or(Json::from("off"), |value| Json::from(show_duration(value))))
    };
    section.read(key, None, parse, show)
}

fn detect_fps(section: &mut Section<'_, '_>) -> Option<f64> {
    let parse = |node: &Node| match is_word(node, "all") {
        true => Ok(None),
        false => float_of(node, &(0.01..=240.0)).map(Some).map_err(|wrong| format!("{wrong}; or \"all\"")),
    };
    section.read("detect_fps", None, parse, |value| Some(value.map_or(Json::from("all"), Json::from)))
}

/// `classes`, of a camera or of one of its zones.
pub(super) fn classes(section: &mut Section<'_, '_>) -> Option<Vec<String>> {
    let parse = |node: &Node| match is_word(node, "all") {
        true => Ok(None),
        false => classes_of(node).map(Some),
    };
    let show = |value: &Option<Vec<String>>| Some(value.clone().map_or(Json::from("all"), Json::from));
    section.read("classes", None, parse, show)
}

fn classes_of(node: &Node) -> Result<Vec<String>, Wrong> {
    let expected = "must be a list of labels like [\"person\", \"car\"] or \"all\"";
    let Value::List(nodes) = &node.value else {
        return Err(format!("{expected}, not {}", node.value.kind()));
    };
    if nodes.is_empty() {
        return Err(
            "is an empty list, so nothing would ever be published: name labels, or write \"all\"".to_owned()
        );
    }
    if nodes.len() > MOST_CLASSES {
        return Err(format!("has more than {MOST_CLASSES} labels"));
    }
    let mut labels: Vec<String> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let label = text_of(node).map_err(|_| expected.to_owned())?;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    Ok(labels)
}

fn score_threshold(section: &mut Section<'_, '_>) -> Option<f32> {
    section.read(
        "score_threshold",
        None,
        |node| fraction_of(node).map(Some),
        |value| value.map(fraction_json),
    )
}

fn template(section: &mut Section<'_, '_>) -> Option<String> {
    let parse = |node: &Node| {
        let text = text_of(node)?;
        match text.len() <= MOST_TEMPLATE_BYTES {
            true => Ok(Some(text)),
            false => Err(format!("is longer than {MOST_TEMPLATE_BYTES} bytes")),
        }
    };
    section.read("template", None, parse, |text| {
        text.as_deref().map(|text| Json::from(super::masking::show_text(text)))
    })
}
