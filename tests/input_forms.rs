//! Models that want their pictures in another form (channels last, bytes, a fixed batch) see what their twins see that take
//! planes of floats one at a time: the twin is the same file with its input exchanged.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use program::onnx_writer::{F32, U8, bytes, dims, int_attribute, node, node_with, number, tensor, weights};
use program::{Ended, engine_library, run, shared, watchpost};
use serde_json::Value;
use watchpost::engine::{Engine, builtin::BuiltinEngine};
use watchpost::frame::{FormedTensor, Layout, Letterbox, Matrix, Picture, Place, Plane, Range, SlotMemory};
use watchpost::model::{self, Manifest};

/// The fields of a message: number, and the whole field as it is, and its content where it has bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8], &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (&byte, rest) = bytes.split_first().expect("a number");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let whole = message;
        let tag = varint(&mut message);
        let content = match tag & 7 {
            0 => {
                varint(&mut message);
                &whole[..0]
            }
            2 => {
                let length = varint(&mut message) as usize;
                let (content, rest) = message.split_at(length);
                message = rest;
                content
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, &whole[..whole.len() - message.len()], content));
    }
    found
}

/// Parts of a graph.
const NODE: u64 = 1;
const WEIGHTS: u64 = 5;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;

/// The model with other inputs, with nodes and weights before its own, and, where there are any, with other outputs.
fn exchanged(
    model: &[u8],
    input: &[u8],
    nodes: &[Vec<u8>],
    constants: &[Vec<u8>],
    outputs: &[Vec<u8>],
) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, whole, content) in fields(model) {
        if field != 7 {
            out.extend(whole);
            continue;
        }
        let mut graph: Vec<u8> = nodes.iter().flat_map(|node| bytes(NODE, node)).collect();
        for (field, whole, _) in fields(content) {
            if field != INPUT && (field != OUTPUT || outputs.is_empty()) {
                graph.extend(whole);
            }
        }
        graph.extend(constants.iter().flat_map(|constant| bytes(WEIGHTS, constant)));
        graph.extend(bytes(INPUT, input));
        graph.extend(outputs.iter().flat_map(|output| bytes(OUTPUT, output)));
        out.extend(bytes(7, &graph));
    }
    out
}

/// A form that a twin takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    NhwcFloats,
    NhwcBytes,
    NchwBytes,
}

const FORMS: [Form; 3] = [Form::NhwcFloats, Form::NhwcBytes, Form::NchwBytes];

/// The twin of a model whose input is `images`, `[1, 3, height, width]`. Bytes are multiplied by `scale` inside.
fn twin(model: &[u8], form: Form, (width, height): (u64, u64), scale: f32) -> Vec<u8> {
    let is_nhwc = form != Form::NchwBytes;
    let shape = if is_nhwc { [1, height, width, 3] } else { [1, 3, height, width] };
    let dtype = if form == Form::NhwcFloats { F32 } else { U8 };
    let order = if is_nhwc { [0, 3, 1, 2] } else { [0, 1, 2, 3] };
    let order: Vec<u8> = order.into_iter().flat_map(|axis| number(8, axis)).collect();
    // AttributeProto with a list of integers.
    let axes = [bytes(1, b"perm"), order, number(20, 7)].concat();
    let mut nodes = vec![node_with("Cast", &["picture"], &["floats"], &[int_attribute("to", F32)])];
    let scaled = if dtype == U8 { "scaled" } else { "floats" };
    if dtype == U8 {
        nodes.push(node("Mul", &["floats", "picture-scale"], &[scaled]));
    }
    nodes.push(node_with("Transpose", &[scaled], &["images"], &[axes]));
    let constant = weights("picture-scale", &[1], &[scale]);
    exchanged(model, &tensor("picture", dtype, &dims(&shape)), &nodes, &[constant], &[])
}

/// A picture of noise and its bytes are the same in every form; numbers between codes would be rounded to bytes.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn outputs_of(engine: &mut BuiltinEngine, inputs: &[&SlotMemory]) -> Vec<Vec<f32>> {
    let mut seen = Vec::new();
    engine
        .infer(inputs, &mut |index, outputs| {
            assert_eq!(index, seen.len());
            seen.push(outputs.iter().flat_map(|output| output.data.to_vec()).collect());
        })
        .expect("it infers");
    seen
}

#[test]
fn the_letterbox_writes_what_a_model_takes_and_the_network_sees_the_same_picture() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/models/demo.onnx");
    let original = fs::read(&demo).expect("the demo model");
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = model::find("demo", &[]).expect("compiled in");
    let samples = noise(3 * 100 * 90);
    let picture = Picture {
        width: 100,
        height: 90,
        layout: Layout::Rgb { rgb: Plane { data: &samples, stride_bytes: 300 } },
        matrix: Matrix::Bt601,
        range: Range::Full,
    };
    let mut tensor = vec![f32::NAN; manifest.input.len()];
    Letterbox::new(&manifest.input).run(&picture, &mut tensor).expect("a whole picture");
    let mut engine = BuiltinEngine::load(&manifest, 1).expect("the demo model");
    assert!(matches!(engine.place(), Place::Host));
    let expected = outputs_of(&mut engine, &[&SlotMemory::Host(tensor.into())]);
    for form in FORMS {
        let scale = manifest.input.scale[0];
        let file = folder.path().join("twin.onnx");
        fs::write(&file, twin(&original, form, (320, 192), scale)).expect("written");
        let mut input = manifest.input;
        input.scale = if form == Form::NhwcFloats { input.scale } else { [1.0; 3] };
        let twin = Manifest {
            source: model::ModelSource::File(file.clone()),
            sha256: model::digest(&model::ModelSource::File(file)).expect("readable"),
            input,
            ..manifest.clone()
        };
        let mut engine = BuiltinEngine::load(&twin, 1).expect("the twin");
        let Place::HostFormed(place) = engine.place() else { panic!("{form:?}: planes of floats") };
        let mut formed = FormedTensor::new(place, input.len());
        Letterbox::new(&input).run_formed(&picture, &mut formed).expect("a whole picture");
        assert_eq!(outputs_of(&mut engine, &[&SlotMemory::Formed(formed)]), expected, "{form:?}");
    }
}

fn detect(folder: &Path, model: &Path, backend: &str, library: Option<&(&str, PathBuf)>) -> Ended {
    let mut command = watchpost(folder);
    command.args(["detect", "--backend", backend, "--score-threshold", "0.3", "-m"]).arg(model);
    command.arg(shared("footage/photos").expect("looked for already"));
    if let Some((variable, file)) = library {
        command.env(variable, file);
    }
    run(&mut command)
}

fn objects(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let records = ended.records();
    records.iter().flat_map(|record| record["objects"].as_array().expect("objects").clone()).collect()
}

/// Every backend for the CPU that this machine has.
fn backends() -> Vec<(&'static str, Option<(&'static str, PathBuf)>)> {
    let mut found = vec![("builtin", None)];
    for (backend, variable, stem) in [
        ("onnxruntime", "WATCHPOST_ONNXRUNTIME_LIB", "libonnxruntime.so"),
        ("openvino", "WATCHPOST_OPENVINO_LIB", "libopenvino_c.so"),
    ] {
        found.extend(engine_library(variable, stem).map(|file| (backend, Some((variable, file)))));
    }
    found
}

#[test]
fn a_real_model_gives_the_same_boxes_in_every_form_on_every_backend() {
    let Some(original) = shared("models/yolox_nano.onnx") else { return };
    let bytes = fs::read(&original).expect("readable");
    let folder = tempfile::tempdir().expect("a folder");
    // The name is in the records, the size of a YOLOX picture in the file.
    let twins = FORMS.map(|form| {
        let file = folder.path().join(format!("{form:?}.onnx"));
        fs::write(&file, twin(&bytes, form, (416, 416), 1.0)).expect("written");
        (form, file)
    });
    for (backend, library) in backends() {
        let expected = objects(&detect(folder.path(), &original, backend, library.as_ref()));
        assert!(expected.len() >= 5, "{expected:?}");
        for (form, file) in &twins {
            let found = objects(&detect(folder.path(), file, backend, library.as_ref()));
            assert_eq!(found, expected, "{form:?} on {backend}");
        }
    }
}

/// `yolov8n-dynamic-batch.onnx` with so many pictures of 160x160 in its input.
fn of_batch(model: &[u8], batch: u64) -> Vec<u8> {
    let input = tensor("images", F32, &dims(&[batch, 3, 160, 160]));
    exchanged(model, &input, &[], &[], &[tensor("output0", F32, &dims(&[batch, 84, 525]))])
}

#[test]
fn a_fixed_batch_gives_each_picture_its_own_boxes_on_every_backend() {
    let Some(original) = shared("models/yolov8n-dynamic-batch.onnx") else { return };
    let bytes = fs::read(&original).expect("readable");
    let folder = tempfile::tempdir().expect("a folder");
    let files = [1, 3].map(|batch| {
        let file = folder.path().join(format!("batch-{batch}.onnx"));
        fs::write(&file, of_batch(&bytes, batch)).expect("written");
        file
    });
    for (backend, library) in backends() {
        let [one, three] =
            [0, 1].map(|index| objects(&detect(folder.path(), &files[index], backend, library.as_ref())));
        assert!(one.len() >= 5, "{one:?}");
        assert_eq!(one.len(), three.len(), "{backend}");
        for (a, b) in one.iter().zip(&three) {
            assert_eq!(a["class_id"], b["class_id"], "{backend}");
            // Other kernels may be chosen for another shape.
            let near = |a: &Value, b: &Value, most: f64| {
                (a.as_f64().unwrap_or(f64::NAN) - b.as_f64().unwrap_or(f64::NAN)).abs() <= most
            };
            assert!(near(&a["score"], &b["score"], 0.001), "{backend}: {a} {b}");
            assert!((0..4).all(|side| near(&a["box"][side], &b["box"][side], 0.2)), "{backend}: {a} {b}");
        }
    }
    // Several at once: each gets what it gets alone.
    let [mut one, mut three] = files.map(|file| {
        let manifest = model::find(file.to_str().expect("UTF-8"), &[]).expect("concluded");
        BuiltinEngine::load(&manifest, 1).expect("it loads")
    });
    assert_eq!((one.max_batch(), three.max_batch()), (1, 3));
    let frames: Vec<SlotMemory> = [30_u8, 90, 200]
        .map(|level| {
            let values = noise(3 * 160 * 160).into_iter().map(|code| f32::from(code.min(level)) / 255.0);
            SlotMemory::Host(values.collect())
        })
        .into();
    let inputs: Vec<&SlotMemory> = frames.iter().collect();
    let together = outputs_of(&mut three, &inputs);
    let alone: Vec<Vec<f32>> = inputs.iter().flat_map(|input| outputs_of(&mut one, &[input])).collect();
    assert_eq!(together.len(), 3);
    for (together, alone) in together.iter().zip(&alone) {
        let apart = together.iter().zip(alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-2 && together.len() == alone.len(), "{apart}");
    }
    assert_ne!(together[0], together[1]);
}
