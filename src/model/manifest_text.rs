//! The manifest's text: TOML in, TOML out. Every mistake has its line and column.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    ChannelOrder, Download, Fit, HeadRecipe, InputRecipe, Manifest, ModelError, ModelSource, head_text,
    labels,
};

/// Sides of an input tensor beyond this are a mistake.
pub(super) const MAX_SIDE: usize = 8192;

/// A detector for an edge box has megabytes of weights, not gigabytes.
const MAX_DOWNLOAD_BYTES: i64 = 2 << 30;

/// What a manifest says, before its labels file has been read.
pub(super) struct Parsed {
    pub name: String,
    pub file: String,
    pub sha256: String,
    pub description: String,
    pub license: String,
    pub input: InputRecipe,
    pub head: HeadRecipe,
    /// From `names`; empty when they are in a file.
    pub labels: Vec<String>,
    /// File name, and line and column where the manifest names it.
    pub label_file: Option<(String, (usize, usize))>,
    pub evaluation: toml::Table,
    pub download: Option<Download>,
}

/// A mistake and where it stands in the text.
pub(super) type Mistake = (String, Range<usize>);

/// Parses a manifest.
pub(super) fn parse(path: &Path, text: &str) -> Result<Parsed, ModelError> {
    read(text).map_err(|(reason, span)| {
        let (line, column) = position(text, span.start);
        ModelError::Manifest { path: path.to_owned(), line, column, reason }
    })
}

/// Line and column, both from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn read(text: &str) -> Result<Parsed, Mistake> {
    let document =
        DeTable::parse(text).map_err(|error| (error.message().to_owned(), error.span().unwrap_or(0..0)))?;
    let whole = document.span();
    let root = Section { name: "the manifest", table: document.get_ref(), span: whole };
    root.only(&[
        "schema",
        "name",
        "file",
        "sha256",
        "description",
        "license",
        "input",
        "head",
        "labels",
        "evaluation",
        "download",
    ])?;
    let (schema, span) = root.integer("schema")?;
    if schema != 1 {
        return Err((format!("schema {schema} is unknown to this version; it reads schema 1"), span));
    }
    let (name, span) = root.text("name")?;
    check_name(name).map_err(|reason| (reason, span))?;
    let (file, span) = root.text("file")?;
    if file.is_empty() {
        return Err(("file is empty; name the .onnx file, relative to this manifest".to_owned(), span));
    }
    let (sha256, span) = root.text("sha256")?;
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(("sha256 must be 64 hexadecimal digits (sha256sum FILE prints them)".to_owned(), span));
    }
    let (labels, label_file) = read_labels(&root.section("labels")?, text)?;
    let evaluation = text
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("evaluation"))
        .and_then(|value| value.as_table().cloned())
        .unwrap_or_default();
    Ok(Parsed {
        name: name.to_owned(),
        file: file.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        description: root.text_or_empty("description")?,
        license: root.text_or_empty("license")?,
        input: read_input(&root.section("input")?)?,
        head: head_text::read(&root.section("head")?)?,
        labels,
        label_file,
        evaluation,
        download: root
            .table
            .contains_key("download")
            .then(|| read_download(&root.section("download")?))
            .transpose()?,
    })
}

fn read_download(section: &Section<'_>) -> Result<Download, Mistake> {
    section.only(&["url", "bytes", "project"])?;
    let (url, span) = section.text("url")?;
    if !url.starts_with("https://") {
        return Err(("url must begin with https:// and name the .onnx file itself".to_owned(), span));
    }
    let size_bytes = match section.integer("bytes")? {
        (bytes, _) if (1..=MAX_DOWNLOAD_BYTES).contains(&bytes) => bytes.unsigned_abs(),
        (bytes, span) => return Err((format!("bytes = {bytes} is outside 1..={MAX_DOWNLOAD_BYTES}"), span)),
    };
    Ok(Download { url: url.to_owned(), size_bytes, project: section.text_or_empty("project")? })
}

/// A model's name is a word in configs, records, metrics and file names.
///
/// # Errors
/// Says what a name may be.
pub fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins_well = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() <= 64 && begins_well && name.chars().all(legal) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a model name: 1 to 64 of a-z A-Z 0-9 - _ . and beginning with a letter or digit"
    ))
}

fn read_input(section: &Section<'_>) -> Result<InputRecipe, Mistake> {
    section.only(&["width", "height", "channels", "fit", "pad", "scale", "offset"])?;
    let side = |key| match section.integer(key)? {
        (value, _) if (1..=MAX_SIDE as i64).contains(&value) => Ok(value as usize),
        (value, span) => Err((format!("{key} = {value} is outside 1..={MAX_SIDE}"), span)),
    };
    let (pad, span) = section.integer("pad")?;
    Ok(InputRecipe {
        width: side("width")?,
        height: side("height")?,
        channels: section.choice("channels", &CHANNELS)?,
        fit: section.choice("fit", &FITS)?,
        pad: u8::try_from(pad).map_err(|_| (format!("pad = {pad} is outside 0..=255"), span))?,
        scale: section.triple("scale")?,
        offset: section.triple("offset")?,
    })
}

type Labels = (Vec<String>, Option<(String, (usize, usize))>);

fn read_labels(section: &Section<'_>, text: &str) -> Result<Labels, Mistake> {
    section.only(&["names", "file"])?;
    match (section.table.contains_key("names"), section.table.contains_key("file")) {
        (true, false) => {
            let (array, span) = section.array("names")?;
            let names: Option<Vec<String>> =
                array.iter().map(|v| v.get_ref().as_str().map(str::to_owned)).collect();
            let names = names.ok_or_else(|| ("names must be a list of strings".to_owned(), span.clone()))?;
            labels::check(&names).map_err(|reason| (reason, span))?;
            Ok((names, None))
        }
        (false, true) => {
            let (file, span) = section.text("file")?;
            Ok((Vec::new(), Some((file.to_owned(), position(text, span.start)))))
        }
        _ => Err((
            "[labels] needs either `names = [\"…\"]` or `file = \"labels.txt\"`, and not both".to_owned(),
            section.span.clone(),
        )),
    }
}

const CHANNELS: [(&str, ChannelOrder); 2] = [("rgb", ChannelOrder::Rgb), ("bgr", ChannelOrder::Bgr)];
const FITS: [(&str, Fit); 4] = [
    ("letterbox-center", Fit::LetterboxCentre),
    ("letterbox-topleft", Fit::LetterboxTopLeft),
    ("stretch", Fit::Stretch),
    ("center-crop", Fit::CentreCrop),
];

impl ChannelOrder {
    /// As a manifest and the command line spell it.
    pub fn as_str(self) -> &'static str {
        CHANNELS.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The inverse of [`Self::as_str`].
    ///
    /// # Errors
    /// Says which spellings there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        choose("channels", text, &CHANNELS)
    }
}

impl Fit {
    /// As a manifest and the command line spell it.
    pub fn as_str(self) -> &'static str {
        FITS.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The inverse of [`Self::as_str`].
    ///
    /// # Errors
    /// Says which spellings there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        choose("fit", text, &FITS)
    }
}

pub(super) fn choose<T: Copy>(key: &str, text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| unknown(key, text, &names))
}

pub(super) fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let nearest = nearest(found, known.iter().copied());
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    format!("{what} {found:?} is unknown{hint} (known: {})", known.join(", "))
}

/// The known name that `found` most probably was meant to be: a slip of the fingers, or its beginning.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(found, name), name))
        .filter(|(similarity, name)| *similarity >= 0.6 || found.len() >= 3 && name.starts_with(found))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

pub(super) fn float_of(value: &DeValue<'_>) -> Option<f32> {
    match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        #[allow(clippy::cast_precision_loss, reason = "a scale of more than 2^24 is no scale")]
        _ => integer_of(value).map(|integer| integer as f32),
    }
}

/// One table of the document, with what is needed to complain about it.
pub(super) struct Section<'a> {
    name: &'a str,
    pub table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    pub fn only(&self, known: &[&str]) -> Result<(), Mistake> {
        match self.table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some(key) => Err((unknown("key", key.get_ref(), known), key.span())),
        }
    }

    pub fn get(&self, key: &str) -> Result<&'a Spanned<DeValue<'a>>, Mistake> {
        let missing = || (format!("{} needs the key {key:?}", self.name), self.span.start..self.span.start);
        self.table.get(key).ok_or_else(missing)
    }

    pub fn section(&self, key: &'a str) -> Result<Section<'a>, Mistake> {
        let value = self.get(key)?;
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| (format!("{key} must be a table: [{key}]"), value.span()))?;
        Ok(Section { name: key, table, span: value.span() })
    }

    pub fn text(&self, key: &str) -> Result<(&'a str, Range<usize>), Mistake> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        text.map(|text| (text, value.span()))
            .ok_or_else(|| (format!("{key} must be a string: {key} = \"…\""), value.span()))
    }

    pub fn text_or_empty(&self, key: &str) -> Result<String, Mistake> {
        if self.table.contains_key(key) { Ok(self.text(key)?.0.to_owned()) } else { Ok(String::new()) }
    }

    pub fn integer(&self, key: &str) -> Result<(i64, Range<usize>), Mistake> {
        let value = self.get(key)?;
        let integer = integer_of(value.get_ref());
        integer
            .map(|integer| (integer, value.span()))
            .ok_or_else(|| (format!("{key} must be a whole number"), value.span()))
    }

    pub fn array(&self, key: &str) -> Result<(&'a [Spanned<DeValue<'a>>], Range<usize>), Mistake> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Array(array) => Ok((&array[..], value.span())),
            _ => Err((format!("{key} must be a list: {key} = [ … ]"), value.span())),
        }
    }

    pub fn triple(&self, key: &str) -> Result<[f32; 3], Mistake> {
        let (array, span) = self.array(key)?;
        let numbers: Option<Vec<f32>> =
            array.iter().map(|value| float_of(value.get_ref()).filter(|n| n.is_finite())).collect();
        numbers
            .and_then(|numbers| <[f32; 3]>::try_from(numbers).ok())
            .ok_or_else(|| (format!("{key} must be three numbers, one per channel"), span))
    }

    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, Mistake> {
        let (text, span) = self.text(key)?;
        choose(key, text, choices).map_err(|reason| (reason, span))
    }
}

impl Manifest {
    /// The manifest as TOML. `file` is written as it is given: relative to the manifest's own folder.
    pub fn to_toml(&self, file: &str) -> String {
        let mut text = String::new();
        let quote = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let numbers = |values: [f32; 3]| values.map(|v| format!("{v:?}")).join(", ");
        let input = &self.input;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "schema = 1\nname = {}\nfile = {}", quote(&self.name), quote(file));
        let _ = writeln!(text, "sha256 = \"{}\"", self.sha256);
        let _ = writeln!(text, "description = {}", quote(&self.description));
        let _ = writeln!(text, "license = {}\n", quote(&self.license));
        let _ = writeln!(text, "[input]\nwidth = {}\nheight = {}", input.width, input.height);
        let _ = writeln!(text, "channels = \"{}\"        # rgb | bgr", input.channels.as_str());
        let _ = writeln!(
            text,
            "fit = \"{}\"        # letterbox-center | letterbox-topleft | stretch | center-crop",
            input.fit.as_str()
        );
        let _ = writeln!(text, "pad = {}", input.pad);
        let _ = writeln!(text, "# value = sample * scale + offset, samples 0..255, in the channels' order");
        let _ = writeln!(text, "scale = [{}]\noffset = [{}]\n", numbers(input.scale), numbers(input.offset));
        head_text::write(&mut text, &self.head);
        let _ = writeln!(text, "\n[labels]\nnames = [");
        for label in &self.labels {
            let _ = writeln!(text, "    {},", quote(label));
        }
        text.push_str("]\n");
        if !self.evaluation.is_empty() {
            let mut table = toml::Table::new();
            table.insert("evaluation".to_owned(), toml::Value::Table(self.evaluation.clone()));
            let _ = write!(text, "\n{table}");
        }
        if let Some(Download { url, size_bytes, project }) = &self.download {
            let _ = writeln!(text, "\n[download]\nurl = {}\nbytes = {size_bytes}", quote(url));
            let _ = writeln!(text, "project = {}", quote(project));
        }
        text
    }

    /// Where the weights are, when they are a file.
    pub fn file(&self) -> Option<&PathBuf> {
        match &self.source {
            ModelSource::File(path) => Some(path),
            ModelSource::Embedded(_) => None,
        }
    }
}
