//! What a configuration resolves to, and where each value came from.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::problem::{Location, Problem};
use super::{Loaded, Setting};

/// Column of the origins.
const ORIGIN_COLUMN: usize = 44;

/// The resolved configuration as TOML, each value with its origin in a comment. Secrets are `***`; what is
/// not set is a comment.
pub fn render(loaded: &Loaded) -> String {
    let mut out = String::new();
    let mut section = "";
    for setting in loaded.origins.iter() {
        if setting.section != section {
            section = &setting.section;
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}[{section}]");
        }
        let line = match &setting.value {
            Some(value) => format!("{} = {}", setting.key, toml_text(value)),
            None => format!("# {} is not set", setting.key),
        };
        let pad = ORIGIN_COLUMN.saturating_sub(line.chars().count()).max(2);
        let _ = writeln!(out, "{line}{:pad$}# {}", "", setting.origin);
    }
    out
}

/// The same as JSON: `{"config": {"camera": {"gate": {"url": {"value": …, "origin": …}}}}, "warnings": […]}`.
pub fn to_json(loaded: &Loaded) -> Json {
    let mut config = Map::new();
    for setting in loaded.origins.iter() {
        if let Some(table) = table_at(&mut config, &setting.section) {
            table.insert(setting.key.to_owned(), json_of(setting));
        }
    }
    let warnings: Vec<Json> = loaded.warnings.iter().map(problem_json).collect();
    json!({ "config": config, "warnings": warnings })
}

fn json_of(setting: &Setting) -> Json {
    json!({ "value": setting.value, "origin": setting.origin.to_string() })
}

/// One mistake or warning: `{"severity", "file", "line", "column", "variable", "message", "hint"}`.
pub fn problem_json(problem: &Problem) -> Json {
    let (file, line, column, variable) = match &problem.location {
        Location::File { name, line, column } => (Some(name), Some(line), Some(column), None),
        Location::WholeFile { name } => (Some(name), None, None, None),
        Location::Variable { name } => (None, None, None, Some(name)),
        Location::Nowhere => (None, None, None, None),
    };
    json!({
        "severity": problem.severity.to_string(),
        "file": file, "line": line, "column": column, "variable": variable,
        "message": problem.message, "hint": problem.hint,
    })
}

fn table_at<'m>(root: &'m mut Map<String, Json>, section: &str) -> Option<&'m mut Map<String, Json>> {
    section.split('.').try_fold(root, |table, name| {
        table.entry(name).or_insert_with(|| Json::Object(Map::new())).as_object_mut()
    })
}

/// JSON as TOML, tables inline.
fn toml_text(value: &Json) -> String {
    match value {
        Json::String(text) => toml_string(text),
        Json::Array(values) => {
            let values: Vec<_> = values.iter().map(toml_text).collect();
            format!("[{}]", values.join(", "))
        }
        Json::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{} = {}", toml_string(key), toml_text(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

fn toml_string(text: &str) -> String {
    let mut out = String::from("\"");
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ch if ch.is_control() => _ = write!(out, "\\u{:04X}", ch as u32),
            ch => out.push(ch),
        }
    }
    out.push('"');
    out
}
