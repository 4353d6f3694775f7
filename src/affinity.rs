//! CPU affinity: which CPUs which threads run on. Off unless it is configured.
//!
//! Linux keeps a set for each thread, and a thread begins with that of the one that starts it. So whoever loads an engine is
//! confined while its library starts its threads ([`Meanwhile`]), the thread that infers is confined before its first
//! inference, and the main thread before it starts anything else. What a process may use at all (a container's cpuset, systemd's
//! `AllowedCPUs=`) is what it was given when it started.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::os_words::os_words;

/// CPUs, at least one: a bit for each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSet([u64; WORDS]);

const WORDS: usize = rustix::thread::CpuSet::MAX_CPU.div_ceil(64);

/// The system knows no higher number.
const HIGHEST: usize = rustix::thread::CpuSet::MAX_CPU - 1;

/// How it is written.
const EXPECTED: &str = "must be CPUs like \"2-3\" or \"0,2,4-7\" (as `taskset -c` and `lscpu` write them)";

impl CpuSet {
    /// The CPU of this number; `None` if none can have it.
    pub fn one(cpu: usize) -> Option<Self> {
        (cpu <= HIGHEST).then(|| Self::of([cpu]))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.cpus().count()
    }

    /// Their numbers, ascending.
    fn cpus(&self) -> impl Iterator<Item = usize> {
        (0..=HIGHEST).filter(|cpu| self.0[cpu / 64] >> (cpu % 64) & 1 == 1)
    }

    fn of(cpus: impl IntoIterator<Item = usize>) -> Self {
        let mut words = [0; WORDS];
        cpus.into_iter().for_each(|cpu| words[cpu / 64] |= 1 << (cpu % 64));
        Self(words)
    }

    fn of_system(set: &rustix::thread::CpuSet) -> Self {
        Self::of((0..=HIGHEST).filter(|&cpu| set.is_set(cpu)))
    }

    /// Those that this process may use.
    ///
    /// # Errors
    /// [`AffinityError::None`] where there is none.
    pub fn usable(&self) -> Result<Self, AffinityError> {
        let allowed = allowed();
        let usable = Self(std::array::from_fn(|word| self.0[word] & allowed.0[word]));
        match usable.count() {
            0 => Err(AffinityError::None { asked: self.to_string(), allowed: allowed.to_string() }),
            _ => Ok(usable),
        }
    }

    fn raw(&self) -> rustix::thread::CpuSet {
        let mut set = rustix::thread::CpuSet::new();
        self.cpus().for_each(|cpu| set.set(cpu));
        set
    }
}

impl FromStr for CpuSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let number = |text: &str| text.trim().parse::<usize>().map_err(|_| EXPECTED.to_owned());
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if last > HIGHEST {
                return Err(format!("names CPU {last}, and there is none above {HIGHEST}"));
            }
            if first > last {
                return Err(format!("{first}-{last} runs backwards; write {last}-{first}"));
            }
            cpus.extend(first..=last);
        }
        Ok(Self::of(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: Vec<usize> = self.cpus().collect();
        let mut rest = cpus.as_slice();
        let mut comma = "";
        while let Some((&first, _)) = rest.split_first() {
            let length = rest.iter().zip(first..).take_while(|&(&cpu, expected)| cpu == expected).count();
            let last = first + length - 1;
            match length {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            (rest, comma) = (&rest[length..], ",");
        }
        Ok(())
    }
}

/// Why threads cannot be confined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AffinityError {
    /// None of the CPUs can be used.
    #[error("none of the CPUs {asked} can be used: this process may run on {allowed}; write some of those")]
    None {
        /// As configured.
        asked: String,
        /// What this machine, or the container, gives.
        allowed: String,
    },
    /// The system refuses.
    #[error("threads cannot be confined to the CPUs {set}: {words}; leave `cpus` out")]
    Refused {
        /// What was asked of it.
        set: String,
        /// Its words.
        words: String,
    },
}

/// Some thread was confined: those that are not asked about must not inherit it unseen.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// What the process was given.
struct Given {
    cpus: CpuSet,
    parallelism: usize,
}

fn given() -> &'static Given {
    static GIVEN: OnceLock<Given> = OnceLock::new();
    GIVEN.get_or_init(|| Given {
        // A kernel that does not tell, or has more CPUs than its answer holds: all that there can be.
        cpus: sched_getaffinity(None).map_or_else(|_| CpuSet::of(0..=HIGHEST), |set| CpuSet::of_system(&set)),
        parallelism: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// CPUs that this process may run on. To be asked first before any thread is confined, which [`confine`] does.
pub fn allowed() -> &'static CpuSet {
    &given().cpus
}

/// Threads that can run at a time: as many as there are CPUs, and no more than a container's quota allows.
pub fn parallelism() -> usize {
    given().parallelism
}

/// Whether any thread of this process is, or was, confined.
pub fn is_in_use() -> bool {
    IN_USE.load(Ordering::Acquire)
}

/// Confines the calling thread, and those it starts from now on.
///
/// # Errors
/// [`AffinityError`].
pub fn confine(set: &CpuSet) -> Result<(), AffinityError> {
    let usable = set.usable()?;
    IN_USE.store(true, Ordering::Release);
    sched_setaffinity(None, &usable.raw()).map_err(|errno| {
        let words = os_words(&errno.into());
        AffinityError::Refused { set: usable.to_string(), words }
    })
}

/// Says if only some of the CPUs asked for can be used.
pub fn tell(asked: &CpuSet) {
    if let Ok(usable) = asked.usable().as_ref()
        && usable != asked
    {
        tracing::warn!(
            "of the CPUs {asked} only {usable} can be used: this process may run on {}",
            allowed()
        );
    }
}

/// The calling thread is confined as long as this lives; then it is as it was. Threads that it starts stay confined.
#[derive(Debug)]
pub struct Meanwhile {
    before: Option<CpuSet>,
}

impl Meanwhile {
    /// Confines the calling thread.
    ///
    /// # Errors
    /// [`AffinityError`].
    pub fn confined(set: &CpuSet) -> Result<Self, AffinityError> {
        let before = sched_getaffinity(None).ok().map(|set| CpuSet::of_system(&set));
        confine(set)?;
        Ok(Self { before })
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.before.as_ref().map(confine) {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_shown_as_people_write_them() {
        for (text, shown, count) in
            [("0", "0", 1), ("2-3", "2-3", 2), (" 7, 0,2-3,3", "0,2-3,7", 4), ("0-1,2,3", "0-3", 4)]
        {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!((set.to_string().as_str(), set.count()), (shown, count), "{text}");
        }
        for wrong in ["", ",", "a", "-1", "1-", "3-1", "0-99999", "1.5", "0 1"] {
            assert!(wrong.parse::<CpuSet>().is_err(), "{wrong:?}");
        }
    }

    /// The first CPU that this process may use.
    fn first() -> CpuSet {
        CpuSet::one(allowed().cpus().next().unwrap()).unwrap()
    }

    #[test]
    fn a_thread_is_confined_with_those_it_starts_and_let_go() {
        let (allowed, one) = (*allowed(), first());
        let mine = || CpuSet::of_system(&sched_getaffinity(None).unwrap());
        std::thread::spawn(move || {
            let started = {
                let _meanwhile = Meanwhile::confined(&one).unwrap();
                assert_eq!(mine(), one);
                std::thread::spawn(mine)
            };
            assert_eq!(started.join().unwrap(), one);
            assert_eq!(mine(), allowed);
            assert!(is_in_use());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_told_with_what_can() {
        let absent = CpuSet::one(HIGHEST).unwrap();
        let words = confine(&absent).unwrap_err().to_string();
        assert!(words.contains("1023") && words.contains(&allowed().to_string()), "{words}");
        // Some of them are enough.
        let some = CpuSet::of(first().cpus().chain([HIGHEST]));
        assert_eq!(some.usable().unwrap(), first());
        assert_eq!(CpuSet::one(HIGHEST + 1), None);
    }
}
