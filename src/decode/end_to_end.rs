//! Finished boxes in rows: heads without NMS, and exports with NMS inside.
//!
//! One output `[1, N, 6 + extra]` or `[N, 6 + extra]`, boxes in tensor pixels:
//! - `x1 y1 x2 y2 score class extra…`: YOLOv10, YOLO26 and Ultralytics' exports with `nms=True` (Ultralytics
//!   `nn/modules/head.py`, `Detect.postprocess`; `engine/exporter.py`, `NMSModel`). For oriented boxes the first four are
//!   `cx cy w h`.
//! - `cx cy w h score class` of a tensor whose width and height are 1: RT-DETR (Ultralytics, `RTDETRDecoder.postprocess`).
//! - `class score x1 y1 x2 y2`: PaddleDetection's `multiclass_nms3`.
//! - `picture x1 y1 x2 y2 class score`, N as many as were found: YOLOv7 (`models/experimental.py`, `ONNX_ORT`) and YOLOv6.
//!
//! What has been chosen is not suppressed again; rows that fill the list up have a score of 0 or no area.

use super::boxes::BoxReader;
use super::candidates::{Candidate, Candidates};
use super::details::{Details, Rotated};
use super::error::Shape;
use super::head::{Binding, Head, bind_one};
use super::tail::Tail;
use super::{DecodeError, Detection};
use crate::engine::TensorView;
use crate::model::{BoxFormat, BoxOrder, BoxUnit, Extra, InputRecipe, RowLayout};

const FAMILY: &str = "end-to-end";

#[derive(Debug)]
pub(super) struct EndToEnd {
    layout: RowLayout,
    label_count: usize,
    tail: Tail,
    reader: BoxReader,
}

impl EndToEnd {
    pub fn new(layout: RowLayout, extra: Extra, recipe: &InputRecipe, label_count: usize) -> Self {
        let format = match layout {
            RowLayout::CentreScoreClass => BoxFormat { order: BoxOrder::Cxcywh, unit: BoxUnit::Normalised },
            _ => BoxFormat { order: BoxOrder::Xyxy, unit: BoxUnit::Pixels },
        };
        Self { layout, label_count, tail: Tail::new(extra, recipe), reader: BoxReader::new(format, recipe) }
    }

    /// Numbers of a row before the extra ones.
    fn plain_len(&self) -> usize {
        match self.layout {
            RowLayout::BoxScoreClass | RowLayout::CentreScoreClass | RowLayout::ClassScoreBox => 6,
            RowLayout::PictureBoxClassScore => 7,
        }
    }

    fn row_len(&self) -> usize {
        self.plain_len() + self.tail.len()
    }

    /// Columns of the box, the score and the class.
    fn columns(&self) -> (usize, usize, usize) {
        match self.layout {
            RowLayout::BoxScoreClass | RowLayout::CentreScoreClass => (0, 4, 5),
            RowLayout::ClassScoreBox => (2, 1, 0),
            RowLayout::PictureBoxClassScore => (1, 6, 5),
        }
    }

    fn row<'a>(&self, tensors: &[TensorView<'a>], candidate: &Candidate) -> &'a [f32] {
        let len = self.row_len();
        &tensors[0].data[candidate.anchor as usize * len..][..len]
    }
}

impl Head for EndToEnd {
    fn bind(&self, outputs: &[Shape<'_>]) -> Result<Binding, DecodeError> {
        let len = self.row_len();
        let binding = bind_one(
            FAMILY,
            outputs,
            || format!("[1, N, {len}] (finished boxes)"),
            |_| "write its manifest anew with `watchpost model add`".to_owned(),
            |dims| matches!(*dims, [1, rows, row] | [rows, row] if row == len && rows <= u32::MAX as usize),
        )?;
        self.tail.bind(FAMILY, outputs, binding)
    }

    fn collect(&mut self, tensors: &[TensorView<'_>], candidates: &mut Candidates) {
        let (_, score, class) = self.columns();
        for (anchor, row) in tensors[0].data.chunks_exact(self.row_len()).enumerate() {
            let class = row[class];
            if row[score] >= candidates.least_score() && class >= 0.0 && class < self.label_count as f32 {
                candidates.offer(row[score], class.round() as u32, anchor as u32);
            }
        }
    }

    fn bbox(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> [f32; 4] {
        if let Some(rotated) = self.rotated(tensors, candidate) {
            return rotated.enclosing();
        }
        let (start, _, _) = self.columns();
        self.reader.read(&self.row(tensors, candidate)[start..])
    }

    fn rotated(&self, tensors: &[TensorView<'_>], candidate: &Candidate) -> Option<Rotated> {
        let row = self.row(tensors, candidate);
        self.tail.rotated(std::array::from_fn(|side| row[side]), |k| row[self.plain_len() + k])
    }

    fn suppresses(&self) -> bool {
        false
    }

    fn detail(
        &mut self,
        tensors: &[TensorView<'_>],
        candidate: &Candidate,
        detection: &Detection,
        details: &mut Details,
    ) {
        let (row, first) = (self.row(tensors, candidate), self.plain_len());
        self.tail.detail(tensors, |k| row[first + k], detection.bbox, details);
    }

    fn buffer_bytes(&self) -> usize {
        self.tail.buffer_bytes()
    }
}
