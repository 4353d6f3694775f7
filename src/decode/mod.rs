//! PURE: output tensors to detections.

/// One object. The box is `[x1, y1, x2, y2]`; its unit is said where it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index into the model's labels.
    pub class_id: u32,
    /// 0..=1.
    pub score: f32,
    /// `[x1, y1, x2, y2]`.
    pub bbox: [f32; 4],
}
