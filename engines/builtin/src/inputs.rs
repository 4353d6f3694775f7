//! The model's inputs: one picture, and perhaps numbers that say how large it is.

use rten::{DataType, Dimension, NodeId, Value, ValueType};
use rten_tensor::Tensor;
use watchpost_binding::{Number, PictureInput, size_numbers};

use crate::LoadError;
use crate::model::node_name;

/// What goes into a model.
pub(crate) struct Settled {
    /// The picture's input and its name.
    pub id: NodeId,
    pub name: String,
    pub picture: PictureInput,
    /// What the others are fed with, the same for each picture of a batch.
    pub constants: Vec<(NodeId, Value)>,
}

/// Settles every dimension of the picture and every other input.
pub(crate) fn settle(model: &rten::Model, input_size: Option<(usize, usize)>) -> Result<Settled, LoadError> {
    let refuse = |reason: String| Err(LoadError::Input { reason });
    let named: Vec<(NodeId, String)> =
        model.input_ids().iter().enumerate().map(|(index, &id)| (id, node_name(model, id, index))).collect();
    let (others, pictures): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|(_, name)| size_numbers(name, (0, 0)).is_some());
    let [(id, name)] = pictures.as_slice() else {
        let names: Vec<&str> = pictures.iter().map(|(_, name)| name.as_str()).collect();
        return refuse(format!(
            "it has {} inputs ({}) and we have one picture",
            pictures.len(),
            names.join(", ")
        ));
    };
    let picture = picture(model, *id, name, input_size)?;
    let PictureInput { batch, width, height, .. } = picture;
    let mut constants = Vec::with_capacity(others.len());
    for (id, name) in others {
        let Some(numbers) = size_numbers(&name, (width, height)) else { continue };
        constants.push((id, constant_value(model, id, &name, (numbers, batch))?));
    }
    Ok(Settled { id: *id, name: name.clone(), picture, constants })
}

fn constant_value(
    model: &rten::Model,
    id: NodeId,
    name: &str,
    (numbers, batch): ([usize; 2], usize),
) -> Result<Value, LoadError> {
    let dtype = model.node_info(id).and_then(|info| info.dtype());
    match dtype {
        // Sides are at most 8192: exact in both.
        Some(ValueType::Tensor(DataType::Int32)) => {
            Ok(Tensor::from_data(&[batch, 2], numbers.map(|number| number as i32).repeat(batch)).into())
        }
        None | Some(ValueType::Tensor(DataType::Float)) => {
            Ok(Tensor::from_data(&[batch, 2], numbers.map(|number| number as f32).repeat(batch)).into())
        }
        Some(other) => {
            Err(LoadError::Input { reason: format!("{name} is a {other}, not numbers of a size") })
        }
    }
}

fn picture(
    model: &rten::Model,
    id: NodeId,
    name: &str,
    input_size: Option<(usize, usize)>,
) -> Result<PictureInput, LoadError> {
    let refuse = |reason: String| Err(LoadError::Input { reason });
    let info = model.node_info(id);
    let number = match info.as_ref().and_then(|info| info.dtype()) {
        None | Some(ValueType::Tensor(DataType::Float)) => Number::F32,
        Some(ValueType::Tensor(DataType::UInt8)) => Number::U8,
        Some(other) => return refuse(format!("{name} is a {other}, not a tensor of floats or bytes")),
    };
    let Some(dimensions) = info.and_then(|info| info.shape()) else {
        return refuse(format!("{name} has no shape"));
    };
    let fixed = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbolic(_) => None,
    };
    let dims: Vec<Option<usize>> = dimensions.iter().map(fixed).collect();
    PictureInput::settle(&dims, number, input_size)
        .map_err(|error| LoadError::Input { reason: format!("{name} {error}") })
}
