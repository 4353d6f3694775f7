//! What a camera's URL names: URL to [`Locator`], with the credentials taken out, and back.
//!
//! The parser is our own because the general ones disagree with what cameras' manuals print: a bare `@`
//! in a password, `csi://0`, `v4l2:///dev/…`, file names with `#`. No message quotes the URL: it may hold
//! a password where nobody expects one.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::masking;
use super::secret::Secret;

const SCHEMES: [&str; 6] = ["rtsp", "rtsps", "v4l2", "csi", "file", "test"];
const KNOWN: &str = "known are rtsp://, rtsps://, v4l2:///dev/…, csi://N, file:///…, test://scene";

/// What a camera's URL names. Credentials have been taken out of it.
///
/// `Display` and `Debug` show it as a URL in which secret parameters (`?password=…`, which some cameras
/// want) are replaced by `***`.
#[derive(Clone, PartialEq)]
pub enum Locator {
    /// `rtsp://`, `rtsps://`: the URL without user and password.
    Rtsp {
        /// Without user and password; for the library that opens it. To show it, format the [`Locator`].
        url: String,
    },
    /// `v4l2:///dev/video0`, `v4l2:///dev/v4l/by-id/…`
    V4l2 {
        /// The device node.
        device: PathBuf,
    },
    /// `csi://0`
    Csi {
        /// Index of the sensor.
        sensor_index: u32,
    },
    /// `file:///…`
    File {
        /// The file.
        path: PathBuf,
    },
    /// `test://scene?seed=1&fps=15&width=640&height=360`
    Scene {
        /// Which scene.
        seed: u64,
        /// Pictures a second.
        fps: u32,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Locator::Rtsp { url } => f.write_str(&masking::show_url(url)),
            Locator::V4l2 { device } => write!(f, "v4l2://{}", encoded(device)),
            Locator::Csi { sensor_index } => write!(f, "csi://{sensor_index}"),
            Locator::File { path } => write!(f, "file://{}", encoded(path)),
            Locator::Scene { seed, fps, width, height } => {
                write!(f, "test://scene?seed={seed}&fps={fps}&width={width}&height={height}")
            }
        }
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locator({self})")
    }
}

fn encoded(path: &std::path::Path) -> String {
    percent_encoded(&path.to_string_lossy())
}

/// A URL taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraUrl {
    /// What it names.
    pub locator: Locator,
    /// The user in the URL, percent-decoded.
    pub username: Option<String>,
    /// The password in the URL, percent-decoded.
    pub password: Option<Secret>,
    /// True if the path or query carries something that looks like a password.
    pub has_secret_parameter: bool,
}

/// Takes a camera's URL apart.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the key. Never quotes the URL.
pub fn parse_url(url: &str) -> Result<CameraUrl, String> {
    if url.trim().is_empty() {
        return Err(format!("is empty: {KNOWN}"));
    }
    if url.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Err(without_scheme(url)) };
    let scheme = scheme.to_ascii_lowercase();
    let plain = |locator| CameraUrl { locator, username: None, password: None, has_secret_parameter: false };
    match scheme.as_str() {
        "rtsp" | "rtsps" => parse_rtsp(&scheme, rest),
        "v4l2" => parse_v4l2(rest).map(plain),
        "csi" => parse_csi(rest).map(plain),
        "file" => parse_file(rest).map(plain),
        "test" => parse_scene(rest).map(plain),
        _ => Err(unknown_scheme(&scheme)),
    }
}

fn without_scheme(url: &str) -> String {
    let advice = if url.starts_with("/dev/") {
        "for a V4L2 device write v4l2:///dev/…"
    } else if url.starts_with('/') {
        "for a file write file:// and the absolute path"
    } else if url.parse::<Ipv4Addr>().is_ok() || url.contains('.') {
        "for a network camera write rtsp://HOST/PATH"
    } else {
        KNOWN
    };
    format!("has no scheme: {advice}")
}

fn unknown_scheme(scheme: &str) -> String {
    // A scheme is quoted only when it looks like one: what stands before "://" could be anything.
    let plausible = scheme.len() <= 8 && scheme.chars().all(|ch| ch.is_ascii_alphanumeric());
    let nearest = super::nearest::nearest(scheme, SCHEMES.iter().copied()).filter(|_| plausible);
    match nearest {
        Some(nearest) => format!("has an unknown scheme; did you mean `{nearest}://`? ({KNOWN})"),
        None => format!("has an unknown scheme: {KNOWN}"),
    }
}

fn parse_rtsp(scheme: &str, rest: &str) -> Result<CameraUrl, String> {
    if rest.contains(' ') {
        return Err("contains a space: write %20".into());
    }
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let (user_info, address) = match authority.rsplit_once('@') {
        Some((user_info, address)) => (Some(user_info), address),
        None => (None, authority),
    };
    let address = parse_address(address).map_err(|wrong| match (user_info, rest.contains('@')) {
        (None, true) => {
            format!(
                "{wrong}; if the password contains / ? or #, write %2F %3F %23, or better use password_file"
            )
        }
        _ => wrong,
    })?;
    let (username, password) = match user_info {
        Some(user_info) => parse_user_info(user_info)?,
        None => (None, None),
    };
    let url = format!("{scheme}://{address}{path}");
    let has_secret_parameter = masking::has_secret_parameter(path);
    Ok(CameraUrl { locator: Locator::Rtsp { url }, username, password, has_secret_parameter })
}

fn parse_user_info(text: &str) -> Result<(Option<String>, Option<Secret>), String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |part: &str| {
        let decoded =
            percent_decoded(part).ok_or("has a user or password that is not UTF-8 after decoding")?;
        match decoded.chars().any(char::is_control) {
            true => Err("has a control character in its user or password".to_owned()),
            false => Ok(Some(decoded).filter(|text| !text.is_empty())),
        }
    };
    Ok((decode(user)?, decode(password)?.map(Secret::new)))
}

/// Checks `host`, `host:port`, `[v6]`, `[v6]:port` and gives it back.
fn parse_address(address: &str) -> Result<&str, String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has an IPv6 address without its closing ]")?;
            host.parse::<Ipv6Addr>().map_err(|_| "has something between [ ] that is no IPv6 address")?;
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return Err("has something between ] and the port".into());
            }
            (host, port)
        }
        None if address.matches(':').count() > 1 => {
            return Err("has more than one : in its host; an IPv6 address is written in [ ]".into());
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("has no host: write rtsp://HOST/PATH".into());
    }
    if !address.starts_with('[') {
        check_host(host)?;
    }
    match port.map(str::parse::<u16>) {
        None => Ok(address),
        Some(Ok(1..)) => Ok(address),
        Some(_) => Err("has a port that is not between 1 and 65535".into()),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let allowed = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '.' | '-' | '_');
    if !host.chars().all(allowed) || host.len() > 253 {
        return Err("has a host with characters that no host name has".into());
    }
    let numeric = host.chars().all(|ch| ch.is_ascii_digit() || ch == '.');
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a host that looks like an IPv4 address but is none".into());
    }
    Ok(())
}

fn parse_v4l2(rest: &str) -> Result<Locator, String> {
    let device = percent_decoded(rest).filter(|path| path.starts_with("/dev/") && path.len() > 5);
    let device = device.ok_or("must name a device with three slashes: v4l2:///dev/video0")?;
    Ok(Locator::V4l2 { device: PathBuf::from(device) })
}

fn parse_csi(rest: &str) -> Result<Locator, String> {
    match rest.trim_end_matches('/').parse() {
        Ok(sensor_index @ 0..64) => Ok(Locator::Csi { sensor_index }),
        _ => Err("must name a sensor by its number from 0 to 63: csi://0".into()),
    }
}

fn parse_file(rest: &str) -> Result<Locator, String> {
    let rest = rest.strip_prefix("localhost").filter(|rest| rest.starts_with('/')).unwrap_or(rest);
    if !rest.starts_with('/') {
        return Err("needs an absolute path with three slashes: file:///srv/clip.mp4".into());
    }
    if rest.ends_with('/') {
        return Err("names a folder: a camera needs one file".into());
    }
    let path = percent_decoded(rest).ok_or("has a path that is not UTF-8 after decoding")?;
    if path.contains('\0') {
        return Err("has a zero byte in its path".into());
    }
    Ok(Locator::File { path: PathBuf::from(path) })
}

const SCENE_KEYS: [&str; 4] = ["seed", "fps", "width", "height"];

fn parse_scene(rest: &str) -> Result<Locator, String> {
    let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
    if name.trim_end_matches('/') != "scene" {
        return Err("has an unknown test picture: write test://scene".into());
    }
    let mut values: [Option<u64>; 4] = [None; 4];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(index) = SCENE_KEYS.iter().position(|known| *known == key) else {
            return Err("has an unknown setting after the ?: known are seed, fps, width, height".into());
        };
        if values[index].is_some() {
            return Err(format!("sets {} twice", SCENE_KEYS[index]));
        }
        let number = value.parse().map_err(|_| format!("needs a whole number for {}", SCENE_KEYS[index]))?;
        values[index] = Some(number);
    }
    let [seed, fps, width, height] = values;
    let fps = fps.unwrap_or(15);
    if !(1..=240).contains(&fps) {
        return Err("needs fps from 1 to 240".into());
    }
    let pixels = |value: Option<u64>, default: u32, name: &str| match value {
        None => Ok(default),
        Some(value @ 160..=3840) if value % 2 == 0 => Ok(value as u32),
        Some(_) => Err(format!("needs an even {name} from 160 to 3840")),
    };
    Ok(Locator::Scene {
        seed: seed.unwrap_or(1),
        fps: fps as u32,
        width: pixels(width, 640, "width")?,
        height: pixels(height, 360, "height")?,
    })
}

/// RFC 3986 percent-decoding; a `%` that begins no code stands for itself, as people write it in
/// passwords. `None` if the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes what a URL path cannot carry.
pub(super) fn percent_encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'%' | b' ' | 0..=31 | 127.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn locator(url: &str) -> Locator {
        parse_url(url).unwrap_or_else(|wrong| panic!("{url}: {wrong}")).locator
    }

    fn rtsp(url: &str) -> String {
        match locator(url) {
            Locator::Rtsp { url } => url,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn credentials_leave_the_url() {
        let parsed = parse_url("RTSP://view%40er:p%3Aa@ss%2F@[fe80::1]:8554/stream?x=1").expect("valid");
        assert_eq!(parsed.locator, Locator::Rtsp { url: "rtsp://[fe80::1]:8554/stream?x=1".into() });
        assert_eq!(parsed.username.as_deref(), Some("view@er"));
        assert_eq!(parsed.password.expect("there").expose(), "p:a@ss/");
    }

    #[test]
    fn credentials_may_be_half() {
        let parsed = parse_url("rtsp://viewer@h/").expect("valid");
        assert_eq!((parsed.username.as_deref(), parsed.password), (Some("viewer"), None));
        let parsed = parse_url("rtsp://:x@h/").expect("valid");
        assert_eq!((parsed.username, parsed.password.is_some()), (None, true));
        let parsed = parse_url("rtsp://u:100%@h/").expect("valid");
        assert_eq!(parsed.password.expect("there").expose(), "100%");
    }

    #[test]
    fn rtsp_urls_keep_their_path() {
        assert_eq!(rtsp("rtsp://10.0.0.12/stream2"), "rtsp://10.0.0.12/stream2");
        assert_eq!(rtsp("rtsps://cam_1.local:322"), "rtsps://cam_1.local:322");
        assert_eq!(rtsp("rtsp://h/a@b?c#d"), "rtsp://h/a@b?c#d");
    }

    #[test]
    fn every_kind_of_url_has_its_locator() {
        assert_eq!(locator("v4l2:///dev/video0"), Locator::V4l2 { device: "/dev/video0".into() });
        assert_eq!(locator("csi://0"), Locator::Csi { sensor_index: 0 });
        assert_eq!(
            locator("file:///srv/a%20b%C3%BC#1.mp4"),
            Locator::File { path: "/srv/a bü#1.mp4".into() }
        );
        assert_eq!(locator("file://localhost/a.mp4"), Locator::File { path: "/a.mp4".into() });
        assert_eq!(locator("test://scene"), Locator::Scene { seed: 1, fps: 15, width: 640, height: 360 });
        let asked = Locator::Scene { seed: 7, fps: 30, width: 1920, height: 1080 };
        assert_eq!(locator("test://scene?height=1080&seed=7&fps=30&width=1920"), asked);
    }

    #[test]
    fn wrong_urls_say_what_to_write() {
        for (url, part) in [
            ("", "empty"),
            ("   ", "empty"),
            ("10.0.0.5/stream", "rtsp://HOST/PATH"),
            ("/dev/video0", "v4l2:///dev/"),
            ("/srv/a.mp4", "file://"),
            ("http://h/x", "known are"),
            ("rstp://h/x", "did you mean `rtsp://`"),
            ("rtsp://", "no host"),
            ("rtsp:///x", "no host"),
            ("rtsp://u:p@/x", "no host"),
            ("rtsp://h:0/", "port"),
            ("rtsp://h:99999/", "port"),
            ("rtsp://h:/", "port"),
            ("rtsp://h /x", "%20"),
            ("rtsp://h\n/x", "control"),
            ("rtsp://ho st/x", "%20"),
            ("rtsp://fe80::1/x", "[ ]"),
            ("rtsp://[fe80::1/x", "closing ]"),
            ("rtsp://[zz]/x", "IPv6"),
            ("rtsp://[::1]x/", "between ]"),
            ("rtsp://10.0.0.256/x", "IPv4"),
            ("rtsp://u:a/b@h/x", "%2F"),
            ("rtsp://hö/x", "characters"),
            ("v4l2://dev/video0", "three slashes"),
            ("v4l2:///dev/", "three slashes"),
            ("csi://front", "csi://0"),
            ("csi://64", "csi://0"),
            ("file://clip.mp4", "three slashes"),
            ("file:///srv/", "folder"),
            ("test://bars", "test://scene"),
            ("test://scene?speed=1", "known are seed"),
            ("test://scene?seed=1&seed=2", "twice"),
            ("test://scene?seed=-1", "whole number"),
            ("test://scene?fps=0", "fps from 1"),
            ("test://scene?width=161", "even width"),
            ("test://scene?height=4000", "even height"),
        ] {
            let wrong = parse_url(url).expect_err(url);
            assert!(wrong.contains(part), "{url}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "(rtsp://|file://|test://scene\\?|v4l2://|csi://)?\\PC{0,40}") {
            let _ = parse_url(&text);
        }

        #[test]
        fn no_message_and_no_debug_output_shows_a_password(
            before in "[a-z/@:?#%\\[\\]]{0,4}", after in "[a-z/@:?#%\\[\\]]{0,8}", host in "[a-z0-9.:\\[\\]]{0,9}",
        ) {
            let url = format!("rtsp://user:{before}canaryhunter2{after}@{host}/x");
            match parse_url(&url) {
                Ok(parsed) => {
                    // A password cut apart by a bare / stays in the path: Debug must hide that too.
                    let shown = format!("{parsed:?} {}", parsed.locator);
                    prop_assert!(!shown.contains("canaryhunter2"), "{}", shown);
                }
                Err(wrong) => prop_assert!(!wrong.contains("canary"), "{}", wrong),
            }
        }

        #[test]
        fn encoding_is_undone_by_decoding(path in "\\PC{0,30}") {
            prop_assert_eq!(percent_decoded(&percent_encoded(&path)), Some(path));
        }
    }
}
