//! Truth from text files, one an image: `class cx cy w h` a line, in parts of the image's width and height.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Labelled;
use crate::os_words::os_words;

/// A labels file is a few lines a box.
const MAX_BYTES: u64 = 4 << 20;
/// Boxes of one image.
const MAX_BOXES: usize = 10_000;

/// Why a labels file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The operating system said no.
    #[error("{}: {}", path.display(), os_words(cause))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Its words.
        cause: io::Error,
    },
    /// A line is no box.
    #[error(
        "{}:{line}: {reason}; a line is `class cx cy w h`: the class's number from 0, then centre and size in parts of the \
         image, 0..1",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Where the labels of the images in a folder are, if nobody says: in `labels` beside `images`, else beside the images.
pub fn find_labels(images: &Path) -> PathBuf {
    let name = images.file_name().and_then(|name| name.to_str());
    let beside = images.parent().map(|parent| parent.join("labels"));
    match (name, beside) {
        (Some("images"), Some(labels)) if labels.is_dir() => labels,
        _ => images.to_owned(),
    }
}

/// The names of the classes that the truth counts, from `classes.txt` in the labels' folder; `None` where it is not there
/// and the truth counts as the model does.
///
/// # Errors
/// [`TruthError::Unreadable`].
pub fn class_names(labels: &Path) -> Result<Option<Vec<String>>, TruthError> {
    let path = labels.join("classes.txt");
    match read_text(&path) {
        Ok(text) => Ok(Some(text.trim_end().lines().map(|line| line.trim().to_owned()).collect())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(TruthError::Unreadable { path, cause }),
    }
}

/// The boxes of one image in pixels; `None` where the image has no file.
///
/// # Errors
/// [`TruthError`] with file and line.
pub fn read_labels(
    labels: &Path,
    image: &Path,
    (width, height): (u32, u32),
) -> Result<Option<Vec<Labelled>>, TruthError> {
    let path = labels.join(image.file_stem().unwrap_or_default()).with_extension("txt");
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(TruthError::Unreadable { path, cause }),
    };
    let mut boxes = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let refuse = |reason: String| TruthError::Line { path: path.clone(), line: index + 1, reason };
        boxes.push(labelled(line, (f64::from(width), f64::from(height))).map_err(refuse)?);
        if boxes.len() > MAX_BOXES {
            return Err(refuse(format!("more than {MAX_BOXES} boxes")));
        }
    }
    Ok(Some(boxes))
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(io::Error::other("the file is too long for a list of boxes"));
    }
    fs::read_to_string(path)
}

fn labelled(line: &str, (width, height): (f64, f64)) -> Result<Labelled, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [class, numbers @ ..] = words.as_slice() else { return Err("it is empty".to_owned()) };
    let class_id = class.parse().map_err(|_| format!("{class:?} is no class number"))?;
    let numbers: Vec<f64> = numbers
        .iter()
        .map(|word| word.parse().map_err(|_| format!("{word:?} is no number")))
        .collect::<Result<_, String>>()?;
    let &[x, y, box_width, box_height] = numbers.as_slice() else {
        return Err(format!("it has {} numbers after the class", numbers.len()));
    };
    // Annotators' boxes reach a little beyond their picture.
    let within = |value: f64| (-0.5..=1.5).contains(&value);
    if !(within(x)
        && within(y)
        && within(box_width)
        && within(box_height)
        && box_width >= 0.0
        && box_height >= 0.0)
    {
        return Err("its numbers are not parts of the image".to_owned());
    }
    let (box_width, box_height) = (box_width * width, box_height * height);
    Ok(Labelled {
        class_id,
        bbox: [x * width - box_width / 2.0, y * height - box_height / 2.0, box_width, box_height],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_boxes_in_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let image = Path::new("x/y/000.jpg");
        assert_eq!(read_labels(folder.path(), image, (200, 100)).unwrap(), None);
        fs::write(folder.path().join("000.txt"), "3 0.5 0.5 0.25 0.5\n\n0 0 0 0.1 0.1\r\n").unwrap();
        let boxes = read_labels(folder.path(), image, (200, 100)).unwrap().unwrap();
        assert_eq!(
            boxes,
            [
                Labelled { class_id: 3, bbox: [75.0, 25.0, 50.0, 50.0] },
                Labelled { class_id: 0, bbox: [-10.0, -5.0, 20.0, 10.0] },
            ]
        );
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        for (text, words) in [
            ("0 0.5 0.5 0.2", "3 numbers after the class"),
            ("x 0.5 0.5 0.2 0.2", "\"x\" is no class number"),
            ("0 0.5 0.5 0.2 y", "\"y\" is no number"),
            ("0 0.5 0.5 NaN 0.2", "not parts of the image"),
            ("0 320 240 64 48", "not parts of the image"),
            ("-1 0.5 0.5 0.2 0.2", "no class number"),
        ] {
            fs::write(folder.path().join("a.txt"), format!("0 0.5 0.5 0.1 0.1\n{text}\n")).unwrap();
            let error = read_labels(folder.path(), Path::new("a.png"), (10, 10)).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("a.txt:2:"), "{words:?} is not in {error:?}");
        }
    }

    #[test]
    fn labels_are_looked_for_where_people_put_them() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        fs::create_dir(&images).unwrap();
        assert_eq!(find_labels(&images), images);
        fs::create_dir(folder.path().join("labels")).unwrap();
        assert_eq!(find_labels(&images), folder.path().join("labels"));
        assert_eq!(find_labels(folder.path()), folder.path());
    }
}
