//! Slots for models that do not take planes of floats: channels last, bytes, or both.
//!
//! The letterbox computes rows of floats, one per channel. For most models those rows are the tensor's own; for others they
//! are three rows of scratch, which are put into the tensor while they are in the first cache.

use watchpost_binding::{AxisOrder, Frame, Number, TensorForm};

/// A slot's tensor in another form than planes of floats.
#[derive(Debug)]
pub struct FormedTensor {
    order: AxisOrder,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    F32(Box<[f32]>),
    U8(Box<[u8]>),
}

impl FormedTensor {
    /// `len` zeros.
    pub fn new(form: TensorForm, len: usize) -> Self {
        let numbers = match form.number {
            Number::F32 => Numbers::F32(vec![0.0; len].into_boxed_slice()),
            Number::U8 => Numbers::U8(vec![0; len].into_boxed_slice()),
        };
        Self { order: form.order, numbers }
    }

    /// For an engine.
    pub fn frame(&self) -> Frame<'_> {
        match &self.numbers {
            Numbers::F32(values) => Frame::F32(values),
            Numbers::U8(values) => Frame::U8(values),
        }
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.frame().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::F32(values) => size_of_val::<[f32]>(values),
            Numbers::U8(values) => values.len(),
        }
    }

    /// The value of a channel (in the tensor's order) at a pixel, counted row by row; 0 beyond the end.
    pub fn value(&self, channel: usize, pixel: usize) -> f32 {
        let index = match self.order {
            AxisOrder::Nchw => channel * (self.len() / 3) + pixel,
            AxisOrder::Nhwc => 3 * pixel + channel,
        };
        match &self.numbers {
            Numbers::F32(values) => values.get(index).copied().unwrap_or(0.0),
            Numbers::U8(values) => values.get(index).copied().map_or(0.0, f32::from),
        }
    }

    /// Fills `count` pixels from `start` on with one value per channel.
    pub fn fill(&mut self, start: usize, count: usize, values: [f32; 3]) {
        let plane_len = self.len() / 3;
        let bytes = values.map(byte);
        match (&mut self.numbers, self.order) {
            (Numbers::F32(to), AxisOrder::Nhwc) => pixels(to, start, count).fill(values),
            (Numbers::U8(to), AxisOrder::Nhwc) => pixels(to, start, count).fill(bytes),
            (Numbers::F32(to), AxisOrder::Nchw) => {
                planes(to, plane_len)
                    .zip(values)
                    .for_each(|(plane, value)| plane[start..][..count].fill(value));
            }
            (Numbers::U8(to), AxisOrder::Nchw) => {
                planes(to, plane_len).zip(bytes).for_each(|(plane, byte)| plane[start..][..count].fill(byte));
            }
        }
    }

    /// Puts a row of each channel into the pixels from `start` on.
    pub fn put(&mut self, start: usize, [first, second, third]: [&[f32]; 3]) {
        let (count, plane_len) = (first.len(), self.len() / 3);
        let rows =
            || first.iter().zip(second).zip(third).map(|((&first, &second), &third)| [first, second, third]);
        match (&mut self.numbers, self.order) {
            (Numbers::F32(to), AxisOrder::Nhwc) => {
                pixels(to, start, count).iter_mut().zip(rows()).for_each(|(to, values)| *to = values);
            }
            (Numbers::U8(to), AxisOrder::Nhwc) => {
                pixels(to, start, count)
                    .iter_mut()
                    .zip(rows())
                    .for_each(|(to, values)| *to = values.map(byte));
            }
            (Numbers::F32(to), AxisOrder::Nchw) => {
                let rows = [first, second, third];
                planes(to, plane_len)
                    .zip(rows)
                    .for_each(|(plane, row)| plane[start..][..count].copy_from_slice(row));
            }
            (Numbers::U8(to), AxisOrder::Nchw) => {
                for (plane, row) in planes(to, plane_len).zip([first, second, third]) {
                    plane[start..][..count].iter_mut().zip(row).for_each(|(to, &value)| *to = byte(value));
                }
            }
        }
    }
}

/// The nearest code; what is beyond 0..=255 is at its end.
fn byte(value: f32) -> u8 {
    // The cast saturates and cuts off.
    (value + 0.5) as u8
}

fn pixels<T>(to: &mut [T], start: usize, count: usize) -> &mut [[T; 3]] {
    to[3 * start..3 * (start + count)].as_chunks_mut::<3>().0
}

fn planes<T>(to: &mut [T], plane_len: usize) -> impl Iterator<Item = &mut [T]> {
    to.chunks_exact_mut(plane_len.max(1))
}

/// Where the letterbox writes, row by row. Pixels are counted row by row of the tensor, channels in its order.
pub(super) trait Rows {
    /// Room for one row: the next `count` pixels from `start` on. What is written there counts after [`Self::done`].
    fn row(&mut self, start: usize, count: usize) -> [&mut [f32]; 3];

    /// The row that was given out last is written.
    fn done(&mut self, start: usize, count: usize);

    /// Fills `count` pixels from `start` on with one value per channel.
    fn fill(&mut self, start: usize, count: usize, values: [f32; 3]);
}

/// Planes of floats: rows are written where they belong.
pub(super) struct Planar<'a> {
    planes: [&'a mut [f32]; 3],
}

impl<'a> Planar<'a> {
    /// `tensor` is of three planes of this length.
    pub fn new(tensor: &'a mut [f32], plane_len: usize) -> Self {
        let (first, rest) = tensor.split_at_mut(plane_len);
        let (second, third) = rest.split_at_mut(plane_len);
        Self { planes: [first, second, third] }
    }
}

impl Rows for Planar<'_> {
    fn row(&mut self, start: usize, count: usize) -> [&mut [f32]; 3] {
        self.planes.each_mut().map(|plane| &mut plane[start..start + count])
    }

    fn done(&mut self, _start: usize, _count: usize) {}

    fn fill(&mut self, start: usize, count: usize, values: [f32; 3]) {
        for (plane, value) in self.planes.iter_mut().zip(values) {
            plane[start..start + count].fill(value);
        }
    }
}

/// Another form, by way of scratch.
pub(super) struct Formed<'a> {
    pub tensor: &'a mut FormedTensor,
    /// As wide as the tensor.
    pub scratch: &'a mut [Vec<f32>; 3],
}

impl Rows for Formed<'_> {
    fn row(&mut self, _start: usize, count: usize) -> [&mut [f32]; 3] {
        self.scratch.each_mut().map(|row| &mut row[..count])
    }

    fn done(&mut self, start: usize, count: usize) {
        self.tensor.put(start, self.scratch.each_ref().map(|row| &row[..count]));
    }

    fn fill(&mut self, start: usize, count: usize, values: [f32; 3]) {
        self.tensor.fill(start, count, values);
    }
}
