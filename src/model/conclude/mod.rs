//! From what an ONNX file says about itself to a manifest: which detector family this is and what its
//! input wants. What cannot be told is said, never guessed in silence.

mod families;
mod graph;
mod input;
mod labels;
mod lists;
mod origin;
mod yolo;

pub(super) use input::is_size_input;
pub(crate) use input::settle;

use watchpost_binding::PictureInput;

use super::onnx::{OnnxFacts, TensorFacts};
use super::{ChannelOrder, Fit, HeadRecipe, Manifest, ModelSource};
use labels::ClassCount;
use origin::Origin;

/// Why no manifest can be concluded. The caller puts the file's name in front.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConcludeError {
    /// Nothing comes out of it.
    #[error("has no outputs; export the model again")]
    NoOutputs,
    /// Something other than one picture goes in.
    #[error(
        "has an input this detector cannot be fed with: {reason}; use a detection model, for example YOLOX or YOLOv8/11, exported with pictures of 3 channels for its input"
    )]
    Input {
        /// Which and why.
        reason: String,
    },
    /// It answers another question.
    #[error("is not an object detector: {reason}; use a detection model, for example YOLOX or YOLOv8/11")]
    NotADetector {
        /// What it seems to be.
        reason: String,
    },
    /// Known, and not supported.
    #[error("is a {family} model, which is recognised but not supported; {advice}")]
    UnsupportedFamily {
        /// Which family.
        family: &'static str,
        /// What the user can do.
        advice: &'static str,
    },
    /// Not known.
    #[error(
        "has outputs of a detector family that is not known here ({outputs}); `watchpost model add --help` lists the \
         families that are"
    )]
    UnknownFamily {
        /// The outputs as they are.
        outputs: String,
    },
    /// Its outputs have no shapes in the file, and it could not be run to see them.
    #[error(
        "leaves the shapes of its outputs open ({outputs}), and the built-in engine, which would show them, cannot run it: \
         {reason}; export it with fixed shapes (Ultralytics: simplify=True)"
    )]
    OpenShapes {
        /// The outputs as they are.
        outputs: String,
        /// Why it could not be run.
        reason: String,
    },
    /// What the user said contradicts the file.
    #[error("{reason}")]
    Contradiction {
        /// What contradicts what.
        reason: String,
    },
}

/// What the samples 0..=255 of a picture are made before a model sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Nothing: 0..255.
    Bytes,
    /// Divided by 255: 0..1.
    Unit,
    /// `(sample - 127) / 128`: -1..1.
    Signed,
    /// Mean and deviation of ImageNet for values 0..1.
    Imagenet,
    /// Mean and deviation of ImageNet as rounded for values 0..255.
    ImagenetBytes,
}

const VALUES: [(&str, Values); 5] = [
    ("0..255", Values::Bytes),
    ("0..1", Values::Unit),
    ("-1..1", Values::Signed),
    ("imagenet", Values::Imagenet),
    ("imagenet-255", Values::ImagenetBytes),
];

impl Values {
    /// As the command line spells it.
    pub fn as_str(self) -> &'static str {
        VALUES.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The inverse of [`Self::as_str`].
    ///
    /// # Errors
    /// Says which spellings there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        super::manifest_text::choose("values", text, &VALUES)
    }
}

/// What the user says, which goes before what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Name of the model.
    pub name: Option<String>,
    /// One label per class.
    pub labels: Option<Vec<String>>,
    /// Order of the channels.
    pub channels: Option<ChannelOrder>,
    /// How pictures are fitted.
    pub fit: Option<Fit>,
    /// What samples are made.
    pub values: Option<Values>,
    /// Width and height, where the model leaves them open.
    pub size: Option<(usize, usize)>,
}

/// A manifest and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// Complete, but for `sha256` and `source`, which are the caller's.
    pub manifest: Manifest,
    /// What was concluded, and from what.
    pub notes: Vec<String>,
    /// What the file does not tell, what was assumed, and how to say otherwise.
    pub unknown: Vec<String>,
    /// Shapes that the file leaves open would have told more.
    pub doubts_shapes: bool,
}

/// Concludes a manifest for a model that is called `default_name` unless the user names it.
///
/// # Errors
/// [`ConcludeError`].
pub fn conclude(
    facts: &OnnxFacts,
    default_name: &str,
    overrides: &Overrides,
) -> Result<Conclusion, ConcludeError> {
    if facts.outputs.is_empty() {
        return Err(ConcludeError::NoOutputs);
    }
    let mut say = Said::default();
    let picture = input::picture(facts, overrides, &mut say)?;
    let size = (picture.width, picture.height);
    if let Some(description) = described(facts) {
        say.note(description);
    }
    if facts.nodes.iter().any(|node| node.op == "DequantizeLinear") {
        say.note("INT8 inside (QDQ): the built-in engine computes it more slowly than the float model");
    }
    let scene = Scene::new(facts, picture, overrides);
    let Head { recipe: head, classes, origin } = families::recognise(&scene, &mut say)?;
    for extra in facts.inputs.iter().filter(|input| is_size_input(input)) {
        say.note(format!(
            "input {extra} is fed with the size of the input picture, so that boxes are in its pixels"
        ));
    }
    let input = origin::input_recipe(origin, size, overrides, facts, &mut say);
    let labels = labels::labels(facts, classes, overrides, &mut say)?;
    let meta = |key: &str| {
        let value = facts.metadata.get(key).map_or("", |value| value.trim());
        value.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
    };
    let manifest = Manifest {
        name: overrides.name.clone().unwrap_or_else(|| default_name.to_owned()),
        source: ModelSource::Embedded(&[]),
        sha256: String::new(),
        description: meta("description"),
        license: meta("license"),
        input,
        head,
        labels,
        evaluation: toml::Table::new(),
        download: None,
        path: None,
        notes: Vec::new(),
    };
    Ok(Conclusion { manifest, notes: say.notes, unknown: say.unknown, doubts_shapes: say.doubts_shapes })
}

/// Width and height of the picture that the model takes, as far as the file and the user tell.
pub(super) fn input_size(facts: &OnnxFacts, overrides: &Overrides) -> Option<(usize, usize)> {
    let picture = input::picture(facts, overrides, &mut Said::default()).ok()?;
    Some((picture.width, picture.height))
}

/// A model's own word for what it is, and how large.
fn described(facts: &OnnxFacts) -> Option<String> {
    let description = facts.metadata.get("description")?.trim();
    let printable: String = description.chars().filter(|c| !c.is_control()).take(100).collect();
    (!printable.is_empty()).then(|| format!("it calls itself {printable:?}"))
}

#[derive(Default)]
struct Said {
    notes: Vec<String>,
    unknown: Vec<String>,
    doubts_shapes: bool,
}

impl Said {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn unknown(&mut self, text: impl Into<String>) {
        self.unknown.push(text.into());
    }

    fn doubt_shapes(&mut self) {
        self.doubts_shapes = true;
        self.unknown(
            "the number of boxes is left open, so the family was told from the order of dimensions alone",
        );
    }
}

/// A head that was recognised.
struct Head {
    recipe: HeadRecipe,
    classes: ClassCount,
    origin: Origin,
}

impl Head {
    fn new(recipe: HeadRecipe, classes: ClassCount, origin: Origin) -> Self {
        Self { recipe, classes, origin }
    }
}

/// An output's name and its dimensions, `None` where they are open.
#[derive(Debug, Clone)]
struct Output<'a> {
    name: &'a str,
    dtype: &'static str,
    dims: Vec<Option<usize>>,
}

impl Output<'_> {
    fn rank(&self) -> usize {
        self.dims.len()
    }

    fn last(&self) -> Option<usize> {
        self.dims.last().copied().flatten()
    }

    /// Without a leading batch, which is 1 or open.
    fn frame(&self, rank: usize) -> Option<&[Option<usize>]> {
        match self.dims.as_slice() {
            [batch, rest @ ..] if rest.len() == rank && batch.is_none_or(|batch| batch == 1) => Some(rest),
            dims if dims.len() == rank => Some(dims),
            _ => None,
        }
    }

    fn is_integer(&self) -> bool {
        matches!(self.dtype, "i64" | "i32" | "u8" | "i8")
    }

    fn says(&self, parts: &[&str]) -> bool {
        let name = self.name.to_lowercase();
        parts.iter().any(|part| name.contains(part))
    }
}

/// Everything that recognising looks at.
struct Scene<'a> {
    facts: &'a OnnxFacts,
    outputs: Vec<Output<'a>>,
    width: usize,
    height: usize,
    /// How many labels the user or the metadata give.
    label_count: Option<usize>,
    /// What Ultralytics wrote: `detect`, `pose`, …
    task: Option<&'a str>,
}

impl<'a> Scene<'a> {
    fn new(
        facts: &'a OnnxFacts,
        PictureInput { batch, width, height, .. }: PictureInput,
        overrides: &Overrides,
    ) -> Self {
        let outputs = facts.outputs.iter().map(|output| {
            let mut dims: Vec<_> = output.shape.iter().flatten().map(super::Dim::fixed).collect();
            // Of a fixed batch each picture gets its share.
            if let Some(first) = dims.first_mut().filter(|first| **first == Some(batch)) {
                *first = Some(1);
            }
            Output { name: &output.name, dtype: output.dtype, dims }
        });
        let labels = overrides.labels.as_ref().map(Vec::len);
        Self {
            facts,
            outputs: outputs.collect(),
            width,
            height,
            label_count: labels.or_else(|| labels::in_metadata(facts).map(|labels| labels.len())),
            task: facts.metadata.get("task").map(String::as_str),
        }
    }

    fn cells(&self, strides: &[usize]) -> usize {
        strides.iter().map(|stride| self.width.div_ceil(*stride) * self.height.div_ceil(*stride)).sum()
    }

    /// The strides whose grids have so many cells, the usual set first.
    fn strides_of(&self, cells: usize) -> Option<&'static [usize]> {
        STRIDE_SETS.into_iter().find(|strides| self.cells(strides) == cells)
    }

    fn unknown(&self) -> ConcludeError {
        ConcludeError::UnknownFamily { outputs: join(&self.facts.outputs) }
    }

    /// Whether PaddlePaddle wrote it.
    fn is_paddle(&self) -> bool {
        let producer = self.facts.producer.to_lowercase();
        producer.contains("paddle")
            || self.facts.inputs.iter().any(|input| input.name == "scale_factor")
            || self.outputs.iter().any(|output| output.says(&[".tmp_", "p2o.", "multiclass_nms3"]))
    }
}

/// Strides that heads are built with, the usual set first.
const STRIDE_SETS: [&[usize]; 4] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32], &[16, 32]];

fn join(tensors: &[TensorFacts]) -> String {
    /// More are not worth reading.
    const SHOWN: usize = 12;
    let mut shown: Vec<String> = tensors.iter().take(SHOWN).map(TensorFacts::to_string).collect();
    if tensors.len() > SHOWN {
        shown.push(format!("and {} more", tensors.len() - SHOWN));
    }
    shown.join(", ")
}
