//! A session that reads its input where it lies and writes its outputs where we said, run after run.
//!
//! `ort`'s own `IoBinding::bind_input` makes a copy of a borrowed tensor first, on the GPU through a session of its own;
//! so the input is bound through the C function that it wraps.

#[cfg(test)]
#[path = "../../builtin/tests/onnx_writer/mod.rs"]
mod onnx_writer;

use std::ffi::{CString, c_void};
use std::fmt;

use ort::AsPointer;
use ort::memory::MemoryInfo;
use ort::session::{IoBinding, Session};
use ort::value::{Shape, TensorRefMut};

use watchpost_binding::TensorView;

use crate::model::{RunError, TensorInfo};

/// Outputs of one model; a detector has one to nine.
const OUTPUTS_MAX: usize = 32;

/// See the file's head.
pub(crate) struct InPlace {
    session: Session,
    binding: IoBinding,
    input: TensorInfo,
    input_name: CString,
    input_memory: MemoryInfo<'static>,
    output_memory: MemoryInfo<'static>,
    output_names: Vec<String>,
    outputs: Vec<TensorInfo>,
    /// Of the run before: its output buffers have this batch's size and are used again.
    frames: usize,
}

impl fmt::Debug for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace").field("input", &self.input).finish_non_exhaustive()
    }
}

fn words(error: impl fmt::Display) -> RunError {
    RunError(error.to_string())
}

impl InPlace {
    /// A session with one f32 input whose addresses will be of `input_memory`. `output_memory` is the host's.
    pub(crate) fn new(
        session: Session,
        input: TensorInfo,
        input_memory: MemoryInfo<'static>,
        output_memory: MemoryInfo<'static>,
    ) -> Result<Self, RunError> {
        let binding = session.create_binding().map_err(words)?;
        let input_name = CString::new(input.name.as_str()).map_err(words)?;
        let output_names: Vec<String> =
            session.outputs().iter().map(|output| output.name().to_owned()).collect();
        let count = output_names.len();
        if count == 0 || count > OUTPUTS_MAX {
            return Err(RunError(format!("the model has {count} outputs; 1 to {OUTPUTS_MAX} are supported")));
        }
        let outputs = Vec::with_capacity(count);
        Ok(Self {
            session,
            binding,
            input,
            input_name,
            input_memory,
            output_memory,
            output_names,
            outputs,
            frames: 0,
        })
    }

    pub(crate) fn input(&self) -> &TensorInfo {
        &self.input
    }

    /// As the first run gave them, for one frame.
    pub(crate) fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Infers `frames` frames that lie one behind the other at `address`. When `wait` has returned, nothing reads them
    /// any more and the outputs are there; it is called also where the run failed.
    ///
    /// # Safety
    /// `address` is `frames` inputs of f32 in memory of the kind that [`InPlace::new`] was given, and nobody writes
    /// them until this returns.
    pub(crate) unsafe fn run<E: From<RunError>>(
        &mut self,
        address: *mut c_void,
        frames: usize,
        wait: impl FnOnce() -> Result<(), E>,
        each: &mut dyn FnMut(usize, &[TensorView<'_>]),
    ) -> Result<(), E> {
        if self.frames != frames {
            self.bind_outputs()?;
        }
        self.frames = 0;
        // SAFETY: the caller's promise.
        unsafe { self.bind_input(address, frames) }?;
        let run = self.session.run_binding(&self.binding);
        // A run that failed may have queued work that reads the input.
        let waited = wait();
        let values = run.map_err(words)?;
        waited?;
        // A run that failed before may have seen some of them.
        let is_first = self.outputs.len() < self.output_names.len();
        if is_first {
            self.outputs.clear();
        }
        let mut data: [&[f32]; OUTPUTS_MAX] = [&[]; OUTPUTS_MAX];
        for (index, name) in self.output_names.iter().enumerate() {
            let value = values.get(name).ok_or_else(|| RunError(format!("output {name} is missing")))?;
            let (shape, values) = value.try_extract_tensor::<f32>().map_err(words)?;
            if is_first {
                self.outputs.push(one_frame(name, shape, frames)?);
            }
            let expected = self.outputs[index].shape.iter().product::<usize>() * frames;
            if values.len() != expected {
                let got = values.len();
                return Err(RunError(format!(
                    "output {name} has {got} values for {frames} frames and not {expected}; export the model with \
                     outputs of a fixed size"
                ))
                .into());
            }
            data[index] = values;
        }
        lend(&self.outputs, &data, frames, each);
        // Only now the buffers are known to be as this batch needs them.
        self.frames = frames;
        Ok(())
    }

    /// # Safety
    /// As for [`InPlace::run`].
    unsafe fn bind_input(&mut self, address: *mut c_void, frames: usize) -> Result<(), RunError> {
        let mut shape = [0_i64; 4];
        for (size, known) in shape.iter_mut().zip(&self.input.shape) {
            *size = i64::try_from(*known).map_err(words)?;
        }
        shape[0] = i64::try_from(frames).map_err(words)?;
        let memory = self.input_memory.clone();
        // SAFETY: the caller's promise; the value is not used after this function.
        let tensor =
            unsafe { TensorRefMut::<f32>::from_raw(memory, address, Shape::new(shape)) }.map_err(words)?;
        let binding = self.binding.ptr_mut();
        // SAFETY: all three are alive. The binding keeps a reference of its own to the value, which owns no memory, and
        // is bound anew before the next run.
        unsafe {
            let status = (ort::api().BindInput)(binding, self.input_name.as_ptr(), tensor.ptr());
            ort::Error::result_from_status(status)
        }
        .map_err(words)
    }

    /// Buffers of the batch before are of its size: with new ones, the library allocates once and then uses them again.
    fn bind_outputs(&mut self) -> Result<(), RunError> {
        for name in &self.output_names {
            self.binding.bind_output_to_device(name, &self.output_memory).map_err(words)?;
        }
        Ok(())
    }
}

/// `[frames, …]` as `[1, …]`.
fn one_frame(name: &str, shape: &[i64], frames: usize) -> Result<TensorInfo, RunError> {
    let mut shape: Vec<usize> = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    match shape.first_mut() {
        Some(batch) if *batch == frames => *batch = 1,
        _ => return Err(RunError(format!("output {name} has the shape {shape:?} for {frames} frames"))),
    }
    Ok(TensorInfo { name: name.to_owned(), shape })
}

fn lend(
    outputs: &[TensorInfo],
    data: &[&[f32]; OUTPUTS_MAX],
    frames: usize,
    each: &mut dyn FnMut(usize, &[TensorView<'_>]),
) {
    let mut views = [TensorView { name: "", shape: &[], data: &[] }; OUTPUTS_MAX];
    for frame in 0..frames {
        for ((view, output), data) in views.iter_mut().zip(outputs).zip(data) {
            let len = data.len() / frames;
            let data = &data[frame * len..(frame + 1) * len];
            *view = TensorView { name: &output.name, shape: &output.shape, data };
        }
        each(frame, &views[..outputs.len()]);
    }
}

#[cfg(test)]
mod tests {
    use ort::memory::{AllocationDevice, AllocatorType, MemoryType};

    use super::onnx_writer::{Dim, F32, Onnx, dims, node, tensor};
    use super::*;
    use crate::model::{ModelBytes, builder, commit, input, library};

    /// The host's memory in the place of a GPU's: the same calls, and every address can be looked at.
    fn on_host(onnx: &Onnx) -> Option<InPlace> {
        let library = match crate::find_library().map(|path| library(&path)) {
            Ok(library) => library.expect("it loads"),
            Err(error) => {
                eprintln!("NOT TESTED: a session that reads its input in place: {error}");
                return None;
            }
        };
        let bytes = onnx.encode();
        let session = commit(builder(library, 1).unwrap(), ModelBytes::Memory(&bytes)).unwrap();
        let input = input(&session, (2, 2)).unwrap().one_frame;
        let host =
            || MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
        Some(InPlace::new(session, input, host(), host()).unwrap())
    }

    const LEN: usize = 3 * 2 * 2;

    fn doubling() -> Onnx {
        Onnx::doubling(&[Dim::Open("batch"), Dim::N(3), Dim::N(2), Dim::N(2)])
    }

    /// Runs the first `count` of `frames` and gives their outputs.
    fn run(model: &mut InPlace, frames: &mut [f32], count: usize) -> Result<Vec<Vec<f32>>, RunError> {
        let mut outputs = Vec::new();
        let mut each = |index: usize, views: &[TensorView<'_>]| {
            assert_eq!((index, views.len(), views[0].name), (outputs.len(), 1, "doubled"));
            assert_eq!(views[0].shape, [1, 3, 2, 2]);
            outputs.push(views[0].data.to_vec());
        };
        assert!(frames.len() >= count * LEN);
        // SAFETY: the slice is of the host, as long as asserted, and borrowed until the run is over.
        unsafe { model.run::<RunError>(frames.as_mut_ptr().cast(), count, || Ok(()), &mut each) }?;
        Ok(outputs)
    }

    #[test]
    fn the_input_is_read_where_it_lies_when_the_session_runs() {
        let Some(mut model) = on_host(&doubling()) else { return };
        let mut frame = vec![1.0_f32; LEN];
        model.bind_outputs().unwrap();
        let address = frame.as_mut_ptr().cast();
        // SAFETY: the vector is of the host and lives until the end; nothing runs while it is written.
        unsafe { model.bind_input(address, 1) }.unwrap();
        frame.fill(21.0);
        let values = model.session.run_binding(&model.binding).unwrap();
        let (_, data) = values.get("doubled").unwrap().try_extract_tensor::<f32>().unwrap();
        assert_eq!(data, [42.0; LEN], "a copy was read");
    }

    #[test]
    fn batches_of_changing_size_give_each_frame_its_own_outputs() {
        let Some(mut model) = on_host(&doubling()) else { return };
        let mut frames: Vec<f32> = (0..LEN * 4).map(|i| i as f32).collect();
        for count in [1, 4, 2, 4, 4, 1, 3] {
            let outputs = run(&mut model, &mut frames, count).unwrap();
            assert_eq!(outputs.len(), count);
            for (index, output) in outputs.iter().enumerate() {
                let expected: Vec<f32> = (0..LEN).map(|i| 2.0 * (index * LEN + i) as f32).collect();
                assert_eq!(*output, expected, "frame {index} of {count}");
            }
        }
        assert_eq!(model.outputs()[0].shape, [1, 3, 2, 2]);
    }

    #[test]
    fn after_a_failed_run_the_session_is_usable_and_the_input_was_waited_for() {
        let Some(mut model) = on_host(&Onnx::doubling(&dims(&[1, 3, 2, 2]))) else { return };
        let mut frames = vec![1.0_f32; LEN * 2];
        let mut has_waited = false;
        let wait = || {
            has_waited = true;
            Ok(())
        };
        // SAFETY: as in `run`.
        let refused =
            unsafe { model.run::<RunError>(frames.as_mut_ptr().cast(), 2, wait, &mut |_, _| panic!("none")) };
        assert!(refused.is_err() && has_waited, "{refused:?}");
        assert_eq!(run(&mut model, &mut frames, 1).unwrap(), [[2.0; LEN]]);
    }

    #[test]
    fn outputs_that_are_not_one_for_each_frame_are_refused() {
        let onnx = Onnx {
            outputs: vec![tensor("sum", F32, &[])],
            nodes: vec![node("ReduceSum", &["images"], &["sum"])],
            ..doubling()
        };
        let Some(mut model) = on_host(&onnx) else { return };
        for _ in 0..2 {
            let error = run(&mut model, &mut [1.0; LEN * 2], 2).unwrap_err();
            assert!(
                error.to_string().contains("output sum has the shape [1, 1, 1, 1] for 2 frames"),
                "{error}"
            );
        }
    }
}
