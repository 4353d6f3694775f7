//! The host names in URLs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::Range;

use crate::explain::unreachable;
use crate::failure::{Failure, FailureClass};
use crate::scrub::scrub;

/// The name in the URL of a network camera that has to be looked up before anything can be connected to. `None`
/// for addresses, and for names beyond ASCII: those are for the library that connects to encode.
#[must_use]
pub fn host_name(url: &str) -> Option<&str> {
    Some(&url[name_range(url)?])
}

fn name_range(url: &str) -> Option<Range<usize>> {
    let authority_at = url.find("://")? + 3;
    let length = url[authority_at..].find(['/', '?', '#']).unwrap_or(url.len() - authority_at);
    let authority = &url[authority_at..authority_at + length];
    let at = authority_at + authority.rfind('@').map_or(0, |at| at + 1);
    let host = &url[at..authority_at + length];
    let name = host.split(':').next()?;
    let is_name = !name.is_empty() && name.is_ascii() && !name.starts_with('[');
    (is_name && name.parse::<Ipv4Addr>().is_err()).then(|| at..at + name.len())
}

/// `url` with an address in place of its name.
#[must_use]
pub fn with_address(url: &str, address: IpAddr) -> String {
    let Some(range) = name_range(url) else { return url.to_owned() };
    let address = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!("{}{address}{}", &url[..range.start], &url[range.end..])
}

/// Looks the name in `url` up as connecting will do. Waits for as long as the system does: with a name server
/// that never answers, that is ten seconds and more. Nothing comes of a URL without a name.
///
/// # Errors
/// [`FailureClass::Unreachable`] when nobody knows the name, or nobody can tell.
pub fn resolve(url: &str) -> Result<Vec<IpAddr>, Failure> {
    let Some(name) = host_name(url) else { return Ok(Vec::new()) };
    let words = match (name, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(found) if !found.is_empty() => return Ok(found.iter().map(SocketAddr::ip).collect()),
        Ok(_) => "no address associated".to_owned(),
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
    fn an_address_takes_the_place_of_a_name_and_of_nothing_else() {
        let [four, six]: [IpAddr; 2] = ["10.0.0.5", "fd00::5"].map(|address| address.parse().unwrap());
        assert_eq!(with_address("rtsp://cam.lan/cam.lan?x", four), "rtsp://10.0.0.5/cam.lan?x");
        assert_eq!(with_address("rtsp://cam.lan:554/s", six), "rtsp://[fd00::5]:554/s");
        assert_eq!(with_address("rtsp://cam.lan:x@cam.lan", four), "rtsp://cam.lan:x@10.0.0.5");
        assert_eq!(with_address("rtsp://10.0.0.12/s", four), "rtsp://10.0.0.12/s");
    }

    #[test]
    fn localhost_is_known_and_nothing_at_invalid_is() {
        let found = resolve("rtsp://localhost:8554/stream").unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert_eq!(resolve("rtsp://192.0.2.1/stream"), Ok(Vec::new()), "addresses are not looked up");
        let failure = resolve("rtsp://viewer:hunter22@no-such-camera.invalid/stream").unwrap_err();
        assert_eq!(failure.class, FailureClass::Unreachable);
        assert!(failure.message.contains("no-such-camera.invalid"), "{failure}");
        assert!(failure.message.contains("check the host name"), "{failure}");
        assert!(!failure.message.contains("hunter22"), "{failure}");
    }
}
