//! The ONNX model behind a plan, run by the built-in engine.

use std::sync::Arc;

use watchpost_builtin::{LoadOptions, Model};

use crate::onnx::{self, Declared};
use crate::plan::Element;

/// Width and height to try a model with that leaves them open: what detectors are exported with.
const TRIAL_SIZE: (usize, usize) = (640, 640);

/// What the parser made of an ONNX file.
#[derive(Debug, Clone)]
pub struct Network {
    pub onnx: Arc<[u8]>,
    /// Name, and four sizes with -1 where open.
    pub input: Declared,
    pub outputs: Vec<Declared>,
    pub input_element: Element,
    pub output_elements: Vec<Element>,
}

impl Network {
    /// Reads a model and makes sure that the built-in engine can run it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let damaged = || "Failed to parse the ONNX model: it is no ModelProto".to_owned();
        let (inputs, outputs) = onnx::inputs_and_outputs(bytes).ok_or_else(damaged)?;
        let [input] = &inputs[..] else {
            return Err(format!("the stand-in runs models with one input, this one has {}", inputs.len()));
        };
        if input.sizes.len() != 4 {
            return Err(format!("{}: the stand-in wants [batch, 3, height, width]", input.name));
        }
        let element = |declared: &Declared| {
            Element::from_onnx(declared.element)
                .ok_or_else(|| format!("{}: type {} is not supported", declared.name, declared.element))
        };
        let network = Self {
            onnx: bytes.into(),
            input_element: element(input)?,
            output_elements: outputs.iter().map(element).collect::<Result<_, _>>()?,
            input: input.clone(),
            outputs,
        };
        let [_, _, height, width] = network.input.sizes[..] else { return Err(damaged()) };
        let open = height < 0 || width < 0;
        Loaded::new(Arc::clone(&network.onnx), open.then_some(TRIAL_SIZE))?;
        Ok(network)
    }
}

/// A model that can run, and the file its weights lie in.
#[derive(Debug)]
pub struct Loaded {
    /// Before the bytes: it borrows from them.
    pub model: Model,
    _onnx: Arc<[u8]>,
}

impl Loaded {
    /// Loads, and infers one empty frame. `size` is width and height where the model leaves them open.
    ///
    /// # Errors
    /// Why it cannot run, in words.
    pub fn new(onnx: Arc<[u8]>, size: Option<(usize, usize)>) -> Result<Self, String> {
        // SAFETY: the bytes are behind an `Arc`, which this value holds as long as the model and drops after it.
        let lent: &'static [u8] = unsafe { std::slice::from_raw_parts(onnx.as_ptr(), onnx.len()) };
        let options = LoadOptions { threads: 1, input_size: size };
        let model = Model::from_bytes(lent, options).map_err(|error| error.to_string())?;
        Ok(Self { model, _onnx: onnx })
    }
}
