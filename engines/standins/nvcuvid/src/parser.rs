//! The parser: headers and pictures out of packets, to the client's three callbacks, in decoding and in display order.

use std::ffi::c_void;

use crate::abi::{
    Code, DisplayInfo, END_OF_PICTURE, END_OF_STREAM, HEVC, INVALID_SOURCE, INVALID_VALUE, JPEG,
    NOT_SUPPORTED, Packet, ParserParameters, PictureParameters, TIMESTAMP, VideoFormat,
};
use crate::format::{Format, Part};
use crate::{h264, h265, jpeg};

/// A picture that has been decoded and not been shown.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    surface: u32,
    timestamp: i64,
}

/// A parser of one stream.
#[derive(Debug)]
pub struct Parser {
    parameters: ParserParameters,
    format: Option<Format>,
    surfaces: u32,
    next_surface: u32,
    waiting: Vec<Waiting>,
    /// JPEG without a word about where pictures end.
    rest: Vec<u8>,
}

// SAFETY: the client's pointers are only handed back to the client, in calls of its own.
unsafe impl Send for Parser {}

/// A call back of the client's must not fail.
fn agreed(answer: i32) -> Result<i32, Code> {
    if answer > 0 { Ok(answer) } else { Err(INVALID_SOURCE) }
}

impl Parser {
    /// An empty one.
    pub fn new(parameters: ParserParameters) -> Result<Parser, Code> {
        if ![crate::abi::H264, HEVC, JPEG].contains(&parameters.codec) {
            return Err(NOT_SUPPORTED);
        }
        let surfaces = parameters.surfaces.max(1);
        Ok(Parser {
            parameters,
            format: None,
            surfaces,
            next_surface: 0,
            waiting: Vec::new(),
            rest: Vec::new(),
        })
    }

    /// Takes a packet and calls back.
    pub fn parse(&mut self, packet: Packet) -> Result<(), Code> {
        if packet.bytes > 0 {
            if packet.payload.is_null() {
                return Err(INVALID_VALUE);
            }
            // SAFETY: the client's packet has that many bytes.
            let payload = unsafe { std::slice::from_raw_parts(packet.payload, packet.bytes as usize) };
            let timestamp = if packet.flags & TIMESTAMP != 0 { packet.timestamp } else { 0 };
            if self.parameters.codec == JPEG && packet.flags & END_OF_PICTURE == 0 {
                self.rest.extend_from_slice(payload);
                while let Some(bytes) = jpeg::first_picture_bytes(&self.rest) {
                    let picture: Vec<u8> = self.rest.drain(..bytes).collect();
                    self.unit(&picture, timestamp)?;
                }
            } else {
                self.unit(payload, timestamp)?;
            }
        }
        if packet.flags & END_OF_STREAM != 0 {
            self.rest.clear();
            self.show_down_to(0)?;
        }
        Ok(())
    }

    /// One access unit.
    fn unit(&mut self, unit: &[u8], timestamp: i64) -> Result<(), Code> {
        let parts = match self.parameters.codec {
            JPEG => jpeg::parts(unit),
            HEVC => h265::parts(unit),
            _ => h264::parts(unit),
        };
        let mut has_picture = false;
        for part in parts {
            match part {
                Part::Header(format) if self.format != Some(format) => self.begin(format)?,
                Part::Header(_) => {}
                // The second field of a picture is no new one.
                Part::Picture { .. } if has_picture => {}
                Part::Picture { is_intra } => {
                    has_picture = true;
                    self.picture(unit, timestamp, is_intra)?;
                }
            }
        }
        Ok(())
    }

    /// A new sequence: what is there is shown first.
    fn begin(&mut self, format: Format) -> Result<(), Code> {
        self.show_down_to(0)?;
        self.format = None;
        let mut video: VideoFormat = format.video;
        if let Some(sequence) = self.parameters.sequence {
            // SAFETY: the client's function, with what it wants to be called with.
            let surfaces = agreed(unsafe { sequence(self.parameters.user, &raw mut video) })?;
            if surfaces > 1 {
                self.surfaces = surfaces as u32;
            }
        }
        self.format = Some(format);
        Ok(())
    }

    fn picture(&mut self, unit: &[u8], timestamp: i64, is_intra: bool) -> Result<(), Code> {
        // Before the first header there is nothing to decode into.
        let Some(format) = self.format else { return Ok(()) };
        self.show_down_to(self.surfaces.saturating_sub(1) as usize)?;
        let surface = self.free_surface();
        if let Some(decode) = self.parameters.decode {
            let offset = 0;
            let mut parameters = PictureParameters {
                width_in_macroblocks: format.video.coded_width.div_ceil(16) as i32,
                height_in_macroblocks: format.video.coded_height.div_ceil(16) as i32,
                surface: surface as i32,
                is_field: 0,
                is_bottom_field: 0,
                is_second_field: 0,
                bitstream_bytes: unit.len() as u32,
                bitstream: unit.as_ptr(),
                slices: 1,
                slice_offsets: &raw const offset,
                is_reference: 1,
                is_intra: is_intra.into(),
                reserved: [0; 30],
                codec: [0; 1024],
            };
            // SAFETY: the client's function, with what it wants to be called with.
            agreed(unsafe { decode(self.parameters.user, &raw mut parameters) })?;
        }
        self.waiting.push(Waiting { surface, timestamp });
        self.show_down_to(self.parameters.display_delay.max(format.reorder) as usize)
    }

    /// In turn, so that a surface rests as long as possible.
    fn free_surface(&mut self) -> u32 {
        let is_free = |surface: &u32| !self.waiting.iter().any(|one| one.surface == *surface);
        let (first, count) = (self.next_surface, self.surfaces);
        let surface = (0..count).map(|step| (first + step) % count).find(is_free).unwrap_or(0);
        self.next_surface = (surface + 1) % count;
        surface
    }

    /// Shows the earliest until no more than `count` wait.
    fn show_down_to(&mut self, count: usize) -> Result<(), Code> {
        while self.waiting.len() > count {
            let Some(earliest) = (0..self.waiting.len()).min_by_key(|index| self.waiting[*index].timestamp)
            else {
                break;
            };
            let one = self.waiting.remove(earliest);
            let Some(display) = self.parameters.display else { continue };
            let mut info = DisplayInfo {
                surface: one.surface as i32,
                is_progressive: 1,
                top_field_first: 0,
                repeat_first_field: 0,
                timestamp: one.timestamp,
            };
            let user: *mut c_void = self.parameters.user;
            // SAFETY: the client's function, with what it wants to be called with.
            agreed(unsafe { display(user, &raw mut info) })?;
        }
        Ok(())
    }
}
