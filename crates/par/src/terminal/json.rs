//! JSON for people: indented, and otherwise letter for letter as it came, long numbers and order included.

/// Expects valid JSON.
pub(crate) fn indent(json: &str) -> String {
    let mut pretty = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut letters = json.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => {}
            '"' => copy_string(&mut letters, &mut pretty),
            '{' | '[' => {
                pretty.push(letter);
                depth += 1;
                if !matches!(
                    letters.as_str().trim_start().chars().next(),
                    Some('}' | ']')
                ) {
                    new_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !pretty.ends_with(['{', '[']) {
                    new_line(&mut pretty, depth);
                }
                pretty.push(letter);
            }
            ',' => {
                pretty.push(letter);
                new_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            other => pretty.push(other),
        }
    }
    pretty
}

/// On one line, with spaces where people expect them. Expects valid JSON.
pub(crate) fn spaced(json: &str) -> String {
    let mut line = String::with_capacity(json.len() * 2);
    let mut letters = json.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => {}
            '"' => copy_string(&mut letters, &mut line),
            ',' | ':' => line.extend([letter, ' ']),
            other => line.push(other),
        }
    }
    line
}

/// Copies a string whose opening quote has been read.
fn copy_string(letters: &mut std::str::Chars<'_>, pretty: &mut String) {
    pretty.push('"');
    while let Some(letter) = letters.next() {
        pretty.push(letter);
        match letter {
            '"' => return,
            '\\' => pretty.extend(letters.next()),
            _ => {}
        }
    }
}

fn new_line(pretty: &mut String, depth: usize) {
    pretty.push('\n');
    pretty.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn long_numbers_and_the_order_of_keys_are_kept() {
        let json = r#"{"z":1180591620717411303424,"a":[1.10, "x\"{[", {}]}"#;
        let pretty = "{\n  \"z\": 1180591620717411303424,\n  \"a\": [\n    1.10,\n    \"x\\\"{[\",\n    {}\n  ]\n}";
        assert_eq!(indent(json), pretty);
    }

    #[test]
    fn on_one_line_only_spaces_are_added() {
        let json = r#"{"z":118059162071741130342.4,"a":["x,\":y",{}]}"#;
        let line = r#"{"z": 118059162071741130342.4, "a": ["x,\":y", {}]}"#;
        assert_eq!(spaced(json), line);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_as_serde_json_writes_it(value in any_json()) {
            let expected = serde_json::to_string_pretty(&value).expect("it is JSON");
            prop_assert_eq!(indent(&value.to_string()), expected);
        }
    }
}
