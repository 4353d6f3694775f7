//! The manifest: a TOML file beside a model that says what its input wants and what its outputs mean.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::labels;
use super::manifest_text::{self, Parsed};
use super::{HeadRecipe, InputRecipe, ModelError, outputs};

/// A manifest is a page of text; labels in many languages are still far below this.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Where the weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// An ONNX file.
    File(PathBuf),
    /// Compiled into this binary.
    Embedded(&'static [u8]),
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Embedded(_) => f.write_str("(compiled in)"),
        }
    }
}

/// Where the weights of a model are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// `https://…`, of this very file.
    pub url: String,
    /// Its size.
    pub size_bytes: u64,
    /// The page of the project that made the model; may be empty.
    pub project: String,
}

/// What is known about one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name in configs and records.
    pub name: String,
    /// Where the weights are.
    pub source: ModelSource,
    /// SHA-256 of the weights, 64 hexadecimal digits in lower case.
    pub sha256: String,
    /// One line for people; may be empty.
    pub description: String,
    /// Licence of the weights, an SPDX expression where possible; may be empty.
    pub license: String,
    /// From picture to input tensor.
    pub input: InputRecipe,
    /// What the outputs mean.
    pub head: HeadRecipe,
    /// One label per class, in the model's order.
    pub labels: Vec<String>,
    /// Whatever its author measured.
    pub evaluation: toml::Table,
    /// Where the weights can be fetched from, if that is known.
    pub download: Option<Download>,
    /// Where the manifest was read from; `None` for one that is compiled in or concluded.
    pub path: Option<PathBuf>,
    /// For a manifest that was concluded from the ONNX file alone: what was concluded, and what could not
    /// be told. Worth a warning in the log. Empty for a manifest that somebody wrote.
    pub notes: Vec<String>,
}

impl Manifest {
    /// Reads a manifest and its labels. The weights are not touched: see [`super::verify`].
    ///
    /// # Errors
    /// [`ModelError::Unreadable`], [`ModelError::Manifest`] with line and column.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let text = read_text(path, MAX_MANIFEST_BYTES)?;
        let parsed = manifest_text::parse(path, &text)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let labels = match &parsed.label_file {
            None => parsed.labels.clone(),
            Some((file, position)) => {
                let label_path = directory.join(file);
                let label_text = read_text(&label_path, labels::MAX_LABELS_BYTES)?;
                labels::parse(&label_text).map_err(|reason| ModelError::Manifest {
                    path: path.to_owned(),
                    line: position.0,
                    column: position.1,
                    reason: format!("labels file {}: {reason}", label_path.display()),
                })?
            }
        };
        let source = ModelSource::File(directory.join(&parsed.file));
        Ok(Self::build(parsed, source, labels, Some(path.to_owned())))
    }

    /// A manifest and weights that are compiled in. Its labels must stand in the text itself.
    ///
    /// # Errors
    /// [`ModelError::Manifest`].
    pub fn embedded(text: &str, weights: &'static [u8]) -> Result<Self, ModelError> {
        let parsed = manifest_text::parse(Path::new("(compiled in)"), text)?;
        let labels = parsed.labels.clone();
        Ok(Self::build(parsed, ModelSource::Embedded(weights), labels, None))
    }

    /// A manifest that is compiled in; its weights are a file in `folder`, once they have been fetched. Its labels stand in
    /// the text itself or are COCO's.
    ///
    /// # Errors
    /// [`ModelError::Manifest`].
    pub fn catalogued(text: &str, folder: &Path) -> Result<Self, ModelError> {
        let parsed = manifest_text::parse(Path::new("(compiled in)"), text)?;
        let labels = if parsed.label_file.is_some() { labels::coco80() } else { parsed.labels.clone() };
        let source = ModelSource::File(folder.join(&parsed.file));
        Ok(Self::build(parsed, source, labels, None))
    }

    fn build(parsed: Parsed, source: ModelSource, labels: Vec<String>, path: Option<PathBuf>) -> Self {
        Self {
            name: parsed.name,
            source,
            sha256: parsed.sha256,
            description: parsed.description,
            license: parsed.license,
            input: parsed.input,
            head: parsed.head,
            labels,
            evaluation: parsed.evaluation,
            download: parsed.download,
            path,
            notes: Vec::new(),
        }
    }

    /// The first twelve digits of the digest, as records carry it.
    pub fn short_sha256(&self) -> &str {
        self.sha256.get(..12).unwrap_or(&self.sha256)
    }

    /// Rows of the head's output: boxes before any threshold, where the recipe fixes them.
    pub fn anchors(&self) -> Option<usize> {
        match &self.head {
            HeadRecipe::Yolox { strides } | HeadRecipe::Nanodet { strides, .. } => {
                Some(super::grid_cells(&self.input, strides))
            }
            _ => None,
        }
    }

    /// Checks shapes of one frame's outputs against the head and the labels, as far as shapes alone tell. The
    /// decoder, which knows names too, looks closer.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`] says which dimension contradicts what.
    pub fn check_outputs(&self, outputs: &[&[usize]]) -> Result<(), ModelError> {
        outputs::check(&self.head, &self.input, self.labels.len(), outputs)
            .map_err(|reason| ModelError::Mismatch { name: self.name.clone(), reason })
    }
}

/// Labels from a text file, one a line.
///
/// # Errors
/// [`ModelError::Unreadable`], with the line where a label is wrong.
pub fn load_labels(path: &Path) -> Result<Vec<String>, ModelError> {
    let text = read_text(path, labels::MAX_LABELS_BYTES)?;
    labels::parse(&text).map_err(|reason| ModelError::unreadable(path, std::io::Error::other(reason)))
}

/// A text file of at most `limit_bytes`.
fn read_text(path: &Path, limit_bytes: u64) -> Result<String, ModelError> {
    let unreadable = |cause| ModelError::unreadable(path, cause);
    let size_bytes = fs::metadata(path).map_err(unreadable)?.len();
    if size_bytes > limit_bytes {
        return Err(unreadable(std::io::Error::other(format!(
            "{size_bytes} bytes are too many for this kind of file ({limit_bytes} are allowed)"
        ))));
    }
    fs::read_to_string(path).map_err(unreadable)
}
