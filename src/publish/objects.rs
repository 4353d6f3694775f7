//! From an engine's output tensors to the objects of a record.

use super::Object;
use crate::decode::{DecodeError, Decoder, Detection};
use crate::engine::TensorView;
use crate::filter::Filter;
use crate::frame::Geometry;

/// Decodes, filters and names. One per engine; allocates only in `new`.
#[derive(Debug)]
pub struct ObjectReader<'a> {
    labels: &'a [String],
    decoder: Decoder,
    detections: Vec<Detection>,
    objects: Vec<Object<'a>>,
}

impl<'a> ObjectReader<'a> {
    /// `max_objects` is the decoder's limit.
    pub fn new(labels: &'a [String], decoder: Decoder, max_objects: usize) -> Self {
        Self {
            labels,
            decoder,
            detections: Vec::with_capacity(max_objects),
            objects: Vec::with_capacity(max_objects),
        }
    }

    /// The objects of one frame that pass `filter`, best score first, boxes in pixels of the frame.
    ///
    /// # Errors
    /// The outputs are not those of the model's head.
    pub fn read(
        &mut self,
        outputs: &[TensorView<'_>],
        geometry: &Geometry,
        filter: &Filter,
    ) -> Result<&[Object<'a>], DecodeError> {
        self.objects.clear();
        self.decoder.decode(outputs, &mut self.detections)?;
        let passing = self.detections.iter().filter(|detection| filter.passes(detection));
        self.objects.extend(passing.map(|detection| Object {
            label: self.labels.get(detection.class_id as usize).map_or("", String::as_str),
            class_id: detection.class_id,
            score: detection.score,
            bbox: geometry.to_source(detection.bbox),
            track_id: None,
        }));
        Ok(&self.objects)
    }
}
