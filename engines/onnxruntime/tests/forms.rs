//! Pictures in other forms than planes of floats, and several at once, on the library that this machine has.

#[path = "../../builtin/tests/onnx_writer/mod.rs"]
mod onnx_writer;

use onnx_writer::{F32, Onnx, U8, dims, node, tensor};
use watchpost_binding::{AxisOrder, Frame, Number, TensorForm, TensorView};
use watchpost_onnxruntime::{LoadError, LoadOptions, Model, ModelBytes, find_library};

#[test]
fn channels_last_bytes_and_fixed_batches_are_taken_as_they_are() {
    let library = match find_library() {
        Ok(library) => library,
        Err(error) => {
            eprintln!("NOT TESTED: forms of pictures on ONNX Runtime: {error}");
            return;
        }
    };
    let load = |onnx: &Onnx| {
        let options = LoadOptions { threads: 1, input_size: (4, 2) };
        Model::load(&library, ModelBytes::Memory(&onnx.encode()), options)
    };
    let bytes: Vec<u8> = (100..124).collect();
    let doubled: Vec<f32> = bytes.iter().map(|&byte| 2.0 * f32::from(byte)).collect();
    let mut model = load(&Onnx::doubling_as_floats(U8, &[1, 2, 4, 3])).expect("bytes");
    let form = TensorForm { order: AxisOrder::Nhwc, number: Number::U8 };
    assert_eq!((model.picture().form, model.picture().batch), (form, 1));
    let mut seen = Vec::new();
    let mut note = |index: usize, outputs: &[TensorView<'_>]| {
        seen.push((index, outputs[0].shape.to_vec(), outputs[0].data.to_vec()));
    };
    model.run_frames(&[Frame::U8(&bytes)], &mut note).expect("it infers");
    model.run(&[0.0; 24], &mut |_| panic!("floats for bytes")).expect_err("floats");
    let mut model = load(&Onnx::doubling_as_floats(U8, &[3, 3, 2, 4])).expect("a batch");
    model.run_frames(&[Frame::U8(&[1; 24]), Frame::U8(&bytes)], &mut note).expect("it infers");
    model.run_frames(&[Frame::U8(&bytes); 4], &mut |_, _| panic!("too many")).expect_err("too many");
    let expected = [
        (0, vec![1, 2, 4, 3], doubled.clone()),
        (0, vec![1, 3, 2, 4], vec![2.0; 24]),
        (1, vec![1, 3, 2, 4], doubled),
    ];
    assert_eq!(seen, expected);
    // Which of these rows is of which picture?
    let mut rows = Onnx::doubling(&dims(&[3, 3, 2, 4]));
    rows.nodes.push(node("Transpose", &["doubled"], &["rows"]));
    rows.outputs = vec![tensor("rows", F32, &dims(&[4, 2, 3, 3]))];
    assert!(matches!(load(&rows), Err(LoadError::Shared(_))));
}
