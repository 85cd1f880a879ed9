//! What gRPC writes into HTTP/2 headers (PROTOCOL-HTTP2 of gRPC), beside the codes of the failure table.

use std::time::Duration;

/// How long the caller waits, such as `250m`.
pub const TIMEOUT: &str = "grpc-timeout";
pub const STATUS: &str = "grpc-status";
/// Percent-encoded.
pub const MESSAGE: &str = "grpc-message";
/// Beginning of the content type of every call.
pub const CONTENT_TYPE: &str = "application/grpc";

/// The largest number that a timeout may have.
const MOST: u128 = 99_999_999;

/// Units from the finest to the coarsest, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// Reads up to eight digits and a unit.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let (unit, digits) = text.as_bytes().split_last()?;
    let fine = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| fine)?;
    let count: u128 = digits.parse().ok()?;
    let (_, nanos) = UNITS.iter().find(|(letter, _)| letter == unit)?;
    let nanos = count * nanos;
    Some(Duration::new(
        u64::try_from(nanos / 1_000_000_000).ok()?,
        u32::try_from(nanos % 1_000_000_000).ok()?,
    ))
}

/// In the finest unit that can say it; rounded down, so that no hop waits longer than the one before it.
pub fn format_timeout(timeout: Duration) -> String {
    let nanos = timeout.as_nanos();
    let (unit, count) = UNITS
        .iter()
        .map(|(unit, size)| (*unit, nanos / size))
        .find(|(_, count)| *count <= MOST)
        .unwrap_or((b'H', MOST));
    format!("{count}{}", char::from(unit))
}

/// A message as its header carries it.
pub fn encode_message(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(
            parse_timeout("99999999n"),
            Some(Duration::from_nanos(99_999_999))
        );
        for nonsense in ["", "m", "5", "-1S", "123456789S", "1x", "1 S", "ä", "1ä"] {
            assert_eq!(parse_timeout(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_printable_characters() {
        assert_eq!(encode_message("50% of é\n"), "50%25 of %C3%A9%0A");
    }

    proptest! {
        #[test]
        fn a_timeout_is_never_written_longer_than_it_is(seconds in 0_u64..400_000_000_000, nanos in 0_u32..1_000_000_000) {
            let timeout = Duration::new(seconds, nanos);
            let text = format_timeout(timeout);
            prop_assert!(text.len() <= 9, "{}", text);
            let read = parse_timeout(&text).expect("we wrote it");
            prop_assert!(read <= timeout);
            // Eight digits keep all but a millionth, as far as hours reach.
            if seconds < 359_999_000_000 {
                prop_assert!(timeout - read <= timeout / 100_000 + Duration::from_nanos(1));
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,12}") {
            let _either_way_is_fine = parse_timeout(&text);
        }
    }
}
