//! On OpenVINO itself, where it is: several frames side by side give what one gives, and a model that was exported loads as
//! it was compiled.

use std::path::{Path, PathBuf};

use watchpost_binding::Frame;
use watchpost_openvino::{Arithmetic, Library, LoadOptions, Mode, Model, ModelBytes, find_library};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The library that this machine has, and a model.
fn bench() -> Option<(Library, PathBuf)> {
    let fetched = std::fs::read_dir(root().join("target/engines")).into_iter().flatten().flatten();
    let files =
        fetched.flat_map(|one| std::fs::read_dir(one.path().join("openvino/libs")).into_iter().flatten());
    let is_library = |path: &PathBuf| path.to_string_lossy().contains("libopenvino_c.so");
    let library = files.flatten().map(|file| file.path()).find(is_library).or_else(|| find_library().ok());
    let Some(library) = library else {
        eprintln!("NOT TESTED: no OpenVINO here; `make engines` fetches it, or set WATCHPOST_OPENVINO_LIB");
        return None;
    };
    let shared = std::env::var_os("WATCHPOST_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let model = shared.join("models/yolox_nano.onnx");
    if !model.is_file() {
        eprintln!("NOT TESTED: {} is not there; set WATCHPOST_SHARED", model.display());
        return None;
    }
    Some((Library::load(&library).unwrap(), model))
}

fn options(mode: Mode, streams: usize) -> LoadOptions {
    LoadOptions {
        device: "CPU".to_owned(),
        threads: 2,
        streams,
        input_size: (416, 416),
        arithmetic: Some(Arithmetic::F32),
        mode,
    }
}

/// Pictures that differ.
fn picture(number: usize) -> Vec<f32> {
    (0..3 * 416 * 416).map(|place| ((place * (number + 3)) % 251) as f32).collect()
}

fn infer(model: &mut Model, pictures: &[&[f32]]) -> Vec<Vec<f32>> {
    let frames: Vec<Frame<'_>> = pictures.iter().map(|picture| Frame::F32(picture)).collect();
    let mut outputs = Vec::new();
    model
        .run_frames(&frames, &mut |index, tensors| {
            assert_eq!(index, outputs.len());
            outputs.push(tensors[0].data.to_vec());
        })
        .unwrap();
    outputs
}

fn assert_same(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "they differ by {worst}");
}

#[test]
fn frames_side_by_side_are_told_apart_and_give_what_each_gives_alone() {
    let Some((library, path)) = bench() else { return };
    let load = |mode, streams| {
        Model::load(&library, ModelBytes::File(&path), &options(mode, streams), None).unwrap()
    };
    let mut alone = load(Mode::Latency, 5);
    assert_eq!(alone.frames_max(), 1);
    let mut together = load(Mode::Throughput, 3);
    assert_eq!(together.frames_max(), 3);
    let pictures: Vec<Vec<f32>> = (0..3).map(picture).collect();
    let pictures: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
    let expected: Vec<Vec<f32>> = pictures.iter().map(|one| infer(&mut alone, &[one]).remove(0)).collect();
    assert!(expected[0] != expected[1] && expected[1] != expected[2]);
    for count in [3, 1, 2, 3, 0] {
        let outputs = infer(&mut together, &pictures[..count]);
        assert_eq!(outputs.len(), count);
        outputs.iter().zip(&expected).for_each(|(ours, theirs)| assert_same(ours, theirs));
    }
    // What is wrong is refused, and nothing is in the way afterwards.
    let short = [0.0; 7];
    let mut refused = |pictures: &[&[f32]]| {
        let frames: Vec<Frame<'_>> = pictures.iter().map(|picture| Frame::F32(picture)).collect();
        together.run_frames(&frames, &mut |_, _| panic!("nothing was inferred"))
    };
    assert!(refused(&[pictures[0], &short]).is_err());
    assert!(refused(&[pictures[0]; 4]).is_err());
    assert_same(&infer(&mut together, &pictures[1..2])[0], &expected[1]);
}

#[test]
fn a_model_that_was_exported_loads_as_it_was_compiled_and_another_is_compiled_anew() {
    let Some((library, path)) = bench() else { return };
    let load = |mode, kept: Option<&[u8]>| {
        Model::load(&library, ModelBytes::File(&path), &options(mode, 2), kept).unwrap()
    };
    for mode in [Mode::Latency, Mode::Throughput] {
        let mut compiled = load(mode, None);
        assert!(!compiled.was_kept());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("compiled");
        compiled.export(&file).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let mut kept = load(mode, Some(&bytes));
        assert!(kept.was_kept());
        // Its weights stay where they are read, whatever becomes of these bytes.
        drop(bytes);
        assert_eq!((kept.frames_max(), kept.arithmetic()), (compiled.frames_max(), Some(Arithmetic::F32)));
        let picture = picture(1);
        assert_same(&infer(&mut kept, &[&picture])[0], &infer(&mut compiled, &[&picture])[0]);
        assert!(compiled.export(&folder.path().join("absent/file")).is_err());
        // What was never compiled by it.
        for junk in [&b""[..], b"junk"] {
            assert!(!load(mode, Some(junk)).was_kept());
        }
    }
}
