//! One line of text in any script: which font draws which characters, in which direction, joined how.
//!
//! Bidirectional text is put in order by UAX #9, runs of one font, script and direction are shaped (HarfBuzz's rules), and
//! outlines become inks, which are kept: a label is written once, not once a frame.

use std::collections::HashMap;
use std::rc::Rc;

use harfrust::{Direction, UnicodeBuffer};
use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{GlyphId, MetadataProvider};
use unicode_bidi::BidiInfo;
use unicode_script::{Script, UnicodeScript};

use super::bitmap;
use super::canvas::Ink;
use super::fonts::{Fonts, Language};
use super::raster::Raster;

/// Characters of a text that are drawn.
const TEXT_MAX: usize = 48;
/// Inks that are kept; of more, all are written anew.
const INKS_MAX: usize = 512;
/// Characters whose face is known.
const KNOWN_MAX: usize = 8192;
/// Characters that a complaint names.
const NAMED_MAX: usize = 12;
/// Height of a line, and its base line from above, in sizes of the font: Devanagari and Thai reach far.
const LINE: f32 = 1.42;
const BASE_LINE: f32 = 1.06;
/// Columns left and right of a text: some letters reach over their own place.
const MARGIN: f32 = 1.0;

/// Characters that no font of this box draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Some of them.
    pub characters: String,
    /// How many there are.
    pub count: usize,
    /// Debian packages that have them.
    pub packages: Vec<&'static str>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { characters, count, packages } = self;
        let packages = packages.join(" ");
        write!(
            f,
            "no font on this box draws {count} of the characters in the labels ({characters}): boxes stand for them; \
             install the Debian package {packages}"
        )
    }
}

/// Writes texts.
#[derive(Debug)]
pub(super) struct Typesetter {
    fonts: Fonts,
    bitmap: bitmap::Font,
    /// The face of each character seen; `None`: no font has it.
    known: HashMap<char, Option<usize>>,
    size: f32,
    inks: HashMap<String, Rc<Ink>>,
    raster: Raster,
    buffer: Option<UnicodeBuffer>,
}

/// A part of a text that is shaped at once.
struct Item {
    /// Bytes of the text.
    start: usize,
    end: usize,
    face: Option<usize>,
    right_to_left: bool,
}

impl Typesetter {
    pub fn new(fonts: Fonts) -> Self {
        Self {
            fonts,
            bitmap: bitmap::Font::new(),
            known: HashMap::new(),
            size: 0.0,
            inks: HashMap::new(),
            raster: Raster::default(),
            buffer: Some(UnicodeBuffer::new()),
        }
    }

    /// With the fonts of this box; `texts` will be written with it.
    pub fn for_texts<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Self {
        Self::new(Fonts::of_system(Language::of(texts)))
    }

    /// Which characters of some texts will be drawn as boxes. Nobody misses letters where there is no font at all: the
    /// built-in one has them.
    pub fn missing<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Option<Missing> {
        let mut all: Vec<char> = texts.flat_map(cleaned).filter(|c| !c.is_ascii()).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|&character| self.face_of(character).is_none());
        let mut packages: Vec<&'static str> = all.iter().map(|&character| package(character)).collect();
        packages.sort_unstable();
        packages.dedup();
        let characters = all.iter().take(NAMED_MAX).collect();
        (!all.is_empty()).then_some(Missing { characters, count: all.len(), packages })
    }

    /// The height of every ink, in pixels.
    pub fn line_height(&self) -> usize {
        (self.size * LINE).round() as usize
    }

    /// Letters of so many pixels from now on.
    pub fn set_size(&mut self, size: f32) {
        if self.size.to_bits() != size.to_bits() {
            self.size = size;
            self.inks.clear();
        }
    }

    /// The ink of a text, [`Self::line_height`] rows.
    pub fn ink(&mut self, text: &str) -> Rc<Ink> {
        if let Some(ink) = self.inks.get(text) {
            return Rc::clone(ink);
        }
        let ink = Rc::new(self.write(text));
        if self.inks.len() >= INKS_MAX {
            self.inks.clear();
        }
        self.inks.insert(text.to_owned(), Rc::clone(&ink));
        ink
    }

    #[cfg(test)]
    pub fn ink_count(&self) -> usize {
        self.inks.len()
    }

    fn face_of(&mut self, character: char) -> Option<usize> {
        if let Some(&face) = self.known.get(&character) {
            return face;
        }
        let face = self.fonts.face_for(character);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(character, face);
        face
    }

    fn write(&mut self, text: &str) -> Ink {
        let text: String = cleaned(text).take(TEXT_MAX).collect();
        // The plainest face draws letters and digits; without any there is only the built-in font.
        if text.is_empty() || self.face_of('0').is_none() {
            return self.bitmap.write(&text, self.size, self.line_height());
        }
        let items = self.items(&text);
        let mut outline = Outline { edges: Vec::new(), at: [0.0; 2], last: [0.0; 2], first: [0.0; 2] };
        outline.at = [MARGIN, self.size * BASE_LINE];
        for item in &items {
            self.shape(&text[item.start..item.end], item, &mut outline);
        }
        let (width, height) = ((outline.at[0] + MARGIN).ceil().max(1.0) as usize, self.line_height());
        self.raster.clear(width, height);
        outline.edges.iter().for_each(|&[from, to]| self.raster.edge(from, to));
        let mut cover = Vec::with_capacity(width * height);
        self.raster.rows(|_, covers| cover.extend(covers.map(|cover| cover.min(255) as u8)));
        let advance = (outline.at[0] - MARGIN).round().max(0.0) as usize;
        Ink { width, advance, cover }
    }

    /// The parts of a text from left to right as they are seen.
    fn items(&mut self, text: &str) -> Vec<Item> {
        let bidi = BidiInfo::new(text, None);
        let mut items = Vec::new();
        for paragraph in &bidi.paragraphs {
            let (levels, runs) = bidi.visual_runs(paragraph, paragraph.range.clone());
            for run in runs {
                let right_to_left = levels.get(run.start).is_some_and(|level| level.is_rtl());
                let begin = items.len();
                self.split(text, run, right_to_left, &mut items);
                if right_to_left {
                    items[begin..].reverse();
                }
            }
        }
        items
    }

    /// Splits a run where the font or the script changes.
    fn split(&mut self, text: &str, run: std::ops::Range<usize>, right_to_left: bool, items: &mut Vec<Item>) {
        let begin = items.len();
        let mut script = Script::Common;
        for (offset, character) in text[run.clone()].char_indices() {
            let (start, end) = (run.start + offset, run.start + offset + character.len_utf8());
            let own = character.script();
            let neutral = matches!(own, Script::Common | Script::Inherited);
            let last = if items.len() > begin { items.last_mut() } else { None };
            // Spaces, digits and marks stay with what they follow, if its font has them.
            let before = last.as_ref().and_then(|last| last.face);
            let stays = before.is_some_and(|face| self.fonts.faces[face].has(character));
            let face = if neutral && stays { before } else { self.face_of(character) };
            match last {
                Some(last) if last.face == face && (neutral || script == Script::Common || own == script) => {
                    last.end = end;
                }
                _ => items.push(Item { start, end, face, right_to_left }),
            }
            if !neutral {
                script = own;
            }
        }
    }

    fn shape(&mut self, text: &str, item: &Item, outline: &mut Outline) {
        // What no font has is drawn by the first: the box that stands for an unknown glyph.
        let Some(face) = self.fonts.faces.get(item.face.unwrap_or(0)) else { return };
        let Some(font) = face.font() else { return };
        let mut buffer = self.buffer.take().unwrap_or_default();
        buffer.push_str(text);
        buffer.set_direction(if item.right_to_left {
            Direction::RightToLeft
        } else {
            Direction::LeftToRight
        });
        buffer.guess_segment_properties();
        let shaper = face.shaper.shaper(&font).build();
        let scale = self.size / (shaper.units_per_em() as f32).max(1.0);
        let shaped = shaper.shape(buffer, &[]);
        let glyphs = font.outline_glyphs();
        for (info, position) in shaped.glyph_infos().iter().zip(shaped.glyph_positions()) {
            let [x, y] = outline.at;
            outline.at = [x + position.x_offset as f32 * scale, y - position.y_offset as f32 * scale];
            if let Some(glyph) = glyphs.get(GlyphId::new(info.glyph_id)) {
                let settings = DrawSettings::unhinted(Size::new(self.size), LocationRef::default());
                // A broken glyph is left out; its place stays.
                let _broken = glyph.draw(settings, outline);
            }
            outline.at = [x + position.x_advance as f32 * scale, y];
        }
        self.buffer = Some(shaped.clear());
    }
}

/// Without what would be no sign in a line.
fn cleaned(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|character| if character.is_control() { ' ' } else { character })
}

/// The Debian package with a font for a character.
fn package(character: char) -> &'static str {
    match character.script() {
        Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo => {
            "fonts-noto-cjk"
        }
        Script::Latin | Script::Cyrillic | Script::Greek => "fonts-dejavu-core",
        Script::Common | Script::Inherited if ('\u{3000}'..='\u{303f}').contains(&character) => {
            "fonts-noto-cjk"
        }
        _ => "fonts-noto-core",
    }
}

/// Edges of outlines, in pixels; each glyph at `at`, y downwards.
struct Outline {
    edges: Vec<[[f32; 2]; 2]>,
    at: [f32; 2],
    first: [f32; 2],
    last: [f32; 2],
}

impl Outline {
    fn point(&self, x: f32, y: f32) -> [f32; 2] {
        [self.at[0] + x, self.at[1] - y]
    }

    fn to(&mut self, point: [f32; 2]) {
        self.edges.push([self.last, point]);
        self.last = point;
    }
}

/// Straight pieces of one curve: letters are small.
const PIECES: usize = 6;

impl OutlinePen for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.first = self.point(x, y);
        self.last = self.first;
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.to(self.point(x, y));
    }

    fn quad_to(&mut self, cx: f32, cy: f32, x: f32, y: f32) {
        let (from, control, to) = (self.last, self.point(cx, cy), self.point(x, y));
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let s = 1.0 - t;
            self.to([0, 1].map(|axis| s * s * from[axis] + 2.0 * s * t * control[axis] + t * t * to[axis]));
        }
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        let (a, b, c, d) = (self.last, self.point(cx0, cy0), self.point(cx1, cy1), self.point(x, y));
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let s = 1.0 - t;
            let (sst, stt) = (3.0 * s * s * t, 3.0 * s * t * t);
            self.to(
                [0, 1].map(|axis| s * s * s * a[axis] + sst * b[axis] + stt * c[axis] + t * t * t * d[axis])
            );
        }
    }

    fn close(&mut self) {
        self.to(self.first);
    }
}
