//! Tables that the user names: cameras and outputs, a camera's zones and lines.

use super::reading::{Reading, shown_key};
use super::tree::{Node, Table, Value};

const MOST_NAME_BYTES: usize = 32;

/// The tables below `[camera.…]` or `[output.…]` whose names are right, sorted by name. `path` is `kind` with all that
/// is before it.
pub(super) fn named_tables<'t>(
    reading: &mut Reading,
    root: &'t Table,
    kind: &str,
    path: &str,
    most: usize,
) -> Vec<(&'t str, &'t Node)> {
    let Some(node) = root.get(kind) else { return Vec::new() };
    let hint = format!("write [{path}.NAME] and its settings below");
    let Value::Table(table) = &node.value else {
        let message = format!("every {kind} is a table with a name of its own");
        reading.error_at_key(node.key_place, message, Some(&hint));
        return Vec::new();
    };
    let mut named = Vec::new();
    for (name, node) in table {
        if reading.is_full() {
            break;
        }
        if !matches!(node.value, Value::Table(_)) {
            let known = super::KEYS.iter().map(|(_, keys)| *keys).chain([super::ZONE_KEYS, super::LINE_KEYS]);
            let message = match known.into_iter().any(|keys| keys.contains(&name.as_str())) {
                true => format!("`{name}` stands below [{path}], but every {kind} needs a name"),
                false => format!("`{}` is not a table: every {kind} is one", shown_key(name)),
            };
            reading.error_at_key(node.key_place, message, Some(&hint));
        } else if let Err(wrong) = check_name(name) {
            reading.error_at_key(node.key_place, format!("{kind} name `{}` {wrong}", shown_key(name)), None);
        } else if named.len() == most {
            reading.error_at_key(node.key_place, format!("more than {most} {kind}s are configured"), None);
            break;
        } else {
            named.push((name.as_str(), node));
        }
    }
    named
}

/// `[A-Za-z0-9][A-Za-z0-9_-]{0,31}`: it becomes part of thread names, metrics and variables.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    let word = |ch: char| ch.is_ascii_alphanumeric();
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > MOST_NAME_BYTES {
        return Err(format!("is longer than {MOST_NAME_BYTES} characters"));
    }
    if !name.chars().all(|ch| word(ch) || matches!(ch, '_' | '-')) {
        return Err("has characters other than a-z, A-Z, 0-9, _ and -".to_owned());
    }
    if !name.starts_with(word) {
        return Err("must begin with a letter or digit".to_owned());
    }
    Ok(())
}
