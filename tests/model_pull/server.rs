//! An HTTP server that does to a download what networks do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::program::root;

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How many requests came before.
    pub index: usize,
    pub head: String,
    /// First byte that is wanted.
    pub from: Option<usize>,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub type Answer = dyn Fn(&Asked, &mut dyn Stream) + Send + Sync;

/// An HTTP server on this machine; each connection is one request.
pub struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked, &mut dyn Stream) + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer))
    }

    /// With the certificate of `tests/fixtures/tls`.
    pub fn start_tls(answer: impl Fn(&Asked, &mut dyn Stream) + Send + Sync + 'static) -> Self {
        let folder = root().join("tests/fixtures/tls");
        let chain = vec![CertificateDer::from_pem_file(folder.join("localhost.pem")).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(folder.join("localhost.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they fit");
        Self::listen(Some(Arc::new(config)), Arc::new(answer))
    }

    fn listen(tls: Option<Arc<rustls::ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Self { address, asked: Arc::default(), over: Arc::default(), tls: tls.clone() };
        let (asked, over) = (Arc::clone(&server.asked), Arc::clone(&server.over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (tls, answer, asked) = (tls.clone(), Arc::clone(&answer), Arc::clone(&asked));
                std::thread::spawn(move || serve(stream, tls, &answer, &asked));
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.address.port())
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _wakes_it = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    answer: &Arc<Answer>,
    asked: &Mutex<Vec<Asked>>,
) {
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let connection = rustls::ServerConnection::new(config).expect("a configuration");
            Box::new(rustls::StreamOwned::new(connection, stream))
        }
    };
    while let Some(head) = read_head(&mut stream) {
        if head.starts_with("CONNECT ") {
            asked.lock().expect("nobody panicked").push(Asked { index: 0, head, from: None });
            let _gone = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            continue;
        }
        let range = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let from = range.and_then(|range| range.trim_end_matches('-').parse().ok());
        let one = {
            let mut asked = asked.lock().expect("nobody panicked");
            let one = Asked { index: asked.len(), head, from };
            asked.push(one.clone());
            one
        };
        answer(&one, &mut stream);
        let _gone = stream.flush();
        return;
    }
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

pub fn say(stream: &mut dyn Stream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n");
    let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// As a server that knows ranges; `until` is where it hangs up.
pub fn send(asked: &Asked, stream: &mut dyn Stream, file: &[u8], until: usize) {
    let size = file.len();
    match asked.from {
        None => say(stream, "200 OK", &format!("Content-Length: {size}\r\n"), &file[..until]),
        Some(from) if from < size => {
            let headers = format!(
                "Content-Range: bytes {from}-{}/{size}\r\nContent-Length: {}\r\n",
                size - 1,
                size - from
            );
            say(stream, "206 Partial Content", &headers, &file[from..until.max(from)]);
        }
        Some(_) => {
            say(stream, "416 Range Not Satisfiable", &format!("Content-Range: bytes */{size}\r\n"), b"")
        }
    }
}

/// Until the client has gone.
pub fn wait_for_hang_up(stream: &mut dyn Stream) {
    let _bytes = stream.flush().and_then(|()| stream.read(&mut [0; 64]));
}
