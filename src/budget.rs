//! Every capacity in the process, computed once at start, one owner a line.
//!
//! What is *exact* is allocated at start and never again. What is *bounded* cannot exceed the figure. What is
//! *estimated* lies in a library's hands (a decoder's pictures depend on what the camera sends) and is stated
//! for a stream of 1920x1080; it does not depend on how long the process runs.

use serde::Serialize;
use watchpost_cuda::{Element, Ledger, Owner};
use watchpost_pipelines::kept_bytes_bound;

use crate::config::{Config, Locator};
use crate::decode::Decoder;
use crate::engine::WORK_MAX;
use crate::filter::Events;
use crate::frame::{GateOptions, LazyOptions, Letterbox, MotionGate, Place, PrivacyMask, Work};
use crate::model::Manifest;
use crate::publish::footprint_bytes;
use crate::snapshots::Snapshots;
use crate::track::{Tracker, Workspace};

/// The stream that estimates are made for.
const STREAM_WIDTH: u32 = 1920;
const STREAM_HEIGHT: u32 = 1080;
/// Bits a second of a busy 1080p stream, for what lies in a jitter buffer.
const STREAM_BITS_PER_SECOND: u64 = 8_000_000;
/// Pictures that an H.264 decoder holds for reference and reordering at level 4.0 and 1080p (ITU-T H.264
/// table A-1: 4), one that it writes, and those on their way to us.
const DECODER_PICTURES: u64 = 4 + 1 + 1;
/// In the mailbox, in the appsink, and being letterboxed.
const PICTURES_HELD: u64 = 3;

/// How much a figure can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Allocated at start.
    Exact,
    /// Cannot be exceeded.
    Bounded,
    /// Depends on what a library does with what a camera sends.
    Estimated,
    /// Read from the operating system just now.
    Measured,
}

/// One capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Who holds it.
    pub owner: String,
    /// What it is.
    pub what: &'static str,
    /// How many.
    pub count: u64,
    /// Bytes of one.
    pub each_bytes: u64,
    /// `count * each_bytes`.
    pub total_bytes: u64,
    /// How much the figure can be relied on.
    pub basis: Basis,
}

/// All capacities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Budget {
    /// One owner a line.
    pub lines: Vec<Line>,
}

impl Budget {
    /// The capacities that a configuration, a model, and the place of its slots lead to.
    pub fn new(config: &Config, manifest: &Manifest, decoder: &Decoder, place: &Place) -> Self {
        let mut budget = Self::default();
        budget.cameras(config, manifest, place);
        budget.add("engine", "work queue", WORK_MAX, size_of::<Work>(), Basis::Exact);
        budget.add("engine", "decoding and NMS buffers", 1, decoder.buffer_bytes(), Basis::Exact);
        budget.tracks(config);
        budget.snapshots(config, manifest);
        for output in &config.outputs {
            let owner = format!("output {}", output.name);
            budget.add(&owner, "lines kept, and their readers", 1, footprint_bytes(output), Basis::Bounded);
        }
        budget
    }

    fn tracks(&mut self, config: &Config) {
        let max_objects = config.detector.max_objects;
        let tracking = config.cameras.iter().filter(|camera| camera.track);
        for camera in tracking.clone() {
            let owner = format!("camera {}", camera.name);
            self.add(&owner, "tracks", 1, Tracker::buffer_bytes(max_objects), Basis::Exact);
            let events_bytes = Events::buffer_bytes(camera, max_objects);
            if events_bytes > 0 {
                self.add(&owner, "ways through zones and over lines", 1, events_bytes, Basis::Exact);
            }
        }
        if tracking.count() > 0 {
            self.add("engine", "tracking buffers", 1, Workspace::buffer_bytes(max_objects), Basis::Exact);
        }
    }

    fn snapshots(&mut self, config: &Config, manifest: &Manifest) {
        let wanting = config.cameras.iter().filter(|camera| camera.snapshots).count();
        if wanting > 0 && config.snapshots.dir.is_some() {
            let bytes = Snapshots::footprint_bytes(&manifest.input, wanting);
            self.add(
                "snapshots",
                "pictures on their way, and what is known of tracks",
                1,
                bytes,
                Basis::Bounded,
            );
        }
    }

    /// What the engine holds on the GPU, by owner; slots have lines of their own.
    pub fn gpu(&mut self, ledger: &Ledger) {
        let owners = [
            (Owner::Weights, "weights, on the GPU"),
            (Owner::Activations, "activations, on the GPU"),
            (Owner::Batches, "batches, on the GPU"),
            (Owner::Outputs, "outputs, on the GPU"),
        ];
        for (owner, what) in owners {
            let bytes = usize::try_from(ledger.device(owner).bytes).unwrap_or(usize::MAX);
            if bytes > 0 {
                self.add("engine", what, 1, bytes, Basis::Measured);
            }
        }
        let pinned = usize::try_from(ledger.pinned(Owner::Outputs).bytes).unwrap_or(usize::MAX);
        self.add("engine", "outputs, page-locked", 1, pinned, Basis::Measured);
    }

    fn slots(&mut self, owner: &str, count: usize, manifest: &Manifest, place: &Place) {
        let values = manifest.input.len();
        let staged_bytes = values * size_of::<f32>();
        match place {
            Place::Host => self.add(owner, "frame slots", count, staged_bytes, Basis::Exact),
            Place::HostFormed(form) => {
                self.add(owner, "frame slots", count, values * form.number.bytes(), Basis::Exact);
            }
            Place::Device { element, .. } => {
                self.add(owner, "frame slots, on the GPU", count, values * element.bytes(), Basis::Exact);
                // Both only where the CPU decodes this camera.
                self.add(owner, "staging, page-locked", 1, staged_bytes, Basis::Bounded);
                if *element == Element::F16 {
                    self.add(owner, "staging, on the GPU", 1, staged_bytes, Basis::Bounded);
                }
            }
        }
    }

    fn cameras(&mut self, config: &Config, manifest: &Manifest, place: &Place) {
        let picture_bytes = (STREAM_WIDTH * STREAM_HEIGHT * 3 / 2) as usize;
        for camera in &config.cameras {
            let owner = format!("camera {}", camera.name);
            self.slots(&owner, camera.slots, manifest, place);
            let rows = match place {
                Place::HostFormed(_) => 3 * manifest.input.width * size_of::<f32>(),
                Place::Host | Place::Device { .. } => 0,
            };
            let scratch = Letterbox::scratch_bytes_for(&manifest.input, STREAM_WIDTH) + rows;
            self.add(&owner, "letterbox rows and tables", 1, scratch, Basis::Bounded);
            if !camera.privacy_masks.is_empty() {
                let rows = PrivacyMask::bytes_for(&camera.privacy_masks, &manifest.input);
                self.add(&owner, "rows of privacy masks", 1, rows, Basis::Bounded);
            }
            let (width, height) = match camera.locator {
                Locator::Scene { width, height, .. } => (width, height),
                _ => (STREAM_WIDTH, STREAM_HEIGHT),
            };
            let held = if width == STREAM_WIDTH { picture_bytes } else { (width * height * 3 / 2) as usize };
            self.add(&owner, "decoded frames held", PICTURES_HELD as usize, held, Basis::Estimated);
            if !matches!(camera.locator, Locator::Scene { .. }) {
                let pictures = DECODER_PICTURES as usize + camera.decode_threads;
                self.add(&owner, "decoder's pictures", pictures, picture_bytes, Basis::Estimated);
            }
            if GateOptions::of(camera).is_some() {
                self.add(&owner, "pictures compared for motion", 1, MotionGate::bytes(), Basis::Exact);
            }
            if let Some(lazy) = LazyOptions::of(camera) {
                let most_bytes = kept_bytes_bound(lazy.buffer_bytes);
                self.add(&owner, "coded pictures kept (decode = lazy)", 1, most_bytes, Basis::Bounded);
            }
            if matches!(camera.locator, Locator::Rtsp { .. }) {
                let bytes = camera.latency.as_secs_f64() * STREAM_BITS_PER_SECOND as f64 / 8.0;
                self.add(&owner, "jitter buffer", 1, bytes as usize, Basis::Estimated);
            }
        }
    }

    /// One more line.
    pub fn add(&mut self, owner: &str, what: &'static str, count: usize, each_bytes: usize, basis: Basis) {
        let (count, each_bytes) = (count as u64, each_bytes as u64);
        let total_bytes = count.saturating_mul(each_bytes);
        self.lines.push(Line { owner: owner.to_owned(), what, count, each_bytes, total_bytes, basis });
    }

    /// Sum of all lines.
    pub fn total_bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.total_bytes).sum()
    }

    /// A table for people.
    pub fn render(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let owner_width = self.lines.iter().map(|line| line.owner.chars().count()).max().unwrap_or(5).max(5);
        let what_width = self.lines.iter().map(|line| line.what.len()).max().unwrap_or(4);
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:owner_width$}  {:what_width$}  {:>5} x {:>10} = {:>10}",
            "owner", "what", "count", "each", "total"
        );
        for line in &self.lines {
            let basis = match line.basis {
                Basis::Exact => "",
                Basis::Bounded => "  at most",
                Basis::Estimated => "  estimated for 1920x1080",
                Basis::Measured => "  measured",
            };
            let _ = writeln!(
                text,
                "{:owner_width$}  {:what_width$}  {:>5} x {:>10} = {:>10}{basis}",
                line.owner,
                line.what,
                line.count,
                show_bytes(line.each_bytes),
                show_bytes(line.total_bytes),
            );
        }
        let _ = writeln!(
            text,
            "{:owner_width$}  {:what_width$}  {:>5}   {:>10}   {:>10}",
            "sum",
            "",
            "",
            "",
            show_bytes(self.total_bytes())
        );
        text
    }
}

/// `1.5 MiB`
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
