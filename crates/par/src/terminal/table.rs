//! Tables that fit the screen: long cells are cut first, then the columns that matter least are left out.

use super::text::{cut, harmless, wrap};
use super::{Screen, Style};

const GAP: usize = 2;

pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Numbers stand at the right.
    pub(crate) right: bool,
    /// A narrow screen may cut the cells down to this width; `None` keeps them whole.
    pub(crate) least: Option<usize>,
    /// Who is left out first on a narrow screen: the largest; zero stays.
    pub(crate) dispensable: u8,
}

pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, style: Style) -> Self {
        let text = harmless(&text.into()).into_owned();
        Self { text, style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Style::Plain)
    }
}

pub(crate) struct Row {
    cells: Vec<Cell>,
    below: Vec<Cell>,
}

impl Row {
    /// A cell for each column, and text below the row, wrapped and indented.
    pub(crate) fn new(cells: Vec<Cell>, below: Vec<Cell>) -> Self {
        let on_one_line = |mut cell: Cell| {
            cell.text = cell.text.replace(['\n', '\t'], " ");
            cell
        };
        let cells = cells.into_iter().map(on_one_line).collect();
        Self { cells, below }
    }
}

pub(crate) struct Table<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) rows: Vec<Row>,
}

impl Table<'_> {
    pub(crate) fn render(&self, screen: Screen) -> String {
        let shown = self.layout(screen.width.unwrap_or(usize::MAX));
        let titles = shown.iter().map(|(index, width)| {
            let column = &self.columns[*index];
            (pad(column.title, *width, column.right), Style::Faint)
        });
        let mut lines = vec![line(titles, screen)];
        for row in &self.rows {
            let cells = shown.iter().map(|(index, width)| {
                let cell = &row.cells[*index];
                (
                    pad(&cell.text, *width, self.columns[*index].right),
                    cell.style,
                )
            });
            lines.push(line(cells, screen));
            lines.extend(row.below.iter().flat_map(|cell| below(cell, screen)));
        }
        lines.join("\n")
    }

    /// The columns that are shown, by index, and their widths.
    fn layout(&self, screen: usize) -> Vec<(usize, usize)> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        loop {
            let layout = self.shrink(&shown, screen);
            if total(&layout) <= screen {
                return layout;
            }
            let dispensable = |index: &usize| self.columns[*index].dispensable;
            let victim = shown.iter().copied().max_by_key(dispensable);
            match victim.filter(|index| dispensable(index) > 0) {
                Some(victim) => shown.retain(|index| *index != victim),
                None => return layout,
            }
        }
    }

    /// Natural widths, the widest cuttable column cut until all fit or none can give more.
    fn shrink(&self, shown: &[usize], screen: usize) -> Vec<(usize, usize)> {
        let natural = |index: &usize| (*index, self.natural_width(*index));
        let mut layout: Vec<(usize, usize)> = shown.iter().map(natural).collect();
        while total(&layout) > screen {
            let can_give = |(index, width): &&mut (usize, usize)| {
                self.columns[*index]
                    .least
                    .is_some_and(|least| *width > least)
            };
            let widest = layout
                .iter_mut()
                .filter(can_give)
                .max_by_key(|(_, width)| *width);
            match widest {
                Some((_, width)) => *width -= 1,
                None => break,
            }
        }
        layout
    }

    fn natural_width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| row.cells[index].text.as_str());
        cells
            .chain([self.columns[index].title])
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    }
}

fn total(layout: &[(usize, usize)]) -> usize {
    let cells: usize = layout.iter().map(|(_, width)| width).sum();
    cells + GAP * layout.len().saturating_sub(1)
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let text = cut(text, width);
    if right {
        format!("{text:>width$}")
    } else {
        format!("{text:<width$}")
    }
}

fn line(cells: impl Iterator<Item = (String, Style)>, screen: Screen) -> String {
    let mut cells: Vec<(String, Style)> = cells.collect();
    if let Some((last, _)) = cells.last_mut() {
        last.truncate(last.trim_end().len());
    }
    let painted: Vec<String> = cells
        .into_iter()
        .map(|(text, style)| style.paint(&text, screen.colours))
        .collect();
    painted.join(&" ".repeat(GAP))
}

fn below(cell: &Cell, screen: Screen) -> Vec<String> {
    let width = screen.width.unwrap_or(usize::MAX).saturating_sub(GAP);
    wrap(&cell.text, width)
        .iter()
        .map(|text| {
            format!(
                "{}{}",
                " ".repeat(GAP),
                cell.style.paint(text, screen.colours)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "AGENT",
            right: false,
            least: Some(5),
            dispensable: 0,
        },
        Column {
            title: "PORT",
            right: true,
            least: None,
            dispensable: 1,
        },
        Column {
            title: "PACKAGE",
            right: false,
            least: Some(7),
            dispensable: 2,
        },
    ];

    fn table(agent: &str, package: &str) -> Table<'static> {
        let cells = vec![agent.into(), "8001".into(), package.into()];
        let row = Row::new(cells, vec!["the reason of it".into()]);
        Table {
            columns: &COLUMNS,
            rows: vec![row],
        }
    }

    fn rendered(width: Option<usize>) -> String {
        table("weather", "weather-forecast@0.1.0").render(Screen {
            width,
            colours: false,
        })
    }

    #[test]
    fn a_pipe_gets_every_column_whole() {
        let expected =
            "AGENT    PORT  PACKAGE\nweather  8001  weather-forecast@0.1.0\n  the reason of it";
        assert_eq!(rendered(None), expected);
    }

    #[test]
    fn a_narrow_screen_cuts_cells_before_it_loses_columns() {
        assert_eq!(
            rendered(Some(24)),
            "AGENT    PORT  PACKAGE\nweather  8001  weather-…\n  the reason of it"
        );
        assert_eq!(
            rendered(Some(14)),
            "AGENT    PORT\nweather  8001\n  the reason\n  of it"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(agent in "[a-z-]{1,63}", package in "\\PC{0,80}", width in 8_usize..120) {
            let screen = Screen { width: Some(width), colours: false };
            let text = table(&agent, &package).render(screen);
            prop_assert!(text.lines().all(|line| line.chars().count() <= width), "{}", text);
        }
    }
}
