//! Pictures of a folder as an INT8 calibration wants them: decoded and letterboxed like a camera's frames.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use watchpost_pipelines::{Pipeline, Pull, SourceKind, Spec};
use watchpost_tensorrt::CalibrationFrames;

use crate::frame::Letterbox;
use crate::model::InputRecipe;

/// One picture decodes in milliseconds; a box in trouble gets all this.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pictures, read one at a time when the builder asks for them.
pub struct Pictures {
    paths: Vec<PathBuf>,
    letterbox: Mutex<Letterbox>,
    failure: Mutex<Option<String>>,
}

impl Pictures {
    /// `paths` for a model with this input.
    pub fn new(paths: &[PathBuf], input: &InputRecipe) -> Self {
        Self {
            paths: paths.to_vec(),
            letterbox: Mutex::new(Letterbox::new(input)),
            failure: Mutex::new(None),
        }
    }

    /// What was wrong with a picture: the builder ends with these words, and only here they are known to be about one.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, index: usize, to: &mut [f32]) -> Result<(), String> {
        let path = self.paths.get(index).ok_or("there is no such picture")?;
        let name = path.display().to_string();
        // The decoder's words begin with the name, ours do not.
        let refuse = |reason: String| match reason.contains(&name) {
            true => format!("{reason}; take it out of the folder"),
            false => format!("{name}: {reason}; take it out of the folder"),
        };
        watchpost_pipelines::init().map_err(|error| error.to_string())?;
        let spec = Spec::new(SourceKind::Image { path: path.clone() });
        let pipeline = Pipeline::start_pull(&spec, "calibration")
            .map_err(|error| refuse(error.into_failure().to_string()))?;
        let frame = match pipeline.pull(PATIENCE) {
            Pull::Frame(frame) => frame,
            Pull::Error(failure) => return Err(refuse(failure.to_string())),
            Pull::Eos | Pull::TimedOut => return Err(refuse("holds no picture".to_owned())),
        };
        let mut letterbox = self.letterbox.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = frame.picture().ok_or_else(|| refuse("was decoded into a GPU's memory".to_owned()))?;
        letterbox.run(&picture, to).map_err(|error| refuse(error.to_string()))?;
        Ok(())
    }
}

impl CalibrationFrames for Pictures {
    fn count(&self) -> usize {
        self.paths.len()
    }

    fn frame(&self, index: usize, to: &mut [f32]) -> Result<(), String> {
        self.read(index, to).inspect_err(|words| {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.clone());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelOrder, Fit};

    #[test]
    fn a_picture_is_letterboxed_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // A picture of one red pixel, as BMP: 14 and 40 bytes of headers, then blue, green, red and padding.
        let mut bmp = b"BM".to_vec();
        for value in [58u32, 0, 54, 40, 1, 1, 0x0018_0001, 0, 4, 2835, 2835, 0, 0] {
            bmp.extend(value.to_le_bytes());
        }
        bmp.extend([0, 0, 255, 0]);
        let (red, none) = (folder.path().join("red.bmp"), folder.path().join("none.png"));
        std::fs::write(&red, bmp).unwrap();
        std::fs::write(&none, "nothing").unwrap();
        let input = InputRecipe {
            width: 4,
            height: 4,
            channels: ChannelOrder::Rgb,
            fit: Fit::Stretch,
            pad: 0,
            scale: [1.0; 3],
            offset: [0.0; 3],
        };
        let pictures = Pictures::new(&[red, none], &input);
        assert_eq!(pictures.count(), 2);
        let mut tensor = vec![f32::NAN; 48];
        pictures.frame(0, &mut tensor).unwrap();
        assert!(
            tensor[..16].iter().all(|&r| r > 240.0) && tensor[16..].iter().all(|&gb| gb < 15.0),
            "{tensor:?}"
        );
        let error = pictures.frame(1, &mut tensor).unwrap_err();
        assert!(error.matches("none.png").count() == 1 && error.contains("take it out"), "{error}");
        assert_eq!(pictures.failure(), Some(error));
    }
}
