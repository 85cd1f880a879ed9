//! Edits of the code that a session ran last.

/// One line is replaced, by as many as the new text has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineEdit {
    /// From 1, in the code as it was before all edits.
    pub(crate) line_number: i32,
    /// What has to be there; empty: anything.
    pub(crate) old_line: String,
    pub(crate) new_line: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("line {line}: the code has lines 1 to {lines}")]
    NoSuchLine { line: i32, lines: usize },
    #[error("line {line} is edited twice")]
    Twice { line: i32 },
    #[error("line {line} is `{found}`, not `{expected}`")]
    Different {
        line: i32,
        found: String,
        expected: String,
    },
}

pub(crate) fn apply(code: &str, edits: &[LineEdit]) -> Result<String, PatchError> {
    let before: Vec<&str> = code.lines().collect();
    let mut after: Vec<Option<&str>> = vec![None; before.len()];
    for edit in edits {
        let index = usize::try_from(edit.line_number)
            .ok()
            .and_then(|line| line.checked_sub(1));
        let Some((found, place)) =
            index.and_then(|index| before.get(index).zip(after.get_mut(index)))
        else {
            return Err(PatchError::NoSuchLine {
                line: edit.line_number,
                lines: before.len(),
            });
        };
        if !edit.old_line.is_empty() && edit.old_line.trim_end() != found.trim_end() {
            return Err(PatchError::Different {
                line: edit.line_number,
                found: shown(found),
                expected: shown(&edit.old_line),
            });
        }
        let new = edit.new_line.strip_suffix('\n').unwrap_or(&edit.new_line);
        if place.replace(new).is_some() {
            return Err(PatchError::Twice {
                line: edit.line_number,
            });
        }
    }
    let lines = before.iter().zip(&after);
    let lines: Vec<&str> = lines.map(|(old, new)| new.unwrap_or(old)).collect();
    Ok(lines.join("\n"))
}

fn shown(line: &str) -> String {
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edit(line_number: i32, old_line: &str, new_line: &str) -> LineEdit {
        LineEdit {
            line_number,
            old_line: old_line.to_owned(),
            new_line: new_line.to_owned(),
        }
    }

    #[test]
    fn lines_are_replaced_by_their_numbers_before_the_patch() {
        let edits = [edit(3, "c", "C"), edit(1, "", "a1\na2")];
        assert_eq!(apply("a\nb\nc\n", &edits), Ok("a1\na2\nb\nC".to_owned()));
    }

    #[test]
    fn an_edit_that_does_not_fit_is_refused_with_its_line() {
        let words = |edits: &[LineEdit]| apply("a\nb", edits).expect_err("refused").to_string();
        assert_eq!(
            words(&[edit(3, "", "x")]),
            "line 3: the code has lines 1 to 2"
        );
        assert_eq!(
            words(&[edit(0, "", "x")]),
            "line 0: the code has lines 1 to 2"
        );
        assert_eq!(
            words(&[edit(-1, "", "x")]),
            "line -1: the code has lines 1 to 2"
        );
        assert_eq!(words(&[edit(2, "c", "x")]), "line 2 is `b`, not `c`");
        assert_eq!(
            words(&[edit(2, "b", "x"), edit(2, "b", "y")]),
            "line 2 is edited twice"
        );
    }

    proptest! {
        #[test]
        fn no_edit_reaches_another_line(lines in prop::collection::vec("[a-z ]{0,6}", 1..8), at in 0_usize..8, new in "[A-Z]{1,5}") {
            let at = at % lines.len();
            let line = i32::try_from(at + 1).expect("few lines");
            let code = lines.join("\n");
            // A text that ends with an empty line has one line less.
            prop_assume!(at < code.lines().count());
            let patched = apply(&code, &[edit(line, "", &new)]).expect("it fits");
            let mut expected: Vec<&str> = code.lines().collect();
            expected[at] = &new;
            prop_assert_eq!(patched, expected.join("\n"));
        }
    }
}
