//! Mistakes, and how they are told.

use std::collections::BTreeSet;
use std::fmt;

use super::source::{Excerpt, Place, SourceKind, Sources};

/// More mistakes than this are not collected; nobody reads them.
pub(super) const MOST_PROBLEMS: usize = 1000;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but the user should know.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a file.
    File {
        /// Path as the user gave it.
        name: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In the value of an environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// A whole file.
    WholeFile {
        /// Path as the user gave it.
        name: String,
    },
    /// The configuration as a whole.
    Nowhere,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File { name, line, column } => write!(f, "{name}:{line}:{column}: "),
            Location::Variable { name } | Location::WholeFile { name } => write!(f, "{name}: "),
            Location::Nowhere => Ok(()),
        }
    }
}

/// One mistake or warning, ready to print. It holds no secret: what may be one was replaced when the
/// problem was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Where.
    pub location: Location,
    /// What is wrong and what is expected, in one sentence.
    pub message: String,
    /// What to do, when it needs more words.
    pub hint: Option<String>,
    /// The line it is about.
    pub excerpt: Option<Excerpt>,
    /// Sorts problems in the order of the files.
    order: (usize, usize),
}

impl Problem {
    /// A problem that has no place in a text.
    pub(super) fn whole(severity: Severity, location: Location, message: impl Into<String>) -> Self {
        let order = match location {
            Location::Nowhere => (usize::MAX, 0),
            _ => (0, 0),
        };
        Self { severity, location, message: message.into(), hint: None, excerpt: None, order }
    }

    /// A problem at a place.
    pub(super) fn at(
        sources: &Sources,
        place: Place,
        severity: Severity,
        message: impl Into<String>,
        key_only: bool,
    ) -> Self {
        let source = sources.get(place.source);
        let name = source.name.clone();
        let location = match source.kind {
            SourceKind::File => {
                let (line, column) = source.line_and_column(place.start);
                Location::File { name, line, column }
            }
            SourceKind::Variable => Location::Variable { name },
        };
        Self {
            severity,
            location,
            message: message.into(),
            hint: None,
            excerpt: sources.excerpt(place, key_only),
            order: (place.source, place.start),
        }
    }

    /// Adds what to do.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a problem of a whole file where its source stands.
    pub(super) fn in_order_of(mut self, source: usize) -> Self {
        self.order = (source, 0);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.location, self.severity, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let number = match &self.location {
                Location::File { line, .. } => line.to_string(),
                _ => String::new(),
            };
            write!(f, "\n{number:>6} | {}", excerpt.text)?;
            let (blank, carets) = (" ".repeat(excerpt.caret_start), "^".repeat(excerpt.caret_count));
            write!(f, "\n       | {blank}{carets}")?;
        }
        if let Some(hint) = &self.hint {
            for line in hint.lines() {
                write!(f, "\n       {}", format!("= {line}").trim_end())?;
            }
        }
        Ok(())
    }
}

/// Sorts problems into file order and takes out repetitions.
pub(super) fn in_file_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.order);
    let mut seen = BTreeSet::new();
    problems.retain(|problem| seen.insert((problem.order, problem.message.clone())));
    problems
}

/// Every mistake in a configuration, and its warnings, in file order. Exit code 78.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// `problems` holds at least one error.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems: in_file_order(problems) }
    }

    /// Errors and warnings, in file order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Only the errors.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    fn closing_line(&self) -> String {
        let mistakes = self.errors().count();
        let mut files = BTreeSet::new();
        let mut variables = false;
        for problem in self.errors() {
            match &problem.location {
                Location::File { name, .. } | Location::WholeFile { name } => _ = files.insert(name.as_str()),
                Location::Variable { .. } => variables = true,
                Location::Nowhere => {}
            }
        }
        let mut places = Vec::new();
        if !files.is_empty() {
            places.push(plural(files.len(), "file"));
        }
        if variables {
            places.push("the environment".to_owned());
        }
        match places.is_empty() {
            true => plural(mistakes, "mistake"),
            false => format!("{} in {}", plural(mistakes, "mistake"), places.join(" and ")),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}\n")?;
        }
        f.write_str(&self.closing_line())
    }
}

impl std::error::Error for ConfigErrors {}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
