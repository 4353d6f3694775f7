//! Cuts what an RTSP server sends into RTSP messages and interleaved packets (RFC 2326, 10.12).

use std::io::{BufRead, BufReader, Read};

/// An RTSP message longer than this is passed on in pieces.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
const PIECE_BYTES: usize = 16 << 10;

/// What one piece of the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// `$`, channel, length, packet. Even channels carry RTP, odd ones RTCP.
    Interleaved { channel: u8 },
    /// A complete RTSP message with its body.
    Message,
    /// Bytes that this cannot read, such as TLS.
    Opaque,
}

/// Reads a stream unit by unit.
pub(crate) struct Framing<R> {
    reader: BufReader<R>,
    opaque: bool,
}

impl<R: Read> Framing<R> {
    /// With `opaque` the stream is not looked into.
    pub(crate) fn new(stream: R, opaque: bool) -> Self {
        Self { reader: BufReader::with_capacity(PIECE_BYTES, stream), opaque }
    }

    /// Reads the next unit into `unit` (its whole bytes, framing included); `None` at the end of the stream.
    pub(crate) fn next(&mut self, unit: &mut Vec<u8>) -> std::io::Result<Option<Unit>> {
        unit.clear();
        let Some(&first) = self.reader.fill_buf()?.first() else { return Ok(None) };
        match first {
            _ if self.opaque => self.piece(unit),
            b'$' => self.interleaved(unit),
            b'A'..=b'Z' => self.message(unit),
            _ => self.piece(unit),
        }
        .map(Some)
    }

    fn piece(&mut self, unit: &mut Vec<u8>) -> std::io::Result<Unit> {
        unit.extend_from_slice(self.reader.fill_buf()?);
        self.reader.consume(unit.len());
        Ok(Unit::Opaque)
    }

    fn interleaved(&mut self, unit: &mut Vec<u8>) -> std::io::Result<Unit> {
        unit.resize(4, 0);
        self.reader.read_exact(unit)?;
        let packet_bytes = u16::from_be_bytes([unit[2], unit[3]]);
        unit.resize(4 + usize::from(packet_bytes), 0);
        self.reader.read_exact(&mut unit[4..])?;
        Ok(Unit::Interleaved { channel: unit[1] })
    }

    fn message(&mut self, unit: &mut Vec<u8>) -> std::io::Result<Unit> {
        let mut body_bytes = 0;
        loop {
            let line_at = unit.len();
            let room = (MESSAGE_BYTES_MAX - line_at) as u64;
            self.reader.by_ref().take(room).read_until(b'\n', unit)?;
            let line = unit[line_at..].trim_ascii();
            if line.is_empty() {
                break;
            }
            if !unit.ends_with(b"\n") {
                return Ok(Unit::Opaque);
            }
            body_bytes = content_length(line).unwrap_or(body_bytes);
        }
        if unit.len() + body_bytes > MESSAGE_BYTES_MAX {
            return Ok(Unit::Opaque);
        }
        let body_at = unit.len();
        unit.resize(body_at + body_bytes, 0);
        self.reader.read_exact(&mut unit[body_at..])?;
        Ok(Unit::Message)
    }
}

fn content_length(line: &[u8]) -> Option<usize> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time: a unit must not depend on how the network cuts the stream.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.len().min(buffer.len()).min(1);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn units(stream: &[u8]) -> Vec<(Unit, usize)> {
        let mut framing = Framing::new(Dribble(stream), false);
        let mut unit = Vec::new();
        let mut units = Vec::new();
        while let Some(kind) = framing.next(&mut unit).unwrap() {
            units.push((kind, unit.len()));
        }
        units
    }

    #[test]
    fn messages_with_bodies_and_packets_are_told_apart() {
        let message = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\ncontent-Length: 3\r\n\r\nv=0";
        let empty = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n";
        let mut stream = message.to_vec();
        stream.extend_from_slice(b"$\x00\x00\x05hello");
        stream.extend_from_slice(b"$\x01\x00\x00");
        stream.extend_from_slice(empty);
        assert_eq!(
            units(&stream),
            [
                (Unit::Message, message.len()),
                (Unit::Interleaved { channel: 0 }, 9),
                (Unit::Interleaved { channel: 1 }, 4),
                (Unit::Message, empty.len()),
            ]
        );
    }

    #[test]
    fn a_stream_that_is_no_rtsp_passes_in_pieces_and_an_endless_line_ends() {
        assert!(units(b"\x16\x03\x01").iter().all(|(kind, _)| *kind == Unit::Opaque));
        let endless = vec![b'A'; 3 * MESSAGE_BYTES_MAX];
        let pieces = units(&endless);
        assert!(pieces.iter().all(|(kind, bytes)| *kind == Unit::Opaque && *bytes <= MESSAGE_BYTES_MAX));
        assert_eq!(pieces.iter().map(|(_, bytes)| bytes).sum::<usize>(), endless.len());
    }
}
