//! The model's inputs: one picture, and perhaps numbers that say how large it is.

use rten::{DataType, Dimension, NodeId, Value, ValueType};
use rten_tensor::Tensor;
use watchpost_binding::size_numbers;

use crate::model::node_name;
use crate::{LoadError, TensorInfo};

/// Width and height beyond this are a mistake: one frame would be gigabytes of activations.
const MAX_INPUT_SIDE: usize = 8192;

/// The picture's input, what is known about it, and what the others are fed with.
pub(crate) type Settled = (NodeId, TensorInfo, Vec<(NodeId, Value)>);

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
    let picture = picture(model, *id, name.clone(), input_size)?;
    let (height, width) = (picture.shape[2], picture.shape[3]);
    let mut constants = Vec::with_capacity(others.len());
    for (id, name) in others {
        let Some(numbers) = size_numbers(&name, (width, height)) else { continue };
        constants.push((id, constant_value(model, id, &name, numbers)?));
    }
    Ok((*id, picture, constants))
}

fn constant_value(
    model: &rten::Model,
    id: NodeId,
    name: &str,
    numbers: [usize; 2],
) -> Result<Value, LoadError> {
    let dtype = model.node_info(id).and_then(|info| info.dtype());
    match dtype {
        // Sides are at most 8192: exact in both.
        Some(ValueType::Tensor(DataType::Int32)) => {
            Ok(Tensor::from_data(&[1, 2], numbers.map(|number| number as i32).to_vec()).into())
        }
        None | Some(ValueType::Tensor(DataType::Float)) => {
            Ok(Tensor::from_data(&[1, 2], numbers.map(|number| number as f32).to_vec()).into())
        }
        Some(other) => {
            Err(LoadError::Input { reason: format!("{name} is a {other}, not numbers of a size") })
        }
    }
}

fn picture(
    model: &rten::Model,
    id: NodeId,
    name: String,
    input_size: Option<(usize, usize)>,
) -> Result<TensorInfo, LoadError> {
    let refuse = |reason: String| Err(LoadError::Input { reason });
    let info = model.node_info(id);
    match info.as_ref().and_then(|info| info.dtype()) {
        None | Some(ValueType::Tensor(DataType::Float)) => {}
        Some(other) => return refuse(format!("{name} is a {other}, not a tensor of floats")),
    }
    let Some(dimensions) = info.and_then(|info| info.shape()) else {
        return refuse(format!("{name} has no shape"));
    };
    let [batch, channels, height, width] = dimensions.as_slice() else {
        return refuse(format!("{name} has {} dimensions, not [1, 3, height, width]", dimensions.len()));
    };
    let side = |dimension: &Dimension, asked: Option<usize>| match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbolic(_) => asked,
    };
    let (Some(height), Some(width)) =
        (side(height, input_size.map(|size| size.1)), side(width, input_size.map(|size| size.0)))
    else {
        return refuse(format!("{name} leaves width and height open; the manifest must say them"));
    };
    let shape = vec![side(batch, Some(1)).unwrap_or(1), side(channels, Some(3)).unwrap_or(3), height, width];
    if shape[0] != 1 || shape[1] != 3 {
        return refuse(format!("{name} has shape {shape:?}, not [1, 3, height, width]"));
    }
    if shape.iter().any(|&side| side == 0 || side > MAX_INPUT_SIDE) {
        return refuse(format!("{name} has shape {shape:?}; sides are 1 to {MAX_INPUT_SIDE}"));
    }
    Ok(TensorInfo { name, shape, dtype: "f32".to_owned() })
}
