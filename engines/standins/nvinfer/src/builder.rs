//! From an ONNX model and a builder's configuration to a plan.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::counters;
use crate::log::{Logger, Severity};
use crate::model::{Loaded, Network};
use crate::onnx::Declared;
use crate::pause;
use crate::plan::{Element, Plan, Profile};
use crate::settings::{self, Amount, Fault};

/// `BuilderFlag` of 10.x; 11 has neither FP16 nor INT8 nor BF16, and VERSION_COMPATIBLE elsewhere.
const FP16: u32 = 0;
const INT8: u32 = 1;
const BF16: u32 = 17;
/// `BuilderFlag`s of 11: its headers have holes where 10's precisions were.
const FLAGS_OF_11: [u32; 20] = [2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 17, 18, 19, 20, 22, 23, 24, 26, 27];
/// `BuilderFlag::kDISTRIBUTIVE_INDEPENDENCE`, the last one of 10.
const LAST_FLAG_OF_10: u32 = 28;
/// `DeviceType::kDLA`
const DLA: i32 = 1;
/// Steps that a build tells of.
const STEPS: u32 = 4;

/// What a builder's configuration and its network say.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub flags: u32,
    pub strongly_typed: bool,
    pub device_type: i32,
    pub dla_core: i32,
    pub hardware_compatibility: u32,
    /// Per input: its name, and its smallest, usual and largest shape.
    pub profile: Vec<(String, [Vec<i64>; 3])>,
    /// Types of input and outputs other than the model's: what `ITensor::setType` or trtexec's formats ask for.
    pub input: Option<Element>,
    pub output: Option<Element>,
}

/// Whether this major has such a flag.
pub fn flag_is_known(flag: u32) -> bool {
    match settings::major() {
        11 => FLAGS_OF_11.contains(&flag),
        _ => flag <= LAST_FLAG_OF_10,
    }
}

impl Request {
    fn has(&self, flag: u32) -> bool {
        settings::major() == 10 && self.flags >> flag & 1 == 1
    }

    fn version_compatible(&self) -> bool {
        let flag = if settings::major() == 11 { 12 } else { 13 };
        self.flags >> flag & 1 == 1
    }

    fn precision(&self) -> Result<String, String> {
        let chosen: Vec<_> = [(INT8, "int8"), (BF16, "bf16"), (FP16, "fp16")]
            .into_iter()
            .filter(|(flag, _)| self.has(*flag))
            .map(|(_, name)| name)
            .collect();
        match (self.strongly_typed || settings::major() == 11, chosen.is_empty()) {
            (true, true) => Ok("as in the model".to_owned()),
            (true, false) => Err(format!(
                "Error Code 3: API Usage Error (a strongly typed network cannot be built with {})",
                chosen.join(", ")
            )),
            (false, true) => Ok("fp32".to_owned()),
            (false, false) => Ok(chosen.join("+")),
        }
    }

    fn check_dla(&self) -> Result<i32, String> {
        if self.device_type != DLA {
            return Ok(-1);
        }
        let cores = settings::amount(Amount::DlaCores);
        if u64::try_from(self.dla_core).is_ok_and(|core| core < cores) {
            Ok(self.dla_core)
        } else {
            Err(format!(
                "Error Code 3: API Usage Error (DLA core {} was asked for, the platform has {cores})",
                self.dla_core
            ))
        }
    }

    fn shapes(&self, input: &Declared) -> Result<Profile, String> {
        let found = self.profile.iter().find(|(name, _)| *name == input.name);
        let dynamic = input.sizes.contains(&-1);
        let Some((_, shapes)) = found else {
            if dynamic {
                return Err(format!(
                    "Error Code 4: Internal Error ({}: dynamic input is missing dimensions in an optimization profile)",
                    input.name
                ));
            }
            let shape = four(&input.sizes)?;
            return Ok(Profile { min: shape, opt: shape, max: shape });
        };
        let profile = Profile { min: four(&shapes[0])?, opt: four(&shapes[1])?, max: four(&shapes[2])? };
        for (axis, &size) in input.sizes.iter().enumerate() {
            let (min, opt, max) = (profile.min[axis], profile.opt[axis], profile.max[axis]);
            if min < 1 || min > opt || opt > max || (size >= 0 && (min, max) != (size, size)) {
                return Err(format!(
                    "Error Code 4: API Usage Error ({}: dimension {axis}: profile {min}, {opt}, {max} against {size} \
                     in the network)",
                    input.name
                ));
            }
            if axis > 0 && min != max {
                return Err(format!(
                    "{}: the stand-in runs one width and height, not {min} to {max}",
                    input.name
                ));
            }
        }
        Ok(profile)
    }
}

fn four(shape: &[i64]) -> Result<[i64; 4], String> {
    shape.try_into().map_err(|_| format!("Error Code 4: API Usage Error ({shape:?} has not four dimensions)"))
}

/// What was built before: names of tactics in the real one, models here.
#[derive(Debug, Clone, Default)]
pub struct TimingCache(Arc<Mutex<Vec<u64>>>);

const CACHE_MAGIC: &[u8; 8] = b"WPSTTIME";

impl TimingCache {
    /// `createTimingCache`: from nothing, or from what `serialize` gave.
    ///
    /// # Errors
    /// It is something else, or of another version.
    pub fn read(blob: &[u8]) -> Result<Self, String> {
        if blob.is_empty() {
            return Ok(Self::default());
        }
        let (words, rest) = blob.as_chunks::<8>();
        let of_version = u64::from(settings::version().number());
        match words {
            [magic, version, entries @ ..] if rest.is_empty() && magic == CACHE_MAGIC => {
                if u64::from_le_bytes(*version) != of_version {
                    return Err("the timing cache is of another version of TensorRT".to_owned());
                }
                let entries = entries.iter().map(|entry| u64::from_le_bytes(*entry)).collect();
                Ok(Self(Arc::new(Mutex::new(entries))))
            }
            _ => Err("the timing cache is damaged".to_owned()),
        }
    }

    /// `ITimingCache::serialize`
    pub fn serialize(&self) -> Vec<u8> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = u64::from(settings::version().number());
        let words = [u64::from_le_bytes(*CACHE_MAGIC), version].into_iter().chain(entries.iter().copied());
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// Adds another cache's entries.
    pub fn combine(&self, other: &Self) {
        let theirs = other.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        theirs.into_iter().for_each(|entry| {
            self.add(entry);
        });
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Adds an entry, and says whether it was there.
    fn add(&self, entry: u64) -> bool {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.contains(&entry);
        if !known {
            entries.push(entry);
        }
        known
    }
}

/// FNV-1a; tells models apart, no more.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// `IBuilder::buildSerializedNetwork`
///
/// # Errors
/// Why there is no plan, for the log.
pub fn build(
    network: Option<&Network>,
    request: &Request,
    cache: Option<&TimingCache>,
    compute_capability: (u32, u32),
    logger: &Logger,
) -> Result<Vec<u8>, String> {
    logger.chatter("buildSerializedNetwork");
    let network =
        network.ok_or("Error Code 4: Internal Error (Network must have at least one output)".to_owned())?;
    let precision = request.precision()?;
    let dla_core = request.check_dla()?;
    let profile = request.shapes(&network.input)?;
    let hit = cache.is_some_and(|cache| cache.add(fingerprint(&network.onnx)));
    if hit {
        counters::TIMING_CACHE_HITS.add(1);
    }
    let total_ms = settings::amount(Amount::BuildMs) / if hit { 10 } else { 1 };
    for step in 1..=STEPS {
        pause::wait(Duration::from_millis(total_ms) / STEPS);
        logger.say(Severity::Info, &format!("Engine generation: step {step} of {STEPS}"));
    }
    if settings::due(Fault::BuildFails) {
        return Err("Error Code 10: Internal Error (Could not find any implementation for node: on demand)"
            .to_owned());
    }
    check_batch(network, profile)?;
    counters::BUILDS.add(1);
    let outputs = network.output_elements.iter();
    let plan = Plan {
        version: settings::version(),
        version_compatible: request.version_compatible(),
        compute_capability,
        hardware_compatibility: request.hardware_compatibility,
        precision,
        dla_core,
        profile,
        input: request.input.unwrap_or(network.input_element),
        outputs: outputs
            .map(|&element| request.output.filter(|_| is_float(element)).unwrap_or(element))
            .collect(),
        onnx: network.onnx.to_vec(),
    };
    Ok(plan.encode())
}

fn is_float(element: Element) -> bool {
    matches!(element, Element::F32 | Element::F16)
}

/// The model runs with these sizes, and its outputs can be put behind each other, frame by frame.
fn check_batch(network: &Network, profile: Profile) -> Result<(), String> {
    let side = |axis: usize| usize::try_from(profile.max[axis]).unwrap_or(0);
    let loaded = Loaded::new(Arc::clone(&network.onnx), Some((side(3), side(2))))?;
    let unbatched = loaded.model.outputs().iter().find(|output| output.shape.first() != Some(&1));
    match unbatched {
        Some(output) if network.input.sizes[0] < 0 => Err(format!(
            "{}: shape {:?} for one frame does not begin with the batch: the stand-in cannot run it in batches",
            output.name, output.shape
        )),
        _ => Ok(()),
    }
}
