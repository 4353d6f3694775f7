//! A model's inputs and outputs as they were read: the picture is settled, what is asked besides it is fed.

use std::ptr;

use openvino_sys as ov;
use openvino_sys::ov_element_type_e as Element;
use watchpost_binding::{Number, PictureInput, size_numbers};

use crate::model::LoadError;
use crate::owned::{ConstPort, Graph, Refusal, Request, Tensor, check, take_text};

/// A tensor on loan, and its numbers.
pub(crate) type Constant = (Tensor, Box<[i64]>);

/// One input of a model as it was read: its name, its type of numbers, its dimensions (`None`: left open).
struct Inlet {
    name: String,
    element: u32,
    dims: Vec<Option<usize>>,
}

fn inlets(graph: &Graph) -> Result<Vec<Inlet>, Refusal> {
    let mut count = 0;
    // SAFETY: the graph is the library's own.
    check(unsafe { ov::ov_model_inputs_size(graph.raw(), &raw mut count) })?;
    (0..count)
        .map(|index| {
            // SAFETY: as above; the index is below the count.
            let port = ConstPort::made(|port| unsafe {
                ov::ov_model_const_input_by_index(graph.raw(), index, port)
            })?;
            let mut shape =
                ov::ov_partial_shape_t { rank: ov::ov_dimension_t { min: 0, max: 0 }, dims: ptr::null_mut() };
            // SAFETY: the port is the library's own, the shape valid for writes.
            check(unsafe { ov::ov_port_get_partial_shape(port.raw(), &raw mut shape) })?;
            let rank = usize::try_from(shape.rank.max).unwrap_or(0);
            let dims = match shape.dims.is_null() {
                true => Vec::new(),
                // SAFETY: the library made an array of so many dimensions.
                false => unsafe { std::slice::from_raw_parts(shape.dims, rank) }
                    .iter()
                    .map(|dim| usize::try_from(dim.max).ok().filter(|_| dim.min == dim.max))
                    .collect(),
            };
            // SAFETY: filled by the call above, freed once.
            unsafe { ov::ov_partial_shape_free(&raw mut shape) };
            Ok(Inlet { name: name_of(&port, index)?, element: element_of(&port)?, dims })
        })
        .collect()
}

fn name_of(port: &ConstPort, index: usize) -> Result<String, Refusal> {
    let mut name = ptr::null_mut();
    // SAFETY: the port is the library's own, the pointer valid for writes.
    match check(unsafe { ov::ov_port_get_any_name(port.raw(), &raw mut name) }) {
        // SAFETY: names are freed with `ov_free`.
        Ok(()) => Ok(unsafe { take_text(name) }),
        Err(_nameless) => Ok(index.to_string()),
    }
}

/// The number of the type: newer libraries have types that our list of them lacks.
fn element_of(port: &ConstPort) -> Result<u32, Refusal> {
    let mut element = 0_u32;
    // SAFETY: the port is the library's own; a C enum is written as the 32-bit number that it is.
    check(unsafe { ov::ov_port_get_element_type(port.raw(), (&raw mut element).cast()) })?;
    Ok(element)
}

/// The picture's input.
pub(crate) struct Settled {
    pub picture: PictureInput,
    /// Where it is among the model's inputs.
    pub index: usize,
    /// Whether its floats are of half precision.
    pub is_half: bool,
}

/// Finds the picture among the inputs and settles its dimensions: an open batch is 1, open sides are those asked for.
pub(crate) fn settle(graph: &Graph, asked: (usize, usize)) -> Result<Settled, LoadError> {
    let inlets = inlets(graph)?;
    let pictures: Vec<_> =
        inlets.iter().enumerate().filter(|(_, inlet)| size_numbers(&inlet.name, (0, 0)).is_none()).collect();
    let [(index, inlet)] = pictures.as_slice() else {
        return Err(LoadError::Input(format!("is one of {}", pictures.len())));
    };
    let is_half = inlet.element == Element::F16 as u32;
    let number = match inlet.element {
        element if is_half || element == Element::F32 as u32 => Number::F32,
        element if element == Element::U8 as u32 => Number::U8,
        _ => return Err(LoadError::Input(format!("{} is not of floats or bytes", inlet.name))),
    };
    let picture = PictureInput::settle(&inlet.dims, number, Some(asked))
        .map_err(|error| LoadError::Input(format!("{} {error}", inlet.name)))?;
    if inlet.dims.iter().any(Option::is_none) {
        reshape(graph, *index, &picture.shape())?;
    }
    Ok(Settled { picture, index: *index, is_half })
}

fn reshape(graph: &Graph, index: usize, shape: &[usize]) -> Result<(), Refusal> {
    let mut dims: Vec<ov::ov_dimension_t> =
        shape.iter().map(|&size| ov::ov_dimension_t { min: size as i64, max: size as i64 }).collect();
    let rank = dims.len() as i64;
    let partial =
        ov::ov_partial_shape_t { rank: ov::ov_dimension_t { min: rank, max: rank }, dims: dims.as_mut_ptr() };
    // SAFETY: one index and one shape, as many dimensions as its rank says; they are read during the call.
    check(unsafe {
        ov::ov_model_reshape_by_port_indexes(graph.raw(), &raw const index, &raw const partial, 1)
    })
}

/// Feeds the inputs that say how large the picture is. The request reads them where they are.
pub(crate) fn feed_constants(
    graph: &Graph,
    request: &Request,
    &PictureInput { batch, width, height, .. }: &PictureInput,
) -> Result<Vec<Constant>, LoadError> {
    let mut constants = Vec::new();
    for (index, inlet) in inlets(graph)?.iter().enumerate() {
        let Some(numbers) = size_numbers(&inlet.name, (width, height)) else { continue };
        // Two numbers a picture. Sides are at most 8192: exact in each type.
        let (element, one): (Element, Vec<i64>) = if inlet.element == Element::I64 as u32 {
            (Element::I64, numbers.map(|number| number as i64).to_vec())
        } else if inlet.element == Element::I32 as u32 {
            let both = pair(numbers.map(|number| (number as i32).to_ne_bytes()));
            (Element::I32, vec![i64::from_ne_bytes(both)])
        } else if inlet.element == Element::F32 as u32 {
            let both = pair(numbers.map(|number| (number as f32).to_ne_bytes()));
            (Element::F32, vec![i64::from_ne_bytes(both)])
        } else {
            return Err(LoadError::Input(format!("{} is not two numbers of a size", inlet.name)));
        };
        let mut room = one.repeat(batch).into_boxed_slice();
        let mut dims = [batch as i64, 2];
        let shape = ov::ov_shape_t { rank: 2, dims: dims.as_mut_ptr() };
        // SAFETY: `room` holds two numbers of this type for each picture and is kept beside the tensor.
        let tensor = Tensor::made(|tensor| unsafe {
            ov::ov_tensor_create_from_host_ptr(element, shape, room.as_mut_ptr().cast(), tensor)
        })?;
        // SAFETY: request and tensor are the library's own; the index is one of the model's inputs.
        check(unsafe { ov::ov_infer_request_set_input_tensor_by_index(request.raw(), index, tensor.raw()) })?;
        constants.push((tensor, room));
    }
    Ok(constants)
}

fn pair([first, second]: [[u8; 4]; 2]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first);
    bytes[4..].copy_from_slice(&second);
    bytes
}

/// The names of the outputs, in their order.
pub(crate) fn output_names(graph: &Graph) -> Result<Vec<String>, Refusal> {
    let mut count = 0;
    // SAFETY: the graph is the library's own.
    check(unsafe { ov::ov_model_outputs_size(graph.raw(), &raw mut count) })?;
    (0..count)
        .map(|index| {
            // SAFETY: as above; the index is below the count.
            let port = ConstPort::made(|port| unsafe {
                ov::ov_model_const_output_by_index(graph.raw(), index, port)
            })?;
            name_of(&port, index)
        })
        .collect()
}
