//! `[output.NAME]`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::Value as Json;

use super::group::{Group, group_of};
use super::names::named_tables;
use super::options::{OutputKind, OutputOptions};
use super::reading::{Reading, Section, Wrong, text_of};
use super::sections::{belongs_to, socket_path_of};
use super::source::Place;
use super::tree::{Node, Table, Value};
use super::{Origin, Setting};

const MOST_OUTPUTS: usize = 16;

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Stdout,
    Unix,
    Tcp,
}

const TYPES: [(&str, Type); 3] = [("stdout", Type::Stdout), ("unix", Type::Unix), ("tcp", Type::Tcp)];

/// The keys that belong to one type only.
const KEYS_OF_TYPES: [(&str, &[Type]); 5] = [
    ("path", &[Type::Unix]),
    ("mode", &[Type::Unix]),
    ("group", &[Type::Unix]),
    ("listen", &[Type::Tcp]),
    ("max_readers", &[Type::Unix, Type::Tcp]),
];

/// All outputs, sorted by name; standard output if none is configured.
pub(super) fn outputs(
    reading: &mut Reading,
    root: &Table,
    debug_socket: Option<&Path>,
) -> Vec<OutputOptions> {
    let is_configured = match root.get("output").map(|node| &node.value) {
        Some(Value::Table(table)) => !table.is_empty(),
        Some(_) => true,
        None => false,
    };
    if !is_configured {
        return vec![default_output(reading)];
    }
    let mut taken: Vec<(OutputOptions, Place)> = Vec::new();
    for (name, node) in named_tables(reading, root, "output", "output", MOST_OUTPUTS) {
        let Some((output, place)) = output(reading, name, node) else { continue };
        report_conflict(reading, &output, place, &taken, debug_socket);
        taken.push((output, place));
    }
    taken.into_iter().map(|(output, _)| output).collect()
}

fn default_output(reading: &mut Reading) -> OutputOptions {
    let output = OutputOptions::new("console", OutputKind::Stdout);
    reading.settings.push(Setting {
        section: "output.console".to_owned(),
        key: "type",
        value: Some(Json::from("stdout")),
        origin: Origin::Default,
    });
    output
}

/// Reads one output; the place is that of its address, for messages about conflicts.
fn output(reading: &mut Reading, name: &str, node: &Node) -> Option<(OutputOptions, Place)> {
    let mut section = Section::new(reading, format!("output.{name}"), Some(node));
    let kind = read_type(&mut section, name);
    if let Some(kind) = kind {
        report_foreign_keys(&mut section, kind);
    }
    let wanted = |key: &str| kind.is_some_and(|kind| takes(kind, key));
    let defaults = OutputOptions::new(name, OutputKind::Stdout);
    let address = match kind {
        None => None,
        Some(Type::Stdout) => Some((OutputKind::Stdout, node.key_place)),
        Some(Type::Unix) => unix(&mut section, name),
        Some(Type::Tcp) => tcp(&mut section, name),
    };
    let buffer_bytes = section.size("buffer", defaults.buffer_bytes as u64, 4 << 10..=256 << 20) as usize;
    let max_readers = match wanted("max_readers") {
        true => section.integer("max_readers", defaults.max_readers as i64, 1..=1024) as usize,
        false => defaults.max_readers,
    };
    for (key, _) in KEYS_OF_TYPES {
        section.find(key);
    }
    section.finish(belongs_to("output"));
    let (kind, place) = address?;
    Some((OutputOptions { kind, buffer_bytes, max_readers, ..defaults }, place))
}

fn read_type(section: &mut Section<'_, '_>, name: &str) -> Option<Type> {
    if section.find("type").is_none() {
        let hint = "write type = \"stdout\", \"unix\" (with path) or \"tcp\" (with listen)";
        section.reading.missing(section.header, format!("output `{name}` has no type"), Some(hint));
        return None;
    }
    let parse = |node: &Node| super::reading::choice_of(node, &TYPES).map(Some);
    let show = |kind: &Option<Type>| {
        TYPES.iter().find(|(_, known)| Some(*known) == *kind).map(|(name, _)| Json::from(*name))
    };
    section.read("type", None, parse, show)
}

fn takes(kind: Type, key: &str) -> bool {
    KEYS_OF_TYPES.iter().any(|(known, kinds)| *known == key && kinds.contains(&kind))
}

fn report_foreign_keys(section: &mut Section<'_, '_>, kind: Type) {
    for (key, kinds) in KEYS_OF_TYPES {
        if let Some(node) = section.find(key)
            && !kinds.contains(&kind)
        {
            let name =
                |kind: Type| TYPES.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name);
            let theirs: Vec<_> = kinds.iter().map(|kind| format!("\"{}\"", name(*kind))).collect();
            let message = format!(
                "`{key}` goes with type {}, and this output is \"{}\"",
                theirs.join(" or "),
                name(kind)
            );
            section.reading.error_at_key(node.key_place, message, None);
        }
    }
}

fn unix(section: &mut Section<'_, '_>, name: &str) -> Option<(OutputKind, Place)> {
    let mode = section.read("mode", 0o660, mode_of, |mode| Some(Json::from(format!("{mode:#o}"))));
    let show_group = |group: &Option<Group>| group.as_ref().map(|group| Json::from(group.to_string()));
    let group = section.read("group", None, |node| group_of(node).map(Some), show_group);
    let Some(node) = section.find("path") else {
        let hint = "write path = \"/run/watchpost/detections.sock\"";
        section.reading.missing(section.header, format!("output `{name}` has no path"), Some(hint));
        return None;
    };
    let show =
        |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| Json::from(path.to_string_lossy()));
    let path = section.read("path", None, |node| socket_path_of(node).map(Some), show)?;
    Some((OutputKind::Unix { path, mode, group }, node.place))
}

/// Permissions in octal; a decimal number is refused because 660 is not 0o660.
fn mode_of(node: &Node) -> Result<u32, Wrong> {
    let expected = || "must be permissions in octal, like \"0660\" or 0o660".to_owned();
    let octal = |text: &str| u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok();
    let mode = match (&node.value, &node.raw) {
        (Value::Integer(value, 8), _) => u32::try_from(*value).ok(),
        (Value::Text(text), _) => octal(text),
        (Value::Integer(..), Some(raw)) => octal(raw),
        _ => None,
    };
    match mode.ok_or_else(expected)? {
        mode @ 0o600..=0o777 => Ok(mode),
        _ => Err("must be from 0600 to 0777: this program itself reads and writes the socket".to_owned()),
    }
}

fn tcp(section: &mut Section<'_, '_>, name: &str) -> Option<(OutputKind, Place)> {
    let Some(node) = section.find("listen") else {
        let hint = "write listen = \"127.0.0.1:9000\"";
        section.reading.missing(
            section.header,
            format!("output `{name}` has no address to listen on"),
            Some(hint),
        );
        return None;
    };
    let show = |address: &Option<SocketAddr>| address.map(|address| Json::from(address.to_string()));
    let listen = section.read("listen", None, |node| address_of(node).map(Some), show)?;
    if !listen.ip().is_loopback() {
        let message = "anyone who reaches this port can read the detections: there is no password on it";
        let hint = "use 127.0.0.1 unless other machines must read, and then a firewall";
        section.reading.warning(node.place, message, Some(hint));
    }
    Some((OutputKind::Tcp { listen }, node.place))
}

/// `127.0.0.1:9000`, `[::1]:9000`, `localhost:9000`, or a port alone, which means loopback.
fn address_of(node: &Node) -> Result<SocketAddr, Wrong> {
    let expected = || "must be an address and port like \"127.0.0.1:9000\", or a port".to_owned();
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    match &node.value {
        Value::Integer(port, 10) => {
            u16::try_from(*port).map(local).map_err(|_| "must be a port from 0 to 65535".to_owned())
        }
        Value::Text(_) => {
            let text = text_of(node)?;
            let text = text.trim();
            if let Ok(port) = text.strip_prefix("localhost:").unwrap_or(text).parse() {
                return Ok(local(port));
            }
            if text.parse::<IpAddr>().is_ok() {
                return Err("needs a port after the address, like \"127.0.0.1:9000\"".to_owned());
            }
            text.parse().map_err(|_| expected())
        }
        _ => Err(expected()),
    }
}

fn report_conflict(
    reading: &mut Reading,
    output: &OutputOptions,
    place: Place,
    taken: &[(OutputOptions, Place)],
    debug_socket: Option<&Path>,
) {
    if let OutputKind::Unix { path, .. } = &output.kind
        && Some(path.as_path()) == debug_socket
    {
        let message = format!("output `{}` has the path of the debug socket", output.name);
        reading.error(place, message, Some("give one of them another path ([debug] socket = …)"));
    }
    let Some((other, there)) = taken.iter().find(|(other, _)| conflict(&other.kind, &output.kind)) else {
        return;
    };
    let what = match output.kind {
        OutputKind::Stdout => "write to standard output, which has room for one",
        OutputKind::Unix { .. } => "have the same path",
        OutputKind::Tcp { .. } => "listen on the same port",
    };
    // The place that comes later in the files is the one to change.
    let (place, there) = (place.max(*there), place.min(*there));
    let message = format!(
        "outputs `{}` and `{}` {what} (see also {})",
        other.name,
        output.name,
        reading.sources.describe(there)
    );
    reading.error(place, message, None);
}

fn conflict(a: &OutputKind, b: &OutputKind) -> bool {
    match (a, b) {
        (OutputKind::Stdout, OutputKind::Stdout) => true,
        (OutputKind::Unix { path: a, .. }, OutputKind::Unix { path: b, .. }) => a == b,
        (OutputKind::Tcp { listen: a }, OutputKind::Tcp { listen: b }) => {
            // Port 0 lets the system choose; the unspecified address takes the port on every address.
            let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() == b.port() && a.port() != 0 && same_address
        }
        _ => false,
    }
}
