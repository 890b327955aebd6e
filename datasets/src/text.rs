//! Label files in whatever encoding their makers used, and the ways they are cut into rows.

use encoding_rs::{Encoding, GBK, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Encoding of bytes that are neither Unicode by their first bytes nor valid UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Western European.
    Windows1252,
    /// Chinese; a superset of GB2312.
    Gbk,
}

/// The text of a label file, without its byte order mark.
///
/// In this order: a byte order mark decides; zero bytes among the first hundred mean UTF-16; what is valid UTF-8 is UTF-8;
/// else the fallback. Bytes that mean nothing become U+FFFD.
pub(crate) fn decode(bytes: &[u8], fallback: Fallback) -> String {
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None => guess(bytes, fallback),
    };
    encoding.decode_with_bom_removal(bytes).0.into_owned()
}

fn guess(bytes: &[u8], fallback: Fallback) -> &'static Encoding {
    let head = &bytes[..bytes.len().min(100)];
    let zeros = |parity: usize| head.iter().skip(parity).step_by(2).filter(|&&byte| byte == 0).count();
    match (zeros(0), zeros(1)) {
        (0, 0) if std::str::from_utf8(bytes).is_ok() => UTF_8,
        (0, 0) => match fallback {
            Fallback::Windows1252 => WINDOWS_1252,
            Fallback::Gbk => GBK,
        },
        // Latin letters have their zero byte second in little endian.
        (even, odd) if even > odd => UTF_16BE,
        _ => UTF_16LE,
    }
}

/// One row of a delimited file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it begins, counted from 1.
    pub(crate) line: u64,
    pub(crate) fields: Vec<String>,
}

/// The rows of a file with quoted fields (RFC 4180), blank lines left out. Rows may differ in their number of fields.
pub(crate) fn rows(text: &str, delimiter: u8) -> Vec<Row> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let (mut line, mut counted) = (1, 0);
    // Reading from memory cannot fail, and the fields of valid UTF-8 are valid UTF-8.
    for record in reader.records().map_while(Result::ok) {
        // A record's own position is where the last one ended, before the line feed and blank lines.
        let end = record.position().map_or(counted, |position| position.byte() as usize);
        let blank = text.as_bytes()[end..].iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        line += text.as_bytes()[counted..end + blank].split(|&byte| byte == b'\n').skip(1).count() as u64;
        counted = end + blank;
        rows.push(Row { line, fields: record.iter().map(str::to_owned).collect() });
    }
    rows
}

/// Lines that say something, with their numbers from 1; without line ends of either kind.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

/// Where the columns of a table are, by the names in its first row.
pub(crate) struct Header(Vec<String>);

impl Header {
    /// Names are compared in lower case and without spaces around them.
    pub(crate) fn new(row: &Row) -> Self {
        Self(row.fields.iter().map(|name| name.trim().to_lowercase()).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }

    /// The places of several columns. Errors: the name of one that is not there.
    pub(crate) fn columns<const N: usize>(&self, names: [&'static str; N]) -> Result<[usize; N], &'static str> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            *place = self.column(name).ok_or(name)?;
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], fallback: Fallback, expected: &str) {
        assert_eq!(decode(bytes, fallback), expected);
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn each_encoding_is_told_by_its_bytes() {
        use Fallback::{Gbk, Windows1252};
        check("caf\u{e9}".as_bytes(), Windows1252, "caf\u{e9}");
        check("\u{feff}caf\u{e9}".as_bytes(), Windows1252, "caf\u{e9}");
        check(b"caf\xe9 \x93q\x94", Windows1252, "caf\u{e9} \u{201c}q\u{201d}");
        check(b"\xd6\xd0\xc1\xa2", Gbk, "\u{4e2d}\u{7acb}");
        check(&utf16("\u{feff}it\u{2019}s", u16::to_le_bytes), Gbk, "it\u{2019}s");
        check(&utf16("\u{feff}it\u{2019}s", u16::to_be_bytes), Gbk, "it\u{2019}s");
        check(&utf16("0012_000001\tgo", u16::to_le_bytes), Windows1252, "0012_000001\tgo");
        check(&utf16("0012_000001\tgo", u16::to_be_bytes), Windows1252, "0012_000001\tgo");
        check(b"", Gbk, "");
    }

    #[test]
    fn rows_know_their_line_and_keep_quoted_commas_and_line_ends() {
        let text = "a,b\r\n\r\n1,\"x, y\"\r\n2\r\n3,\"two\nlines\"\r\n4,z\r\n";
        let rows: Vec<_> = rows(text, b',').into_iter().map(|row| (row.line, row.fields.join("|"))).collect();
        let expected = [(1, "a|b"), (3, "1|x, y"), (4, "2"), (5, "3|two\nlines"), (7, "4|z")];
        assert_eq!(rows, expected.map(|(line, fields)| (line, fields.to_owned())));
    }

    #[test]
    fn columns_are_found_by_name_or_named_as_missing() {
        let header = Header::new(&Row { line: 1, fields: vec!["Path".to_owned(), " Text ".to_owned()] });
        assert_eq!(header.columns(["text", "path"]), Ok([1, 0]));
        assert_eq!(header.columns(["text", "speaker"]), Err("speaker"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_text(bytes in prop::collection::vec(any::<u8>(), 0..300), chinese: bool) {
            let text = decode(&bytes, if chinese { Fallback::Gbk } else { Fallback::Windows1252 });
            rows(&text, b',');
            lines(&text).for_each(drop);
        }
    }
}
