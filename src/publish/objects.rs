//! From an engine's output tensors to the objects of a record.

use std::sync::Arc;

use super::{Mask, Object};
use crate::decode::{DecodeError, Decoder, Detection};
use crate::engine::TensorView;
use crate::filter::Filter;
use crate::frame::Geometry;
use crate::track::Tracked;

/// Decodes, filters and names. One per engine; allocates only in `new`.
#[derive(Debug)]
pub struct ObjectReader {
    labels: Arc<[String]>,
    decoder: Decoder,
    detections: Vec<Detection>,
    /// Those of classes that are wanted, in pixels of the frame.
    seen: Vec<Tracked>,
    /// By object of `seen`, its place among `detections`.
    places: Vec<usize>,
    /// Empty between two frames; its memory is what is kept.
    objects: Vec<Object<'static>>,
    /// Points of poses and of outlines in pixels of the frame, object after object. They grow to the most that a frame
    /// has had, which the decoder bounds.
    keypoints: Vec<[f32; 3]>,
    outlines: Vec<[f32; 2]>,
}

impl ObjectReader {
    /// `max_objects` is the decoder's limit.
    pub fn new(labels: Arc<[String]>, decoder: Decoder, max_objects: usize) -> Self {
        let (keypoints, outline) = decoder.points_at_most();
        Self {
            labels,
            decoder,
            detections: Vec::with_capacity(max_objects),
            seen: Vec::with_capacity(max_objects),
            places: Vec::with_capacity(max_objects),
            objects: Vec::with_capacity(max_objects),
            keypoints: Vec::with_capacity(max_objects * keypoints),
            outlines: Vec::with_capacity(max_objects * outline),
        }
    }

    /// Shows `read` the objects of one frame that pass `filter`, best score first, boxes in pixels of the frame.
    /// Before that, `identify` may say who they are; it sees all that the decoder found of the classes that `filter`
    /// wants, also those of too low a score to pass.
    ///
    /// # Errors
    /// The outputs are not those of the model's head.
    pub fn read<T>(
        &mut self,
        outputs: &[TensorView<'_>],
        geometry: &Geometry,
        filter: &Filter,
        identify: impl FnOnce(&mut [Tracked]),
        read: impl FnOnce(&[Object<'_>]) -> T,
    ) -> Result<T, DecodeError> {
        self.decoder.decode(outputs, &mut self.detections)?;
        self.look(geometry, filter);
        identify(&mut self.seen);
        let mut objects = emptied(std::mem::take(&mut self.objects));
        self.gather_points(geometry, filter);
        let size = [geometry.source_width, geometry.source_height];
        let (mut keypoints, mut outlines) = (self.keypoints.as_slice(), self.outlines.as_slice());
        for (seen, &place) in self.seen.iter().zip(&self.places).filter(|(one, _)| filter.passes(one, size)) {
            let detail = self.decoder.detail(place);
            let label = self.labels.get(seen.class_id as usize).map_or("", String::as_str);
            let mut object = Object::new(label, seen.class_id, seen.score, seen.bbox);
            object.track_id = seen.track_id;
            (object.keypoints, keypoints) = keypoints.split_at(detail.keypoints.len());
            let polygon;
            (polygon, outlines) = outlines.split_at(detail.outline.len());
            object.mask = (!polygon.is_empty()).then_some(Mask { polygon });
            object.angle = detail.rotated.map(|rotated| rotated.angle);
            let to_source = |corner| geometry.point_to_source_unclipped(corner);
            object.corners = detail.rotated.map(|rotated| rotated.corners().map(to_source));
            objects.push(object);
        }
        let outcome = read(&objects);
        self.objects = emptied(objects);
        Ok(outcome)
    }

    /// Brings what was detected of the classes that are wanted into pixels of the frame.
    fn look(&mut self, geometry: &Geometry, filter: &Filter) {
        self.seen.clear();
        self.places.clear();
        for (place, detection) in self.detections.iter().enumerate() {
            if filter.wants(detection.class_id) {
                self.seen.push(Tracked::new(detection, geometry.to_source(detection.bbox)));
                self.places.push(place);
            }
        }
    }

    /// Brings the points of all objects that pass into pixels of the frame, before objects borrow them.
    fn gather_points(&mut self, geometry: &Geometry, filter: &Filter) {
        let size = [geometry.source_width, geometry.source_height];
        self.keypoints.clear();
        self.outlines.clear();
        for (_, &place) in self.seen.iter().zip(&self.places).filter(|(one, _)| filter.passes(one, size)) {
            let detail = self.decoder.detail(place);
            self.keypoints.extend(detail.keypoints.iter().map(|&[x, y, score]| {
                let [x, y] = geometry.point_to_source([x, y]);
                [x, y, score]
            }));
            self.outlines.extend(detail.outline.iter().map(|&point| geometry.point_to_source(point)));
        }
    }
}

/// The memory of a vector, for objects that borrow from elsewhere: collecting in place keeps it.
fn emptied<'b>(mut objects: Vec<Object<'_>>) -> Vec<Object<'b>> {
    objects.clear();
    objects.into_iter().map_while(|_none_is_left| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_vector_keeps_its_memory() {
        let objects: Vec<Object<'static>> = Vec::with_capacity(100);
        let memory = objects.as_ptr() as usize;
        let emptied = emptied(objects);
        assert_eq!((emptied.as_ptr() as usize, emptied.capacity()), (memory, 100));
    }
}
