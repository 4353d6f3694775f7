//! What an engine is made from: two builds with the same key may stand in for each other, no others.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hexadecimal;

/// The arithmetic an engine was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanPrecision {
    /// 32-bit float.
    Fp32,
    /// 16-bit float.
    Fp16,
    /// bfloat16.
    Bf16,
    /// 8-bit integer.
    Int8,
}

impl PlanPrecision {
    /// As it is written on the command line and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// Batch sizes as they were asked for. What `auto` came to is in [`super::EngineFacts`]: the daemon must find the
/// engine again without measuring anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum BatchRequest {
    /// The best size up to `limit`, found by measuring on the GPU.
    Auto {
        /// Largest size that was allowed.
        limit: usize,
    },
    /// From 1 frame to this many.
    Upto(usize),
}

impl BatchRequest {
    /// The largest size that it may come to.
    pub fn most(self) -> usize {
        match self {
            Self::Auto { limit } => limit,
            Self::Upto(most) => most,
        }
    }
}

impl fmt::Display for BatchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto { limit } => write!(f, "auto (up to {limit})"),
            Self::Upto(most) => write!(f, "1 to {most}"),
        }
    }
}

/// Everything that decides what the builder makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineKey {
    /// SHA-256 of the model file, 64 hexadecimal digits.
    pub model_sha256: String,
    /// `"tensorrt"`: the library that builds and runs the engine.
    pub library: String,
    /// Its full version: a plan belongs to one patch release.
    pub library_version: String,
    /// Major and minor compute capability of the GPU.
    pub compute_capability: (u32, u32),
    /// Arithmetic.
    pub precision: PlanPrecision,
    /// Width of the input in pixels.
    pub input_width: usize,
    /// Height of the input in pixels.
    pub input_height: usize,
    /// Frames in one inference.
    pub batch: BatchRequest,
    /// 2:4 structured sparsity may be used.
    pub sparse: bool,
    /// The deep learning accelerator that runs what it can, on Jetson.
    pub dla_core: Option<u32>,
    /// Digest of the pictures an INT8 engine was calibrated with.
    pub calibration_sha256: Option<String>,
}

impl EngineKey {
    /// SHA-256 of the key in 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        // A struct of strings and numbers always has a JSON form; an empty one would still be compared in full.
        hexadecimal(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// Name of the engine's files, without extension: a prefix for people, then 16 digits of the digest.
    pub fn stem(&self) -> String {
        let (major, minor) = self.compute_capability;
        let legal = |text: &str| -> String {
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
                .take(24)
                .collect()
        };
        let batch = match self.batch {
            BatchRequest::Auto { .. } => "auto".to_owned(),
            BatchRequest::Upto(most) => most.to_string(),
        };
        let digest = self.digest();
        format!(
            "{}-{}{}-sm{major}{minor}-{}-b{batch}-{}",
            legal(self.model_sha256.get(..8).unwrap_or("model")),
            legal(&self.library),
            legal(&self.library_version),
            self.precision.as_str(),
            &digest[..16],
        )
    }

    /// Whether `found` is the same apart from flags that this key leaves at their defaults.
    pub(super) fn is_fitted_by(&self, found: &Self) -> bool {
        let open = Self { sparse: false, dla_core: None, calibration_sha256: None, ..found.clone() };
        *self == open
    }

    /// What is not the same in `found`, in words; empty when nothing is.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, wanted: String, found: String| {
            if wanted != found {
                let short = |text: &str| text.chars().take(24).collect::<String>();
                differences.push(format!("{what} is {}, not {}", short(&found), short(&wanted)));
            }
        };
        let capability = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        let core = |core: Option<u32>| core.map_or_else(|| "none".to_owned(), |core| core.to_string());
        let pictures = |sha256: &Option<String>| sha256.clone().unwrap_or_else(|| "none".to_owned());
        compare("its model", self.model_sha256.clone(), found.model_sha256.clone());
        compare("its library", self.library.clone(), found.library.clone());
        compare("its library's version", self.library_version.clone(), found.library_version.clone());
        compare(
            "the compute capability of its GPU",
            capability(self.compute_capability),
            capability(found.compute_capability),
        );
        compare("its precision", self.precision.as_str().to_owned(), found.precision.as_str().to_owned());
        let size = |key: &Self| format!("{}x{}", key.input_width, key.input_height);
        compare("its input", size(self), size(found));
        compare("its batch", self.batch.to_string(), found.batch.to_string());
        compare("its sparsity", self.sparse.to_string(), found.sparse.to_string());
        compare("its DLA core", core(self.dla_core), core(found.dla_core));
        compare("its calibration", pictures(&self.calibration_sha256), pictures(&found.calibration_sha256));
        differences
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key like many.
    pub(crate) fn key() -> EngineKey {
        EngineKey {
            model_sha256: "0123456789abcdef".repeat(4),
            library: "tensorrt".to_owned(),
            library_version: "10.3.0.30".to_owned(),
            compute_capability: (8, 7),
            precision: PlanPrecision::Fp16,
            input_width: 640,
            input_height: 384,
            batch: BatchRequest::Upto(8),
            sparse: false,
            dla_core: None,
            calibration_sha256: None,
        }
    }

    /// `key()` with each field changed in turn.
    pub(crate) fn others() -> Vec<EngineKey> {
        let key = key();
        vec![
            EngineKey { model_sha256: "f".repeat(64), ..key.clone() },
            // The last digit alone.
            EngineKey { model_sha256: format!("{}e", &key.model_sha256[..63]), ..key.clone() },
            EngineKey { library: "tensorrt-rtx".to_owned(), ..key.clone() },
            EngineKey { library_version: "10.3.0.26".to_owned(), ..key.clone() },
            EngineKey { compute_capability: (8, 6), ..key.clone() },
            EngineKey { precision: PlanPrecision::Int8, ..key.clone() },
            EngineKey { input_width: 641, ..key.clone() },
            EngineKey { input_height: 385, ..key.clone() },
            EngineKey { batch: BatchRequest::Upto(4), ..key.clone() },
            EngineKey { batch: BatchRequest::Auto { limit: 8 }, ..key.clone() },
            EngineKey { sparse: true, ..key.clone() },
            EngineKey { dla_core: Some(0), ..key.clone() },
            EngineKey { calibration_sha256: Some("a".repeat(64)), ..key },
        ]
    }

    #[test]
    fn every_field_counts_and_is_named_where_it_differs() {
        let key = key();
        assert!(key.differences(&key).is_empty());
        let mut stems = vec![key.stem()];
        for other in others() {
            let differences = key.differences(&other);
            assert_eq!(differences.len(), 1, "{differences:?}");
            stems.push(other.stem());
        }
        stems.sort();
        stems.dedup();
        assert_eq!(stems.len(), others().len() + 1);
    }

    #[test]
    fn flags_that_were_not_asked_for_may_be_there_and_nothing_else() {
        let fits = |found: &EngineKey| key().is_fitted_by(found);
        let fitting = others().iter().filter(|other| fits(other)).count();
        assert_eq!((fitting, fits(&key())), (3, true));
        // What was asked for has to be there.
        let dla = EngineKey { dla_core: Some(1), ..key() };
        assert!(!dla.is_fitted_by(&key()) && !dla.is_fitted_by(&EngineKey { dla_core: Some(0), ..key() }));
    }

    #[test]
    fn a_name_tells_people_what_it_is_and_is_a_plain_file_name() {
        let stem = key().stem();
        assert!(stem.starts_with("01234567-tensorrt10.3.0.30-sm87-fp16-b8-"), "{stem}");
        let strange =
            EngineKey { library_version: "../../10 €\n".repeat(40), model_sha256: "é/".into(), ..key() };
        let stem = strange.stem();
        assert!(
            stem.len() < 120 && stem.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
            "{stem}"
        );
        assert!(!stem.starts_with('.'));
    }

    #[test]
    fn the_digest_of_a_key_stays_what_it_is() {
        // Another digest for the same key would throw away every engine of every box at an update.
        assert_eq!(&key().digest()[..16], "a4c574dd867d4c63");
    }
}
