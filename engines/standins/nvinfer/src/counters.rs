//! What lives and what happened, in the ledger that all stand-ins share.

use std::path::Path;
use std::sync::LazyLock;

use watchpost_standin_contract::Ledger;

use crate::settings::{self, Amount};

static LEDGER: LazyLock<Ledger> = LazyLock::new(|| match std::env::var_os("WATCHPOST_STANDIN_LEDGER") {
    Some(path) => Ledger::open(Path::new(&path))
        .unwrap_or_else(|error| settings::stop(&format!("WATCHPOST_STANDIN_LEDGER {path:?}: {error}"))),
    None => Ledger::private().unwrap_or_else(|error| settings::stop(&format!("no ledger: {error}"))),
});

/// Names of the numbers in the ledger. `live` in a name: must be zero when everything has been given back.
pub mod names {
    pub const LIVE_RUNTIMES: &str = "nvinfer.live_runtimes";
    pub const LIVE_ENGINES: &str = "nvinfer.live_engines";
    pub const LIVE_CONTEXTS: &str = "nvinfer.live_contexts";
    pub const LIVE_HOST_MEMORIES: &str = "nvinfer.live_host_memories";
    pub const LIVE_BUILDERS: &str = "nvinfer.live_builders";
    pub const LIVE_CONFIGS: &str = "nvinfer.live_builder_configs";
    pub const LIVE_NETWORKS: &str = "nvinfer.live_networks";
    pub const LIVE_PARSERS: &str = "nvinfer.live_onnx_parsers";
    pub const LIVE_TIMING_CACHES: &str = "nvinfer.live_timing_caches";
    /// Enqueued and not done. Not called live: a hang that was asked for leaves it above zero.
    pub const IN_FLIGHT: &str = "nvinfer.in_flight";
    /// Calls of `enqueueV3` that returned true.
    pub const ENQUEUED: &str = "nvinfer.enqueued";
    /// Frames inferred.
    pub const FRAMES: &str = "nvinfer.frames";
    /// Engines built.
    pub const BUILDS: &str = "nvinfer.builds";
    /// Builds that found their model in the timing cache.
    pub const TIMING_CACHE_HITS: &str = "nvinfer.timing_cache_hits";
    /// Batches of pictures that an INT8 calibrator gave.
    pub const CALIBRATION_BATCHES: &str = "nvinfer.calibration_batches";
    /// What no correct program does; standard error and the ledger's text say each.
    pub const VIOLATIONS: &str = "nvinfer.violations";
    /// Order: what hangs may end.
    pub const ORDER_RELEASE: &str = "order.nvinfer.release";
}

/// Adds to a number.
pub fn add(name: &str, delta: i64) {
    LEDGER.row(name).add(delta);
}

/// A number as it is now.
pub fn get(name: &str) -> i64 {
    LEDGER.get(name)
}

/// Sets a number: gives an order.
pub fn set(name: &str, value: i64) {
    LEDGER.set(name, value);
}

/// Sets every number to zero, unless other processes share the ledger.
pub fn clear_own() {
    if std::env::var_os("WATCHPOST_STANDIN_LEDGER").is_none() {
        LEDGER.clear();
    }
}

/// Whether the ledger orders this fault; takes one off the order.
pub fn ordered(key: &str) -> bool {
    let name = format!("order.nvinfer.{key}");
    LEDGER.get(&name) > 0 && LEDGER.row(&name).take()
}

/// Something that no correct program does. It is counted and told; with `nvinfer.strict=1` it stops the process.
pub fn violation(what: &str) {
    add(names::VIOLATIONS, 1);
    LEDGER.say(&format!("nvinfer: {what}"));
    eprintln!("stand-in libnvinfer: violation: {what}");
    if settings::amount(Amount::Strict) != 0 {
        std::process::abort();
    }
}

/// One living object.
#[derive(Debug)]
pub struct Live(&'static str);

impl Live {
    /// Counts it until it is dropped.
    pub fn new(name: &'static str) -> Self {
        add(name, 1);
        Self(name)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        add(self.0, -1);
    }
}
