//! When what has been typed is code to run: once no bracket, no triple-quoted string and no `\` is open, and no block.
//! A block begins with a line that ends with `:` or with a decorator. It goes on while lines are indented, and ends
//! with an empty line, or with one that is not indented.

/// Whether more lines belong to `text`, which is one line or several.
pub(super) fn goes_on(text: &str) -> bool {
    let mut scan = Scan::default();
    for line in text.split('\n') {
        scan.line(line);
    }
    scan.is_open()
}

#[derive(Default)]
struct Scan {
    brackets: usize,
    /// The quote of a triple-quoted string that is open.
    string: Option<char>,
    /// The last line ended with `\`.
    joined: bool,
    /// The last line was empty.
    empty: bool,
    /// The last one that says something; lines held together by a bracket, a string or `\` are one.
    statement: Option<Statement>,
}

struct Statement {
    indented: bool,
    decorator: bool,
    /// Its last letter.
    last: char,
}

impl Scan {
    fn is_open(&self) -> bool {
        let within = self.brackets > 0 || self.string.is_some() || self.joined;
        let in_block = |statement: &Statement| {
            statement.indented || statement.decorator || statement.last == ':'
        };
        within || !self.empty && self.statement.as_ref().is_some_and(in_block)
    }

    fn line(&mut self, line: &str) {
        let mut begins = self.brackets == 0 && self.string.is_none() && !self.joined;
        self.empty = line.trim().is_empty();
        self.joined = false;
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            if let Some(quote) = self.string {
                rest = self.within_string(rest, quote);
                continue;
            }
            if letter == '#' {
                return;
            }
            if !letter.is_whitespace() {
                self.says(letter, line, begins);
                begins = false;
            }
            rest = self.within_code(rest, letter);
        }
    }

    fn says(&mut self, letter: char, line: &str, begins: bool) {
        match &mut self.statement {
            Some(statement) if !begins => statement.last = letter,
            statement => {
                *statement = Some(Statement {
                    indented: line.starts_with([' ', '\t']),
                    decorator: letter == '@',
                    last: letter,
                });
            }
        }
    }

    /// What follows the beginning of `rest`, which is `letter`, or a string.
    fn within_code<'a>(&mut self, rest: &'a str, letter: char) -> &'a str {
        let after = &rest[letter.len_utf8()..];
        match letter {
            '(' | '[' | '{' => self.brackets += 1,
            ')' | ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
            '\\' => self.joined = after.is_empty(),
            '"' | '\'' => {
                if let Some(after) = rest.strip_prefix(triple(letter)) {
                    self.string = Some(letter);
                    return after;
                }
                return after_short_string(after, letter);
            }
            _ => {}
        }
        after
    }

    fn within_string<'a>(&mut self, rest: &'a str, quote: char) -> &'a str {
        if let Some(after) = rest.strip_prefix(triple(quote)) {
            self.string = None;
            return after;
        }
        after_letter(rest)
    }
}

fn triple(quote: char) -> &'static str {
    if quote == '"' { "\"\"\"" } else { "'''" }
}

/// A string of one line ends with its line, whether it is complete or not: Python will say so.
fn after_short_string(mut rest: &str, quote: char) -> &str {
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(quote) {
            return after;
        }
        rest = after_letter(rest);
    }
    rest
}

/// A letter of a string; what stands after a `\` belongs to it.
fn after_letter(rest: &str) -> &str {
    let mut letters = rest.chars();
    if letters.next() == Some('\\') {
        letters.next();
    }
    letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn code_that_is_whole_runs_at_once() {
        for code in [
            "",
            "   ",
            "x = 1",
            "print('(', \"[\")",
            "# only words:",
            "x = 1  # if y:",
            "f(\n    1,\n)",
            "f(\n    1)",
            "x = '''a\n  b'''",
            "x = 1 + \\\n    2",
            "'abc",
            "'it\\'s ('",
            "x = {1: 2}",
            "if x: print(1)",
            "def f():\n    return 1\nx = f()",
            ")",
        ] {
            assert!(!goes_on(code), "{code:?}");
        }
    }

    #[test]
    fn what_is_open_goes_on() {
        for code in [
            "def f():",
            "for x in y:  # all of them",
            "if x:\n    print(1)",
            "if x:\n    print(1)\nelse:",
            "if x:\n    f(\n        1\n    )",
            "if x:\n    print(1)\n# words",
            "@decorated",
            "@decorated(1)",
            "f(",
            "f(1, [2,",
            "f(\n\n",
            "x = '''a",
            "x = \"\"\"a\n\n'''",
            "x = 1 + \\",
            "class A:\n    \"\"\"Words.\"\"\"",
        ] {
            assert!(goes_on(code), "{code:?}");
        }
    }

    #[test]
    fn an_empty_line_ends_a_block_and_nothing_else() {
        for (code, open) in [
            ("def f():\n    return 1\n", false),
            ("def f():\n    return 1\n    ", false),
            ("@decorated\ndef f():\n    pass\n", false),
            ("def f(:\n", true),
            ("x = '''\n", true),
            ("x = 1 + \\\n", false),
        ] {
            assert_eq!(goes_on(code), open, "{code:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_can_be_ended(code in "([(){}:@#'\" \\\\\n]|[a-cäé]){0,40}") {
            let closers = ["", "\n'''\n", "\n\"\"\"\n"];
            let brackets = ")".repeat(code.len());
            let ended = closers.iter().any(|closer| !goes_on(&format!("{code}{closer}\n{brackets}\n\n")));
            prop_assert!(ended, "{code:?}");
        }
    }
}
