//! Environment markers, such as `python_version < "3.11" and sys_platform != "win32"`.

const VARIABLES: [&str; 12] = [
    "extra",
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
];

/// Parentheses inside each other.
const DEEPEST: usize = 16;

/// The marker with single spaces and double quotes; `None` if it is none.
pub(super) fn normalised(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let mut rest = &tokens[..];
    any_of(&mut rest, DEEPEST)?;
    if !rest.is_empty() {
        return None;
    }
    let words: Vec<String> = tokens.iter().map(Token::to_string).collect();
    Some(words.join(" "))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Comparison(&'a str),
    Open,
    Close,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) | Self::Comparison(word) => f.write_str(word),
            Self::Text(text) if text.contains('"') => write!(f, "'{text}'"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Open => f.write_str("("),
            Self::Close => f.write_str(")"),
        }
    }
}

fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    const COMPARISONS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];
    let mut tokens = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if let Some(operator) = COMPARISONS
            .iter()
            .find(|operator| rest.starts_with(**operator))
        {
            (Token::Comparison(operator), operator.len())
        } else {
            match first {
                '(' => (Token::Open, 1),
                ')' => (Token::Close, 1),
                '"' | '\'' => {
                    let (inside, _) = rest[1..].split_once(first)?;
                    // Comments, variables and continuations would mean something to the installer.
                    if inside.contains(|c: char| c.is_control() || matches!(c, '#' | '$' | '\\')) {
                        return None;
                    }
                    (Token::Text(inside), inside.len() + 2)
                }
                _ => {
                    let end = rest
                        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(rest.len());
                    (Token::Word(&rest[..end]), end)
                }
            }
        };
        if length == 0 {
            return None;
        }
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// `or` binds less than `and`; for what is accepted, the difference does not matter.
fn any_of(rest: &mut &[Token<'_>], depth: usize) -> Option<()> {
    loop {
        term(rest, depth)?;
        match rest {
            [Token::Word("and" | "or"), after @ ..] => *rest = after,
            _ => return Some(()),
        }
    }
}

fn term(rest: &mut &[Token<'_>], depth: usize) -> Option<()> {
    if let [Token::Open, after @ ..] = rest {
        *rest = after;
        any_of(rest, depth.checked_sub(1)?)?;
        let [Token::Close, after @ ..] = rest else {
            return None;
        };
        *rest = after;
        return Some(());
    }
    value(rest)?;
    match rest {
        [Token::Comparison(_) | Token::Word("in"), after @ ..] => *rest = after,
        [Token::Word("not"), Token::Word("in"), after @ ..] => *rest = after,
        _ => return None,
    }
    value(rest)
}

fn value(rest: &mut &[Token<'_>]) -> Option<()> {
    match rest {
        [Token::Text(_), after @ ..] => *rest = after,
        [Token::Word(word), after @ ..] if VARIABLES.contains(word) => *rest = after,
        _ => return None,
    }
    Some(())
}
