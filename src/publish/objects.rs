//! From an engine's output tensors to the objects of a record.

use std::sync::Arc;

use super::Object;
use crate::decode::{DecodeError, Decoder, Detection};
use crate::engine::TensorView;
use crate::filter::Filter;
use crate::frame::Geometry;

/// Decodes, filters and names. One per engine; allocates only in `new`.
#[derive(Debug)]
pub struct ObjectReader {
    labels: Arc<[String]>,
    decoder: Decoder,
    detections: Vec<Detection>,
    /// Empty between two frames; its memory is what is kept.
    objects: Vec<Object<'static>>,
}

impl ObjectReader {
    /// `max_objects` is the decoder's limit.
    pub fn new(labels: Arc<[String]>, decoder: Decoder, max_objects: usize) -> Self {
        Self {
            labels,
            decoder,
            detections: Vec::with_capacity(max_objects),
            objects: Vec::with_capacity(max_objects),
        }
    }

    /// Shows `read` the objects of one frame that pass `filter`, best score first, boxes in pixels of the frame.
    ///
    /// # Errors
    /// The outputs are not those of the model's head.
    pub fn read<T>(
        &mut self,
        outputs: &[TensorView<'_>],
        geometry: &Geometry,
        filter: &Filter,
        read: impl FnOnce(&[Object<'_>]) -> T,
    ) -> Result<T, DecodeError> {
        self.decoder.decode(outputs, &mut self.detections)?;
        let mut objects = emptied(std::mem::take(&mut self.objects));
        let passing = self.detections.iter().filter(|detection| filter.passes(detection));
        objects.extend(passing.map(|detection| Object {
            label: self.labels.get(detection.class_id as usize).map_or("", String::as_str),
            class_id: detection.class_id,
            score: detection.score,
            bbox: geometry.to_source(detection.bbox),
            track_id: None,
        }));
        let outcome = read(&objects);
        self.objects = emptied(objects);
        Ok(outcome)
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
