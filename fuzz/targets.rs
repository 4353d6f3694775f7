//! What is fuzzed: one function for each kind of input that comes from outside. Each panics when a promise is broken.
//!
//! They are called by libFuzzer (`make fuzz`) and, with the corpus and seeded mutations of it, by `tests/fuzz_corpus.rs`.

use watchpost::config::{self, Demands};
use watchpost::decode::{Decoder, Limits};
use watchpost::engine::TensorView;
use watchpost::model::{
    self, Activation, Background, BoxFormat, BoxOrder, BoxUnit, ChannelOrder, Extra, Fit, HeadRecipe,
    InputRecipe, ListedOutputs, Manifest, Overrides, RowLayout,
};
use watchpost::publish::{CameraState, Object, State};
use watchpost::supervisor::DebugState;

/// A target with the name of its corpus.
type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("config", config),
    ("manifest", manifest),
    ("model", model),
    ("decode", decode),
    ("records", records),
    ("stream", stream),
];

/// Layers of TOML and environment, divided by lines `---`; in the last, lines `NAME=VALUE`.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts: Vec<&str> = text.split("\n---\n").collect();
    let variables = if parts.len() > 1 { parts.pop().unwrap_or_default() } else { "" };
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let layers: Vec<(&str, &str)> = parts.iter().map(|part| ("fuzz.toml", *part)).collect();
    match config::load_layers(&layers, environment, Demands::LOOK) {
        Ok(loaded) => {
            assert!(!config::report::render(&loaded).is_empty());
            let _json = config::report::to_json(&loaded).to_string();
        }
        Err(errors) => {
            assert!(errors.problems().len() <= 10_000, "mistakes are told in order of thousands");
            assert!(!errors.to_string().is_empty());
        }
    }
    let line = text.lines().next().unwrap_or_default();
    let _url = config::parse_url(line);
    let _duration = config::parse_duration(line);
    let _size = config::parse_size(line);
}

/// A manifest; what it says is used as an engine's would be.
pub fn manifest(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Manifest::embedded(&text, &[]) {
        // Labels in a file of their own are not read here.
        Ok(manifest) if !manifest.labels.is_empty() => {
            let limits = Limits::default();
            let decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
            let _refused = decoder.check_outputs(&[("output", &[1, 84, 8400])]);
            let again =
                Manifest::embedded(&manifest.to_toml("m.onnx"), &[]).expect("what is written can be read");
            assert_eq!(
                (again.head, again.input, again.labels),
                (manifest.head, manifest.input, manifest.labels)
            );
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _labels = model::parse_labels(&text);
}

/// An ONNX file, as `model add` looks into it.
pub fn model(data: &[u8]) {
    let Ok(facts) = model::inspect_bytes(data) else { return };
    for overrides in [Overrides::default(), Overrides { size: Some((64, 64)), ..Overrides::default() }] {
        let Ok(mut conclusion) = model::conclude(&facts, "fuzz", &overrides) else { continue };
        conclusion.manifest.sha256 = "0".repeat(64);
        let text = conclusion.manifest.to_toml("m.onnx");
        let again = Manifest::embedded(&text, &[]).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        assert_eq!(again.head, conclusion.manifest.head);
        assert_eq!(again.labels, conclusion.manifest.labels);
    }
}

/// Any tensors to any head: no panic, no more objects than allowed, nothing that is no number, buffers as large as before.
pub fn decode(data: &[u8]) {
    let mut bytes = Bytes(data);
    let label_count = 1 + usize::from(bytes.next()) % 80;
    let recipes = recipes();
    let recipe = &recipes[usize::from(bytes.next()) % recipes.len()];
    let input = InputRecipe {
        width: 64,
        height: 64,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 114,
        scale: [1.0; 3],
        offset: [0.0; 3],
    };
    let limits = Limits { score_threshold: 0.1, ..Limits::default() };
    let mut decoder = Decoder::new(recipe, &input, label_count, limits);
    let buffer_bytes = decoder.buffer_bytes();
    let shapes = if bytes.next() % 4 == 0 { any_shapes(&mut bytes) } else { fitting(recipe, label_count) };
    let _checked = decoder.check_outputs(&views(&shapes));
    // One frame with all of its values, one that lacks the last.
    for lacking in [0, 1] {
        let values: Vec<Vec<f32>> = shapes
            .iter()
            .map(|(_, shape)| {
                let count = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
                let count = count.filter(|&count| count <= 200_000).unwrap_or(16);
                (0..count.saturating_sub(lacking)).map(|_| bytes.value()).collect()
            })
            .collect();
        let tensors: Vec<TensorView<'_>> = shapes
            .iter()
            .zip(&values)
            .map(|((name, shape), data)| TensorView { name, shape, data })
            .collect();
        let mut found = Vec::new();
        let _decoded = decoder.decode(&tensors, &mut found);
        assert!(found.len() <= limits.max_objects, "{} objects", found.len());
        for (index, one) in found.iter().enumerate() {
            assert!(
                one.score.is_finite() && one.bbox.iter().all(|side| side.is_finite()),
                "{recipe:?}: {one:?}"
            );
            let _detail = decoder.detail(index);
        }
    }
    assert_eq!(decoder.buffer_bytes(), buffer_bytes, "{recipe:?}: its buffers grew");
}

/// What we write is read as JSON again, one line a record; what `debug` reads may be anything.
pub fn records(data: &[u8]) {
    let _state = serde_json::from_slice::<DebugState>(data);
    let text = String::from_utf8_lossy(data);
    let mut bytes = Bytes(data);
    let ts = std::time::UNIX_EPOCH
        + std::time::Duration::from_nanos(u64::from_le_bytes(std::array::from_fn(|_| bytes.next())));
    let state = CameraState {
        camera: &text,
        generation: u64::from(bytes.next()),
        ts,
        state: State::Closing,
        reason: None,
        detail: Some(&text),
        retry_in_ms: None,
        shed: None,
    };
    let object = Object::new(&text, 0, bytes.value(), std::array::from_fn(|_| bytes.value()));
    for line in [serde_json::to_string(&state), serde_json::to_string(&object)] {
        let line = line.expect("everything can be written");
        assert!(!line.contains('\n'), "{line}");
        let _value: serde_json::Value = serde_json::from_str(&line).expect("what is written is JSON");
    }
}

/// What is read of a network camera's packets and texts by ourselves.
pub fn stream(data: &[u8]) {
    watchpost_pipelines::look_at_packet(data);
    let text = String::from_utf8_lossy(data);
    let scrubbed = watchpost_pipelines::scrub(&text);
    assert_eq!(watchpost_pipelines::scrub(&scrubbed), scrubbed, "what is scrubbed stays as it is");
}

fn views<'a>(shapes: &'a [(&'static str, Vec<usize>)]) -> Vec<(&'static str, &'a [usize])> {
    shapes.iter().map(|(name, shape)| (*name, shape.as_slice())).collect()
}

fn recipes() -> Vec<HeadRecipe> {
    let format = BoxFormat { order: BoxOrder::Xyxy, unit: BoxUnit::Pixels };
    let [boxes, scores] = ["boxes", "scores"].map(str::to_owned);
    let listed = |count: Option<&str>| HeadRecipe::Listed {
        outputs: ListedOutputs {
            boxes: "boxes".to_owned(),
            scores: Some("scores".to_owned()),
            classes: "classes".to_owned(),
            count: count.map(str::to_owned),
        },
        format,
        first_class: 1,
    };
    let keypoints = Extra::Keypoints { count: 17, dims: 3 };
    let grids = vec![vec![[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]]; 3];
    vec![
        HeadRecipe::Yolox { strides: vec![8, 16, 32] },
        HeadRecipe::YOLOV5,
        HeadRecipe::Yolov5 { extra: Extra::Mask { coefficients: 32 } },
        HeadRecipe::Yolov5Grids { strides: vec![8, 16, 32], anchors: grids },
        HeadRecipe::YOLOV8,
        HeadRecipe::Yolov8 { extra: keypoints },
        HeadRecipe::Yolov8 { extra: Extra::Mask { coefficients: 32 } },
        HeadRecipe::Yolov8 { extra: Extra::Angle },
        HeadRecipe::EndToEnd { layout: RowLayout::BoxScoreClass, extra: Extra::None },
        HeadRecipe::EndToEnd { layout: RowLayout::ClassScoreBox, extra: Extra::None },
        HeadRecipe::EndToEnd { layout: RowLayout::PictureBoxClassScore, extra: Extra::None },
        HeadRecipe::EndToEnd { layout: RowLayout::BoxScoreClass, extra: keypoints },
        listed(None),
        listed(Some("count")),
        HeadRecipe::Selected {
            boxes: boxes.clone(),
            scores: scores.clone(),
            indices: "indices".to_owned(),
            format,
        },
        HeadRecipe::Nanodet {
            strides: vec![8, 16, 32],
            bins: 8,
            cell_offset: 0.5,
            activation: Activation::Sigmoid,
        },
        HeadRecipe::Detr {
            boxes: boxes.clone(),
            scores: scores.clone(),
            format: BoxFormat { order: BoxOrder::Cxcywh, unit: BoxUnit::Normalised },
            activation: Activation::Softmax,
            background: Background::Last,
        },
        HeadRecipe::Ssd {
            boxes,
            scores,
            format,
            activation: Activation::Softmax,
            background: Background::First,
        },
        HeadRecipe::Classify { activation: Activation::Softmax },
    ]
}

/// The shapes that the head expects for a 64x64 input.
fn fitting(recipe: &HeadRecipe, labels: usize) -> Vec<(&'static str, Vec<usize>)> {
    let extra = recipe.extra().len();
    match recipe {
        HeadRecipe::Yolox { .. } => vec![("output", vec![1, 84, 5 + labels])],
        HeadRecipe::Yolov5 { extra: Extra::Mask { .. } } => {
            vec![("output", vec![1, 252, 5 + labels + extra]), ("protos", vec![1, 32, 16, 16])]
        }
        HeadRecipe::Yolov5 { .. } => vec![("output", vec![1, 252, 5 + labels + extra])],
        HeadRecipe::Yolov5Grids { .. } => {
            [8, 4, 2].map(|cells| ("grid", vec![1, 3, cells, cells, 5 + labels])).to_vec()
        }
        HeadRecipe::Yolov8 { extra: Extra::Mask { .. } } => {
            vec![("output", vec![1, 4 + labels + extra, 84]), ("protos", vec![1, 32, 16, 16])]
        }
        HeadRecipe::Yolov8 { .. } => vec![("output", vec![1, 4 + labels + extra, 84])],
        HeadRecipe::EndToEnd { layout: RowLayout::PictureBoxClassScore, .. } => {
            vec![("output", vec![100, 7])]
        }
        HeadRecipe::EndToEnd { .. } => vec![("output", vec![1, 100, 6 + extra])],
        HeadRecipe::Listed { outputs, .. } => {
            let mut shapes =
                vec![("boxes", vec![1, 100, 4]), ("scores", vec![1, 100]), ("classes", vec![1, 100])];
            if outputs.count.is_some() {
                shapes.push(("count", vec![1, 1]));
            }
            shapes
        }
        HeadRecipe::Selected { .. } => {
            vec![("boxes", vec![1, 84, 4]), ("scores", vec![1, labels, 84]), ("indices", vec![20, 3])]
        }
        HeadRecipe::Nanodet { .. } => vec![("output", vec![1, 84, labels + 32])],
        HeadRecipe::Detr { .. } | HeadRecipe::Ssd { .. } => {
            vec![("boxes", vec![1, 100, 4]), ("scores", vec![1, 100, labels + 1])]
        }
        HeadRecipe::Classify { .. } => vec![("output", vec![1, labels])],
    }
}

fn any_shapes(bytes: &mut Bytes<'_>) -> Vec<(&'static str, Vec<usize>)> {
    const NAMES: [&str; 6] = ["output", "boxes", "scores", "classes", "count", "indices"];
    const SIZES: [usize; 16] =
        [0, 1, 2, 3, 4, 5, 6, 7, 84, 85, 100, 8400, 1_000_000, 1 << 32, 1 << 62, usize::MAX];
    let count = usize::from(bytes.next()) % 80;
    (0..count)
        .map(|_| {
            let name = NAMES[usize::from(bytes.next()) % NAMES.len()];
            let rank = usize::from(bytes.next()) % 7;
            (name, (0..rank).map(|_| SIZES[usize::from(bytes.next()) % SIZES.len()]).collect())
        })
        .collect()
}

/// Bytes that decide; noughts when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Numbers that outputs have, and those that they should not have.
    fn value(&mut self) -> f32 {
        match self.next() {
            0..=99 => 0.9,
            100 => f32::NAN,
            101 => f32::INFINITY,
            102 => f32::NEG_INFINITY,
            103 => f32::MAX,
            104 => f32::MIN,
            105 => f32::MIN_POSITIVE / 2.0,
            106 => -0.0,
            107 => 1e9,
            108 => -1.0,
            109..=119 => f32::from_le_bytes(std::array::from_fn(|_| self.next())),
            byte => f32::from(byte - 120) / 2.0,
        }
    }
}
