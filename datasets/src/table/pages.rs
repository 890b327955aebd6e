//! Sizes that the pages of a Parquet file claim, checked before a page is unpacked: the reader allocates as much memory as a page
//! claims, whatever the size of the file.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::ColumnPath;
use parquet_format_safe::thrift::protocol::TCompactInputProtocol;

/// Pages that claim to unpack to no more are taken at their word. Writers make pages of about 1 MB.
const PLAUSIBLE_LEN: u64 = 64 << 20;
/// Larger ones may unpack to so many times their size in the file. Text packs by 3 to 30.
const MOST_TIMES: u64 = 1_000;
/// A header is small; no field of it may claim more bytes.
const MOST_IN_HEADER: usize = 1 << 20;

/// Errors: a page that lies outside of its column, or claims to unpack to more than is plausible; which, and what it claims.
pub(super) fn check(path: &Path, metadata: &ParquetMetaData, is_read: impl Fn(&ColumnPath) -> bool) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let mut reader = BufReader::with_capacity(1 << 10, file);
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    for column in columns.filter(|column| is_read(column.column_path())) {
        check_column(&mut reader, column)
            .map_err(|reason| format!("it is damaged: column `{}`: {reason}", column.column_path().string()))?;
    }
    Ok(())
}

fn check_column(reader: &mut (impl Read + Seek), column: &ColumnChunkMetaData) -> Result<(), String> {
    let (start, len) = column.byte_range();
    let (mut at, end) = (start, start.saturating_add(len));
    while at < end {
        let failed = |error: std::io::Error| format!("no page at byte {at}: {error}");
        reader.seek(SeekFrom::Start(at)).map_err(failed)?;
        let header =
            parquet_format_safe::PageHeader::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut *reader, MOST_IN_HEADER));
        let header = header.map_err(|error| format!("no page at byte {at}: {error}"))?;
        let size = |claim: i32| u64::try_from(claim).map_err(|_| format!("a page at byte {at} claims {claim} bytes"));
        let (packed, unpacked) = (size(header.compressed_page_size)?, size(header.uncompressed_page_size)?);
        let after = reader.stream_position().map_err(failed)?.saturating_add(packed);
        if after > end {
            return Err(format!("a page at byte {at} claims {packed} bytes, more than the column has"));
        }
        if unpacked > PLAUSIBLE_LEN.max(packed.saturating_mul(MOST_TIMES)) {
            return Err(format!("a page at byte {at} claims to unpack from {packed} to {unpacked} bytes"));
        }
        at = after;
    }
    Ok(())
}
