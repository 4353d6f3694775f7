//! Which boxes may overlap a box: boxes sorted by their left sides.

/// Boxes, sorted; allocates only in `new`.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Left side, and the number that the box was given.
    boxes: Vec<(f32, u32)>,
    widest: f32,
}

impl Sweep {
    pub fn new(boxes_max: usize) -> Self {
        Self { boxes: Vec::with_capacity(boxes_max), widest: 0.0 }
    }

    pub fn fill(&mut self, boxes: impl Iterator<Item = (u32, [f32; 4])>) {
        self.boxes.clear();
        self.widest = 0.0;
        for (number, [left, _, right, _]) in boxes {
            self.boxes.push((left, number));
            self.widest = self.widest.max(right - left);
        }
        self.boxes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }

    /// Numbers of the boxes that reach into the columns from `left` to `right`, and of some that do not.
    pub fn between(&self, left: f32, right: f32) -> impl Iterator<Item = u32> {
        let first = self.boxes.partition_point(|&(side, _)| side < left - self.widest);
        let boxes = self.boxes[first..].iter();
        boxes.take_while(move |&&(side, _)| side < right).map(|&(_, number)| number)
    }

    pub fn buffer_bytes(boxes_max: usize) -> usize {
        boxes_max * size_of::<(f32, u32)>()
    }
}
