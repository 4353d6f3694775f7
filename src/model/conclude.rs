//! From what an ONNX file says about itself to a manifest: which detector family this is and what its
//! input wants. What cannot be told is said, never guessed in silence.

use super::onnx::{Dim, OnnxFacts, TensorFacts};
use super::{ChannelOrder, Fit, HeadRecipe, InputRecipe, Manifest, ModelSource, coco80, python_literal};

/// Why no manifest can be concluded. The caller puts the file's name in front.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConcludeError {
    /// Nothing comes out of it.
    #[error("has no outputs; export the model again")]
    NoOutputs,
    /// Something other than one picture goes in.
    #[error("has an input this detector cannot be fed with: {reason}")]
    Input {
        /// Which and why.
        reason: String,
    },
    /// It answers another question.
    #[error("is not an object detector: {reason}; use a YOLOX or YOLOv8/11 detection model")]
    NotADetector {
        /// What it seems to be.
        reason: String,
    },
    /// Known, and not supported.
    #[error("is a {family} model, which is recognised but not supported yet; {advice}")]
    UnsupportedFamily {
        /// Which family.
        family: &'static str,
        /// What the user can do.
        advice: &'static str,
    },
    /// Not known.
    #[error(
        "has outputs of a detector family that is not known here ({outputs}); supported: YOLOX [1, N, 5 + \
         classes] and YOLOv8/9/11 [1, 4 + classes, N]"
    )]
    UnknownFamily {
        /// The outputs as they are.
        outputs: String,
    },
    /// What the user said contradicts the file.
    #[error("{reason}")]
    Contradiction {
        /// What contradicts what.
        reason: String,
    },
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
    refuse_other_tasks(facts)?;
    refuse_other_families(facts)?;
    let mut say = Said::default();
    let (width, height) = input_size(facts, overrides, &mut say)?;
    if facts.nodes.iter().any(|node| node.op == "DequantizeLinear") {
        say.note("INT8 inside (QDQ): the built-in engine computes it more slowly than the float model");
    }
    let (head, class_count) = head(facts, (width, height), &mut say)?;
    let input = input_recipe(&head, (width, height), overrides, facts, &mut say);
    let labels = labels(facts, class_count, overrides, &mut say)?;
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
        path: None,
        notes: Vec::new(),
    };
    Ok(Conclusion { manifest, notes: say.notes, unknown: say.unknown })
}

#[derive(Default)]
struct Said {
    notes: Vec<String>,
    unknown: Vec<String>,
}

impl Said {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn unknown(&mut self, text: impl Into<String>) {
        self.unknown.push(text.into());
    }
}

/// Ultralytics writes the task into the file.
fn refuse_other_tasks(facts: &OnnxFacts) -> Result<(), ConcludeError> {
    let unsupported = |family, advice| Err(ConcludeError::UnsupportedFamily { family, advice });
    match facts.metadata.get("task").map(String::as_str) {
        None | Some("detect") => Ok(()),
        Some("pose") => unsupported("YOLO pose", "use the detection model of the same size"),
        Some("segment") => unsupported("YOLO segmentation", "use the detection model of the same size"),
        Some("obb") => unsupported("YOLO oriented-box", "use the detection model of the same size"),
        Some(other) => {
            Err(ConcludeError::NotADetector { reason: format!("its metadata says task {other:?}") })
        }
    }
}

/// Families that are known by the number, names or shapes of their outputs.
fn refuse_other_families(facts: &OnnxFacts) -> Result<(), ConcludeError> {
    let unsupported = |family, advice| Err(ConcludeError::UnsupportedFamily { family, advice });
    let names: Vec<&str> = facts.outputs.iter().map(|output| output.name.as_str()).collect();
    let named = |part: &str| names.iter().any(|name| name.contains(part));
    let shapes: Vec<&[Dim]> =
        facts.outputs.iter().map(|output| output.shape.as_deref().unwrap_or(&[])).collect();
    let rank_of_all = |rank: usize| shapes.iter().all(|shape| shape.len() == rank);
    let other = "use a YOLOX or YOLOv8/11 model for now";
    match shapes.as_slice() {
        [[_, Dim::Fixed(_)]] if rank_of_all(2) => Err(ConcludeError::NotADetector {
            reason: format!("its one output {} has a number per class and no boxes", facts.outputs[0]),
        }),
        [_] => Ok(()),
        _ if named("cls_score") && named("bbox_pred") || named("cls_pred") && named("dis_pred") => {
            unsupported("NanoDet", other)
        }
        _ if named("pred_boxes") || named("boxes") && (named("scores") || named("logits")) => {
            unsupported("DETR-style", other)
        }
        _ if shapes.iter().filter(|shape| shape.len() == 5).count() >= 2 => {
            unsupported("YOLOv5/v7 (raw anchor grids)", other)
        }
        _ if rank_of_all(4) && shapes.len() >= 3 => {
            unsupported("YOLO with its head cut off (outputs per stride)", "export the whole model")
        }
        [first, second] if first.len() == 3 && second.len() == 4 => {
            unsupported("YOLO segmentation", "use the detection model of the same size")
        }
        _ => Err(ConcludeError::UnknownFamily { outputs: join(&facts.outputs) }),
    }
}

fn join(tensors: &[TensorFacts]) -> String {
    tensors.iter().map(TensorFacts::to_string).collect::<Vec<_>>().join(", ")
}

/// Width and height of the input, which must be one picture of three float planes.
fn input_size(
    facts: &OnnxFacts,
    overrides: &Overrides,
    say: &mut Said,
) -> Result<(usize, usize), ConcludeError> {
    let refuse = |reason: String| Err(ConcludeError::Input { reason });
    let [input] = facts.inputs.as_slice() else {
        return refuse(format!(
            "it has {} inputs ({}) and we have one picture",
            facts.inputs.len(),
            join(&facts.inputs)
        ));
    };
    match input.dtype {
        "f32" => {}
        "f16" => return refuse(format!("{input} takes f16; export it with float inputs (half=False)")),
        "u8" => return refuse(format!("{input} takes bytes; export it with float inputs")),
        other => return refuse(format!("{input} takes {other}, not f32")),
    }
    let Some([batch, channels, height, width]) = input.shape.as_deref() else {
        return refuse(format!("{input} is not [1, 3, height, width]"));
    };
    if let Some(batch) = batch.fixed().filter(|&batch| batch != 1) {
        return refuse(format!(
            "{input} is fixed to batches of {batch}; export it for one picture or dynamic"
        ));
    }
    match (channels.fixed(), width.fixed()) {
        (None | Some(3), _) => {}
        (_, Some(3)) => {
            return refuse(format!("{input} has channels last; export it as [1, 3, height, width]"));
        }
        (Some(1), _) => return refuse(format!("{input} takes grey pictures; three channels are supported")),
        (Some(count), _) => return refuse(format!("{input} takes {count} channels; three are supported")),
    }
    let named = facts.metadata.get("imgsz").and_then(|text| image_size(text));
    let size = match (width.fixed(), height.fixed(), overrides.size, named) {
        (Some(width), Some(height), asked, _) => {
            if let Some(asked) = asked.filter(|&asked| asked != (width, height)) {
                return Err(ConcludeError::Contradiction {
                    reason: format!(
                        "is fixed to {width}x{height}, and {}x{} was asked for",
                        asked.0, asked.1
                    ),
                });
            }
            say.note(format!("input {width}x{height}: the shape of {}", input.name));
            (width, height)
        }
        (_, _, Some(size), _) => {
            say.note(format!("input {}x{}: as you said; the model leaves it open", size.0, size.1));
            size
        }
        (_, _, None, Some(size)) => {
            say.note(format!("input {}x{}: imgsz in the metadata; the model leaves it open", size.0, size.1));
            size
        }
        _ => {
            return refuse(format!("{input} leaves width and height open; say them with --size 640x640"));
        }
    };
    if size.0.max(size.1) > super::manifest_text::MAX_SIDE || size.0.min(size.1) < 32 {
        return refuse(format!("{}x{} is outside 32..={}", size.0, size.1, super::manifest_text::MAX_SIDE));
    }
    Ok(size)
}

/// `[640, 640]` is height and width.
fn image_size(text: &str) -> Option<(usize, usize)> {
    let sides: Vec<usize> = text
        .trim()
        .trim_matches(['[', ']', '(', ')'])
        .split(',')
        .map(|side| side.trim().parse().ok())
        .collect::<Option<_>>()?;
    match *sides.as_slice() {
        [side] => Some((side, side)),
        [height, width] => Some((width, height)),
        _ => None,
    }
}

/// Strides that heads are built with, the usual set first.
const STRIDE_SETS: [&[usize]; 4] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32], &[16, 32]];

/// The family, and how many classes it has.
fn head(
    facts: &OnnxFacts,
    (width, height): (usize, usize),
    say: &mut Said,
) -> Result<(HeadRecipe, usize), ConcludeError> {
    let output = &facts.outputs[0];
    let unknown = || ConcludeError::UnknownFamily { outputs: join(&facts.outputs) };
    if !matches!(output.dtype, "f32" | "f16") {
        return Err(unknown());
    }
    let Some([batch, second, third]) = output.shape.as_deref() else {
        return Err(unknown());
    };
    if batch.fixed().is_some_and(|batch| batch != 1) {
        return Err(unknown());
    }
    let cells = |strides: &[usize]| {
        strides.iter().map(|stride| width.div_ceil(*stride) * height.div_ceil(*stride)).sum::<usize>()
    };
    let strides_of = |rows: usize| STRIDE_SETS.into_iter().find(|strides| cells(strides) == rows);
    let ultralytics = facts.metadata.contains_key("names") && facts.metadata.contains_key("task");
    match (second.fixed(), third.fixed()) {
        (Some(channels), rows) if channels > 4 && rows.is_none_or(|rows| strides_of(rows).is_some()) => {
            if rows.is_none() && !ultralytics {
                say.unknown(
                    "the number of boxes is left open, so the family was told from the order of dimensions alone",
                );
            }
            say.note(format!(
                "family yolov8 (YOLOv8, 9, 11, 12): output {output} is 4 + {} channels by boxes",
                channels - 4
            ));
            if pieces(facts).0 == 0 {
                say.unknown(
                    "class scores: 0..1 was assumed, but no Sigmoid makes them; check them with `detect`",
                );
            }
            Ok((HeadRecipe::Yolov8, channels - 4))
        }
        (Some(rows), Some(channels)) if channels > 5 => match strides_of(rows) {
            Some(strides) => {
                refuse_decoded_yolox(facts)?;
                say.note(format!(
                    "family yolox: output {output} has one row per cell of the grids {strides:?} and 5 + {} \
                     channels",
                    channels - 5
                ));
                sigmoid_of_yolox(facts, say)?;
                Ok((HeadRecipe::Yolox { strides: strides.to_vec() }, channels - 5))
            }
            None if rows == 3 * cells(&[8, 16, 32]) => Err(ConcludeError::UnsupportedFamily {
                family: "YOLOv5/v7 (three anchors per cell)",
                advice: "use a YOLOX or YOLOv8/11 model for now",
            }),
            // A list of boxes is no longer than this, and grids are.
            None if matches!(channels, 6 | 7) && rows <= 1000 => Err(nms_inside()),
            None => Err(unknown()),
        },
        (None, Some(6 | 7)) => Err(nms_inside()),
        _ => Err(unknown()),
    }
}

fn nms_inside() -> ConcludeError {
    ConcludeError::UnsupportedFamily {
        family: "YOLO with NMS inside",
        advice: "export it without (Ultralytics: nms=False; for YOLO26 and YOLOv10 also end2end=False)",
    }
}

/// With `--decode_in_inference` YOLOX computes boxes inside the graph: there is an Exp for the sizes.
fn refuse_decoded_yolox(facts: &OnnxFacts) -> Result<(), ConcludeError> {
    if facts.op_histogram().contains_key("Exp") {
        return Err(ConcludeError::UnsupportedFamily {
            family: "YOLOX with its boxes decoded inside",
            advice: "export it without --decode_in_inference",
        });
    }
    Ok(())
}

/// How many pieces of the output come from a Sigmoid, and how many from something else: walks back from
/// the output through operators that only move numbers, and looks at who made them.
fn pieces(facts: &OnnxFacts) -> (usize, usize) {
    let makers: std::collections::HashMap<&str, &super::NodeFacts> = facts
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(move |output| (output.as_str(), node)))
        .collect();
    let mut open = vec![facts.outputs[0].name.as_str()];
    let mut seen = std::collections::HashSet::new();
    let (mut sigmoids, mut others) = (0, 0);
    while let Some(name) = open.pop() {
        let Some(node) = makers.get(name).filter(|_| seen.insert(name)) else { continue };
        match node.op.as_str() {
            "Concat" => open.extend(node.inputs.iter().map(String::as_str)),
            // The first input is the tensor, the others say how to move it.
            "Transpose" | "Reshape" | "Flatten" | "Identity" | "Cast" | "Squeeze" | "Unsqueeze" | "Slice" => {
                open.extend(node.inputs.first().map(String::as_str));
            }
            "Sigmoid" => sigmoids += 1,
            _ => others += 1,
        }
    }
    (sigmoids, others)
}

/// Objectness and classes of YOLOX must have been through a sigmoid.
fn sigmoid_of_yolox(facts: &OnnxFacts, say: &mut Said) -> Result<(), ConcludeError> {
    let (sigmoids, others) = pieces(facts);
    if sigmoids == 0 {
        return Err(ConcludeError::UnsupportedFamily {
            family: "YOLOX without the sigmoid at its end",
            advice: "export it with the script of the YOLOX project, which keeps it",
        });
    }
    say.note(format!(
        "objectness and class scores are 0..1: {sigmoids} of the {} pieces of the output come from a Sigmoid",
        sigmoids + others
    ));
    Ok(())
}

fn input_recipe(
    head: &HeadRecipe,
    (width, height): (usize, usize),
    overrides: &Overrides,
    facts: &OnnxFacts,
    say: &mut Said,
) -> InputRecipe {
    let yolox = matches!(head, HeadRecipe::Yolox { .. });
    let (default_channels, default_fit, scale) = if yolox {
        (ChannelOrder::Bgr, Fit::LetterboxTopLeft, 1.0)
    } else {
        (ChannelOrder::Rgb, Fit::LetterboxCentre, 1.0 / 255.0)
    };
    let channels = overrides.channels.unwrap_or(default_channels);
    let fit = overrides.fit.unwrap_or(default_fit);
    let origin = if yolox { "the YOLOX project's" } else { "Ultralytics'" };
    let values = if yolox { "values 0..255" } else { "values 0..1" };
    say.note(format!("{}, {}, {values}, padding 114", channels.as_str(), fit.as_str()));
    if overrides.channels.is_none() && (yolox || !facts.metadata.contains_key("names")) {
        say.unknown(format!(
            "order of the channels: {origin} {} was assumed; --channels rgb or --channels bgr says otherwise",
            default_channels.as_str()
        ));
    }
    if overrides.fit.is_none() && !facts.metadata.contains_key("names") {
        say.unknown(format!(
            "how pictures are fitted in: {origin} {} was assumed; --fit says otherwise",
            default_fit.as_str()
        ));
    }
    if yolox {
        say.unknown(
            "scale of the values: 0..255 was assumed; YOLOX models of before 2021-08 want them normalised: \
             then edit scale and offset in the manifest",
        );
    } else if !facts.metadata.contains_key("names") {
        say.unknown("scale of the values: 0..1 was assumed; edit scale and offset in the manifest otherwise");
    }
    InputRecipe { width, height, channels, fit, pad: 114, scale: [scale; 3], offset: [0.0; 3] }
}

fn labels(
    facts: &OnnxFacts,
    class_count: usize,
    overrides: &Overrides,
    say: &mut Said,
) -> Result<Vec<String>, ConcludeError> {
    let contradiction = |whose: &str, count: usize| {
        Err(ConcludeError::Contradiction {
            reason: format!(
                "has {class_count} classes and {whose} {count} labels; give one per class, in the model's order"
            ),
        })
    };
    if let Some(labels) = &overrides.labels {
        if labels.len() != class_count {
            return contradiction("the labels file has", labels.len());
        }
        say.note(format!("{class_count} labels: yours"));
        return Ok(labels.clone());
    }
    if let Some(text) = facts.metadata.get("names") {
        match python_literal::labels(text) {
            Some(labels) if super::labels::check(&labels).is_err() => {
                say.unknown(
                    "labels: those in the metadata have empty or unprintable names and were not used",
                );
            }
            Some(labels) if labels.len() == class_count => {
                say.note(format!("{class_count} labels: names in the metadata"));
                return Ok(labels);
            }
            Some(labels) => return contradiction("its metadata", labels.len()),
            None => say.unknown("labels: the names in the metadata are not a Python dict or list"),
        }
    }
    if class_count == 80 {
        say.unknown(
            "labels: the 80 of COCO were assumed, because there are 80 classes; --labels FILE says otherwise",
        );
        return Ok(coco80());
    }
    say.unknown(format!(
        "labels: the file has none for its {class_count} classes; class0, class1, … were written; --labels FILE \
         (one a line) names them"
    ));
    Ok((0..class_count).map(|index| format!("class{index}")).collect())
}
