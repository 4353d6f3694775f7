//! Which boxes may overlap a box: boxes sorted by their left sides.

#[derive(Debug, Clone, Copy)]
struct Entry {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
    /// The number that the box was given.
    number: u32,
}

/// Boxes, sorted; allocates only in `new`.
#[derive(Debug)]
pub(super) struct Sweep {
    boxes: Vec<Entry>,
    widest: f32,
}

impl Sweep {
    pub fn new(boxes_max: usize) -> Self {
        Self { boxes: Vec::with_capacity(boxes_max), widest: 0.0 }
    }

    pub fn fill(&mut self, boxes: impl Iterator<Item = (u32, [f32; 4])>) {
        self.boxes.clear();
        self.widest = 0.0;
        for (number, [left, top, right, bottom]) in boxes {
            self.boxes.push(Entry { left, right, top, bottom, number });
            self.widest = self.widest.max(right - left);
        }
        self.boxes.sort_unstable_by(|a, b| a.left.total_cmp(&b.left).then(a.number.cmp(&b.number)));
    }

    /// Numbers of the boxes that overlap this one.
    pub fn over(&self, [left, top, right, bottom]: [f32; 4]) -> impl Iterator<Item = u32> {
        let first = self.boxes.partition_point(|entry| entry.left < left - self.widest);
        let boxes = self.boxes[first..].iter().take_while(move |entry| entry.left < right);
        // Without a branch: in a crowd nothing can be foreseen.
        boxes
            .filter(move |entry| (entry.right > left) & (entry.top < bottom) & (entry.bottom > top))
            .map(|entry| entry.number)
    }

    pub fn buffer_bytes(boxes_max: usize) -> usize {
        boxes_max * size_of::<Entry>()
    }
}
