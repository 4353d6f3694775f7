//! Who we are to a camera: user and password, from the URL, a file, the environment or systemd.
//!
//! No message quotes the value of a `password_…` key: people write the password itself there.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::environment::Environment;
use super::files;
use super::locator::{CameraUrl, Locator};
use super::reading::{Section, text_of};
use super::secret::Secret;
use super::source::Place;
use super::tree::Node;

/// The three ways to give a password.
pub(super) const PASSWORD_KEYS: [&str; 3] = ["password_credential", "password_env", "password_file"];

/// Where systemd puts the credentials of a service.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

const MOST_PASSWORD_BYTES: u64 = 4096;

/// User and password of one camera.
#[derive(Default)]
pub(super) struct Credentials {
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

/// Reads the credentials of one camera. `url` is the parsed URL with its node, if it was right.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    camera: &str,
    url: Option<(&Node, &CameraUrl)>,
    environment: &Environment,
) -> Credentials {
    let own: Vec<_> =
        PASSWORD_KEYS.into_iter().filter_map(|key| section.find_own(key).map(|node| (key, node))).collect();
    let url_password = url.and_then(|(node, url)| url.password.clone().map(|password| (node, password)));
    let url_place = url_password.as_ref().map(|(node, _)| node.place);
    check_keys(section, &own, url_place);
    let is_rtsp = url.is_some_and(|(_, url)| matches!(url.locator, Locator::Rtsp { .. }));
    if url.is_some() && !is_rtsp {
        let username = section.find_own("username");
        if let Some(node) = own.first().map(|(_, node)| *node).or(username) {
            let message = "user and password have no effect here: only rtsp:// and rtsps:// take them";
            section.reading.warning(node.key_place, message, None);
        }
        return Credentials::default();
    }
    let username = read_username(section, url);
    let password = match url_password {
        Some((node, password)) => {
            let hint = "better: username = \"…\" and password_credential, password_file or password_env";
            section.reading.warning(node.place, "the URL holds user and password in plain text", Some(hint));
            let origin = section.reading.origin(node);
            section.record("password", Some(Json::from("***")), origin);
            Some(password)
        }
        None => {
            let key_and_node = match own.first() {
                Some((key, node)) => Some((*key, *node, format!("camera `{camera}`"))),
                None => PASSWORD_KEYS
                    .into_iter()
                    .find_map(|key| section.find(key).map(|node| (key, node, "[defaults]".to_owned()))),
            };
            key_and_node
                .filter(|_| is_rtsp)
                .and_then(|(key, node, whose)| from_key(section, key, node, &whose, environment))
        }
    };
    if let Some((node, _)) = url
        && password.is_some()
        && username.is_none()
    {
        section.reading.warning(
            node.key_place,
            format!("camera `{camera}` has a password but no username"),
            None,
        );
    }
    Credentials { username, password }
}

fn read_username(section: &mut Section<'_, '_>, url: Option<(&Node, &CameraUrl)>) -> Option<String> {
    let Some((node, in_url)) = url.and_then(|(node, url)| Some((node, url.username.clone()?))) else {
        return section.text("username", None);
    };
    if let Some(own) = section.find_own("username")
        && text_of(own).is_ok_and(|own| own != in_url)
    {
        let there = section.reading.sources.describe(node.place);
        let message = format!("`username` and the URL ({there}) name different users: keep one");
        section.reading.error(own.place, message, None);
    }
    let origin = section.reading.origin(node);
    section.record("username", Some(Json::from(in_url.clone())), origin);
    Some(in_url)
}

/// Every key is a text, and there is one source of a password at most.
pub(super) fn check_keys(section: &mut Section<'_, '_>, own: &[(&str, &Node)], url: Option<Place>) {
    for (key, node) in own {
        if let Err(wrong) = text_of(node) {
            section.reading.error(node.place, format!("`{key}` {wrong}"), None);
        }
    }
    let first = match (url, own.first()) {
        (Some(place), Some(_)) => ("the URL".to_owned(), place, own),
        (None, Some((key, node))) => (format!("`{key}`"), node.key_place, &own[1..]),
        _ => return,
    };
    let (what, place, others) = first;
    for (key, node) in others {
        let there = section.reading.sources.describe(place);
        let message = format!("`{key}` is a second password: {what} ({there}) gives one already");
        section.reading.error(node.key_place, message, Some("keep exactly one of them"));
    }
}

fn from_key(
    section: &mut Section<'_, '_>,
    key: &'static str,
    node: &Node,
    whose: &str,
    environment: &Environment,
) -> Option<Secret> {
    let name = text_of(node).ok()?;
    let found = match key {
        "password_env" | "password_credential" if !is_given(key, &name, environment) => {
            report_not_given(section, key, node, whose);
            return None;
        }
        "password_env" => Ok(environment.get(&name).unwrap_or_default().to_owned()),
        "password_credential" => from_credential(&name, environment),
        _ => from_file(section, &name, node),
    };
    match found.and_then(checked) {
        Ok(password) => {
            // The name led to a password, so it is a name and not a password put in its place.
            let origin = section.reading.origin(node);
            section.record(key, Some(Json::from(name)), origin);
            Some(password)
        }
        Err(wrong) => {
            section.reading.error(node.place, format!("{whose}: `{key}` {wrong}"), None);
            None
        }
    }
}

/// True if the variable, or systemd's folder of credentials, is there at all.
fn is_given(key: &str, name: &str, environment: &Environment) -> bool {
    let variable = if key == "password_env" { name } else { CREDENTIALS_DIRECTORY };
    environment.get(variable).is_some()
}

fn report_not_given(section: &mut Section<'_, '_>, key: &str, node: &Node, whose: &str) {
    let what = match key {
        "password_env" => {
            "must name an environment variable that is set and not empty (the name, not the password itself)"
        }
        _ => "needs LoadCredential= in the systemd unit, which gives this program CREDENTIALS_DIRECTORY",
    };
    let message = format!("{whose}: `{key}` {what}");
    if section.reading.demands.passwords {
        let hint = (key == "password_credential").then_some(
            "without systemd: set CREDENTIALS_DIRECTORY to a folder that holds the file, or use password_file",
        );
        section.reading.error(node.place, message, hint);
    } else {
        section.reading.warning(node.place, message, Some("not so here; the service may be given it"));
    }
}

fn from_credential(name: &str, environment: &Environment) -> Result<String, String> {
    if name.contains('/') || name == "." || name == ".." {
        return Err("must be the name of a systemd credential, without /".to_owned());
    }
    let folder = environment.get(CREDENTIALS_DIRECTORY).unwrap_or_default();
    files::read_text(&Path::new(folder).join(name), MOST_PASSWORD_BYTES).map_err(|wrong| {
        format!("names a credential that {wrong}: add LoadCredential=NAME:/PATH to the unit")
    })
}

fn from_file(section: &mut Section<'_, '_>, name: &str, node: &Node) -> Result<String, String> {
    if !name.starts_with('/') {
        return Err("must be the absolute path of a file (beginning with /)".to_owned());
    }
    let path = PathBuf::from(name);
    let text =
        files::read_text(&path, MOST_PASSWORD_BYTES).map_err(|wrong| format!("names a file that {wrong}"))?;
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        let message = "`password_file` names a file that every user of this box can read";
        section.reading.warning(
            node.place,
            message,
            Some("chmod 600 it, and chown it to the user of watchpost"),
        );
    }
    Ok(text)
}

/// Takes one newline off the end and refuses what no camera takes.
fn checked(text: String) -> Result<Secret, String> {
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err("leads to an empty password".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("leads to a password with a line break or control character inside".to_owned());
    }
    Ok(Secret::new(text))
}
