//! Tables of text, for a terminal or for a document.

use std::iter;

#[derive(Clone, Copy)]
pub(crate) enum Style {
    Plain,
    Markdown,
}

#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// Of all columns but the first, which begins at the left.
    pub(crate) cells: Align,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Ends with a newline.
    pub(crate) fn render(&self, style: Style) -> String {
        let header: Vec<String> = self.columns.iter().map(|&name| name.to_owned()).collect();
        let widths = self.widths();
        let line = |row: &[String]| {
            let cells = self.aligned(row, &widths);
            match style {
                Style::Plain => cells.join("  ").trim_end().to_owned(),
                Style::Markdown => format!("| {} |", cells.join(" | ")),
            }
        };
        let mut lines = match style {
            Style::Plain => vec![self.title.to_uppercase(), line(&header)],
            Style::Markdown => vec![
                format!("### {}\n", self.title),
                line(&header),
                line(&self.rule(&widths)),
            ],
        };
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n") + "\n"
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(column, name): (usize, &&str)| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widths = cells.map(|cell| cell.chars().count());
            widths.chain([name.chars().count(), 3]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    fn aligned(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let cells = row.iter().map(String::as_str).chain(iter::repeat(""));
        let columns = cells.zip(widths).enumerate();
        let align = |(column, (cell, &width))| match self.align(column) {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        };
        columns.map(align).collect()
    }

    /// What Markdown has between header and rows.
    fn rule(&self, widths: &[usize]) -> Vec<String> {
        let columns = widths.iter().enumerate();
        let rule = |(column, &width): (usize, &usize)| match self.align(column) {
            Align::Left => "-".repeat(width),
            Align::Right => "-".repeat(width - 1) + ":",
        };
        columns.map(rule).collect()
    }

    fn align(&self, column: usize) -> Align {
        match column {
            0 => Align::Left,
            _ => self.cells,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        Table {
            title: "Speed",
            cells: Align::Right,
            columns: vec!["who", "calls/s"],
            rows: vec![row("worker", "20,000"), vec!["nginx ÷ x".to_owned()]],
        }
    }

    #[test]
    fn columns_stand_below_each_other_on_a_terminal() {
        let text = table().render(Style::Plain);
        assert_eq!(
            text,
            "SPEED\nwho        calls/s\nworker      20,000\nnginx ÷ x\n"
        );
    }

    #[test]
    fn a_document_gets_a_markdown_table() {
        let text = table().render(Style::Markdown);
        let expected = "### Speed\n\n\
            | who       | calls/s |\n\
            | --------- | ------: |\n\
            | worker    |  20,000 |\n\
            | nginx ÷ x |         |\n";
        assert_eq!(text, expected);
    }
}
