//! Where text came from: files and environment variables, places in them, and the lines we quote.

use std::ops::Range;

use super::masking;

/// Index of a [`Source`] in [`Sources`].
pub(super) type SourceIndex = usize;

/// A stretch of bytes of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which source.
    pub source: SourceIndex,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Place {
    /// A place from a byte range.
    pub fn new(source: SourceIndex, span: Range<usize>) -> Self {
        Self { source, start: span.start, end: span.end.max(span.start) }
    }
}

/// What kind of thing a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// A TOML document.
    File,
    /// The value of one environment variable.
    Variable,
}

/// One text that configuration was read from. Has no `Debug`: the text may hold a password.
pub(super) struct Source {
    /// As the user named it: a path, or the variable's name.
    pub name: String,
    /// The name inside the configuration folder, for the origin column: `conf.d/10-site.toml`.
    pub short_name: String,
    /// File or variable.
    pub kind: SourceKind,
    text: String,
    lines: Vec<Line>,
    /// Lines that have a syntax error; what they mean is guesswork.
    broken_lines: Vec<usize>,
    /// A table header has a syntax error, so that nothing below it can be judged.
    pub broken_header: bool,
}

struct Line {
    span: Range<usize>,
    /// Continues a value that may be secret.
    hidden: bool,
}

impl Source {
    /// A TOML document.
    pub fn file(name: impl Into<String>, short_name: impl Into<String>, text: String) -> Self {
        let hidden = masking::continuation_lines(&text);
        let lines = line_spans(&text).zip(hidden).map(|(span, hidden)| Line { span, hidden }).collect();
        Self {
            name: name.into(),
            short_name: short_name.into(),
            kind: SourceKind::File,
            text,
            lines,
            broken_lines: Vec::new(),
            broken_header: false,
        }
    }

    /// The value of an environment variable.
    pub fn variable(name: impl Into<String>, value: String) -> Self {
        let name = name.into();
        // A value with control characters is not worth quoting, and could split a password over lines.
        let hidden = value.chars().any(char::is_control);
        let lines = vec![Line { span: 0..value.len(), hidden }];
        Self {
            short_name: name.clone(),
            name,
            kind: SourceKind::Variable,
            text: value,
            lines,
            broken_lines: Vec::new(),
            broken_header: false,
        }
    }

    /// The text of a place, for keys and for values that are known to be no secret.
    pub fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    fn line_index(&self, offset: usize) -> usize {
        self.lines.partition_point(|line| line.span.start <= offset).saturating_sub(1)
    }

    /// Remembers that the line of `offset` has a syntax error.
    pub fn break_line(&mut self, offset: usize) {
        let index = self.line_index(offset);
        self.broken_lines.push(index);
        let line = &self.text[self.lines[index].span.clone()];
        self.broken_header |= line.trim_start().starts_with('[');
    }

    fn is_broken_at(&self, offset: usize) -> bool {
        self.broken_header || self.broken_lines.contains(&self.line_index(offset))
    }

    /// 1-based line, and column in characters.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let index = self.line_index(offset);
        let start = self.lines[index].span.start;
        let offset = floor_char_boundary(&self.text, offset.max(start));
        (index + 1, self.text[start..offset].chars().count() + 1)
    }
}

/// All sources, in the order of their layers.
#[derive(Default)]
pub(super) struct Sources {
    all: Vec<Source>,
}

impl Sources {
    /// Adds one and says its index.
    pub fn push(&mut self, source: Source) -> SourceIndex {
        self.all.push(source);
        self.all.len() - 1
    }

    /// The source of an index that [`Sources::push`] gave.
    pub fn get(&self, index: SourceIndex) -> &Source {
        &self.all[index]
    }

    /// The same, to mark broken lines.
    pub fn get_mut(&mut self, index: SourceIndex) -> &mut Source {
        &mut self.all[index]
    }

    /// True where a syntax error makes the meaning of a place guesswork.
    pub fn is_broken_at(&self, place: Place) -> bool {
        self.get(place.source).is_broken_at(place.start)
    }

    /// True if any source has a syntax error: then what seems to be missing may only be misspelt.
    pub fn any_broken(&self) -> bool {
        self.all.iter().any(|source| !source.broken_lines.is_empty())
    }

    /// The name a message about a second place uses: `config.toml:12`, or a variable's name.
    pub fn describe(&self, place: Place) -> String {
        let source = self.get(place.source);
        match source.kind {
            SourceKind::File => format!("{}:{}", source.short_name, source.line_and_column(place.start).0),
            SourceKind::Variable => source.name.clone(),
        }
    }

    /// The quoted line of a place, with everything secret in it hidden. With `key_only` the line ends
    /// after the place: the value of an unknown key could be anything.
    pub fn excerpt(&self, place: Place, key_only: bool) -> Option<Excerpt> {
        let source = self.get(place.source);
        let line = &source.lines[source.line_index(place.start)];
        let text = &source.text[line.span.clone()];
        if text.len() > EXCERPT_LINE_BYTES {
            return None;
        }
        let mut secret = match (source.kind, line.hidden) {
            (_, true) => std::iter::once(0..text.len()).collect(),
            (SourceKind::File, false) => masking::secret_ranges(text),
            (SourceKind::Variable, false) => masking::secret_ranges_of_value(&source.name, text),
        };
        let at = place.start.saturating_sub(line.span.start).min(text.len());
        let mark = at..place.end.saturating_sub(line.span.start).clamp(at, text.len());
        if key_only {
            match source.kind {
                SourceKind::Variable => return None,
                SourceKind::File if masking::is_header(text) => {}
                SourceKind::File => {
                    let value = text[mark.end..].find('=').map_or(mark.end, |equals| mark.end + equals + 1);
                    secret.push(value..text.len());
                    return Some(Excerpt::new(text, &masking::apart(secret), mark).ending_with_dots());
                }
            }
        }
        Some(Excerpt::new(text, &masking::apart(secret), mark))
    }
}

/// A source line to show: printable, shortened, secrets replaced, with the columns of the carets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line.
    pub text: String,
    /// Characters before the first caret.
    pub caret_start: usize,
    /// Carets, at least 1.
    pub caret_count: usize,
}

/// Longer lines are not quoted.
const EXCERPT_LINE_BYTES: usize = 4096;
const EXCERPT_CHARS: usize = 120;
const CONTEXT_CHARS: usize = 60;

impl Excerpt {
    /// `secret` in order and apart, `mark` the bytes under the carets.
    fn new(text: &str, secret: &[Range<usize>], mark: Range<usize>) -> Self {
        let mut shown: Vec<char> = Vec::new();
        let (mut caret_start, mut caret_end) = (None, None);
        let mut secret = secret.iter().peekable();
        let mut hidden: Option<(usize, usize)> = None; // end in bytes, column of the stars
        for (at, ch) in text.char_indices() {
            if let Some(range) = secret.next_if(|range| range.start <= at) {
                hidden = Some((range.end, shown.len()));
                shown.extend("***".chars());
            }
            hidden = hidden.filter(|(end, _)| at < *end);
            let column = hidden.map_or(shown.len(), |(_, column)| column);
            if at >= mark.start && caret_start.is_none() {
                caret_start = Some(column);
            }
            if at >= mark.end && caret_end.is_none() {
                caret_end = Some(if hidden.is_some() { column + 3 } else { column });
            }
            if hidden.is_none() {
                shown.push(printable(ch));
            }
        }
        let caret_start = caret_start.unwrap_or(shown.len());
        let caret_end = caret_end.unwrap_or(shown.len()).max(caret_start + 1);
        Self::cut(&shown, caret_start, caret_end - caret_start)
    }

    /// The last secret range ends the line: shows it as left out instead of hidden.
    fn ending_with_dots(mut self) -> Self {
        if let Some(rest) = self.text.strip_suffix("***") {
            self.text = format!("{} …", rest.trim_end());
        }
        self
    }

    fn cut(shown: &[char], caret_start: usize, caret_count: usize) -> Self {
        let length = shown.iter().rposition(|ch| *ch != ' ').map_or(0, |last| last + 1);
        if length <= EXCERPT_CHARS {
            return Self { text: shown[..length].iter().collect(), caret_start, caret_count };
        }
        let first = caret_start.saturating_sub(CONTEXT_CHARS);
        let last = (first + EXCERPT_CHARS).min(length);
        let mut text: String = shown[first.min(last)..last].iter().collect();
        let mut caret_start = caret_start - first;
        if first > 0 {
            text.insert(0, '…');
            caret_start += 1;
        }
        if last < length {
            text.push('…');
        }
        let caret_count = caret_count.min(EXCERPT_CHARS.saturating_sub(caret_start)).max(1);
        Self { text, caret_start, caret_count }
    }
}

/// Keeps terminal escapes and tabs out of what we print.
fn printable(ch: char) -> char {
    match ch {
        '\t' | '\r' => ' ',
        ch if ch.is_control() => '\u{fffd}',
        ch => ch,
    }
}

fn line_spans(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split('\n').map(move |line| {
        let span = start..start + line.len();
        start = span.end + 1;
        span
    })
}

fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, span: Range<usize>) -> Excerpt {
        let mut sources = Sources::default();
        let source = sources.push(Source::file("a.toml", "a.toml", text.to_owned()));
        sources.excerpt(Place::new(source, span), false).expect("a line")
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::file("a", "a", "ü = 1\nb = 2\n".to_owned());
        assert_eq!(source.line_and_column(0), (1, 1));
        assert_eq!(source.line_and_column(3), (1, 3));
        assert_eq!(source.line_and_column(7), (2, 1));
        assert_eq!(source.line_and_column(13), (3, 1));
        assert_eq!(source.line_and_column(99), (3, 1));
    }

    #[test]
    fn the_caret_follows_the_value_when_a_secret_before_it_is_replaced() {
        let text = "url = \"rtsp://admin:hunter2@host/\", slots = 99";
        let at = text.find("99").expect("there");
        let shown = excerpt(text, at..at + 2);
        assert_eq!(shown.text, "url = \"rtsp://***@host/\", slots = 99");
        assert_eq!(shown.caret_start, shown.text.find("99").expect("there"));
        assert_eq!(shown.caret_count, 2);
    }

    #[test]
    fn a_caret_inside_a_secret_points_at_its_replacement() {
        let text = "password_env = \"hunter2\"";
        let shown = excerpt(text, 15..24);
        assert_eq!(shown.text, "password_env = ***");
        assert_eq!((shown.caret_start, shown.caret_count), (15, 3));
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&text, 500..501);
        assert!(shown.text.chars().count() < 130, "{}", shown.text);
        assert_eq!(shown.text.chars().nth(shown.caret_start), Some('X'));
    }

    #[test]
    fn terminal_escapes_are_not_passed_on() {
        assert_eq!(excerpt("model = \u{1b}[31m", 0..1).text, "model = \u{fffd}[31m");
    }
}
