//! Bytes of a file to text, as editors on all systems leave it.

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotText {
    #[error("not UTF-8: line {line} has a byte that belongs to no character")]
    Utf8 { line: usize },
    #[error("begins as UTF-16 and is not")]
    Utf16,
}

/// UTF-8, or UTF-16 that says so with its byte order mark.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, NotText> {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, NotText> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        NotText::Utf8 { line }
    })?;
    Ok(text.to_owned())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NotText::Utf16);
    }
    let units: Vec<u16> = units.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16(&units).map_err(|_| NotText::Utf16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(decode(b"\xef\xbb\xbfname: a").as_deref(), Ok("name: a"));
        assert_eq!(decode(b"\xff\xfea\0").as_deref(), Ok("a"));
        assert_eq!(decode(b"\xfe\xff\0a").as_deref(), Ok("a"));
    }

    #[test]
    fn what_is_not_text_is_refused_with_its_line() {
        assert_eq!(decode(b"a\nb\xff"), Err(NotText::Utf8 { line: 2 }));
        assert_eq!(decode(b"\xff\xfea"), Err(NotText::Utf16));
        assert_eq!(decode(b"\xff\xfe\x00\xd8"), Err(NotText::Utf16));
    }
}
