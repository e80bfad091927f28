//! Text as editors save it: Windows editors begin a file with a byte order mark, and PowerShell redirects output as UTF-16.

/// How a text was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, without a byte order mark.
    Utf8,
    /// UTF-8 after a byte order mark.
    Utf8WithMark,
    /// UTF-16 of either byte order, after a byte order mark or with two ASCII characters at its beginning.
    Utf16,
}

/// A file is text in no encoding that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither UTF-8 nor UTF-16 text: save it as UTF-8")]
pub struct NotText;

impl From<NotText> for std::io::Error {
    fn from(error: NotText) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl Encoding {
    /// The encoding that the first four bytes of a file tell.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xef, 0xbb, 0xbf, ..] => Self::Utf8WithMark,
            // A mark, or two ASCII characters.
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..0x80, 0, 1..0x80, 0, ..] | [0, 1..0x80, 0, 1..0x80, ..] => {
                Self::Utf16
            }
            _ => Self::Utf8,
        }
    }
}

/// The text of a file, without its byte order mark.
///
/// # Errors
/// The bytes are neither UTF-8 nor UTF-16 that [`Encoding::of`] knows.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, NotText> {
    match (Encoding::of(&bytes), &bytes[..]) {
        (Encoding::Utf16, [0xff, _, rest @ ..]) => from_utf16(rest, u16::from_le_bytes),
        (Encoding::Utf16, [0xfe, _, rest @ ..]) => from_utf16(rest, u16::from_be_bytes),
        (Encoding::Utf16, all @ [0, ..]) => from_utf16(all, u16::from_be_bytes),
        (Encoding::Utf16, all) => from_utf16(all, u16::from_le_bytes),
        (Encoding::Utf8WithMark, [_, _, _, rest @ ..]) => str::from_utf8(rest).map(str::to_owned).map_err(|_| NotText),
        _ => String::from_utf8(bytes).map_err(|_| NotText),
    }
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(NotText) };
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<_, _>>().map_err(|_| NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_removed_and_utf_16_is_decoded() {
        let text = "web: ä 😀\r\n";
        let units = |to: fn(u16) -> [u8; 2]| {
            ['\u{feff}']
                .into_iter()
                .chain(text.chars())
                .collect::<String>()
                .encode_utf16()
                .flat_map(to)
                .collect::<Vec<u8>>()
        };
        for (bytes, encoding) in [
            (text.as_bytes().to_vec(), Encoding::Utf8),
            (format!("\u{feff}{text}").into_bytes(), Encoding::Utf8WithMark),
            (units(u16::to_le_bytes), Encoding::Utf16),
            (units(u16::to_be_bytes), Encoding::Utf16),
        ] {
            assert_eq!(Encoding::of(&bytes), encoding);
            assert_eq!(decode_text(bytes.clone()), Ok(text.to_owned()), "{encoding:?}");
            if encoding == Encoding::Utf16 {
                let without_mark = bytes[2..].to_vec();
                assert_eq!(Encoding::of(&without_mark[..4]), encoding);
                assert_eq!(decode_text(without_mark), Ok(text.to_owned()));
            }
        }
        assert_eq!(Encoding::of(b"a\0\0b"), Encoding::Utf8);
        assert_eq!(decode_text(Vec::new()), Ok(String::new()));
        for wrong in [&[0xff, 0xfe, 0x61][..], &[0xff, 0xfe, 0x00, 0xd8], &[0xef, 0xbb, 0xbf, 0xff], &[0x80]] {
            assert_eq!(decode_text(wrong.to_vec()), Err(NotText), "{wrong:?}");
        }
    }
}
