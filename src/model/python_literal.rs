//! The one piece of Python that models carry: Ultralytics writes its labels as the literal of a dict or
//! list, such as `{0: 'person', 1: "driver's seat", 2: '\u732b'}`.

use std::iter::Peekable;
use std::str::Chars;

use super::labels::MAX_LABELS;

/// The labels of a dict with keys 0..n in any order, or of a list; `None` for anything else.
pub(super) fn labels(text: &str) -> Option<Vec<String>> {
    let mut chars = text.trim().chars().peekable();
    let (close, keyed) = match chars.next()? {
        '{' => ('}', true),
        '[' => (']', false),
        '(' => (')', false),
        _ => return None,
    };
    let mut entries: Vec<(usize, String)> = Vec::new();
    loop {
        skip_space(&mut chars);
        if chars.next_if_eq(&close).is_some() {
            break;
        }
        let key = if keyed { key(&mut chars)? } else { entries.len() };
        entries.push((key, string(&mut chars)?));
        if entries.len() > MAX_LABELS {
            return None;
        }
        skip_space(&mut chars);
        if chars.next_if_eq(&',').is_none() && chars.peek() != Some(&close) {
            return None;
        }
    }
    entries.sort_by_key(|(key, _)| *key);
    let complete = entries.iter().enumerate().all(|(index, (key, _))| index == *key);
    (complete && chars.next().is_none()).then(|| entries.into_iter().map(|(_, name)| name).collect())
}

fn skip_space(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

/// `12:` or `'12':`
fn key(chars: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let quoted = matches!(chars.peek(), Some('\'' | '"'));
    let digits = if quoted {
        string(chars)?
    } else {
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits
    };
    skip_space(chars);
    chars.next_if_eq(&':')?;
    skip_space(chars);
    digits.parse().ok()
}

fn string(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let quote = chars.next_if(|c| matches!(c, '\'' | '"'))?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\\' => text.push(escape(chars)?),
            c => text.push(c),
        }
    }
}

/// What follows a backslash (Python reference, "String and Bytes literals").
fn escape(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let digits = match chars.next()? {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        c @ ('\\' | '\'' | '"') => return Some(c),
        _ => return None,
    };
    let hex: String = chars.by_ref().take(digits).collect();
    let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits)?;
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dicts_and_lists_in_every_spelling() {
        let expected = ["person", "driver's seat", "猫", "a\"b"];
        for text in [
            r#"{0: 'person', 1: "driver's seat", 2: '猫', 3: 'a"b'}"#,
            r#"{ 3:'a\"b',2:'\u732b',1:'driver\'s seat',0:'person', }"#,
            r#"{"0": "person", "1": "driver's seat", "2": "猫", "3": "a\"b"}"#,
            r#"['person', "driver's seat", '\u732b', 'a"b']"#,
        ] {
            assert_eq!(labels(text).unwrap_or_else(|| panic!("{text}")), expected);
        }
    }

    #[test]
    fn anything_else_is_none_and_never_a_guess() {
        for text in [
            "",
            "person",
            "{",
            "{0}",
            "{0: 'a'",
            "{0: 'a' 1: 'b'}",
            "{1: 'a'}",
            "{0: 'a', 0: 'b'}",
            "{0: 1}",
            "{0: 'a'} x",
            r"{0: '\q'}",
            r"{0: '\u12'}",
            "{99999999999999999999: 'a'}",
        ] {
            assert_eq!(labels(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_makes_it_panic() {
        proptest::proptest!(|(text in r#"[\[{(]?[0-9:,'"\\ua }\])猫]{0,40}"#)| {
            let _ = labels(&text);
        });
    }
}
