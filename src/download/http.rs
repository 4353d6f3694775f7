//! One GET, from a byte on: what the answer means for a file of known size.
//!
//! Ranges as in RFC 9110, section 14. TLS is rustls' with the system's certificates (`SSL_CERT_FILE` names others);
//! proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, BodyReader, Error, Timeout};

use super::DownloadError;
use crate::os_words::plain_words;

/// Redirects that are followed: a release on GitHub needs one, a mirror behind it another.
const REDIRECTS_MAX: u32 = 5;
/// Until a server has been found and has answered a handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks one server for one file.
pub(super) struct Client {
    agent: Agent,
    url: String,
}

/// What the server sends.
pub(super) enum Answer {
    /// From the byte that was asked for to the end.
    Rest(BodyReader<'static>),
    /// The whole file.
    Whole(BodyReader<'static>),
    /// It says that there is no such byte.
    NoSuchRange,
}

impl Client {
    pub fn new(url: &str, stall_timeout: Duration) -> Result<Self, DownloadError> {
        let bad = |reason: String| DownloadError::Url { url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|error| bad(format!("{error}")))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(other) => return Err(bad(format!("{other} is not known here"))),
            None => return Err(bad("it does not say https://".to_owned())),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("it names no host".to_owned()));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(if is_https { system_certificates(url)? } else { RootCerts::new_with_certs(&[]) })
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // Where the first request is safe from listeners none that follows from it is not.
            .https_only(is_https)
            .max_redirects(REDIRECTS_MAX)
            .user_agent(concat!("watchpost/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(stall_timeout))
            .timeout_per_read(Some(stall_timeout))
            .timeout_per_write(Some(stall_timeout))
            // Each attempt gets a connection of its own: the one before may be the trouble.
            .max_idle_connections(0);
        Ok(Self { agent: config.build().new_agent(), url: url.to_owned() })
    }

    /// Asks for the file from byte `from` on, of which it should have `size_bytes`.
    pub fn get(&self, from: u64, size_bytes: u64) -> Result<Answer, DownloadError> {
        let mut request = self.agent.get(&self.url).header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| self.failure(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        let url = || self.url.clone();
        let wrong_size =
            |got: u64| DownloadError::WrongSize { url: url(), expected: size_bytes, got: got.to_string() };
        match status {
            206 if from > 0 => match content_range(headers) {
                Some((start, total)) if start == from => {
                    if let Some(total) = total.filter(|&total| total != size_bytes) {
                        return Err(wrong_size(total));
                    }
                    Ok(Answer::Rest(response.into_body().into_reader()))
                }
                // Another part than was asked for.
                _ => Ok(Answer::NoSuchRange),
            },
            200 => match number(headers, header::CONTENT_LENGTH).filter(|&length| length != size_bytes) {
                Some(length) => Err(wrong_size(length)),
                None => Ok(Answer::Whole(response.into_body().into_reader())),
            },
            416 if from > 0 => Ok(Answer::NoSuchRange),
            408 | 425 | 429 | 500..=599 => Err(DownloadError::Busy { url: url(), status, attempts: 1 }),
            status => Err(DownloadError::Refused { url: url(), status }),
        }
    }

    fn failure(&self, error: &Error) -> DownloadError {
        let url = self.url.clone();
        let reason = match error {
            Error::TooManyRedirects => {
                return DownloadError::Redirect { url, reason: "it is redirected again and again" };
            }
            Error::RequireHttpsOnly(_) => {
                let reason = "it is redirected from https to http, where anybody can listen";
                return DownloadError::Redirect { url, reason };
            }
            Error::HostNotFound => "its host is not known".to_owned(),
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => "its host does not answer".to_owned(),
            Error::Timeout(_) => "nothing came for too long".to_owned(),
            Error::ConnectionFailed => "no connection".to_owned(),
            Error::InvalidProxyUrl => "the proxy in the environment is no URL".to_owned(),
            Error::Rustls(error) => return DownloadError::Untrusted { url, reason: error.to_string() },
            Error::Io(error) => match tls_reason(error) {
                Some(reason) => return DownloadError::Untrusted { url, reason },
                None => io_words(error),
            },
            Error::Protocol(error) => format!("this is no HTTP server: {error}"),
            other => other.to_string(),
        };
        DownloadError::Unreachable { url, reason, attempts: 1 }
    }
}

/// Those whom this box trusts.
fn system_certificates(url: &str) -> Result<RootCerts, DownloadError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reason = "this box has no certificates to trust anybody by".to_owned();
        return Err(DownloadError::Untrusted { url: url.to_owned(), reason });
    }
    let certificates: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certificates))
}

/// What TLS complained about, if it did.
fn tls_reason(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<rustls::Error>().map(ToString::to_string)
}

/// Why the body broke off, in words.
pub(super) fn read_failure(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::Timeout(_)) => "nothing came for too long".to_owned(),
        Some(Error::Io(error)) => io_words(error),
        _ => io_words(error),
    }
}

fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was cut".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "nothing came for too long".to_owned(),
        _ => plain_words(error),
    }
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `bytes 100-199/200`: where it starts and, if known, the size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    parse_range(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _end) = range.split_once('-')?;
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((start.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        assert_eq!(parse_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(parse_range("bytes 0-0/*"), Some((0, None)));
        for wrong in ["", "bytes */200", "items 1-2/3", "bytes 1-2", "bytes x-2/3", "bytes 1-2/x"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }
}
