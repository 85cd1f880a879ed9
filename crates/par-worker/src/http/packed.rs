//! Values as sessions have them, MessagePack, and as HTTP says them, JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use par_protocol::session::Values;
use rmp::Marker;
use serde_json::{Value as Json, json};

/// Values that a request or an answer may hold, whatever their size.
pub(super) const MOST_VALUES: usize = 1_100_000;
/// The deepest value that is shown as JSON.
const DEEPEST: usize = 100;

/// All of them, as one JSON object; of more than fits, some are not read.
pub(super) fn values(values: &Values) -> Json {
    let mut budget = MOST_VALUES;
    let shown = values
        .iter()
        .map(|(name, packed)| (name.clone(), unpacked(packed, &mut budget)));
    Json::Object(shown.collect())
}

/// MessagePack as JSON, as far as JSON reaches: bytes become `{"base64": …}`, NaN and infinity text. What it holds is
/// taken from the budget.
fn unpacked(packed: &[u8], budget: &mut usize) -> Json {
    let Some(left) = count_of_packed(packed).and_then(|count| budget.checked_sub(count)) else {
        return json!({ "unreadable": "it is cut off, or the answer holds too many values" });
    };
    *budget = left;
    match rmpv::decode::read_value_with_max_depth(&mut &packed[..], DEEPEST) {
        Ok(value) => as_json(value),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

/// Values in MessagePack that is whole: counted before they are made, because each takes more memory than its one byte.
fn count_of_packed(packed: &[u8]) -> Option<usize> {
    let mut rest = packed;
    let (mut count, mut missing) = (0_usize, 1_usize);
    while missing > 0 {
        let marker = rmp::decode::read_marker(&mut rest).ok()?;
        count += 1;
        missing -= 1;
        let mut length = |bytes: usize| {
            let (number, later) = rest.split_at_checked(bytes)?;
            rest = later;
            Some(
                number
                    .iter()
                    .fold(0_usize, |number, byte| number << 8 | usize::from(*byte)),
            )
        };
        let (values, skipped) = match marker {
            Marker::FixArray(few) => (usize::from(few), 0),
            Marker::FixMap(few) => (2 * usize::from(few), 0),
            Marker::FixStr(few) => (0, usize::from(few)),
            Marker::Array16 => (length(2)?, 0),
            Marker::Array32 => (length(4)?, 0),
            Marker::Map16 => (length(2)?.checked_mul(2)?, 0),
            Marker::Map32 => (length(4)?.checked_mul(2)?, 0),
            Marker::Str8 | Marker::Bin8 => (0, length(1)?),
            Marker::Str16 | Marker::Bin16 => (0, length(2)?),
            Marker::Str32 | Marker::Bin32 => (0, length(4)?),
            Marker::Ext8 => (0, length(1)? + 1),
            Marker::Ext16 => (0, length(2)? + 1),
            Marker::Ext32 => (0, length(4)? + 1),
            Marker::U8 | Marker::I8 => (0, 1),
            Marker::U16 | Marker::I16 | Marker::FixExt1 => (0, 2),
            Marker::FixExt2 => (0, 3),
            Marker::U32 | Marker::I32 | Marker::F32 => (0, 4),
            Marker::FixExt4 => (0, 5),
            Marker::U64 | Marker::I64 | Marker::F64 => (0, 8),
            Marker::FixExt8 => (0, 9),
            Marker::FixExt16 => (0, 17),
            Marker::Null
            | Marker::True
            | Marker::False
            | Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::Reserved => (0, 0),
        };
        missing = missing.checked_add(values)?;
        rest = rest.get(skipped..)?;
    }
    Some(count)
}

fn as_json(value: rmpv::Value) -> Json {
    use rmpv::Value;
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => value.into(),
        Value::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, number) => number.into(),
        },
        Value::F32(number) => float(number.into()),
        Value::F64(number) => float(number),
        Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => {
            json!({ "base64": BASE64_STANDARD.encode(bytes) })
        }
        Value::Array(items) => items.into_iter().map(as_json).collect(),
        Value::Map(pairs) => {
            let pairs = pairs
                .into_iter()
                .map(|(key, value)| (as_key(key), as_json(value)));
            Json::Object(pairs.collect())
        }
    }
}

fn as_key(key: rmpv::Value) -> String {
    match as_json(key) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn float(number: f64) -> Json {
    match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None => number.to_string().into(),
    }
}

/// About as many values as there are in JSON text: commas outside of strings. A value takes many times the memory of its
/// shortest text.
pub(super) fn count_of_json(text: &[u8]) -> usize {
    let (mut count, mut within, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = within,
            b'"' => within = !within,
            b',' if !within => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alone(packed: &[u8]) -> Json {
        unpacked(packed, &mut MOST_VALUES.clone())
    }

    #[test]
    fn what_json_cannot_say_is_said_in_words() {
        let packed = |value: rmpv::Value| {
            let mut packed = vec![];
            rmpv::encode::write_value(&mut packed, &value).expect("memory");
            alone(&packed)
        };
        assert_eq!(
            packed(rmpv::Value::Binary(b"hi".to_vec())),
            json!({"base64": "aGk="})
        );
        assert_eq!(packed(f64::NAN.into()), json!("NaN"));
        assert_eq!(packed(u64::MAX.into()), json!(u64::MAX));
        let map = rmpv::Value::Map(vec![(1.into(), true.into())]);
        assert_eq!(packed(map), json!({"1": true}));
        assert!(alone(b"\x92\x01")["unreadable"].is_string());
    }

    #[test]
    fn values_are_counted_before_they_are_made() {
        assert_eq!(count_of_json(br#"{"a,b": [1, 2, "x\\",\"]}"#), 4);
        let nested = rmp_serde::to_vec(&json!([1, [2.5, "three", null], {"k": [true]}]));
        assert_eq!(count_of_packed(&nested.expect("packed")), Some(10));
        assert_eq!(count_of_packed(b"\x92\x01"), None);
        let forged = [&[0xdd, 0, 0x20, 0, 0][..], &vec![0xc0; 2 << 20]].concat();
        assert!(alone(&forged)["unreadable"].is_string());
    }

    #[test]
    fn variables_share_one_bound() {
        let many = rmp_serde::to_vec(&vec![0; MOST_VALUES * 2 / 3]).expect("packed");
        let shown = values(&Values::from([
            ("a".to_owned(), many.clone().into()),
            ("b".to_owned(), many.into()),
            ("c".to_owned(), vec![7].into()),
        ]));
        assert!(shown["a"].is_array());
        assert!(shown["b"]["unreadable"].is_string());
        assert_eq!(shown["c"], 7);
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_session_make_it_panic(bytes: Vec<u8>) {
            let _shown_somehow = alone(&bytes);
        }

        #[test]
        fn json_comes_back_as_it_went_in(number in any::<i64>(), word in ".{0,20}") {
            let value = json!({"n": number, "list": [word, null, true, 0.5]});
            let packed = rmp_serde::to_vec(&value).expect("JSON can be packed");
            prop_assert_eq!(alone(&packed), value);
        }
    }
}
