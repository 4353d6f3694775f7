//! Where an object is and where it will be: a Kalman filter of constant velocity over centre, aspect and height.
//!
//! The model is ByteTrack's (Zhang et al., ECCV 2022, from DeepSORT): the state is centre x and y, aspect (width by
//! height), height, and their rates; noises are shares of the height. None of its matrices couples one coordinate to
//! another, so the 8 x 8 filter is exactly four of 2 x 2, and nothing has to be inverted.
//!
//! The paper counts in frames of 30 a second. Here time is real: its noise of one frame is spread over 1/30 s, and over
//! any interval `t` adds `p t + r t^3 / 3` to the variance of the value, `r t^2 / 2` to the covariance and `r t` to the
//! variance of the rate (white noise integrated exactly), so that two half steps are one whole step.

/// Frames a second that the paper's noises are meant for.
const FRAME_RATE: f32 = 30.0;
/// Standard deviations of the paper, per frame and as shares of the height.
const POSITION: f32 = 1.0 / 20.0;
const RATE: f32 = 1.0 / 160.0;
/// The aspect's, per frame.
const ASPECT: f32 = 1e-2;
const ASPECT_RATE: f32 = 1e-5;
const ASPECT_MEASURED: f32 = 1e-1;
/// A new track is less sure of itself by these factors.
const NEW_POSITION: f32 = 2.0;
const NEW_RATE: f32 = 10.0;
/// Nothing goes straight on for longer than this: a track that nobody has seen for so many seconds waits where it is.
const HORIZON_S: f32 = 4.0;
/// Heights and aspects that no box has.
const HEIGHT_MIN: f32 = 1e-3;
const ASPECT_MIN: f32 = 1e-3;

/// One coordinate, its rate per second, and how uncertain both are.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    value: f32,
    rate: f32,
    value_variance: f32,
    covariance: f32,
    rate_variance: f32,
}

impl Axis {
    fn new(value: f32, value_deviation: f32, rate_deviation: f32) -> Self {
        Self {
            value,
            rate: 0.0,
            value_variance: value_deviation * value_deviation,
            covariance: 0.0,
            rate_variance: rate_deviation * rate_deviation,
        }
    }

    /// `seconds` pass, of which it moves for `moving`. The noises are variances per second.
    fn predict(&mut self, seconds: f32, moving: f32, value_noise: f32, rate_noise: f32) {
        self.value += self.rate * moving;
        self.value_variance += moving * (2.0 * self.covariance + moving * self.rate_variance)
            + value_noise * seconds
            + rate_noise * seconds * moving * moving / 3.0;
        self.covariance += moving * self.rate_variance + rate_noise * seconds * moving / 2.0;
        self.rate_variance += rate_noise * seconds;
    }

    fn correct(&mut self, measured: f32, variance: f32) {
        let innovation = self.value_variance + variance;
        let (value_gain, rate_gain) = (self.value_variance / innovation, self.covariance / innovation);
        let residual = measured - self.value;
        self.value += value_gain * residual;
        self.rate += rate_gain * residual;
        self.rate_variance -= rate_gain * self.covariance;
        self.covariance *= 1.0 - value_gain;
        self.value_variance *= 1.0 - value_gain;
    }

    fn scale(&mut self, factor: f32) {
        let square = factor * factor;
        (self.value, self.rate) = (self.value * factor, self.rate * factor);
        self.value_variance *= square;
        self.covariance *= square;
        self.rate_variance *= square;
    }
}

/// The state of one track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Motion {
    x: Axis,
    y: Axis,
    aspect: Axis,
    height: Axis,
    /// Seconds that have been predicted since it was last corrected.
    unseen_s: f32,
}

fn square(value: f32) -> f32 {
    value * value
}

/// Centre x and y, aspect, height.
fn measured(bbox: [f32; 4]) -> [f32; 4] {
    let [left, top, right, bottom] = bbox;
    let height = (bottom - top).max(HEIGHT_MIN);
    [(left + right) / 2.0, (top + bottom) / 2.0, (right - left) / height, height]
}

impl Motion {
    /// Seen for the first time.
    pub fn new(bbox: [f32; 4]) -> Self {
        let [x, y, aspect, height] = measured(bbox);
        let value = NEW_POSITION * POSITION * height;
        let rate = NEW_RATE * RATE * height * FRAME_RATE;
        Self {
            x: Axis::new(x, value, rate),
            y: Axis::new(y, value, rate),
            aspect: Axis::new(aspect, ASPECT, ASPECT_RATE * FRAME_RATE),
            height: Axis::new(height, value, rate),
            unseen_s: 0.0,
        }
    }

    /// `seconds` pass. What is lost neither grows nor shrinks.
    pub fn predict(&mut self, seconds: f32, is_lost: bool) {
        let moving = seconds.min((HORIZON_S - self.unseen_s).max(0.0));
        self.unseen_s += seconds;
        let height = self.height.value.max(HEIGHT_MIN);
        let value_noise = square(POSITION * height) * FRAME_RATE;
        let rate_noise = square(RATE * height * FRAME_RATE) * FRAME_RATE;
        if is_lost {
            self.height.rate = 0.0;
        }
        for axis in [&mut self.x, &mut self.y, &mut self.height] {
            axis.predict(seconds, moving, value_noise, rate_noise);
        }
        let aspect_rate_noise = square(ASPECT_RATE * FRAME_RATE) * FRAME_RATE;
        self.aspect.predict(seconds, moving, square(ASPECT) * FRAME_RATE, aspect_rate_noise);
        self.height.value = self.height.value.max(HEIGHT_MIN);
    }

    /// It was seen here.
    pub fn correct(&mut self, bbox: [f32; 4]) {
        let [x, y, aspect, height] = measured(bbox);
        let variance = square(POSITION * self.height.value.max(HEIGHT_MIN));
        self.x.correct(x, variance);
        self.y.correct(y, variance);
        self.aspect.correct(aspect, square(ASPECT_MEASURED));
        self.height.correct(height, variance);
        self.unseen_s = 0.0;
    }

    /// The box, `[x1, y1, x2, y2]`.
    pub fn bbox(&self) -> [f32; 4] {
        let height = self.height.value.max(HEIGHT_MIN);
        let width = self.aspect.value.max(ASPECT_MIN) * height;
        let (x, y) = (self.x.value, self.y.value);
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    /// Standard deviation of the centre, in pixels.
    pub fn deviation(&self) -> f32 {
        self.x.value_variance.max(self.y.value_variance).max(0.0).sqrt()
    }

    /// Height in pixels.
    pub fn height(&self) -> f32 {
        self.height.value
    }

    /// The picture is of another size from now on.
    pub fn scale(&mut self, horizontal: f32, vertical: f32) {
        self.x.scale(horizontal);
        self.y.scale(vertical);
        self.height.scale(vertical);
        self.aspect.scale(horizontal / vertical);
    }
}
