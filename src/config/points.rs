//! Points, polygons and lines, as fractions of the picture or in pixels of a picture of a stated size.

use serde_json::Value as Json;

use super::reading::{Section, Wrong};
use super::source::Place;
use super::tree::{Node, Value};
use crate::shape::{Point, Polygon, ShapeError};

/// The picture that pixels refer to.
pub(super) type PictureSize = Option<[u32; 2]>;

const SIDE_MAX: f64 = 16384.0;
const POINT: &str = "a point is a pair [x, y] of numbers: fractions of the picture (0 to 1) or pixels";

/// A mistake and where it is.
type Misplaced = (Place, Wrong);

/// `[WIDTH, HEIGHT]`
pub(super) fn picture_size(section: &mut Section<'_, '_>) -> PictureSize {
    let parse = |node: &Node| {
        let wrong = || format!("must be [WIDTH, HEIGHT] in pixels, each a whole number from 2 to {SIDE_MAX}");
        let Some([width, height]) = pair_of(node) else { return Err(wrong()) };
        let right = |side: f64| (2.0..=SIDE_MAX).contains(&side) && side.fract() == 0.0;
        if right(width) && right(height) { Ok(Some([width as u32, height as u32])) } else { Err(wrong()) }
    };
    section
        .read("picture_size", None, parse, |size| size.map(|[width, height]| Json::from(vec![width, height])))
}

/// The polygon of a node; a mistake is reported at the point it is in.
pub(super) fn polygon(
    section: &mut Section<'_, '_>,
    key: &str,
    node: &Node,
    size: PictureSize,
) -> Option<Polygon> {
    let read = || {
        let Value::List(nodes) = &node.value else {
            return Err((
                node.place,
                format!("must be a list of points like [[0.1, 0.2], …], not {}", node.value.kind()),
            ));
        };
        let points = points_of(&nodes.iter().collect::<Vec<_>>(), size)?;
        Polygon::new(&points).map_err(|error| {
            let index = match error {
                ShapeError::Outside(point) | ShapeError::Twice(_, point) | ShapeError::Crossed(_, point) => {
                    Some(point)
                }
                ShapeError::TooFew(_) | ShapeError::TooMany(_) | ShapeError::Flat => None,
            };
            let place = index.and_then(|point| nodes.get(point - 1)).map_or(node.place, |node| node.place);
            (place, error.to_string())
        })
    };
    told(section, key, read())
}

/// The two ends of a line.
pub(super) fn ends(
    section: &mut Section<'_, '_>,
    nodes: [&Node; 2],
    size: PictureSize,
) -> Option<[Point; 2]> {
    let read = || {
        let points = points_of(&nodes, size)?;
        for (point, node) in points.iter().zip(nodes) {
            if !point.iter().all(|side| (0.0..=1.0).contains(side)) {
                return Err((node.place, "lies outside the picture".to_owned()));
            }
        }
        if points[0] == points[1] {
            return Err((nodes[1].place, "is the same point as `from`: a line has two ends".to_owned()));
        }
        Ok([points[0], points[1]])
    };
    match read() {
        Ok(ends) => Some(ends),
        Err((place, wrong)) => {
            let key = if place == nodes[0].place { "from" } else { "to" };
            told(section, key, Err((place, wrong)))
        }
    }
}

fn told<T>(section: &mut Section<'_, '_>, key: &str, outcome: Result<T, Misplaced>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err((place, wrong)) => {
            section.reading.error(place, format!("`{key}` {wrong}"), None);
            None
        }
    }
}

/// All points of one shape, in fractions: they have one unit.
fn points_of(nodes: &[&Node], size: PictureSize) -> Result<Vec<Point>, Misplaced> {
    let mut pairs = Vec::with_capacity(nodes.len());
    for node in nodes {
        let pair = pair_of(node)
            .ok_or_else(|| (node.place, format!("has something else where a point should be: {POINT}")))?;
        if let Some(below) = pair.iter().find(|&&side| side < 0.0) {
            return Err((node.place, format!("has a point outside the picture: {below} is below 0")));
        }
        pairs.push(pair);
    }
    let Some(first) = pairs.iter().position(|pair| pair.iter().any(|&side| side > 1.0)) else {
        return Ok(pairs.iter().map(|pair| pair.map(|side| side as f32)).collect());
    };
    if let Some(index) = pairs.iter().position(|pair| pair.iter().any(|&side| side > 0.0 && side < 1.0)) {
        let wrong =
            "mixes fractions of the picture (0 to 1) and pixels: write all its points in one of the two";
        return Err((nodes[index.max(first)].place, wrong.to_owned()));
    }
    let Some(size) = size else {
        let wrong = "has a point outside the picture, whose sides are from 0 to 1; for pixels say of which picture: \
                     picture_size = [WIDTH, HEIGHT]";
        return Err((nodes[first].place, wrong.to_owned()));
    };
    let mut points = Vec::with_capacity(pairs.len());
    for (pair, node) in pairs.iter().zip(nodes) {
        let sides = size.map(f64::from);
        if pair[0] > sides[0] || pair[1] > sides[1] {
            let wrong = format!("has a point outside the picture of {}x{} pixels", size[0], size[1]);
            return Err((node.place, wrong));
        }
        points.push([(pair[0] / sides[0]) as f32, (pair[1] / sides[1]) as f32]);
    }
    Ok(points)
}

/// Two finite numbers.
fn pair_of(node: &Node) -> Option<[f64; 2]> {
    let Value::List(nodes) = &node.value else { return None };
    let [x, y] = nodes.as_slice() else { return None };
    Some([number_of(x)?, number_of(y)?])
}

fn number_of(node: &Node) -> Option<f64> {
    match node.value {
        Value::Integer(value, _) => Some(value as f64),
        Value::Float(value) if value.is_finite() => Some(value),
        _ => None,
    }
}

/// Lists of numbers as they were written.
pub(super) fn as_written(node: &Node) -> Json {
    match &node.value {
        Value::List(nodes) => nodes.iter().map(as_written).collect(),
        Value::Integer(value, _) => i64::try_from(*value).map_or(Json::Null, Json::from),
        Value::Float(value) => Json::from(*value),
        _ => Json::Null,
    }
}
