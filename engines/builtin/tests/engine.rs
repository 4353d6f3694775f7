//! The engine with tiny models made here: what it computes, what it refuses, and how it says so.

mod onnx_writer;

use onnx_writer::{
    Dim, F16, F32, I64, Onnx, U8, bytes, dims, int_attribute, node, node_with, number, tensor, weights,
};
use watchpost_builtin::{
    AxisOrder, Frame, FrameError, LoadError, LoadOptions, Model, Number, RunError, TensorForm, TensorView,
};

const OPTIONS: LoadOptions = LoadOptions { threads: 1, input_size: None };

fn load(onnx: &Onnx, options: LoadOptions) -> Result<Model, LoadError> {
    Model::from_bytes(onnx.encode().leak(), options)
}

fn load_bytes(bytes: &[u8]) -> Result<Model, LoadError> {
    Model::from_bytes(bytes.to_vec().leak(), OPTIONS)
}

fn frame(len: usize) -> Vec<f32> {
    (0..len).map(|index| index as f32).collect()
}

#[test]
fn a_frame_comes_out_as_the_graph_says_with_name_and_shape() {
    let mut model = load(&Onnx::doubling(&dims(&[1, 3, 2, 4])), OPTIONS).unwrap();
    assert_eq!(model.inputs()[0].shape, [1, 3, 2, 4]);
    assert_eq!((model.outputs()[0].name.as_str(), model.outputs()[0].dtype.as_str()), ("doubled", "f32"));
    let input = frame(24);
    let mut calls = 0;
    model
        .run(&input, &mut |outputs| {
            calls += 1;
            assert_eq!((outputs[0].name, outputs[0].shape), ("doubled", &[1, 3, 2, 4][..]));
            assert!(outputs[0].data.iter().zip(&input).all(|(out, value)| *out == value * 2.0));
        })
        .unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn a_transposed_output_is_handed_over_in_row_major_order() {
    let shape = dims(&[1, 3, 2, 4]);
    let onnx = Onnx {
        inputs: vec![tensor("images", F32, &shape)],
        outputs: vec![tensor("turned", F32, &dims(&[4, 2, 3, 1]))],
        nodes: vec![node("Transpose", &["images"], &["turned"])],
        ..Onnx::default()
    };
    let mut model = load(&onnx, OPTIONS).unwrap();
    model
        .run(&frame(24), &mut |outputs| {
            assert_eq!(outputs[0].shape, [4, 2, 3, 1]);
            // Element (x, y, c) of the output is c * 8 + y * 4 + x of the input.
            assert_eq!(outputs[0].data[..7], [0.0, 8.0, 16.0, 4.0, 12.0, 20.0, 1.0]);
        })
        .unwrap();
}

#[test]
fn an_output_of_integers_is_converted() {
    let shape = dims(&[1, 3, 2, 2]);
    let to_i64 = int_attribute("to", I64);
    let onnx = Onnx {
        inputs: vec![tensor("images", F32, &shape)],
        outputs: vec![tensor("whole", I64, &shape)],
        nodes: vec![node_with("Cast", &["images"], &["whole"], &[to_i64])],
        ..Onnx::default()
    };
    let mut model = load(&onnx, OPTIONS).unwrap();
    assert_eq!(model.outputs()[0].dtype, "i32");
    let input: Vec<f32> = frame(12).iter().map(|value| value + 0.25).collect();
    model.run(&input, &mut |outputs| assert_eq!(outputs[0].data, frame(12))).unwrap();
}

#[test]
fn open_dimensions_are_settled_by_the_caller_and_without_him_refused() {
    let open = [Dim::Open("batch"), Dim::N(3), Dim::Open("height"), Dim::Open("width")];
    let sized = LoadOptions { threads: 1, input_size: Some((6, 4)) };
    let mut model = load(&Onnx::doubling(&open), sized).unwrap();
    assert_eq!(model.inputs()[0].shape, [1, 3, 4, 6]);
    model.run(&frame(72), &mut |outputs| assert_eq!(outputs[0].shape, [1, 3, 4, 6])).unwrap();

    let error = load(&Onnx::doubling(&open), OPTIONS).unwrap_err();
    assert!(matches!(error, LoadError::Input { .. }), "{error}");
    assert!(error.to_string().contains("leaves width and height open"), "{error}");
}

#[test]
fn a_wrong_frame_is_refused_and_the_next_one_works() {
    let mut model = load(&Onnx::doubling(&dims(&[1, 3, 2, 4])), OPTIONS).unwrap();
    let error = model.run(&frame(23), &mut |_| panic!("nothing to hand over")).unwrap_err();
    assert!(matches!(error, RunError::Frames(FrameError::Length { expected: 24, given: 23 })), "{error}");
    model.run(&frame(24), &mut |outputs| assert_eq!(outputs[0].data[23], 46.0)).unwrap();
}

#[test]
fn inputs_that_are_not_one_picture_of_floats_are_refused_by_name() {
    let mut two = Onnx::doubling(&dims(&[1, 3, 2, 4]));
    two.inputs.push(tensor("sizes", I64, &dims(&[1, 2])));
    two.outputs.push(tensor("sizes2", I64, &dims(&[1, 2])));
    two.nodes.push(node("Identity", &["sizes"], &["sizes2"]));
    let typed = |dtype| Onnx {
        inputs: vec![tensor("images", dtype, &dims(&[1, 3, 2, 4]))],
        outputs: vec![tensor("same", dtype, &dims(&[1, 3, 2, 4]))],
        nodes: vec![node("Identity", &["images"], &["same"])],
        ..Onnx::default()
    };
    for (onnx, words) in [
        (two, "2 inputs"),
        (typed(I64), "images"),
        (Onnx::doubling(&dims(&[1, 1, 2, 4])), "[1, 1, 2, 4]"),
        (Onnx::doubling(&dims(&[4, 5, 2, 4])), "[4, 5, 2, 4]"),
        (Onnx::doubling(&dims(&[65, 3, 2, 4])), "65 pictures"),
        (Onnx::doubling(&dims(&[3, 4])), "2 dimensions"),
        (Onnx::doubling(&dims(&[1, 3, 90_000, 90_000])), "8192"),
    ] {
        let error = load(&onnx, OPTIONS).unwrap_err();
        assert!(matches!(error, LoadError::Input { .. }) && error.to_string().contains(words), "{error}");
    }
    // The engine computes in f32 and widens f16, so this one works.
    let half = load(&typed(F16), OPTIONS).unwrap();
    assert_eq!(half.inputs()[0].dtype, "f32");
}

#[test]
fn channels_that_are_last_and_bytes_are_taken_as_they_are() {
    let mut model = load(&Onnx::doubling_as_floats(F32, &[1, 2, 4, 3]), OPTIONS).unwrap();
    let floats = TensorForm { order: AxisOrder::Nhwc, number: Number::F32 };
    assert_eq!((model.picture().form, model.picture().width, model.picture().height), (floats, 4, 2));
    let mut seen = Vec::new();
    model.run(&frame(24), &mut |outputs| seen = outputs[0].data.to_vec()).unwrap();
    assert_eq!(seen, frame(24).iter().map(|value| 2.0 * value).collect::<Vec<_>>());

    let mut model = load(&Onnx::doubling_as_floats(U8, &[1, 2, 4, 3]), OPTIONS).unwrap();
    assert_eq!(model.picture().form, TensorForm { order: AxisOrder::Nhwc, number: Number::U8 });
    let bytes: Vec<u8> = (100..124).collect();
    let each = &mut |_: usize, outputs: &[TensorView<'_>]| seen = outputs[0].data.to_vec();
    model.run_frames(&[Frame::U8(&bytes)], each).unwrap();
    assert_eq!(seen, (100..124).map(|value| 2.0 * value as f32).collect::<Vec<_>>());
    // Floats for a model of bytes are of another engine.
    let error = model.run(&frame(24), &mut |_| panic!("nothing to hand over")).unwrap_err();
    assert!(matches!(error, RunError::Frames(FrameError::Length { expected: 24, given: 0 })), "{error}");
}

#[test]
fn a_fixed_batch_takes_as_many_pictures_as_there_are_and_gives_each_its_own() {
    let mut model = load(&Onnx::doubling(&dims(&[3, 3, 2, 4])), OPTIONS).unwrap();
    assert_eq!((model.picture().batch, model.outputs()[0].shape.as_slice()), (3, &[1, 3, 2, 4][..]));
    let (ones, twos) = ([1.0; 24], [2.0; 24]);
    for frames in [&[Frame::F32(&ones), Frame::F32(&twos), Frame::F32(&ones)][..], &[Frame::F32(&twos)]] {
        let mut seen = Vec::new();
        let each = &mut |index: usize, outputs: &[TensorView<'_>]| {
            assert_eq!(outputs[0].shape, [1, 3, 2, 4]);
            seen.push((index, outputs[0].data.to_vec()));
        };
        model.run_frames(frames, each).unwrap();
        let doubled = |frame: &Frame<'_>| match frame {
            Frame::F32(values) => values.iter().map(|value| 2.0 * value).collect::<Vec<_>>(),
            Frame::U8(_) => panic!("floats"),
        };
        assert_eq!(seen, frames.iter().map(doubled).enumerate().collect::<Vec<_>>());
    }
    let five = [Frame::F32(&ones); 5];
    model.run_frames(&five, &mut |_, _| panic!("too many")).unwrap_err();
    // Which of these twelve rows is of which picture?
    let mut rows = Onnx::doubling(&dims(&[3, 3, 2, 4]));
    rows.nodes.push(node("Transpose", &["doubled"], &["rows"]));
    rows.outputs = vec![tensor("rows", F32, &dims(&[4, 2, 3, 3]))];
    let error = load(&rows, OPTIONS).unwrap_err();
    assert!(matches!(error, LoadError::Shared(_)) && error.to_string().contains("rows"), "{error}");
}

/// RT-DETR and PaddleDetection want to know what size boxes are to be scaled to: they are told the tensor's.
#[test]
fn inputs_that_ask_for_the_picture_s_size_are_fed_with_it() {
    let named = |name: &str, dtype| {
        let onnx = Onnx {
            inputs: vec![
                tensor("images", F32, &dims(&[1, 3, 2, 4])),
                tensor(name, dtype, &[Dim::Open("n"), Dim::N(2)]),
            ],
            outputs: vec![tensor("size", F32, &dims(&[1, 2])), tensor("same", F32, &dims(&[1, 3, 2, 4]))],
            nodes: vec![node("Identity", &[name], &["size"]), node("Identity", &["images"], &["same"])],
            ..Onnx::default()
        };
        let mut model = load(&onnx, OPTIONS).unwrap();
        assert_eq!((model.inputs().len(), model.picture().frame_len()), (1, 24));
        let mut size = Vec::new();
        model.run(&frame(24), &mut |outputs| size = outputs[0].data.to_vec()).unwrap();
        size
    };
    assert_eq!(named("orig_target_sizes", I64), [4.0, 2.0]);
    assert_eq!(named("im_shape", F32), [2.0, 4.0]);
    assert_eq!(named("scale_factor", F32), [1.0, 1.0]);
}

#[test]
fn an_operator_it_does_not_have_is_named() {
    let mut onnx = Onnx::doubling(&dims(&[1, 3, 2, 4]));
    onnx.nodes = vec![node("DeformConvFromTheFuture", &["images", "two"], &["doubled"])];
    match load(&onnx, OPTIONS).unwrap_err() {
        LoadError::UnsupportedOperator { operator } => {
            assert!(operator.starts_with("DeformConvFromTheFuture"), "{operator}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_graph_that_contradicts_itself_fails_at_load_and_not_at_the_first_picture() {
    let mut onnx = Onnx::doubling(&dims(&[1, 3, 2, 4]));
    onnx.weights = vec![onnx_writer::weights("two", &[5], &[2.0; 5])];
    let error = load(&onnx, OPTIONS).unwrap_err();
    assert!(matches!(error, LoadError::FirstRun(_) | LoadError::Invalid { .. }), "{error:?}");
    onnx.outputs.clear();
    assert!(matches!(load(&onnx, OPTIONS).unwrap_err(), LoadError::Invalid { .. }));
}

#[test]
fn what_is_no_model_is_told_from_what_is_half_of_one() {
    assert!(matches!(load_bytes(b"").unwrap_err(), LoadError::Empty));
    for text in
        [&b"hello, this is a text file\n"[..], b"<!DOCTYPE html><p>", b"version https://git-lfs.x", &[0; 64]]
    {
        let error = load_bytes(text).unwrap_err();
        assert!(matches!(error, LoadError::NotOnnx { .. }), "{error:?}");
    }
    let whole = Onnx::doubling(&dims(&[1, 3, 2, 4])).encode();
    for length in [12, 30, whole.len() / 2, whole.len() - 1] {
        let error = load_bytes(&whole[..length]).unwrap_err();
        assert!(matches!(error, LoadError::Truncated { .. }), "{length}: {error:?}");
    }
    for length in 0..whole.len() {
        assert!(load_bytes(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_file_is_read_from_disk_whatever_its_extension() {
    let folder = std::env::temp_dir().join(format!("watchpost-builtin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let bytes = Onnx::doubling(&dims(&[1, 3, 2, 4])).encode();
    for name in ["model.onnx", "MODEL.ONNX", "model"] {
        let path = folder.join(name);
        std::fs::write(&path, &bytes).unwrap();
        let model = Model::load(&path, OPTIONS);
        assert!(model.is_ok(), "{name}: {model:?}");
    }
    assert!(matches!(
        Model::load(&folder.join("absent.onnx"), OPTIONS).unwrap_err(),
        LoadError::Unreadable(_)
    ));
    assert!(matches!(Model::load(&folder, OPTIONS).unwrap_err(), LoadError::NotOnnx { .. }));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn no_single_flipped_byte_makes_it_panic() {
    let whole = Onnx::doubling(&dims(&[1, 3, 2, 4])).encode();
    for index in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[index] ^= flip;
            // Either it still is a model or the error is typed; a panic of the library is typed, too.
            let _ = load_bytes(&bytes);
        }
    }
}

/// TensorProto with one i64
fn whole_number(name: &str, value: i64) -> Vec<u8> {
    [number(2, I64), bytes(8, name.as_bytes()), bytes(9, &value.to_le_bytes())].concat()
}

/// Six boxes of two classes, scaled by the picture's brightest value so that nothing is constant, and ONNX's
/// NonMaxSuppression over them. A second output goes past it.
fn suppressing(limits: &[Vec<u8>], inputs: &[&str]) -> Onnx {
    let boxes = [
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.1, 1.0, 1.1],
        [0.0, -0.1, 1.0, 0.9],
        [0.0, 10.0, 1.0, 11.0],
        [0.0, 10.1, 1.0, 11.1],
        [0.0, 100.0, 1.0, 101.0],
    ];
    let scores = [[0.9, 0.75, 0.6, 0.95, 0.5, 0.3], [0.1, 0.8, 0.2, 0.1, 0.9, 0.1]];
    let all: Vec<&str> = ["boxes", "scores"].iter().chain(inputs).copied().collect();
    let given = [
        weights("w_boxes", &[1, 6, 4], boxes.as_flattened()),
        weights("w_scores", &[1, 2, 6], scores.as_flattened()),
    ];
    Onnx {
        inputs: vec![tensor("images", F32, &dims(&[1, 3, 2, 2]))],
        outputs: vec![
            tensor("selected", I64, &[Dim::Open("k"), Dim::N(3)]),
            tensor("again", F32, &dims(&[1, 6, 4])),
        ],
        nodes: vec![
            node("Flatten", &["images"], &["flat"]),
            node("ReduceMax", &["flat"], &["brightest"]),
            node("Mul", &["brightest", "w_boxes"], &["boxes"]),
            node("Mul", &["brightest", "w_scores"], &["scores"]),
            node("NonMaxSuppression", &all, &["indices"]),
            node("Identity", &["indices"], &["selected"]),
            node("Mul", &["boxes", "brightest"], &["again"]),
        ],
        weights: [&given[..], limits].concat(),
        ..Onnx::default()
    }
}

#[test]
fn non_max_suppression_selects_what_onnx_says_and_other_values_go_past_it() {
    let limits =
        [whole_number("most", i64::MAX), weights("iou", &[1], &[0.5]), weights("least", &[1], &[0.25])];
    let mut model = load(&suppressing(&limits, &["most", "iou", "least"]), OPTIONS).unwrap();
    for brightness in [1.0, 0.5, 0.2] {
        let mut got = Vec::new();
        model
            .run(&[brightness; 12], &mut |outputs| {
                assert_eq!((outputs.len(), outputs[0].name, outputs[1].name), (2, "selected", "again"));
                assert_eq!(outputs[1].data[2], brightness * brightness);
                got = outputs[0].data.to_vec();
                assert_eq!(outputs[0].shape, [got.len() / 3, 3]);
            })
            .unwrap();
        // Box 3 and 0 of the first class, and 4 and 1 of the second: classes leave each other alone.
        let expected: &[f32] = match brightness {
            1.0 => &[0., 0., 3., 0., 0., 0., 0., 0., 5., 0., 1., 4., 0., 1., 1.],
            0.5 => &[0., 0., 3., 0., 0., 0., 0., 1., 4., 0., 1., 1.],
            _ => &[],
        };
        assert_eq!(got, expected, "{brightness}");
    }
}

#[test]
fn non_max_suppression_that_cannot_be_taken_over_is_refused_by_name() {
    // Without a limit it selects nothing: that is what ONNX says.
    let mut model = load(&suppressing(&[], &[]), OPTIONS).unwrap();
    model.run(&[1.0; 12], &mut |outputs| assert_eq!(outputs[0].shape, [0, 3])).unwrap();
    let mut twice = suppressing(&[whole_number("most", 2)], &["most"]);
    twice.nodes.push(node("NonMaxSuppression", &["boxes", "scores", "most"], &["more"]));
    twice.outputs.push(tensor("more", I64, &[Dim::Open("k"), Dim::N(3)]));
    let computed = suppressing(&[], &["brightest"]);
    for onnx in [twice, computed] {
        let error = load_bytes(&onnx.encode()).unwrap_err();
        assert!(matches!(error, LoadError::UnsupportedOperator { .. }), "{error:?}");
        assert!(error.to_string().contains("NonMaxSuppression"), "{error}");
    }
}
