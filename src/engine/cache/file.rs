//! The file of one engine: a header that says what it is and proves that nothing in it has changed.
//!
//! | bytes        | what                                                  |
//! |--------------|-------------------------------------------------------|
//! | 8            | magic                                                 |
//! | 4            | version of this format, little-endian as all numbers  |
//! | 4            | bytes of the JSON header                              |
//! | 8            | bytes of the plan                                     |
//! | 32           | SHA-256 of the plan                                   |
//! | as said      | [`Header`] as JSON                                    |
//! | 32           | SHA-256 of everything before                          |
//! | as said      | the plan                                              |

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::EngineKey;
use crate::engine::batch_probe::ProbeRow;
use crate::os_words::os_words;

/// The first byte is no text, the last two are changed by every tool that thinks it is.
const MAGIC: [u8; 8] = *b"\x89WPENG\r\n";
/// Version of the format.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes before the JSON.
const FIXED_BYTES: usize = 8 + 4 + 4 + 8 + DIGEST_BYTES;
const DIGEST_BYTES: usize = 32;
/// A header has a hundred words, not a book.
const HEADER_BYTES_MAX: u32 = 1 << 20;

/// What is known of a built engine besides its key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineFacts {
    /// The model's name where it was built.
    pub model_name: String,
    /// The GPU it was built on: another one of the same compute capability runs it, perhaps not at its best.
    pub gpu_name: String,
    /// Frames that one inference takes at most.
    pub max_batch: usize,
    /// Frames it is fastest with.
    pub opt_batch: usize,
    /// Seconds since 1970.
    pub built_unix_s: u64,
    /// How long it took.
    pub build_seconds: f64,
    /// `"watchpost 0.1.0"`
    pub built_by: String,
    /// Measurements that `auto` batch rests on; empty for a batch that was given.
    pub probe: Vec<ProbeRow>,
    /// Why measuring ended.
    pub probe_ended: String,
}

/// What stands in front of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What it was built from.
    pub key: EngineKey,
    /// What else is known.
    pub facts: EngineFacts,
}

/// Why an engine is not in the cache. The words follow "no engine in the cache: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// There is no file. The words say what the nearest one differs in.
    #[error("none was built{}", .0.as_ref().map(|nearest| format!(" (the nearest: {nearest})")).unwrap_or_default())]
    Absent(Option<String>),
    /// It was not asked for.
    #[error("a new one was asked for")]
    NotWanted,
    /// The operating system said no.
    #[error("its file cannot be read: {0}")]
    Unreadable(String),
    /// Something else has its name.
    #[error("its file is no engine file of watchpost")]
    NotAnEngine,
    /// Written by another version of watchpost.
    #[error("its file has format {0}, and this version of watchpost reads {FORMAT_VERSION}")]
    Format(u32),
    /// The end is missing.
    #[error("its file is truncated: {actual_bytes} bytes of {expected_bytes}")]
    Truncated {
        /// As the header says.
        expected_bytes: u64,
        /// As the file system says.
        actual_bytes: u64,
    },
    /// There is something behind the end.
    #[error("its file is too long: {actual_bytes} bytes instead of {expected_bytes}")]
    TooLong {
        /// As the header says.
        expected_bytes: u64,
        /// As the file system says.
        actual_bytes: u64,
    },
    /// The header's checksum is wrong, or its contents make no sense.
    #[error("its header is damaged ({0})")]
    Header(&'static str),
    /// The plan's checksum is wrong.
    #[error("its plan is damaged (SHA-256 differs)")]
    Plan,
    /// It is an engine for something else.
    #[error("its file holds another engine: {0}")]
    Key(String),
}

impl Miss {
    /// Whether there was a file that is good for nothing.
    pub fn is_bad_file(&self) -> bool {
        !matches!(self, Self::Absent(_) | Self::NotWanted)
    }

    fn io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent(None),
            _ => Self::Unreadable(os_words(error)),
        }
    }
}

/// An engine file that is open: its header has been verified, its plan not yet.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) header: Header,
    plan_bytes: u64,
    plan_sha256: [u8; DIGEST_BYTES],
}

/// Opens a file without being held up or led elsewhere by a FIFO or a link that somebody put there.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

/// Opens an engine file and verifies its header and its length.
pub(super) fn open(path: &Path) -> Result<Opened, Miss> {
    let mut file = open_plain(path).map_err(|error| Miss::io(&error))?;
    let meta = file.metadata().map_err(|error| Miss::io(&error))?;
    if !meta.is_file() {
        return Err(Miss::NotAnEngine);
    }
    let actual_bytes = meta.len();
    let short = |expected_bytes: u64| Miss::Truncated { expected_bytes, actual_bytes };
    let mut front = vec![0; FIXED_BYTES];
    fill(&mut file, &mut front, || short(FIXED_BYTES as u64))?;
    let (mut fields, mut version, mut header_bytes) = (&front[8..], [0; 4], [0; 4]);
    let (mut plan_bytes, mut plan_sha256) = ([0; 8], [0; DIGEST_BYTES]);
    for field in [&mut version[..], &mut header_bytes, &mut plan_bytes, &mut plan_sha256] {
        fields.read_exact(field).map_err(|error| Miss::io(&error))?;
    }
    let (version, header_bytes) = (u32::from_le_bytes(version), u32::from_le_bytes(header_bytes));
    let plan_bytes = u64::from_le_bytes(plan_bytes);
    if front[..8] != MAGIC {
        return Err(Miss::NotAnEngine);
    }
    if version != FORMAT_VERSION {
        return Err(Miss::Format(version));
    }
    if header_bytes > HEADER_BYTES_MAX {
        return Err(Miss::Header("its length is absurd"));
    }
    let until_plan = FIXED_BYTES + header_bytes as usize + DIGEST_BYTES;
    front.resize(until_plan, 0);
    fill(&mut file, &mut front[FIXED_BYTES..], || short(until_plan as u64))?;
    let (said, checksum) = front.split_at(until_plan - DIGEST_BYTES);
    if Sha256::digest(said).as_slice() != checksum {
        return Err(Miss::Header("SHA-256 differs"));
    }
    // From here on the lengths are what was written.
    let expected_bytes = (until_plan as u64).saturating_add(plan_bytes);
    match actual_bytes {
        bytes if bytes < expected_bytes => return Err(short(expected_bytes)),
        bytes if bytes > expected_bytes => return Err(Miss::TooLong { expected_bytes, actual_bytes }),
        _ => {}
    }
    let header = serde_json::from_slice(&said[FIXED_BYTES..])
        .map_err(|_| Miss::Header("its JSON is of another kind"))?;
    Ok(Opened { file, header, plan_bytes, plan_sha256 })
}

fn fill(file: &mut File, buffer: &mut [u8], ended: impl Fn() -> Miss) -> Result<(), Miss> {
    file.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ended(),
        _ => Miss::io(&error),
    })
}

impl Opened {
    /// Reads and verifies the plan.
    pub(super) fn plan(&mut self) -> Result<Vec<u8>, Miss> {
        let too_large = || Miss::Unreadable("it does not fit into memory".to_owned());
        let length = usize::try_from(self.plan_bytes).map_err(|_| too_large())?;
        let mut plan = Vec::new();
        plan.try_reserve_exact(length).map_err(|_| too_large())?;
        (&mut self.file).take(self.plan_bytes).read_to_end(&mut plan).map_err(|error| Miss::io(&error))?;
        if plan.len() != length || Sha256::digest(&plan).as_slice() != self.plan_sha256 {
            return Err(Miss::Plan);
        }
        Ok(plan)
    }

    /// Bytes of the plan.
    pub(super) fn plan_bytes(&self) -> u64 {
        self.plan_bytes
    }
}

/// What stands in front of `plan` in its file.
pub(super) fn front(header: &Header, plan: &[u8]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(header)?;
    let json_bytes = u32::try_from(json.len()).ok().filter(|&bytes| bytes <= HEADER_BYTES_MAX);
    let json_bytes = json_bytes.ok_or_else(|| io::Error::other("its header is too long"))?;
    let mut front = Vec::with_capacity(FIXED_BYTES + json.len() + DIGEST_BYTES);
    front.extend_from_slice(&MAGIC);
    front.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    front.extend_from_slice(&json_bytes.to_le_bytes());
    front.extend_from_slice(&(plan.len() as u64).to_le_bytes());
    front.extend_from_slice(&Sha256::digest(plan));
    front.extend_from_slice(&json);
    let checksum = Sha256::digest(&front);
    front.extend_from_slice(&checksum);
    Ok(front)
}

/// Writes a whole file and makes sure that it is on the disk.
pub(super) fn write(path: &Path, front: &[u8], plan: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(front)?;
    file.write_all(plan)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::key::tests::key;
    use super::*;

    fn written() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.engine");
        let header = Header { key: key(), facts: EngineFacts { max_batch: 8, ..EngineFacts::default() } };
        let plan: Vec<u8> = (0..1000_u32).map(|i| (i * i % 251) as u8).collect();
        write(&path, &front(&header, &plan).unwrap(), &plan).unwrap();
        let bytes = fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    fn read(path: &Path) -> Result<Vec<u8>, Miss> {
        open(path)?.plan()
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let (_folder, path, bytes) = written();
        let mut opened = open(&path).unwrap();
        assert_eq!((opened.header.key.clone(), opened.header.facts.max_batch), (key(), 8));
        assert_eq!(opened.plan().unwrap(), bytes[bytes.len() - 1000..]);
    }

    #[test]
    fn a_file_of_every_shorter_length_is_refused() {
        let (_folder, path, bytes) = written();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let miss = read(&path).unwrap_err();
            assert!(
                matches!(miss, Miss::Truncated { actual_bytes, .. } if actual_bytes == length as u64),
                "{miss}"
            );
        }
        fs::write(&path, [&bytes[..], b"\n"].concat()).unwrap();
        assert!(matches!(read(&path), Err(Miss::TooLong { .. })));
    }

    #[test]
    fn a_flip_of_any_bit_is_noticed() {
        let (_folder, path, bytes) = written();
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            fs::write(&path, &flipped).unwrap();
            let miss = read(&path).unwrap_err();
            let expected = match place {
                0..8 => matches!(miss, Miss::NotAnEngine),
                8..12 => matches!(miss, Miss::Format(_)),
                // A length that is too large may reach beyond the file.
                12..16 => matches!(miss, Miss::Header(_) | Miss::Truncated { .. }),
                place if place < bytes.len() - 1000 => matches!(miss, Miss::Header("SHA-256 differs")),
                _ => matches!(miss, Miss::Plan),
            };
            assert!(expected, "byte {place}: {miss}");
        }
    }

    #[test]
    fn a_header_of_another_kind_with_a_right_checksum_is_refused() {
        let (_folder, path, bytes) = written();
        let json_end = bytes.len() - 1000 - DIGEST_BYTES;
        let text = String::from_utf8(bytes[FIXED_BYTES..json_end].to_vec()).unwrap();
        // Same length: a field that the key does not have.
        let json = text.replace("\"sparse\"", "\"sparze\"");
        let mut other = bytes[..FIXED_BYTES].to_vec();
        other.extend_from_slice(json.as_bytes());
        let checksum = Sha256::digest(&other);
        other.extend_from_slice(&checksum);
        other.extend_from_slice(&bytes[bytes.len() - 1000..]);
        fs::write(&path, other).unwrap();
        assert_eq!(read(&path), Err(Miss::Header("its JSON is of another kind")));
    }

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Err(Miss::NotAnEngine));
        assert_eq!(read(&folder.path().join("none")), Err(Miss::Absent(None)));
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        assert_eq!(read(&fifo), Err(Miss::NotAnEngine));
        let (_other, path, _) = written();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Err(Miss::Unreadable(_))));
    }
}
