//! Text that fits, and that cannot do anything to a terminal.

use std::borrow::Cow;

/// What agents and packages say may hold escape sequences; shown to a person, they are only characters.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::new(), |mut shown, c| {
        if acts(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    });
    Cow::Owned(escaped)
}

/// The beginning of `text` in at most `width` characters, with `…` for what is cut.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    let kept = text.chars().take(width.saturating_sub(1));
    Cow::Owned(kept.chain(['…']).take(width).collect())
}

/// Lines of at most `width` characters, broken between words where there are any.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    text.lines()
        .flat_map(|line| wrap_line(line, width.max(1)))
        .collect()
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut rest: Vec<char> = line.trim_end().chars().collect();
    while rest.len() > width {
        let space = rest[..=width].iter().rposition(|c| *c == ' ');
        let end = space.filter(|at| *at > 0).unwrap_or(width);
        let tail = rest.split_off(end);
        lines.push(rest.iter().collect::<String>().trim_end().to_owned());
        rest = tail.into_iter().skip_while(|c| *c == ' ').collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// `8s`, `3m 20s`, `5h 02m`, `12d 3h`
pub(crate) fn duration(seconds: f64) -> String {
    // Whole seconds of an uptime fit a `u64`; the cast saturates.
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86400, s % 86400 / 3600),
    }
}

/// `512 B`, `1.5 KB`, `14 MB`: powers of 1024, as people read memory.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KB", "MB", "GB", "TB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", units[unit])
}

/// `text` as one word of a shell.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./+@".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_obeyed() {
        assert_eq!(harmless("a\x1b[2Jb\tc\n"), "a\\u{1b}[2Jb\tc\n");
        assert_eq!(harmless("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn figures_are_short() {
        let times = [0.4, 59.9, 61.0, 3700.0, 90000.0].map(duration);
        assert_eq!(times, ["0s", "59s", "1m 01s", "1h 01m", "1d 1h"]);
        let sizes = [0, 1023, 1536, 14 << 20, 1 << 30, 1023 << 20].map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.5 KB", "14 MB", "1.0 GB", "1.0 GB"]
        );
    }

    #[test]
    fn a_shell_reads_one_word() {
        assert_eq!(shell_word("./a-b_1.apkg"), "./a-b_1.apkg");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn lines_break_between_words_and_long_words_break_anywhere() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("  File x\n\nend", 40), ["  File x", "", "end"]);
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_lose_no_letter(text in "[a-zä ]{0,200}", width in 1_usize..60) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let letters = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }

        #[test]
        fn cut_text_fits(text: String, width in 0_usize..40) {
            prop_assert!(cut(&text, width).chars().count() <= width);
        }
    }
}
