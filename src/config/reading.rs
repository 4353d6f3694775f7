//! Reads tables key by key: checks each value, remembers where it came from, collects every mistake.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value as Json;

use super::measure;
use super::nearest::did_you_mean;
use super::problem::{MOST_PROBLEMS, Problem, Severity};
use super::source::{Place, SourceKind, Sources};
use super::tree::{Node, Table, Value};
use super::{Demands, Origin, Setting};

/// What is collected while the tree is read.
pub(super) struct Reading {
    /// All texts.
    pub sources: Sources,
    /// Mistakes and warnings so far.
    pub problems: Vec<Problem>,
    /// Every value with its origin, in the order of the report.
    pub settings: Vec<Setting>,
    /// What is a mistake for this sub-command.
    pub demands: Demands,
}

impl Reading {
    /// Reports a mistake at a place, unless a syntax error makes that place guesswork.
    pub fn error(&mut self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.push(place, Severity::Error, message.into(), hint, false);
    }

    /// The same for a key whose value must not be shown.
    pub fn error_at_key(&mut self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.push(place, Severity::Error, message.into(), hint, true);
    }

    /// Reports what the user should know.
    pub fn warning(&mut self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.push(place, Severity::Warning, message.into(), hint, false);
    }

    /// Reports that something is missing, unless a syntax error may have swallowed it.
    pub fn missing(&mut self, place: Option<Place>, message: impl Into<String>, hint: Option<&str>) {
        if self.is_full() || self.sources.any_broken() {
            return;
        }
        match place {
            Some(place) => self.error(place, message, hint),
            None => {
                let location = super::problem::Location::Nowhere;
                let problem = Problem::whole(Severity::Error, location, message);
                self.problems.push(match hint {
                    Some(hint) => problem.with_hint(hint),
                    None => problem,
                });
            }
        }
    }

    fn push(
        &mut self,
        place: Place,
        severity: Severity,
        message: String,
        hint: Option<&str>,
        key_only: bool,
    ) {
        if self.is_full() || self.sources.is_broken_at(place) {
            return;
        }
        let problem = Problem::at(&self.sources, place, severity, message, key_only);
        self.problems.push(match hint {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        });
    }

    /// True when further mistakes would not be collected. One error is always among them, so that no
    /// number of warnings lets a wrong configuration through.
    pub fn is_full(&self) -> bool {
        let is_error = |problem: &Problem| problem.severity == Severity::Error;
        self.problems.len() >= MOST_PROBLEMS && self.problems.iter().any(is_error)
    }

    /// Where a value was set.
    pub fn origin(&self, node: &Node) -> Origin {
        let source = self.sources.get(node.place.source);
        match source.kind {
            SourceKind::Variable => Origin::Variable(source.name.clone()),
            SourceKind::File => {
                let line = source.line_and_column(node.place.start).0;
                Origin::File { name: source.short_name.clone(), line }
            }
        }
    }
}

/// A wrong value: the end of a sentence that begins with its key.
pub(super) type Wrong = String;

/// One table being read. [`Section::finish`] reports the keys nobody asked for.
pub(super) struct Section<'r, 't> {
    /// Where everything is collected.
    pub reading: &'r mut Reading,
    /// `detector`, `camera.gate`, …
    pub name: String,
    /// Where the table is, for what is missing in it.
    pub header: Option<Place>,
    own: Option<&'t Table>,
    beneath: Option<&'t Table>,
    known: BTreeSet<&'static str>,
    /// Settings are recorded only where they take effect: not in `[defaults]` itself.
    records: bool,
}

impl<'r, 't> Section<'r, 't> {
    /// A section over the node of its table, if there is one.
    pub fn new(reading: &'r mut Reading, name: impl Into<String>, node: Option<&'t Node>) -> Self {
        let name = name.into();
        let own = match node {
            Some(Node { value: Value::Table(table), .. }) => Some(table),
            Some(node) => {
                let message = format!("`{name}` is a table of settings, not {}", node.value.kind());
                reading.error_at_key(
                    node.key_place,
                    message,
                    Some(&format!("write [{name}] on its own line")),
                );
                None
            }
            None => None,
        };
        let header = node.map(|node| node.key_place);
        Self { reading, name, header, own, beneath: None, known: BTreeSet::new(), records: true }
    }

    /// Lays the section over defaults.
    pub fn over(mut self, beneath: Option<&'t Table>) -> Self {
        self.beneath = beneath;
        self
    }

    /// Checks only; nothing is recorded.
    pub fn silent(mut self) -> Self {
        self.records = false;
        self
    }

    /// The node of a key, in the table itself or beneath it.
    pub fn find(&mut self, key: &'static str) -> Option<&'t Node> {
        self.known.insert(key);
        self.find_own(key).or_else(|| self.beneath.and_then(|table| table.get(key)))
    }

    /// The node of a key in the table itself.
    pub fn find_own(&mut self, key: &'static str) -> Option<&'t Node> {
        self.known.insert(key);
        self.own.and_then(|table| table.get(key))
    }

    /// Records a value for the report.
    pub fn record(&mut self, key: &'static str, value: Option<Json>, origin: Origin) {
        if self.records {
            self.reading.settings.push(Setting { section: self.name.clone(), key, value, origin });
        }
    }

    /// Reads one key: `parse` judges the value, `show` says how it is reported.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, Wrong>,
        show: impl FnOnce(&T) -> Option<Json>,
    ) -> T {
        let (value, origin) = match self.find(key) {
            None => (default, Origin::Default),
            Some(node) => match parse(node) {
                Ok(value) => (value, self.reading.origin(node)),
                Err(wrong) => {
                    self.reading.error(node.place, format!("`{key}` {wrong}"), None);
                    return default;
                }
            },
        };
        self.record(key, show(&value), origin);
        value
    }

    /// A text that is not empty.
    pub fn text(&mut self, key: &'static str, default: Option<String>) -> Option<String> {
        self.read(key, default, |node| text_of(node).map(Some), |text| text.clone().map(Json::from))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let parse = |node: &Node| match node.value {
            Value::Boolean(value) => Ok(value),
            _ => Err(format!("must be true or false (without quotes), not {}", node.value.kind())),
        };
        self.read(key, default, parse, |value| Some(Json::from(*value)))
    }

    /// A duration with its unit.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |node: &Node| duration_of(node, &range);
        self.read(key, default, parse, |value| Some(Json::from(measure::show_duration(*value))))
    }

    /// A whole number.
    pub fn integer(&mut self, key: &'static str, default: i64, range: RangeInclusive<i64>) -> i64 {
        self.read(key, default, |node| integer_of(node, &range), |value| Some(Json::from(*value)))
    }

    /// A size with its unit, in bytes.
    pub fn size(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let parse = |node: &Node| size_of(node, &range);
        self.read(key, default, parse, |value| Some(Json::from(measure::show_size(*value))))
    }

    /// One of a few words.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&'static str, T)],
    ) -> T {
        let parse = |node: &Node| choice_of(node, choices);
        let show =
            |value: &T| choices.iter().find(|(_, known)| known == value).map(|(name, _)| Json::from(*name));
        self.read(key, default, parse, show)
    }

    /// Reports every key that nobody asked for. `elsewhere` says for a key which section it belongs to.
    pub fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) {
        for (key, node) in self.own.into_iter().flatten() {
            if self.known.contains(key.as_str()) || self.reading.is_full() {
                continue;
            }
            if let Some(advice) = elsewhere(key) {
                let message = format!("`{}` {advice}", shown_key(key));
                self.reading.error_at_key(node.key_place, message, None);
                continue;
            }
            let known: Vec<_> = self.known.iter().copied().collect();
            let guess = did_you_mean(key, known.iter().copied());
            let hint = guess.is_empty().then(|| format!("known here: {}", known.join(", ")));
            let message = format!("unknown key `{}` in [{}]{guess}", shown_key(key), self.name);
            self.reading.error_at_key(node.key_place, message, hint.as_deref());
        }
    }
}

/// A key as a message may quote it.
pub(super) fn shown_key(key: &str) -> String {
    key.chars().take(64).map(|ch| if ch.is_control() { '\u{fffd}' } else { ch }).collect()
}

/// A text that is not empty; numbers from the environment count as text.
pub(super) fn text_of(node: &Node) -> Result<String, Wrong> {
    let text = match (&node.value, &node.raw) {
        (Value::Text(text), _) => text,
        (_, Some(raw)) => raw,
        _ => return Err(format!("must be a text in quotes, not {}", node.value.kind())),
    };
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.contains('\0') {
        return Err("must not contain a zero byte".to_owned());
    }
    Ok(text.clone())
}

/// A whole number in a range.
pub(super) fn integer_of(node: &Node, range: &RangeInclusive<i64>) -> Result<i64, Wrong> {
    let expected = || format!("must be a whole number from {} to {}", range.start(), range.end());
    match node.value {
        Value::Integer(value, _) => {
            i64::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(expected)
        }
        _ => Err(format!("{}, not {}", expected(), node.value.kind())),
    }
}

/// A number in a range; whole numbers are welcome.
pub(super) fn float_of(node: &Node, range: &RangeInclusive<f64>) -> Result<f64, Wrong> {
    let expected = || format!("must be a number from {} to {}", range.start(), range.end());
    match node.value {
        Value::Integer(value, _) => Ok(value as f64),
        Value::Float(value) => Ok(value),
        _ => Err(format!("{}, not {}", expected(), node.value.kind())),
    }
    .and_then(|value| if range.contains(&value) { Ok(value) } else { Err(expected()) })
}

/// A duration in a range.
pub(super) fn duration_of(node: &Node, range: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let value = match &node.value {
        Value::Text(text) => measure::parse_duration(text)?,
        Value::Integer(number, 10) if *number >= 0 => measure::parse_duration(&number.to_string())?,
        _ => return Err("must be a duration in quotes, like \"500ms\", \"5s\" or \"2min\"".to_owned()),
    };
    if range.contains(&value) {
        return Ok(value);
    }
    let [low, high] = [range.start(), range.end()].map(|end| measure::show_duration(*end));
    Err(format!("must be from {low} to {high}"))
}

/// A size in a range, in bytes.
pub(super) fn size_of(node: &Node, range: &RangeInclusive<u64>) -> Result<u64, Wrong> {
    let value = match &node.value {
        Value::Text(text) => measure::parse_size(text)?,
        Value::Integer(number, 10) if *number >= 0 => measure::parse_size(&number.to_string())?,
        _ => return Err("must be a size in quotes, like \"600MiB\" or \"1GiB\"".to_owned()),
    };
    if range.contains(&value) {
        return Ok(value);
    }
    let [low, high] = [range.start(), range.end()].map(|end| measure::show_size(*end));
    Err(format!("must be from {low} to {high}"))
}

/// One of a few words.
pub(super) fn choice_of<T: Copy>(node: &Node, choices: &[(&'static str, T)]) -> Result<T, Wrong> {
    let names = || choices.iter().map(|(name, _)| *name);
    let list = || names().collect::<Vec<_>>().join(", ");
    let Value::Text(text) = &node.value else {
        return Err(format!("must be one of {} (in quotes), not {}", list(), node.value.kind()));
    };
    match choices.iter().find(|(name, _)| name == text) {
        Some((_, value)) => Ok(*value),
        None => Err(format!("must be one of {}{}", list(), did_you_mean(text, names()))),
    }
}

/// True if a node is the given word.
pub(super) fn is_word(node: &Node, word: &str) -> bool {
    matches!(&node.value, Value::Text(text) if text == word)
}
