//! What the stand-in calls a plan: who made it for what, and the ONNX file itself.
//!
//! Little-endian. No checksum, on purpose: whoever caches plans must notice a flipped bit without our help.

use crate::settings::Version;

const MAGIC: &[u8; 8] = b"WPSTPLAN";

/// TensorRT's `DataType`, as far as a detector's tensors have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32 = 0,
    F16 = 1,
    I32 = 3,
    I64 = 8,
}

impl Element {
    /// From TensorProto.DataType.
    pub fn from_onnx(element: u64) -> Option<Self> {
        Some(match element {
            1 => Self::F32,
            6 => Self::I32,
            7 => Self::I64,
            10 => Self::F16,
            _ => return None,
        })
    }

    fn from_code(code: u32) -> Option<Self> {
        [Self::F32, Self::F16, Self::I32, Self::I64].into_iter().find(|element| *element as u32 == code)
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// Smallest, usual and largest shape of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    pub min: [i64; 4],
    pub opt: [i64; 4],
    pub max: [i64; 4],
}

/// Everything in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub version: Version,
    /// Loads in other versions of the same major, too.
    pub version_compatible: bool,
    pub compute_capability: (u32, u32),
    /// `HardwareCompatibilityLevel`
    pub hardware_compatibility: u32,
    /// `fp32`, `fp16`, …, `as in the model`
    pub precision: String,
    /// -1: none.
    pub dla_core: i32,
    pub profile: Profile,
    pub input: Element,
    pub outputs: Vec<Element>,
    pub onnx: Vec<u8>,
}

impl Plan {
    pub fn encode(&self) -> Vec<u8> {
        let Version { major, minor, patch, build } = self.version;
        let mut out = MAGIC.to_vec();
        let mut put = |value: i64| out.extend_from_slice(&value.to_le_bytes());
        for value in [major, minor, patch, build, u32::from(self.version_compatible)] {
            put(i64::from(value));
        }
        for value in [self.compute_capability.0, self.compute_capability.1, self.hardware_compatibility] {
            put(i64::from(value));
        }
        put(i64::from(self.dla_core));
        [self.profile.min, self.profile.opt, self.profile.max].concat().into_iter().for_each(&mut put);
        put(self.input as i64);
        put(self.outputs.len() as i64);
        self.outputs.iter().for_each(|element| put(*element as i64));
        for bytes in [self.precision.as_bytes(), &self.onnx] {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err("the magic tag does not match: this is no plan".to_owned());
        };
        let mut rest = Rest(rest);
        rest.plan().ok_or_else(|| format!("the plan ends too early or is damaged ({} bytes)", bytes.len()))
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn bytes(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn shape(&mut self) -> Option<[i64; 4]> {
        Some([self.number()?, self.number()?, self.number()?, self.number()?])
    }

    fn block(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok()?;
        Some(self.bytes(length)?.to_vec())
    }

    fn plan(&mut self) -> Option<Plan> {
        let [major, minor, patch, build] = [self.small()?, self.small()?, self.small()?, self.small()?];
        let version_compatible = self.small()? != 0;
        let compute_capability = (self.small()?, self.small()?);
        let hardware_compatibility = self.small()?;
        let dla_core = i32::try_from(self.number()?).ok()?;
        let profile = Profile { min: self.shape()?, opt: self.shape()?, max: self.shape()? };
        let input = Element::from_code(self.small()?)?;
        let count = self.small().filter(|count| *count <= 64)?;
        let outputs = (0..count).map(|_| Element::from_code(self.small()?)).collect::<Option<_>>()?;
        let precision = String::from_utf8(self.block()?).ok()?;
        let onnx = self.block()?;
        self.0.is_empty().then_some(Plan {
            version: Version { major, minor, patch, build },
            version_compatible,
            compute_capability,
            hardware_compatibility,
            precision,
            dla_core,
            profile,
            input,
            outputs,
            onnx,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_whole_and_no_part_of_one_is_taken() {
        let plan = Plan {
            version: Version { major: 10, minor: 3, patch: 0, build: 30 },
            version_compatible: true,
            compute_capability: (8, 7),
            hardware_compatibility: 1,
            precision: "fp16".to_owned(),
            dla_core: -1,
            profile: Profile { min: [1, 3, 2, 4], opt: [4, 3, 2, 4], max: [8, 3, 2, 4] },
            input: Element::F16,
            outputs: vec![Element::F32, Element::I64],
            onnx: vec![1, 2, 3],
        };
        let bytes = plan.encode();
        assert_eq!(Plan::decode(&bytes), Ok(plan));
        assert!((0..bytes.len()).all(|length| Plan::decode(&bytes[..length]).is_err()));
        assert!(Plan::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
