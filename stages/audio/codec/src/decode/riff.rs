//! WAV recordings, a block at a time.

use std::io::SeekFrom;

use super::{DecodeError, Decoder, ReadSeek, Source, SourceInfo, packets};
use crate::encode::Format;
use crate::wav::{Encoding, Header, WavError};

/// Bytes that are read at once: small enough to stay in the processor's cache on the way through.
const BLOCK_BYTES: usize = 32 << 10;

pub(super) fn open(source: Source<'_>) -> Result<Box<dyn Decoder + '_>, DecodeError> {
    let size = source.len()?;
    let for_symphonia = source.again()?;
    let mut reader = source.reader()?;
    match Header::read(&mut reader, size) {
        Ok(header) => {
            reader.seek(SeekFrom::Start(header.data_start))?;
            Ok(Box::new(WavDecoder { reader, header, left: header.data_len, block: Vec::new() }))
        }
        // A-law, mu-law, ADPCM and the like.
        Err(WavError::Format { .. }) => packets::open(for_symphonia, "wav"),
        Err(error) => Err(error.into()),
    }
}

struct WavDecoder<'s> {
    reader: Box<dyn ReadSeek + 's>,
    header: Header,
    /// Bytes that are still to come.
    left: u64,
    block: Vec<u8>,
}

impl Decoder for WavDecoder<'_> {
    fn info(&self) -> SourceInfo {
        SourceInfo { sample_rate: self.header.sample_rate, num_channels: self.header.num_channels, container: "wav" }
    }

    fn conforms(&self) -> Option<Format> {
        let header = &self.header;
        (header.sound && header.encoding == Encoding::I16 && header.num_channels == 1).then_some(Format::Wav)
    }

    fn seek(&mut self, start: u64) -> Result<u64, DecodeError> {
        let start = start.min(self.header.num_samples());
        let skipped = start * self.header.frame_len() as u64;
        self.reader.seek(SeekFrom::Start(self.header.data_start + skipped))?;
        self.left = self.header.data_len - skipped;
        Ok(start)
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        let frame_len = self.header.frame_len();
        let whole_frames = (BLOCK_BYTES / frame_len).max(1) * frame_len;
        let len = self.left.min(whole_frames as u64);
        self.block.resize(len as usize, 0);
        self.reader.read_exact(&mut self.block)?;
        self.header.encoding.average(&self.block, self.header.num_channels, mono);
        self.left -= len;
        Ok(self.left > 0)
    }
}
