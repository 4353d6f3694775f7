//! The protobuf wire format, read field by field without holding what is skipped.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>. The reader never trusts a length: a
//! field may not end after the message it is in, nothing but short strings is copied, and every loop is
//! bounded by the file.

use std::io::{BufReader, Read, Seek};

use super::InspectError;

/// One field: its number and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub number: u32,
    pub value: FieldValue,
}

/// A scalar, or a stretch of the file that the caller reads or skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValue {
    Number(u64),
    /// Ends at this position of the file.
    Bytes {
        end: u64,
    },
}

/// A position in a file of protobuf messages.
pub(super) struct Wire<R> {
    reader: BufReader<R>,
    position: u64,
    total_bytes: u64,
}

impl<R: Read + Seek> Wire<R> {
    pub fn new(reader: R, total_bytes: u64) -> Self {
        Self { reader: BufReader::new(reader), position: 0, total_bytes }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next field of the message that ends at `end`; `None` at its end.
    pub fn field(&mut self, end: u64) -> Result<Option<Field>, InspectError> {
        if self.position >= end {
            return Ok(None);
        }
        let start = self.position;
        let tag = self.varint(end)?;
        let number = u32::try_from(tag >> 3).ok().filter(|&number| (1..1 << 29).contains(&number));
        let number = number.ok_or(InspectError::Damaged { position: start })?;
        let value = match tag & 7 {
            0 => FieldValue::Number(self.varint(end)?),
            1 => FieldValue::Number(self.fixed::<8>(end)?),
            5 => FieldValue::Number(self.fixed::<4>(end)?),
            2 => {
                let length = self.varint(end)?;
                FieldValue::Bytes { end: self.end_after(length, end)? }
            }
            // Groups (3 and 4) have never been part of ONNX.
            _ => return Err(InspectError::Damaged { position: start }),
        };
        Ok(Some(Field { number, value }))
    }

    /// Jumps to `end`, which a field gave.
    pub fn skip_to(&mut self, end: u64) -> Result<(), InspectError> {
        let distance = end.checked_sub(self.position).and_then(|d| i64::try_from(d).ok());
        let distance = distance.ok_or(InspectError::Damaged { position: self.position })?;
        self.reader.seek_relative(distance)?;
        self.position = end;
        Ok(())
    }

    /// The string that ends at `end`; bytes that are not UTF-8 are replaced.
    pub fn string(&mut self, end: u64, limit_bytes: u64) -> Result<String, InspectError> {
        let length = end.saturating_sub(self.position);
        if length > limit_bytes {
            return Err(InspectError::TooMuch { what: "a string", limit: limit_bytes });
        }
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(self.cut(end));
        }
        self.position = end;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into()))
    }

    /// A base-128 number.
    pub fn varint(&mut self, end: u64) -> Result<u64, InspectError> {
        let (start, mut value) = (self.position, 0_u64);
        for shift in (0..64).step_by(7) {
            let byte = self.byte(end)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(InspectError::Damaged { position: start })
    }

    /// A number of `N` bytes, the lowest first.
    pub fn fixed<const N: usize>(&mut self, end: u64) -> Result<u64, InspectError> {
        let mut value = 0;
        for index in 0..N {
            value |= u64::from(self.byte(end)?) << (8 * index);
        }
        Ok(value)
    }

    fn byte(&mut self, end: u64) -> Result<u8, InspectError> {
        if self.position >= end {
            // Inside a message this is a contradiction of lengths; at the end of the file it is cut off.
            return Err(if end == self.total_bytes {
                self.cut(end + 1)
            } else {
                InspectError::Damaged { position: self.position }
            });
        }
        let mut byte = [0];
        if self.reader.read(&mut byte)? == 0 {
            return Err(self.cut(self.position + 1));
        }
        self.position += 1;
        Ok(byte[0])
    }

    fn end_after(&self, length: u64, end: u64) -> Result<u64, InspectError> {
        match self.position.checked_add(length) {
            Some(field_end) if field_end <= end => Ok(field_end),
            Some(field_end) if end == self.total_bytes => Err(self.cut(field_end)),
            _ => Err(InspectError::Damaged { position: self.position }),
        }
    }

    fn cut(&self, expected_bytes: u64) -> InspectError {
        InspectError::Truncated { expected_bytes, actual_bytes: self.total_bytes }
    }
}
