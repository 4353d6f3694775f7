//! The input that a picture goes into: which axis is which, of what numbers it is, how many pictures it takes.

use crate::TensorView;

/// Which axis of a picture's tensor is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AxisOrder {
    /// `[batch, 3, height, width]`: plane by plane.
    #[default]
    Nchw,
    /// `[batch, height, width, 3]`: pixel by pixel.
    Nhwc,
}

/// The numbers of a picture's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Number {
    /// 32-bit floats. (Engines convert for models of half precision.)
    #[default]
    F32,
    /// Bytes.
    U8,
}

impl Number {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

/// How one picture lies in memory. The default is what most models take: planes of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TensorForm {
    /// Which axis is which.
    pub order: AxisOrder,
    /// Of what numbers.
    pub number: Number,
}

/// One picture's tensor in the form that its model takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frame<'a> {
    /// Floats.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
}

impl Frame<'_> {
    /// Numbers in it.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The picture's input of a model with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureInput {
    /// How each picture lies in it.
    pub form: TensorForm,
    /// Pictures that one inference takes, no more and no fewer.
    pub batch: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Width and height beyond this are a mistake: one frame would be gigabytes of activations.
const SIDE_MAX: usize = 8192;
/// Pictures of one inference beyond this are a mistake.
pub const FIXED_BATCH_MAX: usize = 64;

/// Why an input is not one that takes pictures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureInputError {
    /// It has not four axes.
    #[error("has {0} dimensions, not [1, 3, height, width]")]
    Rank(usize),
    /// No axis of three channels where one should be.
    #[error("has shape {0}, not [1, 3, height, width] or [1, height, width, 3]")]
    Channels(String),
    /// More pictures than anybody has cameras.
    #[error(
        "takes {0} pictures at once; up to {FIXED_BATCH_MAX} are supported: export it for one, or dynamic"
    )]
    Batch(usize),
    /// Nobody says how large it is.
    #[error("leaves width and height open; the manifest must say them")]
    Open,
    /// Nothing, or too much.
    #[error("has shape {0}; sides are 1 to {SIDE_MAX}")]
    Side(String),
}

impl PictureInput {
    /// Settles an input's dimensions (`None`: left open): an open batch is one picture, open sides are those `asked` for
    /// (width, height). Channels are last where the last axis is the one that has three.
    ///
    /// # Errors
    /// [`PictureInputError`].
    pub fn settle(
        dims: &[Option<usize>],
        number: Number,
        asked: Option<(usize, usize)>,
    ) -> Result<Self, PictureInputError> {
        let &[batch, second, third, last] = dims else { return Err(PictureInputError::Rank(dims.len())) };
        let (order, height, width) = match (second, last) {
            (Some(3) | None, last) if second.is_some() || last != Some(3) => (AxisOrder::Nchw, third, last),
            (_, Some(3)) => (AxisOrder::Nhwc, second, third),
            _ => return Err(PictureInputError::Channels(shown(dims))),
        };
        let batch = batch.unwrap_or(1);
        if batch == 0 || batch > FIXED_BATCH_MAX {
            return Err(PictureInputError::Batch(batch));
        }
        let width = width.or(asked.map(|asked| asked.0)).ok_or(PictureInputError::Open)?;
        let height = height.or(asked.map(|asked| asked.1)).ok_or(PictureInputError::Open)?;
        if [width, height].iter().any(|side| !(1..=SIDE_MAX).contains(side)) {
            return Err(PictureInputError::Side(shown(dims)));
        }
        Ok(Self { form: TensorForm { order, number }, batch, width, height })
    }

    /// As the model has it.
    pub fn shape(&self) -> [usize; 4] {
        let Self { batch, width, height, .. } = *self;
        match self.form.order {
            AxisOrder::Nchw => [batch, 3, height, width],
            AxisOrder::Nhwc => [batch, height, width, 3],
        }
    }

    /// Numbers of one picture.
    pub fn frame_len(&self) -> usize {
        3 * self.width * self.height
    }
}

fn shown(dims: &[Option<usize>]) -> String {
    let dims: Vec<String> =
        dims.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// Pictures that are not those of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than go in, or none.
    #[error("{given} pictures were given to a model that takes 1 to {batch}")]
    Count {
        /// How many were given.
        given: usize,
        /// How many go in.
        batch: usize,
    },
    /// Of another size, or of other numbers.
    #[error("the input holds {given} values, not {expected} of the kind that the model takes")]
    Length {
        /// What the model takes.
        expected: usize,
        /// What was given.
        given: usize,
    },
}

/// Makes one tensor of the pictures of an inference. A model that takes one is given that one where it lies; for one of a
/// fixed batch they are copied side by side into memory that was allocated once, and places without a picture are zero.
#[derive(Debug)]
pub struct Stack {
    input: PictureInput,
    floats: Vec<f32>,
    bytes: Vec<u8>,
    /// Places that hold a picture of this inference or an earlier one.
    dirty: usize,
}

impl Stack {
    /// For a model with this input.
    pub fn new(input: PictureInput) -> Self {
        let len = if input.batch > 1 { input.batch * input.frame_len() } else { 0 };
        let (floats, bytes) = match input.form.number {
            Number::F32 => (vec![0.0; len], Vec::new()),
            Number::U8 => (Vec::new(), vec![0; len]),
        };
        Self { input, floats, bytes, dirty: 0 }
    }

    /// For no model yet; holds nothing.
    pub fn empty() -> Self {
        let form = TensorForm::default();
        Self::new(PictureInput { form, batch: 1, width: 0, height: 0 })
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.floats[..]) + self.bytes.len()
    }

    /// The tensor of these pictures.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn gather<'a>(&'a mut self, frames: &[Frame<'a>]) -> Result<Frame<'a>, FrameError> {
        let (batch, len) = (self.input.batch, self.input.frame_len());
        let is_f32 = self.input.form.number == Number::F32;
        for frame in frames {
            let given = if matches!(frame, Frame::F32(_)) == is_f32 { frame.len() } else { 0 };
            if given != len {
                return Err(FrameError::Length { expected: len, given });
            }
        }
        match frames {
            &[only] if batch == 1 => return Ok(only),
            [] => return Err(FrameError::Count { given: 0, batch }),
            more if more.len() > batch => return Err(FrameError::Count { given: more.len(), batch }),
            _ => {}
        }
        for (index, frame) in frames.iter().enumerate() {
            let place = index * len..(index + 1) * len;
            match frame {
                Frame::F32(values) => self.floats[place].copy_from_slice(values),
                Frame::U8(values) => self.bytes[place].copy_from_slice(values),
            }
        }
        // Nothing of an earlier picture is inferred again.
        let left = frames.len() * len..self.dirty.max(frames.len()) * len;
        match self.input.form.number {
            Number::F32 => self.floats[left].fill(0.0),
            Number::U8 => self.bytes[left].fill(0),
        }
        self.dirty = frames.len();
        Ok(match self.input.form.number {
            Number::F32 => Frame::F32(&self.floats),
            Number::U8 => Frame::U8(&self.bytes),
        })
    }
}

/// An output of a batch that is not one share for each picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model takes {batch} pictures at once, and its output {name} of shape {shape:?} does not say which part is whose: \
     export it for one picture (batch=1), or dynamic"
)]
pub struct NotShared {
    /// Which output.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Pictures of an inference.
    pub batch: usize,
}

/// The shape that one picture's share of an output has, where an inference takes `batch`.
///
/// # Errors
/// [`NotShared`]: the first axis is not the pictures'.
pub fn share_shape(name: &str, shape: &[usize], batch: usize) -> Result<Vec<usize>, NotShared> {
    let mut share = shape.to_vec();
    match share.first_mut() {
        _ if batch <= 1 => {}
        Some(first) if *first == batch => *first = 1,
        _ => return Err(NotShared { name: name.to_owned(), shape: share, batch }),
    }
    Ok(share)
}

/// Hands each of the first `frames` pictures its share of the outputs of an inference of `batch`, in order.
///
/// # Errors
/// [`NotShared`]; nothing has been handed out then.
pub fn lend_shares(
    outputs: &[TensorView<'_>],
    (frames, batch): (usize, usize),
    each: &mut dyn FnMut(usize, &[TensorView<'_>]),
) -> Result<(), NotShared> {
    if batch <= 1 {
        each(0, outputs);
        return Ok(());
    }
    let shapes: Vec<Vec<usize>> = outputs
        .iter()
        .map(|output| share_shape(output.name, output.shape, batch))
        .collect::<Result<_, _>>()?;
    for index in 0..frames {
        let shares = outputs.iter().zip(&shapes).map(|(output, shape)| {
            let len = output.data.len() / batch;
            TensorView { name: output.name, shape, data: &output.data[index * len..(index + 1) * len] }
        });
        each(index, &shares.collect::<Vec<_>>());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(dims: [i64; 4]) -> Result<[usize; 4], PictureInputError> {
        let dims = dims.map(|dim| usize::try_from(dim).ok());
        PictureInput::settle(&dims, Number::F32, Some((64, 32))).map(|input| input.shape())
    }

    #[test]
    fn channels_are_where_the_three_is_and_open_dimensions_are_as_asked() {
        assert_eq!(settle([1, 3, 32, 64]), Ok([1, 3, 32, 64]));
        assert_eq!(settle([1, 32, 64, 3]), Ok([1, 32, 64, 3]));
        assert_eq!(settle([-1, 3, -1, -1]), Ok([1, 3, 32, 64]));
        assert_eq!(settle([-1, -1, -1, 3]), Ok([1, 32, 64, 3]));
        assert_eq!(settle([-1, -1, -1, -1]), Ok([1, 3, 32, 64]));
        assert_eq!(settle([4, 3, 32, 64]), Ok([4, 3, 32, 64]));
        // Both could be the channels: those that come first are usual.
        assert_eq!(settle([1, 3, 32, 3]), Ok([1, 3, 32, 3]));
        for wrong in [[1, 1, 32, 64], [1, 4, 32, 64], [1, 32, 64, 4], [0, 3, 32, 64], [65, 3, 32, 64]] {
            settle(wrong).expect_err("no picture goes in");
        }
        settle([1, 3, 0, 64]).expect_err("no rows");
        settle([1, 3, 9000, 64]).expect_err("too many rows");
    }

    #[test]
    fn a_fixed_batch_is_filled_up_and_nothing_of_an_earlier_picture_stays() {
        let input = PictureInput {
            form: TensorForm { order: AxisOrder::Nchw, number: Number::U8 },
            batch: 3,
            width: 2,
            height: 1,
        };
        let mut stack = Stack::new(input);
        let [ones, twos] = [[1_u8; 6], [2; 6]];
        let mut gathered = |frames: &[Frame<'_>]| match stack.gather(frames) {
            Ok(Frame::U8(bytes)) => Ok(bytes.to_vec()),
            Ok(Frame::F32(_)) => panic!("bytes"),
            Err(error) => Err(error),
        };
        let full = gathered(&[Frame::U8(&ones), Frame::U8(&twos), Frame::U8(&ones)]);
        assert_eq!(full.unwrap(), [[1; 6], [2; 6], [1; 6]].concat());
        assert_eq!(gathered(&[Frame::U8(&twos)]).unwrap(), [[2; 6], [0; 6], [0; 6]].concat());
        let wrong = FrameError::Length { expected: 6, given: 0 };
        assert_eq!(gathered(&[Frame::F32(&[0.0; 6])]), Err(wrong));
        assert_eq!(gathered(&[]), Err(FrameError::Count { given: 0, batch: 3 }));
        assert_eq!(gathered(&[Frame::U8(&ones); 4]), Err(FrameError::Count { given: 4, batch: 3 }));
    }

    #[test]
    fn a_picture_gets_its_own_share_of_the_outputs() {
        let (boxes, scores) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0]);
        let view = |name, shape, data| TensorView { name, shape, data };
        let outputs = [view("boxes", &[2, 2], &boxes), view("scores", &[2], &scores)];
        let mut lent = Vec::new();
        let mut note = |index: usize, views: &[TensorView<'_>]| {
            lent.extend(views.iter().map(|view| (index, view.shape.to_vec(), view.data.to_vec())));
        };
        lend_shares(&outputs, (2, 2), &mut note).unwrap();
        let expected = [
            (0, vec![1, 2], vec![1.0, 2.0]),
            (0, vec![1], vec![5.0]),
            (1, vec![1, 2], vec![3.0, 4.0]),
            (1, vec![1], vec![6.0]),
        ];
        assert_eq!(lent, expected);
        // Nobody asks for what the empty places gave.
        let mut count = 0;
        lend_shares(&outputs, (1, 2), &mut |_, _| count += 1).unwrap();
        assert_eq!(count, 1);
        let error = lend_shares(&[view("rows", &[4, 1], &boxes)], (2, 2), &mut |_, _| panic!("whose?"));
        assert!(error.unwrap_err().to_string().contains("rows of shape [4, 1]"));
        lend_shares(&[view("rows", &[4, 1], &boxes)], (1, 1), &mut |_, views| {
            assert_eq!(views[0].shape, [4, 1])
        })
        .unwrap();
    }
}
