//! The host names in URLs.

use std::net::{Ipv4Addr, ToSocketAddrs};

use crate::explain::unreachable;
use crate::failure::{Failure, FailureClass};
use crate::scrub::scrub;

/// The name in the URL of a network camera that has to be looked up before anything can be connected to. `None`
/// for addresses, and for names beyond ASCII: those are for the library that connects to encode.
#[must_use]
pub fn host_name(url: &str) -> Option<&str> {
    let (_scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_login, host)| host);
    let name = host.split(':').next()?;
    let is_name = !name.is_empty() && name.is_ascii() && !name.starts_with('[');
    (is_name && name.parse::<Ipv4Addr>().is_err()).then_some(name)
}

/// Looks the name in `url` up as connecting will do, and forgets what was found. Waits for as long as the
/// system does: with a name server that never answers, that is ten seconds and more.
///
/// # Errors
/// [`FailureClass::Unreachable`] when nobody knows the name, or nobody can tell.
pub fn resolve(url: &str) -> Result<(), Failure> {
    let Some(name) = host_name(url) else { return Ok(()) };
    let words = match (name, 0).to_socket_addrs().map(|mut addresses| addresses.next()) {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => "no address associated".to_owned(),
        Err(error) => error.to_string().to_lowercase(),
    };
    Err(Failure::new(FailureClass::Unreachable, unreachable(&scrub(url), &words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_addresses() {
        for (url, name) in [
            ("rtsp://cam.lan/stream", Some("cam.lan")),
            ("rtsps://cam.lan:8554", Some("cam.lan")),
            ("rtsp://user:p@ss@cam.lan:8554/x@y?z", Some("cam.lan")),
            ("rtsp://localhost?a", Some("localhost")),
            ("rtsp://10.0.0.12:554/stream", None),
            ("rtsp://[fe80::1%25eth0]:554/stream", None),
            ("rtsp://kamera-für.lan/stream", None),
            ("rtsp:///stream", None),
            ("cam.lan", None),
        ] {
            assert_eq!(host_name(url), name, "{url}");
        }
    }

    #[test]
    fn localhost_is_known_and_nothing_at_invalid_is() {
        assert_eq!(resolve("rtsp://localhost:8554/stream"), Ok(()));
        assert_eq!(resolve("rtsp://192.0.2.1/stream"), Ok(()), "addresses are not looked up");
        let failure = resolve("rtsp://viewer:hunter22@no-such-camera.invalid/stream").unwrap_err();
        assert_eq!(failure.class, FailureClass::Unreachable);
        assert!(failure.message.contains("no-such-camera.invalid"), "{failure}");
        assert!(failure.message.contains("check the host name"), "{failure}");
        assert!(!failure.message.contains("hunter22"), "{failure}");
    }
}
