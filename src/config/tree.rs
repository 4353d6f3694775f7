//! Layers of TOML and environment merged into one tree whose every value knows where it came from.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Location, MOST_PROBLEMS, Problem, Severity};
use super::source::{Place, Source, SourceIndex, Sources};

/// A table of the merged tree.
pub(super) type Table = BTreeMap<String, Node>;

/// A value with its places. Has no `Debug`: it may be a password.
#[derive(Clone)]
pub(super) struct Node {
    /// The value.
    pub value: Value,
    /// Where the value is.
    pub place: Place,
    /// Where its key is; of a table, where it first appeared.
    pub key_place: Place,
    /// The text as written, for values from the environment: whether `123` is a text or a number is
    /// known only to who reads it.
    pub raw: Option<String>,
}

/// A TOML value.
#[derive(Clone)]
pub(super) enum Value {
    /// `"…"`
    Text(String),
    /// A whole number and its radix; out of range of i128 becomes the nearest.
    Integer(i128, u32),
    /// May be infinite or not a number.
    Float(f64),
    /// `true`, `false`
    Boolean(bool),
    /// A date or time, which no key takes.
    Date,
    /// `[…]`
    List(Vec<Node>),
    /// `{…}` or `[header]`
    Table(Table),
}

impl Value {
    /// What to call it in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Integer(..) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "true or false",
            Value::Date => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// The merged tree with its sources and what went wrong on the way.
#[derive(Default)]
pub(super) struct Layers {
    /// All texts.
    pub sources: Sources,
    /// What they say together.
    pub root: Table,
    /// Syntax errors, unreadable files, misaddressed variables.
    pub problems: Vec<Problem>,
}

impl Layers {
    /// Adds a TOML document on top of what is there.
    pub fn add_document(&mut self, name: &str, short_name: &str, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let index = self.sources.push(Source::file(name, short_name, text.to_owned()));
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems = Vec::new();
        let room = MOST_PROBLEMS.saturating_sub(self.problems.len());
        for error in errors.into_iter().take(room) {
            let span = error.span().unwrap_or(text.len()..text.len());
            self.sources.get_mut(index).break_line(span.start);
            problems.push((span, error.message().to_owned()));
        }
        for (span, message) in problems {
            let key = self.sources.get(index).slice(span.clone()).to_owned();
            let (message, hint) = friendlier(&message, &key);
            let place = Place::new(index, span);
            let key_only = message.ends_with(SET_TWICE);
            let problem = Problem::at(&self.sources, place, Severity::Error, message, key_only);
            self.problems.push(match hint {
                Some(hint) => problem.with_hint(hint),
                None => problem,
            });
        }
        merge(&mut self.root, table_of(table.into_inner(), index));
    }

    /// Notes a file that could not be read.
    pub fn add_unreadable(&mut self, name: &str, message: impl Into<String>) {
        let index = self.sources.push(Source::file(name, name, String::new()));
        let location = Location::WholeFile { name: name.to_owned() };
        self.problems.push(Problem::whole(Severity::Error, location, message).in_order_of(index));
    }

    /// Adds one value from an environment variable at a path of keys.
    pub fn add_variable(&mut self, name: &str, value: &str, path: &[String]) {
        let index = self.sources.push(Source::variable(name, value.to_owned()));
        let place = Place::new(index, 0..value.len());
        let parsed = DeValue::parse(value).map(|value| value_of(value.into_inner(), index));
        let mut node = Node {
            value: parsed.unwrap_or_else(|_| Value::Text(value.to_owned())),
            place,
            key_place: place,
            raw: Some(value.to_owned()),
        };
        let Some((first, rest)) = path.split_first() else { return };
        for key in rest.iter().rev() {
            let table = Table::from([(key.clone(), node)]);
            node = Node { value: Value::Table(table), place, key_place: place, raw: None };
        }
        merge(&mut self.root, Table::from([(first.clone(), node)]));
    }

    /// Notes an environment variable that addresses nothing.
    pub fn add_lost_variable(&mut self, name: &str, message: String) {
        let index = self.sources.push(Source::variable(name, String::new()));
        let place = Place::new(index, 0..0);
        self.problems.push(Problem::at(&self.sources, place, Severity::Error, message, true));
    }
}

const SET_TWICE: &str = "is set twice in this file";

/// What the parser says, and what an author understands.
const FRIENDLIER: [(&str, &str); 12] = [
    ("string values must be quoted", "a text must be in quotes"),
    ("invalid boolean", "a text must be in quotes"),
    ("invalid basic string", "the closing \" of a text is missing"),
    ("invalid literal string", "the closing ' of a text is missing"),
    ("invalid multi-line", "the closing quotes of a text over several lines are missing"),
    ("key with no value", "a key needs = and a value"),
    ("missing value", "a value is missing after ="),
    ("unclosed table", "the closing ] of a section is missing"),
    ("unclosed array table", "the closing ]] of a section is missing"),
    ("unclosed array", "the closing ] of a list is missing"),
    ("unclosed inline table", "the closing } is missing"),
    ("recursion limit", "this is nested too deeply"),
];

/// Says what the parser found in the words of the file's author.
fn friendlier(message: &str, text: &str) -> (String, Option<&'static str>) {
    if message == "duplicate key" {
        let hint = "keep one of the two; to override a value, use a file in conf.d";
        return (format!("`{}` {SET_TWICE}", super::reading::shown_key(text)), Some(hint));
    }
    let known = FRIENDLIER
        .iter()
        .filter(|(start, _)| message.starts_with(start))
        .max_by_key(|(start, _)| start.len());
    match known {
        Some((_, words)) => {
            let hint = "numbers, true and false stand alone; everything else is written \"like this\"";
            ((*words).to_owned(), words.starts_with("a text must").then_some(hint))
        }
        None => (format!("this is not valid TOML: {message}"), None),
    }
}

fn table_of(table: DeTable<'_>, source: SourceIndex) -> Table {
    table.into_iter().map(|(key, value)| entry_of(key, value, source)).collect()
}

fn entry_of(
    key: Spanned<std::borrow::Cow<'_, str>>,
    value: Spanned<DeValue<'_>>,
    source: SourceIndex,
) -> (String, Node) {
    let key_place = Place::new(source, key.span());
    (key.into_inner().into_owned(), node_of(value, key_place))
}

fn node_of(value: Spanned<DeValue<'_>>, key_place: Place) -> Node {
    let place = Place::new(key_place.source, value.span());
    Node { value: value_of(value.into_inner(), key_place.source), place, key_place, raw: None }
}

/// Recursion is bounded by the parser's own limit on nesting.
fn value_of(value: DeValue<'_>, source: SourceIndex) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let nearest = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
            let value = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(nearest);
            Value::Integer(value, number.radix())
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(values) => {
            let node = |value: Spanned<DeValue<'_>>| {
                let place = Place::new(source, value.span());
                node_of(value, place)
            };
            Value::List(values.into_iter().map(node).collect())
        }
        DeValue::Table(table) => Value::Table(table_of(table, source)),
    }
}

/// Lays `upper` over `lower`, key by key.
fn merge(lower: &mut Table, upper: Table) {
    for (key, node) in upper {
        match (lower.get_mut(&key).map(|below| &mut below.value), node) {
            (Some(Value::Table(below)), Node { value: Value::Table(above), .. }) => merge(below, above),
            (_, node) => _ = lower.insert(key, node),
        }
    }
}
