//! A table of named 64-bit numbers in one page-aligned block: private memory, or a file that processes map together.
//!
//! Layout, everything little-endian, 16384 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `WPSTDIN1` |
//! | 8 | 8 | rows in use (u64); rows are only ever added |
//! | 64 | 126 x 64 | rows: value (i64), then 56 bytes of name, ended by a zero byte |
//! | 8192 | 8 | length of the text (u64) |
//! | 8200 | 4088 | text (UTF-8): one line for each violation, until it is full |
//!
//! Two processes that meet a new name at the same time may both make a row for it: the value of a name is the sum of
//! its rows. Every process that maps one file adds to the same numbers; a process that is killed leaves what it held.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"WPSTDIN1");
const SIZE_BYTES: usize = 16384;
const USED_AT: usize = 8;
const ROWS_AT: usize = 64;
const ROW_BYTES: usize = 64;
const ROWS: usize = 126;
const NAME_BYTES: usize = 56;
const TEXT_AT: usize = 8192;
const TEXT_BYTES: usize = 4088;

/// A table of counters. Cheap to read, safe to share between threads and processes.
#[derive(Debug)]
pub struct Ledger {
    base: *mut u8,
}

// SAFETY: the block lives until the Ledger is dropped and is only ever touched through atomics.
unsafe impl Send for Ledger {}
// SAFETY: as above.
unsafe impl Sync for Ledger {}

/// One number of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a>(&'a AtomicI64);

impl<'a> Row<'a> {
    /// The number itself, for who counts often.
    pub fn cell(self) -> &'a AtomicI64 {
        self.0
    }

    /// What it is now.
    pub fn get(self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Adds `delta`, and returns what it was before.
    pub fn change(self, delta: i64) -> i64 {
        self.0.fetch_add(delta, Ordering::SeqCst)
    }

    /// Replaces it.
    pub fn set(self, value: i64) {
        self.0.store(value, Ordering::SeqCst);
    }

    /// Takes one away if it is above zero, and says whether it was: an order for a number of times.
    pub fn take(self) -> bool {
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| (value > 0).then(|| value - 1))
            .is_ok()
    }
}

impl Ledger {
    /// A ledger of this process alone.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn private() -> io::Result<Ledger> {
        Self::map(None)
    }

    /// A new ledger in a file, which takes the place of an older one: what a test does before it starts a process.
    ///
    /// # Errors
    ///
    /// The file cannot be written or mapped.
    pub fn create(path: &Path) -> io::Result<Ledger> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(SIZE_BYTES as u64)?;
        Self::map(Some(&file))
    }

    /// The ledger in a file, which is made when it is not there: what a stand-in does.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or mapped, or is something else.
    pub fn open(path: &Path) -> io::Result<Ledger> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        if length != 0 && length != SIZE_BYTES as u64 {
            return Err(io::Error::other(format!("{} is no ledger: {length} bytes", path.display())));
        }
        file.set_len(SIZE_BYTES as u64)?;
        Self::map(Some(&file))
    }

    fn map(file: Option<&File>) -> io::Result<Ledger> {
        let (flags, descriptor) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping at an address of the kernel's choice; the file, if any, is SIZE_BYTES long.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), SIZE_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ledger = Ledger { base: base.cast() };
        match ledger.word(0).compare_exchange(0, MAGIC, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) | Err(MAGIC) => Ok(ledger),
            Err(_) => Err(io::Error::other("no ledger: another file's beginning")),
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at + 8 <= SIZE_BYTES && at.is_multiple_of(8));
        // SAFETY: inside the block, aligned, and nobody touches it but through atomics.
        unsafe { AtomicU64::from_ptr(self.base.add(at).cast()) }
    }

    fn bytes(&self, at: usize, count: usize) -> &[AtomicU8] {
        debug_assert!(at + count <= SIZE_BYTES);
        // SAFETY: inside the block, and nobody touches it but through atomics.
        unsafe { slice::from_raw_parts(self.base.add(at).cast::<AtomicU8>(), count) }
    }

    fn value(&self, row: usize) -> &AtomicI64 {
        // SAFETY: inside the block, aligned, and nobody touches it but through atomics.
        unsafe { AtomicI64::from_ptr(self.base.add(ROWS_AT + row * ROW_BYTES).cast()) }
    }

    fn name(&self, row: usize) -> String {
        read_text(self.bytes(ROWS_AT + row * ROW_BYTES + 8, NAME_BYTES))
    }

    fn rows(&self) -> impl Iterator<Item = usize> {
        0..(self.word(USED_AT).load(Ordering::SeqCst) as usize).min(ROWS)
    }

    /// The number called `name`, which is made when it is new.
    ///
    /// # Panics
    ///
    /// When the table is full or the name is longer than 55 bytes: both are mistakes in a stand-in.
    pub fn row(&self, name: &str) -> Row<'_> {
        assert!(name.len() < NAME_BYTES, "a ledger's names have at most {} bytes: {name}", NAME_BYTES - 1);
        if let Some(row) = self.rows().find(|row| self.name(*row) == name) {
            return Row(self.value(row));
        }
        let row = self.word(USED_AT).fetch_add(1, Ordering::SeqCst) as usize;
        assert!(row < ROWS, "the ledger is full: make ROWS larger");
        for (to, from) in self.bytes(ROWS_AT + row * ROW_BYTES + 8, NAME_BYTES).iter().zip(name.bytes()) {
            to.store(from, Ordering::SeqCst);
        }
        Row(self.value(row))
    }

    /// What `name` is now; 0 when nobody has made it.
    pub fn get(&self, name: &str) -> i64 {
        self.rows()
            .filter(|row| self.name(*row) == name)
            .map(|row| self.value(row).load(Ordering::SeqCst))
            .sum()
    }

    /// Gives an order, or sets a counter back.
    pub fn set(&self, name: &str, value: i64) {
        let mut rows = self.rows().filter(|row| self.name(*row) == name);
        match rows.next() {
            Some(first) => {
                self.value(first).store(value, Ordering::SeqCst);
                rows.for_each(|row| self.value(row).store(0, Ordering::SeqCst));
            }
            None => self.row(name).set(value),
        }
    }

    /// Every name and its value.
    pub fn all(&self) -> Vec<(String, i64)> {
        let mut all: Vec<(String, i64)> = Vec::new();
        for row in self.rows() {
            let (name, value) = (self.name(row), self.value(row).load(Ordering::SeqCst));
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => all.push((name, value)),
            }
        }
        all
    }

    /// What must be zero when nothing is held: every name with `live` in it that is not, in words.
    pub fn held(&self) -> Vec<String> {
        let live = self.all().into_iter().filter(|(name, value)| name.contains("live") && *value != 0);
        live.map(|(name, value)| format!("{name} = {value}")).collect()
    }

    /// Adds a line of text, if there is room.
    pub fn say(&self, line: &str) {
        let line = format!("{line}\n");
        let start = self.word(TEXT_AT).fetch_add(line.len() as u64, Ordering::SeqCst) as usize;
        let bytes = self.bytes(TEXT_AT + 8, TEXT_BYTES);
        for (to, from) in bytes.iter().skip(start).zip(line.bytes()) {
            to.store(from, Ordering::SeqCst);
        }
    }

    /// What has been said.
    pub fn text(&self) -> String {
        let length = (self.word(TEXT_AT).load(Ordering::SeqCst) as usize).min(TEXT_BYTES);
        read_text(&self.bytes(TEXT_AT + 8, TEXT_BYTES)[..length])
    }

    /// Every number is zero again, and nothing has been said.
    pub fn clear(&self) {
        self.rows().for_each(|row| self.value(row).store(0, Ordering::SeqCst));
        self.word(TEXT_AT).store(0, Ordering::SeqCst);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and every reference into it borrows self.
        unsafe { libc::munmap(self.base.cast(), SIZE_BYTES) };
    }
}

fn read_text(bytes: &[AtomicU8]) -> String {
    let text: Vec<u8> =
        bytes.iter().map(|byte| byte.load(Ordering::SeqCst)).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_of_one_file_see_the_same_numbers() {
        let path = std::env::temp_dir().join(format!("watchpost-ledger-{}", std::process::id()));
        let test = Ledger::create(&path).unwrap();
        let library = Ledger::open(&path).unwrap();
        library.row("cuda.live_bytes").change(7);
        library.say("first");
        test.set("order.oom", 1);
        assert_eq!(test.get("cuda.live_bytes"), 7);
        assert_eq!(test.held(), ["cuda.live_bytes = 7"]);
        assert_eq!(test.text(), "first\n");
        assert!(library.row("order.oom").take());
        assert!(!library.row("order.oom").take());
        let fresh = Ledger::create(&path).unwrap();
        assert_eq!(fresh.all(), []);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn another_file_is_refused() {
        let path = std::env::temp_dir().join(format!("watchpost-noledger-{}", std::process::id()));
        std::fs::write(&path, "something else").unwrap();
        assert!(Ledger::open(&path).is_err());
        std::fs::write(&path, vec![b'x'; SIZE_BYTES]).unwrap();
        assert!(Ledger::open(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn text_beyond_the_end_is_cut() {
        let ledger = Ledger::private().unwrap();
        (0..1000).for_each(|n| ledger.say(&format!("line {n}")));
        assert!(ledger.text().starts_with("line 0\nline 1\n"));
        assert_eq!(ledger.text().len(), TEXT_BYTES);
    }
}
