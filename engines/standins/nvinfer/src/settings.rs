//! How the stand-in is told to behave: `WATCHPOST_STANDIN`, `standin_nvinfer_configure`, orders in the ledger.
//!
//! The variable is a comma-separated list of `key=value` that all stand-ins share. Ours begin with `nvinfer.`
//! (both majors), `nvinfer10.` or `nvinfer11.`; an unknown one stops the process, because a test that asks for a
//! fault and does not get it proves nothing. The README lists the keys.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::counters::Counter;

/// A version as the library tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
    pub build: u32,
}

impl Version {
    /// `getInferLibVersion`: 10.16.0 is 101600.
    pub fn number(self) -> u32 {
        self.major * 10_000 + self.minor * 100 + self.patch
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.major, self.minor, self.patch, self.build)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = [0; 4];
        let mut given = text.split('.');
        for part in &mut parts {
            let Some(word) = given.next() else { break };
            *part = word.parse().map_err(|_| format!("{text} is no version; write 10.3.0"))?;
        }
        let [major, minor, patch, build] = parts;
        given.next().map_or(Ok(Self { major, minor, patch, build }), |_| Err(format!("{text} is no version")))
    }
}

/// Which calls of one kind are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum When {
    /// None.
    #[default]
    Never,
    /// Only this one, counted from 1.
    Nth(u64),
    /// This one and all after it.
    From(u64),
}

impl When {
    fn matches(self, call: u64) -> bool {
        match self {
            Self::Never => false,
            Self::Nth(n) => call == n,
            Self::From(n) => call >= n,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().map_err(|_| format!("{text}: write never, all, 3 or 3+"));
        match text {
            "never" | "0" => Ok(Self::Never),
            "all" => Ok(Self::From(1)),
            _ => match text.strip_suffix('+') {
                Some(digits) => number(digits).map(Self::From),
                None => number(text).map(Self::Nth),
            },
        }
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $key:literal,)*) => {
        /// What can be made to go wrong. Each kind of call is counted by itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        /// The ledger's orders for them, in the same order.
        static ORDERS: [Counter; Fault::ALL.len()] = [$(Counter::new(concat!("order.nvinfer.", $key)),)*];

        impl Fault {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its key, behind `nvinfer.`; in the ledger behind `order.nvinfer.`.
            pub fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }
        }
    };
}

faults! {
    /// `createInferRuntime` and `createInferBuilder` find no GPU: error 35 in the log, and 0x228 for a pointer.
    NoGpu = "no_gpu",
    /// `deserializeCudaEngine` refuses the plan.
    DeserializeFails = "deserialize_fails",
    /// `createExecutionContext` has no memory.
    ContextFails = "context_fails",
    /// `enqueueV3` returns false.
    EnqueueFails = "enqueue_fails",
    /// `enqueueV3` does not return.
    EnqueueHangs = "enqueue_hangs",
    /// What was enqueued never ends.
    WorkHangs = "work_hangs",
    /// The outputs are NaN.
    OutputsNan = "outputs_nan",
    /// The parser refuses the model.
    ParseFails = "parse_fails",
    /// The builder returns null.
    BuildFails = "build_fails",
}

macro_rules! amounts {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $default:expr;)*) => {
        /// Numbers that can be set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Amount { $($(#[$doc])* $name,)* }

        impl Amount {
            const ALL: &[(Self, &'static str, u64)] = &[$((Self::$name, $key, $default),)*];
        }
    };
}

amounts! {
    /// Each enqueued batch takes that much longer.
    EnqueueUs = "enqueue_us", 0;
    /// A build takes that long (a tenth with a hit in the timing cache).
    BuildMs = "build_ms", 0;
    /// Deserialising takes that long.
    DeserializeMs = "deserialize_ms", 0;
    /// Rounds of messages of every severity at each creation, build and enqueue.
    Chatter = "chatter", 0;
    /// DLA cores of the device.
    DlaCores = "dla_cores", 0;
    /// Activation memory of a context; 0: computed from the shapes.
    ActivationBytes = "activation_bytes", 0;
    /// Not 0: a broken order of use stops the process instead of being counted.
    Strict = "strict", 0;
    /// 0: do without libcuda; work is done inside `enqueueV3`.
    Cuda = "cuda", 1;
}

#[derive(Debug)]
struct Settings {
    version: Option<Version>,
    compute_capability: Option<(u32, u32)>,
    whens: [(When, u64); Fault::ALL.len()],
    amounts: [u64; Amount::ALL.len()],
}

impl Settings {
    fn new() -> Self {
        let mut amounts = [0; Amount::ALL.len()];
        for (amount, (_, _, default)) in amounts.iter_mut().zip(Amount::ALL) {
            *amount = *default;
        }
        Self { version: None, compute_capability: None, whens: Default::default(), amounts }
    }

    fn apply(&mut self, list: &str) -> Result<(), String> {
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (key, value) = entry.split_once('=').ok_or_else(|| format!("{entry}: write key=value"))?;
            let own = format!("nvinfer{}.", major());
            if let Some(key) = key.strip_prefix("nvinfer.").or_else(|| key.strip_prefix(own.as_str())) {
                self.set(key, value)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if let Some(fault) = Fault::ALL.iter().find(|fault| fault.key() == key) {
            self.whens[*fault as usize] = (value.parse()?, 0);
        } else if let Some((amount, ..)) = Amount::ALL.iter().find(|(_, name, _)| *name == key) {
            self.amounts[*amount as usize] =
                value.parse().map_err(|_| format!("nvinfer.{key}={value}: write a number"))?;
        } else if key == "version" {
            self.version = Some(value.parse()?);
        } else if key == "compute_capability" {
            let numbers = value.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            self.compute_capability =
                Some(numbers.ok_or_else(|| format!("nvinfer.{key}={value}: write 8.6"))?);
        } else {
            let faults = Fault::ALL.iter().map(|fault| fault.key());
            let known: Vec<_> = faults.chain(Amount::ALL.iter().map(|(_, name, _)| *name)).collect();
            let known = known.join(", ");
            return Err(format!("nvinfer.{key} is unknown; there are version, compute_capability, {known}"));
        }
        Ok(())
    }
}

static MAJOR: AtomicU32 = AtomicU32::new(10);

static SETTINGS: LazyLock<Mutex<Settings>> = LazyLock::new(|| {
    let mut settings = Settings::new();
    if let Some(list) = std::env::var_os("WATCHPOST_STANDIN") {
        settings.apply(&list.to_string_lossy()).unwrap_or_else(|error| stop(&error));
    }
    Mutex::new(settings)
});

/// Says which major's library this is; the library's first exported function to run does it.
pub fn set_major(major: u32) {
    MAJOR.store(major, Ordering::SeqCst);
}

/// The major of this library: its interface. The version it tells may be another ([`version`]).
pub fn major() -> u32 {
    MAJOR.load(Ordering::SeqCst)
}

fn settings() -> MutexGuard<'static, Settings> {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds settings to those of the environment. Counts of calls begin anew for each fault that is named.
///
/// # Errors
/// A key or value that is not understood.
pub fn configure(list: &str) -> Result<(), String> {
    settings().apply(list)
}

/// Back to the defaults, without the environment's settings.
pub fn reset() {
    *settings() = Settings::new();
}

/// The version that this library tells.
pub fn version() -> Version {
    let usual = match major() {
        11 => Version { major: 11, minor: 4, patch: 0, build: 106 },
        _ => Version { major: 10, minor: 16, patch: 0, build: 72 },
    };
    settings().version.unwrap_or(usual)
}

/// The compute capability that was set, if any.
pub fn compute_capability() -> Option<(u32, u32)> {
    settings().compute_capability
}

/// A number as it is set.
pub fn amount(amount: Amount) -> u64 {
    settings().amounts[amount as usize]
}

/// Whether this call is to go wrong. Counts the call.
pub fn due(fault: Fault) -> bool {
    let configured = {
        let (when, calls) = &mut settings().whens[fault as usize];
        *calls += 1;
        when.matches(*calls)
    };
    ORDERS[fault as usize].take() || configured
}

/// The stand-in cannot go on in a way that a test would notice.
pub fn stop(why: &str) -> ! {
    eprintln!("stand-in libnvinfer: {why}");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_whens_are_read_and_nonsense_is_refused() {
        let version: Version = "10.3".parse().unwrap();
        assert_eq!((version.number(), version.to_string()), (100_300, "10.3.0.0".to_owned()));
        assert_eq!("11.4.0.106".parse::<Version>().unwrap().build, 106);
        assert!("10.x".parse::<Version>().is_err() && "1.2.3.4.5".parse::<Version>().is_err());
        assert!("3".parse::<When>().unwrap().matches(3) && !"3".parse::<When>().unwrap().matches(4));
        assert!("3+".parse::<When>().unwrap().matches(9) && !"3+".parse::<When>().unwrap().matches(2));
        assert!("all".parse::<When>().unwrap().matches(1) && "often".parse::<When>().is_err());
    }

    #[test]
    fn only_our_keys_are_read_and_unknown_ones_among_them_refused() {
        let mut settings = Settings::new();
        settings.apply("oom=3, nvinfer.version=8.6.1,nvinfer11.chatter=4,nvinfer10.build_ms=7").unwrap();
        assert_eq!(settings.version.unwrap().number(), 80_601);
        assert_eq!(settings.amounts[Amount::BuildMs as usize], 7);
        assert_eq!(settings.amounts[Amount::Chatter as usize], 0);
        assert_eq!(settings.amounts[Amount::Cuda as usize], 1);
        assert!(settings.apply("nvinfer.enqueue_fail=1").unwrap_err().contains("enqueue_fails"));
        assert!(
            settings.apply("nvinfer.chatter=loud").is_err() && settings.apply("nvinfer.chatter").is_err()
        );
    }
}
