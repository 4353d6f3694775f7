//! ONNX files that lie: shapes without bytes, graphs within graphs without end, weights in other people's files, tensors
//! that would fill the memory, numbers that are none. Each ends with a message that names the file and says what to do,
//! with its exit code, and costs no more memory than a good one.

mod program;

use std::fs;
use std::path::Path;
use std::time::Duration;

use program::onnx_writer::{F32, I64, Onnx, bytes, dims, node, node_with, number, tensor, weights};
use program::{Ended, Running, blind_detector, contents, pause, watchpost};

/// What no run may take. A good model of this size takes about 60 MiB.
const RSS_MAX_KIB: u64 = 300 << 10;
/// Graphs, or types, in each other.
const NESTED: usize = 20_000;

/// TensorProto with any shape and any bytes.
fn lying(name: &str, dtype: u64, shape: &[u64], raw: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = shape.iter().flat_map(|&size| number(1, size)).collect();
    out.extend(number(2, dtype));
    out.extend(bytes(8, name.as_bytes()));
    out.extend(bytes(9, raw));
    out
}

/// TensorProto with whole numbers.
fn shape_tensor(name: &str, shape: &[u64]) -> Vec<u8> {
    let raw: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    lying(name, I64, &[shape.len() as u64], &raw)
}

/// AttributeProto with a tensor, or with a graph.
fn tensor_attribute(tensor: &[u8]) -> Vec<u8> {
    [bytes(1, b"value"), bytes(5, tensor), number(20, 4)].concat()
}

fn graph_attribute(graph: &[u8]) -> Vec<u8> {
    [bytes(1, b"body"), bytes(6, graph), number(20, 5)].concat()
}

/// TensorProto whose values are in another file.
fn external(location: &str, length: u64) -> Vec<u8> {
    let entry =
        |key: &str, value: &str| bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat());
    let mut out = [number(1, length / 4), number(2, F32), bytes(8, b"w")].concat();
    out.extend(entry("location", location));
    out.extend(entry("offset", "0"));
    out.extend(entry("length", &length.to_string()));
    out.extend(number(14, 1));
    out
}

/// A detector in its inputs and outputs, with these weights and nodes.
fn detector(weights: Vec<Vec<u8>>, nodes: Vec<Vec<u8>>) -> Vec<u8> {
    Onnx {
        inputs: vec![tensor("images", F32, &dims(&[1, 3, 64, 64]))],
        outputs: vec![tensor("output", F32, &dims(&[1, 6, 84]))],
        nodes,
        weights,
        metadata: vec![("task", "detect".to_owned()), ("names", "{0: 'a', 1: 'b'}".to_owned())],
    }
    .encode()
}

fn with_weights(weights: Vec<u8>) -> Vec<u8> {
    detector(vec![weights], vec![node("Sigmoid", &["w"], &["output"])])
}

/// An attribute in a node in a graph in an attribute, and so on, written from the inside.
fn nested_graphs() -> Vec<u8> {
    // Lengths come before contents: inside out, reversed, is linear.
    let mut reversed: Vec<u8> = Vec::new();
    let wrap = |reversed: &mut Vec<u8>, field: u64| {
        let head = bytes(field, &[]);
        let tag = &head[..head.len() - 1];
        let mut length = reversed.len() as u64;
        let mut varint = Vec::new();
        while length >= 0x80 {
            varint.push(length as u8 | 0x80);
            length >>= 7;
        }
        varint.push(length as u8);
        reversed.extend(varint.iter().rev());
        reversed.extend(tag.iter().rev());
    };
    for _ in 0..NESTED {
        wrap(&mut reversed, 1);
        wrap(&mut reversed, 6);
        wrap(&mut reversed, 5);
    }
    reversed.reverse();
    reversed
}

fn nan_detector() -> Vec<u8> {
    let shape = [1, 6, 84];
    with_weights(weights("w", &shape, &vec![f32::NAN; 6 * 84]))
}

/// A million boxes, all of them good.
fn crowd(shape: [u64; 3]) -> Vec<u8> {
    let values = vec![0.9_f32; shape.iter().product::<u64>() as usize];
    Onnx {
        inputs: vec![tensor("images", F32, &dims(&[1, 3, 64, 64]))],
        outputs: vec![tensor("output", F32, &dims(&shape))],
        nodes: vec![node("Identity", &["w"], &["output"])],
        weights: vec![weights("w", &shape, &values)],
        metadata: vec![("task", "detect".to_owned()), ("names", "{0: 'a', 1: 'b'}".to_owned())],
    }
    .encode()
}

type Case = (&'static str, Vec<u8>, &'static [&'static str]);

const LIE: &[&str] = &["says that its weights", "damaged or made to deceive", "export or download it again"];

fn lies() -> Vec<Case> {
    let huge = [1 << 20, 1 << 20];
    let in_node = node_with("Constant", &[], &["w"], &[tensor_attribute(&lying("v", F32, &huge, &[0; 16]))]);
    let body = bytes(5, &lying("deep", F32, &huge, &[0; 16]));
    let in_graph = node_with("If", &["images"], &["output"], &[graph_attribute(&body)]);
    let floats = [number(1, 1 << 40), number(2, F32), bytes(8, b"w"), bytes(4, &[0; 8])].concat();
    let packed =
        [bytes(1, &[0xff, 0xff, 0xff, 0xff, 0x7f]), number(2, F32), bytes(8, b"w"), bytes(9, &[0; 4])];
    let made = |op: &str| {
        let ones = weights("one", &[1], &[1.0]);
        let inputs: &[&str] = if op == "ConstantOfShape" { &["huge"] } else { &["one", "huge"] };
        detector(vec![ones, shape_tensor("huge", &huge)], vec![node(op, inputs, &["output"])])
    };
    let made_words: &[&str] = &["makes a tensor of the shape [1048576, 1048576]", "export it again"];
    let constant = node_with("Constant", &[], &["huge"], &[tensor_attribute(&shape_tensor("", &huge))]);
    let from_node = detector(vec![], vec![constant, node("ConstantOfShape", &["huge"], &["output"])]);
    vec![
        ("terabytes.onnx", with_weights(lying("w", F32, &huge, &[0; 16])), LIE),
        ("overflow.onnx", with_weights(lying("w", F32, &[i64::MAX as u64, 4], &[0; 16])), LIE),
        ("negative.onnx", with_weights(lying("w", F32, &[u64::MAX, 4], &[0; 16])), LIE),
        ("short.onnx", with_weights(lying("w", F32, &[1, 6, 84], &[0; 100])), LIE),
        ("typed.onnx", with_weights(floats), LIE),
        ("packed.onnx", with_weights(packed.concat()), LIE),
        ("in-node.onnx", detector(vec![], vec![in_node, node("Sigmoid", &["w"], &["output"])]), LIE),
        ("in-graph.onnx", detector(vec![], vec![in_graph]), LIE),
        ("nested.onnx", detector(vec![], vec![nested_graphs()]), &["graphs inside graphs", "limit 16"]),
        ("made.onnx", made("ConstantOfShape"), made_words),
        ("expanded.onnx", made("Expand"), made_words),
        ("tiled.onnx", made("Tile"), made_words),
        ("made-in-node.onnx", from_node, made_words),
        (
            "absolute.onnx",
            with_weights(external("/dev/zero", 64)),
            &["\"/dev/zero\"", "not in the model's folder"],
        ),
        (
            "outside.onnx",
            with_weights(external("../secret", 64)),
            &["\"../secret\"", "not in the model's folder"],
        ),
        ("absent.onnx", with_weights(external("w.data", 64)), &["\"w.data\"", "copy it beside the model"]),
        (
            "cut.onnx",
            with_weights(external("c.toml", 1 << 40)),
            &["\"c.toml\"", "should have", "copy it again"],
        ),
    ]
}

fn no_detectors() -> Vec<Case> {
    let with_input = |shape: &[u64]| Onnx {
        inputs: vec![tensor("images", F32, &dims(shape))],
        outputs: vec![tensor("output", F32, &dims(&[1, 6, 84]))],
        nodes: vec![node("Sigmoid", &["images"], &["output"])],
        ..Onnx::default()
    };
    let with_output = |shape: &[u64]| Onnx {
        outputs: vec![tensor("output", F32, &dims(shape))],
        ..with_input(&[1, 3, 64, 64])
    };
    vec![
        ("identity.onnx", Onnx::doubling(&dims(&[1, 3, 64, 64])).encode(), &["is a picture"]),
        ("grey.onnx", with_input(&[1, 1, 64, 64]).encode(), &["grey"]),
        ("depth.onnx", with_input(&[1, 4, 64, 64]).encode(), &["4 channels"]),
        ("vast.onnx", with_input(&[1, 3, 1 << 40, 1 << 40]).encode(), &["sides are 1 to 8192"]),
        ("endless.onnx", with_output(&[1, 1 << 62, 1 << 62]).encode(), &["endless.onnx"]),
        ("nan.onnx", nan_detector(), &["computes only NaN", "export it again"]),
    ]
}

/// Runs to the end; how it ended, and the most memory it was seen with.
fn measured(folder: &Path, args: &[&str]) -> (Ended, u64) {
    let mut running = Running::start(watchpost(folder).args(args));
    let status = format!("/proc/{}/status", running.pid());
    let mut most_kib = 0;
    while running.is_running() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        most_kib = most_kib.max(line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0));
        pause(Duration::from_millis(1));
    }
    (running.end(), most_kib)
}

#[test]
fn files_that_lie_and_models_that_detect_nothing_are_refused_in_little_memory() {
    let (mut tried, mut highest_kib) = (0, 0);
    for (name, model, words) in lies().into_iter().chain(no_detectors()) {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("written");
        write(name, &model);
        write(
            "c.toml",
            format!("[detector]\nmodel = \"{name}\"\n[camera.a]\nurl = \"test://scene\"\n").as_bytes(),
        );
        write("a.jpg", b"never opened");
        let before = contents(folder.path());
        let mut words: Vec<&str> = words.to_vec();
        words.push(name);
        // Only an engine can tell what a model computes.
        let computed = name == "nan.onnx";
        let mut runs = vec![(vec!["detect", "a.jpg", "-m", name], 66), (vec!["run", "-c", "c.toml"], 78)];
        if !computed {
            runs.push((vec!["model", "add", name], 66));
        }
        for (args, code) in runs {
            let (ended, rss_kib) = measured(folder.path(), &args);
            ended.expect(&format!("{} {name} ({} MiB)", args[0], rss_kib >> 10), code, &words);
            assert!(rss_kib <= RSS_MAX_KIB, "{args:?} took {} MiB", rss_kib >> 10);
            (tried, highest_kib) = (tried + 1, highest_kib.max(rss_kib));
        }
        assert_eq!(contents(folder.path()), before, "{name}: something is left behind");
    }
    println!("BAD INPUTS TRIED: {tried} runs on wrong models, at most {} MiB", highest_kib >> 10);
}

#[test]
fn a_million_candidates_cost_little_and_a_good_model_is_the_control() {
    let Some(photos) = program::shared("footage/photos") else { return };
    let dog = photos.join("dog.jpg").display().to_string();
    for (name, model, good) in [
        ("good.onnx", blind_detector(2), true),
        ("rows.onnx", crowd([1, 6, 1_000_000]), false),
        ("list.onnx", crowd([1, 1_000_000, 6]), false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(name), model).expect("written");
        let (ended, rss_kib) = measured(folder.path(), &["detect", &dog, "-m", name]);
        println!(
            "{name}: {} MiB, {:?}, {}",
            rss_kib >> 10,
            ended.code,
            ended.stderr.lines().last().unwrap_or_default()
        );
        assert!(rss_kib <= RSS_MAX_KIB, "{name} took {} MiB", rss_kib >> 10);
        if good {
            ended.expect(name, 0, &[]);
            let objects = ended.records()[0]["objects"].as_array().map_or(0, Vec::len);
            assert!(objects <= 300, "{name}: {objects} objects");
        } else {
            ended.expect(name, 66, &[name]);
        }
    }
}
