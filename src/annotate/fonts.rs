//! The fonts of this box: the few that the texts of a run need are read, and no others.

use std::fs;
use std::path::{Path, PathBuf};

use skrifa::{FontRef, GlyphId, MetadataProvider};
use unicode_script::{Script, UnicodeScript};

/// Where Linux keeps fonts; the user's own are below the home folder.
const SYSTEM_DIRS: [&str; 2] = ["/usr/share/fonts", "/usr/local/share/fonts"];
const USER_DIRS: [&str; 2] = [".local/share/fonts", ".fonts"];
/// Files that are looked at, folders deep, bytes of one file, bytes of all: hostile or enormous font folders end there.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 6;
const FILE_BYTES_MAX: u64 = 48 << 20;
const READ_BYTES_MAX: u64 = 512 << 20;
/// Fonts that are kept.
const FACES_MAX: usize = 12;

/// Plain faces for signs, in this order; the rest follows by name.
const PREFERRED: [&str; 8] = [
    "notosans-regular",
    "notosans[",
    "dejavusans.",
    "liberationsans-regular",
    "notosanscjk-regular",
    "wqy-microhei",
    "droidsansfallback",
    "freesans.",
];
/// Names of faces that are not plain.
const FANCY: [&str; 14] = [
    "bold",
    "italic",
    "oblique",
    "light",
    "thin",
    "black",
    "condensed",
    "mono",
    "serif",
    "medium",
    "symbol",
    "math",
    "emoji",
    "display",
];

/// A font that was read.
pub(super) struct Face {
    bytes: Vec<u8>,
    index: u32,
    pub shaper: harfrust::ShaperData,
}

impl Face {
    fn read(path: &Path, language: Language) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let index = if file_name(path).starts_with("notosanscjk") { language.noto_index() } else { 0 };
        let index = if FontRef::from_index(&bytes, index).is_ok() { index } else { 0 };
        let font = FontRef::from_index(&bytes, index).ok()?;
        // What has no outlines, a font of colored pictures, cannot be drawn here.
        font.outline_glyphs().get(GlyphId::new(0))?;
        let shaper = harfrust::ShaperData::new(&font);
        Some(Self { bytes, index, shaper })
    }

    /// The font; `None` never, since it was read once.
    pub fn font(&self) -> Option<FontRef<'_>> {
        FontRef::from_index(&self.bytes, self.index).ok()
    }

    pub fn has(&self, character: char) -> bool {
        self.font().is_some_and(|font| font.charmap().map(character).is_some())
    }
}

impl std::fmt::Debug for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Face")
            .field("bytes", &self.bytes.len())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Han characters look a little different in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Language {
    Japanese,
    Korean,
    #[default]
    SimplifiedChinese,
    TraditionalChinese,
}

impl Language {
    /// What the texts are written in; the locale decides what they do not show.
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut guess = None;
        for character in texts.flat_map(str::chars) {
            match character.script() {
                Script::Hiragana | Script::Katakana => return Self::Japanese,
                Script::Hangul => guess = Some(Self::Korean),
                _ => {}
            }
        }
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty())
            .unwrap_or_default();
        guess.unwrap_or(match locale.get(..5).unwrap_or(&locale) {
            "zh_TW" | "zh_HK" => Self::TraditionalChinese,
            locale if locale.starts_with("ja") => Self::Japanese,
            locale if locale.starts_with("ko") => Self::Korean,
            _ => Self::SimplifiedChinese,
        })
    }

    /// Its place in the collection of Noto Sans CJK.
    fn noto_index(self) -> u32 {
        match self {
            Self::Japanese => 0,
            Self::Korean => 1,
            Self::SimplifiedChinese => 2,
            Self::TraditionalChinese => 3,
        }
    }
}

/// Finds faces for characters.
#[derive(Debug)]
pub(super) struct Fonts {
    pub faces: Vec<Face>,
    /// What is not read yet; the plain ones first.
    files: Vec<(PathBuf, u64)>,
    read_bytes: u64,
    language: Language,
}

impl Fonts {
    /// The fonts of this system; none is read yet.
    pub fn of_system(language: Language) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let of_user = home.iter().flat_map(|home| USER_DIRS.map(|folder| home.join(folder)));
        let folders: Vec<PathBuf> = SYSTEM_DIRS.map(PathBuf::from).into_iter().chain(of_user).collect();
        Self::of_folders(&folders, language)
    }

    /// The fonts below some folders.
    pub fn of_folders(folders: &[PathBuf], language: Language) -> Self {
        let mut files = Vec::new();
        for folder in folders {
            list(folder, 0, &mut files);
        }
        files.sort_by_cached_key(|(path, _)| (rank(&file_name(path)), path.clone()));
        Self { faces: Vec::new(), files, read_bytes: 0, language }
    }

    /// The face that draws a character; reads another file if it has to.
    pub fn face_for(&mut self, character: char) -> Option<usize> {
        if let Some(index) = self.faces.iter().position(|face| face.has(character)) {
            return Some(index);
        }
        // Noto's files are named after their script.
        let script = character.script().full_name().to_lowercase();
        let named = |path: &Path| script != "common" && file_name(path).contains(&script);
        let (mut first, then): (Vec<usize>, Vec<usize>) =
            (0..self.files.len()).partition(|&index| named(&self.files[index].0));
        first.extend(then);
        for index in first {
            let (path, bytes) = &self.files[index];
            if self.faces.len() >= FACES_MAX || self.read_bytes + bytes > READ_BYTES_MAX {
                return None;
            }
            self.read_bytes += bytes;
            let Some(face) = Face::read(path, self.language) else { continue };
            if face.has(character) {
                self.files.remove(index);
                self.faces.push(face);
                return Some(self.faces.len() - 1);
            }
        }
        None
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase().replace('_', "-")
}

/// The plainest first.
fn rank(name: &str) -> usize {
    let fancy = FANCY.iter().filter(|word| name.contains(*word)).count();
    let preferred = PREFERRED.iter().position(|start| name.starts_with(start));
    match (preferred, fancy) {
        (Some(place), _) => place,
        (None, fancy) => PREFERRED.len() + fancy,
    }
}

fn list(folder: &Path, depth: usize, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if files.len() >= FILES_MAX {
            return;
        }
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() && depth < DEPTH_MAX {
            list(&path, depth + 1, files);
        }
        let is_font = path.extension().is_some_and(|extension| {
            ["ttf", "otf", "ttc", "otc"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        });
        if is_font && meta.is_file() && meta.len() <= FILE_BYTES_MAX {
            files.push((path, meta.len()));
        }
    }
}
