//! Keeps passwords out of every text.
//!
//! Two nets: user and password are taken out of everything that looks like a URL, and the passwords of all
//! open pipelines are taken out in every form that GStreamer writes them in.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use gstreamer::glib;

use crate::spec::Credentials;

/// What stands where a secret stood.
const MASK: &str = "***";

/// A shorter password is only masked where it stands alone: it is part of too many innocent words.
const SHORT_BYTES: usize = 4;

/// What must not be written about one pipeline.
type Forms = Arc<[String]>;

/// One entry for each open pipeline that has a password.
static SECRETS: RwLock<Vec<Forms>> = RwLock::new(Vec::new());

/// Keeps one pipeline's password known to [`scrub`].
pub(crate) struct SecretGuard(Forms);

impl SecretGuard {
    pub(crate) fn new(credentials: &Credentials) -> Self {
        let forms: Forms = forms(credentials).into();
        SECRETS.write().unwrap_or_else(PoisonError::into_inner).push(forms.clone());
        Self(forms)
    }
}

impl Drop for SecretGuard {
    fn drop(&mut self) {
        let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = secrets.iter().position(|forms| Arc::ptr_eq(forms, &self.0)) {
            secrets.swap_remove(at);
        }
    }
}

/// The password as it is, in a URL, in an HTTP Basic header, and in GStreamer's serialisation.
fn forms(credentials: &Credentials) -> Vec<String> {
    let Credentials { username, password } = credentials;
    if password.is_empty() {
        return Vec::new();
    }
    let escaped: String = password
        .chars()
        .flat_map(|character| [(!character.is_ascii_alphanumeric()).then_some('\\'), Some(character)])
        .flatten()
        .collect();
    let mut forms = vec![
        password.clone(),
        percent_encoded(password, |character| character.is_ascii()),
        percent_encoded(password, |_| true),
        glib::base64_encode(format!("{username}:{password}").as_bytes()).to_string(),
        escaped,
    ];
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

/// `text` as a URL has it. Some writers leave letters beyond ASCII as they are.
fn percent_encoded(text: &str, is_encoded: impl Fn(char) -> bool) -> String {
    let mut encoded = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || "-._~".contains(character) || !is_encoded(character) {
            encoded.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// `text` without user and password in any URL, and without the password of any open pipeline.
#[must_use]
pub fn scrub(text: &str) -> String {
    let mut scrubbed = without_secret_parameters(&without_userinfo(text));
    for forms in SECRETS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        for form in forms.iter() {
            if let Cow::Owned(masked) = mask(&scrubbed, form) {
                scrubbed = masked;
            }
        }
    }
    scrubbed
}

fn mask<'a>(text: &'a str, secret: &str) -> Cow<'a, str> {
    if secret.len() >= SHORT_BYTES {
        return if text.contains(secret) { text.replace(secret, MASK).into() } else { text.into() };
    }
    let mut masked = String::new();
    let mut rest_at = 0;
    for (at, _) in text.match_indices(secret) {
        let end = at + secret.len();
        let inside_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
        if inside_word(text[..at].chars().next_back()) || inside_word(text[end..].chars().next()) {
            continue;
        }
        masked.push_str(&text[rest_at..at]);
        masked.push_str(MASK);
        rest_at = end;
    }
    if rest_at == 0 {
        return text.into();
    }
    masked.push_str(&text[rest_at..]);
    masked.into()
}

fn without_userinfo(text: &str) -> String {
    let mut scrubbed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        scrubbed.push_str(before);
        let url_end = after.find(|c: char| c.is_whitespace() || "\"'<>`".contains(c)).unwrap_or(after.len());
        match userinfo_end(&after[..url_end]) {
            Some(end) => {
                scrubbed.push_str(MASK);
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    scrubbed.push_str(rest);
    scrubbed
}

/// Parameters of a URL whose values some cameras take as passwords.
const SECRET_PARAMETERS: [&str; 7] = ["password", "passwd", "pass", "pwd", "psw", "token", "secret"];

/// Masks the values of [`SECRET_PARAMETERS`], also where GStreamer has put a backslash before `=` and `&`.
fn without_secret_parameters(text: &str) -> String {
    let mut scrubbed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, length)) = secret_value(rest) {
        scrubbed.push_str(&rest[..at]);
        scrubbed.push_str(MASK);
        rest = &rest[at + length..];
    }
    scrubbed.push_str(rest);
    scrubbed
}

/// Where the next value of a secret parameter begins, and its length.
fn secret_value(text: &str) -> Option<(usize, usize)> {
    for (at, _) in text.match_indices('=') {
        let key = text[..at].trim_end_matches('\\');
        let Some(mark) = key.rfind(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))) else {
            continue;
        };
        let name = key[mark..].to_ascii_lowercase();
        let is_parameter = matches!(name.as_bytes().first(), Some(b'?' | b'&' | b';' | b'/'));
        if !is_parameter || !SECRET_PARAMETERS.contains(&&name[1..]) {
            continue;
        }
        let value = &text[at + 1..];
        let ends = |c: char| c.is_whitespace() || "&\"'<>`".contains(c);
        let length = value.find(ends).unwrap_or(value.len());
        let value = value[..length].trim_end_matches('\\');
        if !value.is_empty() && value != MASK {
            return Some((at + 1, value.len()));
        }
    }
    None
}

/// Where the `@` is that ends user and password, in a URL without its scheme.
fn userinfo_end(url: &str) -> Option<usize> {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    if let Some(end) = authority.rfind('@') {
        return Some(end);
    }
    // A password with a slash in it, not encoded as it should be: what looks like a port is no number.
    // (Brackets: an IPv6 address.)
    let port = authority.rsplit_once(':').map(|(_, port)| port)?;
    let is_port = port.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { None } else { url.rfind('@') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_leaves_every_url() {
        for (text, wanted) in [
            ("open rtsp://admin:geheim@10.0.0.2:554/s failed", "open rtsp://***@10.0.0.2:554/s failed"),
            ("a://u@h b://u:p@h", "a://***@h b://***@h"),
            ("rtsp://u:p@ss@host/x", "rtsp://***@host/x"),
            ("rtsp://u:p/a?b#c@host/x", "rtsp://***@host/x"),
            ("rtsp://u:pä:ö@host", "rtsp://***@host"),
        ] {
            assert_eq!(scrub(text), wanted);
        }
    }

    #[test]
    fn passwords_among_the_parameters_of_a_url_are_masked() {
        for (text, wanted) in [
            ("rtsp://h/a?user=v&password=geheim&x=1", "rtsp://h/a?user=v&password=***&x=1"),
            ("rtsp://h/user=v&pwd=geheim, PASS=1", "rtsp://h/user=v&pwd=*** PASS=1"),
            (r#"(string)"to\ rtsp://h/a\?psw\=a\%2Fb\&x\=1""#, r#"(string)"to\ rtsp://h/a\?psw\=***\&x\=1""#),
            ("rtsp://h/?Token=a'b rtsp://h/?token=", "rtsp://h/?Token=***'b rtsp://h/?token="),
        ] {
            assert_eq!(scrub(text), wanted);
        }
    }

    #[test]
    fn innocent_text_stays() {
        for text in
            ["rtsp://host:554/a@b", "rtsp://[::1]/a@b", "rtsp://[::1]:8554/a@b", "a@b", "", "://", "x://@"]
        {
            let wanted = if text == "x://@" { "x://***@" } else { text };
            assert_eq!(scrub(text), wanted);
        }
    }

    #[test]
    fn an_open_pipelines_password_is_masked_in_every_form() {
        let credentials = Credentials { username: "viewer".into(), password: "Canary 7/ü".into() };
        let guard = SecretGuard::new(&credentials);
        for text in [
            "user-pw=Canary 7/ü;",
            "rtsp-ish viewer:Canary%207%2Fü",
            "rtsp-ish viewer:Canary%207%2F%C3%BC",
            r"password=(string)Canary\ 7\/\ü",
            &format!("Authorization: Basic {}", glib::base64_encode("viewer:Canary 7/ü".as_bytes())),
        ] {
            let scrubbed = scrub(text);
            assert!(scrubbed.contains(MASK) && !scrubbed.contains("anary"), "{text} -> {scrubbed}");
        }
        drop(guard);
        assert_eq!(scrub("Canary 7/ü"), "Canary 7/ü");
    }

    #[test]
    fn a_short_password_is_masked_where_it_stands_alone() {
        let _guard = SecretGuard::new(&Credentials { username: "u".into(), password: "zq".into() });
        assert_eq!(scrub("pw=zq; a zqueue, zq"), "pw=***; a zqueue, ***");
    }

    #[test]
    fn credentials_do_not_print_their_password() {
        let credentials = Credentials { username: "viewer".into(), password: "Canary8".into() };
        assert!(!format!("{credentials:?}").contains("Canary8"));
    }
}
