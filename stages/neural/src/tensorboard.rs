//! Event files that TensorBoard reads.
//!
//! A file is a row of `TFRecord` frames (length, checksum of the length, payload, checksum of the payload), each payload an
//! `Event` message of protocol buffers. Formats: TensorFlow's `record_writer.h`, `event.proto` and `summary.proto`; CRC-32C:
//! RFC 3720, appendix B.4.

use std::io::{self, Write};

/// Name of an event file. TensorBoard takes every file with `tfevents` in its name.
pub const FILE_NAME: &str = "events.out.tfevents.0.sure";

/// Writes scalars against steps.
///
/// The same scalars give the same bytes: an event's time of day is its step, in seconds after 1970.
#[derive(Debug)]
pub struct EventWriter<W> {
    out: W,
}

impl<W: Write> EventWriter<W> {
    /// Starts a file.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out };
        let mut event = Vec::new();
        put_bytes(&mut event, 3, b"brain.Event:2"); // Event.file_version
        writer.record(&timed(0.0, &event))?;
        Ok(writer)
    }

    /// Adds one event: values by tag at a step.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, tag.as_bytes()); // Value.tag
            put_key(&mut entry, 2, FIXED32); // Value.simple_value
            entry.extend(value.to_le_bytes());
            put_bytes(&mut summary, 1, &entry); // Summary.value
        }
        let mut event = Vec::new();
        put_key(&mut event, 2, VARINT); // Event.step
        put_varint(&mut event, step);
        put_bytes(&mut event, 5, &summary); // Event.summary
        self.record(&timed(step as f64, &event))
    }

    /// Hands on what was buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives the output back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn record(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = (payload.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked_crc(&length).to_le_bytes())?;
        self.out.write_all(payload)?;
        self.out.write_all(&masked_crc(payload).to_le_bytes())
    }
}

/// Puts the time, in seconds after 1970, in front of an event's other fields.
fn timed(secs: f64, fields: &[u8]) -> Vec<u8> {
    let mut event = Vec::new();
    put_key(&mut event, 1, FIXED64); // Event.wall_time
    event.extend(secs.to_le_bytes());
    event.extend(fields);
    event
}

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

fn put_key(out: &mut Vec<u8>, field: u8, wire_type: u8) {
    out.push(field << 3 | wire_type);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    put_key(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The checksum as `TFRecord` stores it: rotated and shifted, so that checksums of checksums stay sound.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit-reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // the check value of CRC-32C
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_record_is_framed_and_its_fields_are_where_protobuf_says() {
        let mut writer = EventWriter::new(Vec::new()).unwrap();
        let head = writer.out.len();
        writer.scalars(300, &[("loss", 1.5)]).unwrap();
        let file = writer.finish().unwrap();
        let record = &file[head..];
        let payload = [
            &[0x09][..],
            &300.0_f64.to_le_bytes(),
            &[0x10, 0xac, 0x02], // step 300
            &[0x2a, 13, 0x0a, 11, 0x0a, 4, b'l', b'o', b's', b's', 0x15, 0, 0, 0xc0, 0x3f],
        ]
        .concat();
        assert_eq!(record[..8], (payload.len() as u64).to_le_bytes());
        assert_eq!(record[8..12], masked_crc(&record[..8]).to_le_bytes());
        assert_eq!(record[12..record.len() - 4], payload);
        assert_eq!(record[record.len() - 4..], masked_crc(&payload).to_le_bytes());
    }
}
