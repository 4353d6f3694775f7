//! What must not be shown of a line of configuration, and of a URL.
//!
//! Lines are judged as text, not as TOML: they are mostly shown because they are broken. When in doubt
//! more is hidden than would be needed.

use std::ops::Range;

/// Parts of a key that make its value secret. Short on purpose: misspelt keys should match as well.
const SECRET_WORDS: [&str; 9] = ["pas", "pwd", "psw", "secret", "token", "cred", "auth", "login", "kennw"];

/// Keys in the path or query of a URL whose values cameras take as passwords.
const SECRET_PARAMETERS: [&str; 7] = ["password", "passwd", "pass", "pwd", "psw", "token", "secret"];

/// True for names that suggest a secret value.
pub(super) fn is_secret_name(name: &str) -> bool {
    secret_word_end(&name.to_ascii_lowercase()).is_some()
}

fn secret_word_end(lower: &str) -> Option<usize> {
    SECRET_WORDS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min()
}

/// The byte ranges to hide in one line of a file, in order and apart.
pub(super) fn secret_ranges(line: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    if let Some((key, value)) = line.split_once('=')
        && !is_known_key(key)
        && !value.trim_start().starts_with('{')
    {
        ranges.push(value_start(line, key.len() + 1)..line.len());
    }
    if !is_header(line)
        && let Some(word_end) = secret_word_end(&line.to_ascii_lowercase())
    {
        // ASCII lower-casing keeps byte offsets.
        let value = line[word_end..].find('=').map_or(word_end, |at| word_end + at + 1);
        ranges.push(value_start(line, value)..line.len());
    }
    if let Some((key, _)) = line.split_once('=')
        && key.trim_end().ends_with("url")
    {
        ranges.extend(bare_password(line, key.len()));
    }
    ranges.extend(url_ranges(line));
    apart(ranges)
}

/// `[camera.gate]`: only names.
pub(super) fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[') && !line.contains('=')
}

/// The value of an unknown key could be anything; `camera.gate.url` counts as `url`.
fn is_known_key(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or_default().trim();
    let of_all = super::KEYS.iter().map(|(_, keys)| *keys).chain([super::ZONE_KEYS, super::LINE_KEYS]);
    of_all.into_iter().any(|keys| keys.contains(&last))
}

fn value_start(line: &str, from: usize) -> usize {
    from + line[from..].len() - line[from..].trim_start().len()
}

/// Sorts ranges and joins those that touch.
pub(super) fn apart(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The byte ranges to hide in the value of an environment variable.
pub(super) fn secret_ranges_of_value(variable: &str, value: &str) -> Vec<Range<usize>> {
    if is_secret_name(variable) {
        return std::iter::once(0..value.len()).collect();
    }
    let mut ranges = url_ranges(value);
    if variable.to_ascii_lowercase().ends_with("url") {
        ranges.extend(bare_password(value, 0));
    }
    apart(ranges)
}

/// What follows a colon in a URL without a scheme, unless it is a port: `admin:hunter2/stream`.
fn bare_password(text: &str, from: usize) -> Option<Range<usize>> {
    if text.contains("://") {
        return None;
    }
    let ends_word = |ch: char| matches!(ch, '/' | '?' | '#' | '"' | '\'') || ch.is_whitespace();
    let is_password = |colon: &usize| {
        let word = text[colon + 1..].split(ends_word).next().unwrap_or_default();
        !word.is_empty() && word.parse::<u16>().is_err()
    };
    let colon = text[from..].match_indices(':').map(|(at, _)| from + at).find(is_password)?;
    Some(colon + 1..text.len())
}

/// User, password and secret parameters of the URLs in a text.
fn url_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let scheme_end = text.find("://").map(|at| at + 3);
    if let Some(at_sign) = text.rfind('@') {
        let quote = || text.find(['"', '\'']).map(|at| at + 1);
        let start = scheme_end.or_else(quote).or_else(|| text.find('=').map(|at| at + 1)).unwrap_or(0);
        if start < at_sign {
            ranges.push(start..at_sign);
        }
    }
    let authority = scheme_end.map(|start| text.rfind('@').map_or(start, |at_sign| start.max(at_sign + 1)));
    if let Some(start) = authority
        && let Some(colon) = false_port(&text[start..])
    {
        ranges.push(start + colon + 1..text.len());
    }
    if let Some(start) = scheme_end {
        ranges.extend(parameter_ranges(&text[start..]).map(|range| start + range.start..start + range.end));
    }
    ranges
}

/// Where the colon is whose right side is no port, as in `admin:hunter2` with the host forgotten.
fn false_port(after_scheme: &str) -> Option<usize> {
    let end = after_scheme.find(['/', '?', '#', '"', '\'']).unwrap_or(after_scheme.len());
    let authority = &after_scheme[..end];
    let from = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = from + authority[from..].find(':')?;
    let port = &authority[colon + 1..];
    let is_port = port.parse::<u16>().is_ok();
    (!port.is_empty() && !is_port).then_some(colon)
}

fn parameter_ranges(text: &str) -> impl Iterator<Item = Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for word in SECRET_PARAMETERS {
        let mut known_to = 0;
        for (at, _) in lower.match_indices(word) {
            let after = at + word.len();
            if after < known_to {
                continue;
            }
            let Some(equals) = lower[after..].starts_with('=').then_some(after + 1) else { continue };
            let end = text[equals..].find(['&', ';', '"', '\'']).map_or(text.len(), |length| equals + length);
            ranges.push(equals..end);
            known_to = end;
        }
    }
    ranges.into_iter()
}

/// A URL as it may be shown: without user and password, secret parameters replaced.
pub(super) fn show_url(url: &str) -> String {
    replace(url, apart(url_ranges(url)))
}

/// A free text as it may be shown: URLs as in [`show_url`], and nothing after a word like `password`.
pub(super) fn show_text(text: &str) -> String {
    replace(text, secret_ranges(text))
}

fn replace(text: &str, ranges: Vec<Range<usize>>) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        shown.push_str(&text[from..range.start]);
        shown.push_str("***");
        from = range.end;
    }
    shown.push_str(&text[from..]);
    shown
}

/// True if the path or query of a URL carries something that looks like a password.
pub(super) fn has_secret_parameter(url: &str) -> bool {
    parameter_ranges(url).next().is_some()
}

/// For every line: is it the continuation of a value over several lines that may be secret?
///
/// All lines inside multi-line strings count, and so do lines without `=` below a key with a secret name.
pub(super) fn continuation_lines(text: &str) -> Vec<bool> {
    let mut open: Option<&str> = None;
    let mut secret_key = false;
    let mut hidden = Vec::new();
    for line in text.split('\n') {
        let inside = open.is_some();
        if !inside {
            let trimmed = line.trim_start();
            if trimmed.starts_with('[') && !trimmed.contains('=') && !secret_key {
                secret_key = false;
            } else if let Some(equals) = line.find('=') {
                secret_key = is_secret_name(&line[..equals]);
            }
        }
        hidden.push(inside || (secret_key && !line.contains('=')));
        open = string_state_after(line, open);
    }
    hidden
}

/// Which multi-line string is open at the end of a line.
fn string_state_after<'a>(line: &'a str, mut open: Option<&'a str>) -> Option<&'a str> {
    let mut rest = line;
    loop {
        if let Some(quotes) = open {
            let Some(at) = closing(rest, quotes) else { return open };
            rest = &rest[at + 3..];
            open = None;
        }
        let at = rest.find(['"', '\'', '#'])?;
        rest = &rest[at..];
        if rest.starts_with('#') {
            return None;
        }
        let quotes = ["\"\"\"", "'''"].into_iter().find(|quotes| rest.starts_with(quotes));
        if quotes.is_some() {
            rest = &rest[3..];
            open = quotes;
        } else {
            let quote = &rest[..1];
            let end = closing(&rest[1..], quote)?;
            rest = &rest[1 + end + 1..];
        }
    }
}

/// Where a string ends; a backslash protects what follows it in basic strings.
fn closing(text: &str, quotes: &str) -> Option<usize> {
    let mut skip = false;
    for (at, ch) in text.char_indices() {
        if skip {
            skip = false;
        } else if ch == '\\' && quotes.starts_with('"') {
            skip = true;
        } else if text[at..].starts_with(quotes) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        replace(line, secret_ranges(line))
    }

    #[test]
    fn values_of_secret_keys_are_hidden_also_when_misspelt_or_unquoted() {
        for line in [
            "password = \"hunter2\"",
            "passwrod = hunter2",
            "  pasword=hunter2",
            "{ password : \"hunter2\" }",
        ] {
            assert!(!masked(line).contains("hunter2"), "{line} -> {}", masked(line));
        }
        assert_eq!(masked("password = \"hunter2\""), "password = ***");
    }

    #[test]
    fn user_information_is_hidden_in_every_shape_of_url() {
        for line in [
            "url = \"rtsp://admin:hunter2@10.0.0.2/s\"",
            "url = \"rtsp://admin:hun/hunter2@ter@10.0.0.2/s\"",
            "url = \"rtsp:/admin:hunter2@10.0.0.2/s\"",
            "url = \"rtsp:/admin:hunter2/s\"",
            "url = \"admin:hunter2/s\"",
            "url = \"admin:hunter2@10.0.0.2/s\"",
            "url = rtsp://admin:hunter2@10.0.0.2/s",
            "url = \"rtsp://admin:hunter2",
            "url = \"rtsp://admin:hunter2/stream\"",
            "url = \"rtsp://10.0.0.2/s?user=a&password=hunter2&x=1\"",
            "url = \"rtsp://10.0.0.2/user=admin_password=hunter2_channel=1\"",
        ] {
            assert!(!masked(line).contains("hunter2"), "{line} -> {}", masked(line));
        }
        assert_eq!(masked("url = \"rtsp://[::1]:8554/s\""), "url = \"rtsp://[::1]:8554/s\"");
        assert_eq!(masked("url = \"rtsp://10.0.0.2:554/s\""), "url = \"rtsp://10.0.0.2:554/s\"");
        assert_eq!(masked("url = \"10.0.0.2:554/s\""), "url = \"10.0.0.2:554/s\"");
    }

    #[test]
    fn table_headers_are_not_hidden() {
        assert_eq!(masked("[camera.passage]"), "[camera.passage]");
    }

    #[test]
    fn lines_inside_long_strings_and_lists_below_secret_keys_are_hidden() {
        let text = "a = 1\nnote = '''\nhunter2\n'''\npassword = [\n  \"hunter2\"\n]\nb = [\n 1\n]\n";
        let hidden = continuation_lines(text);
        let shown: Vec<_> = text.split('\n').zip(&hidden).filter(|(_, hidden)| !**hidden).collect();
        assert!(shown.iter().all(|(line, _)| !line.contains("hunter2")), "{shown:?}");
        assert!(shown.iter().any(|(line, _)| *line == " 1"), "{shown:?}");
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_string() {
        assert_eq!(string_state_after(r#"a = """x\""""#, None), Some("\"\"\""));
        assert_eq!(string_state_after(r#"a = """x" # y""""#, None), None);
        assert_eq!(string_state_after("a = 1 # \"\"\"", None), None);
    }

    #[test]
    fn shown_urls_lose_their_secret_parameters_and_nothing_else() {
        assert_eq!(show_url("rtsp://h:554/a?x=1&pwd=abc&y=2"), "rtsp://h:554/a?x=1&pwd=***&y=2");
        assert_eq!(show_url("rtsp://[::1]:554/a"), "rtsp://[::1]:554/a");
    }
}
