use unicode_width::UnicodeWidthStr as _;

use super::visible;

/// A field of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    /// The terminal's code for its colour; empty for none.
    style: &'static str,
}

impl Cell {
    /// A field in a colour.
    pub(crate) fn colored(text: impl Into<String>, style: &'static str) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: "" }
    }
}

/// Rows of fields under one line of headings.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) const fn new(headings: &'static [&'static str]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row, with as many fields as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.headings.len(), "a field for each heading");
        self.rows.push(cells);
    }

    /// Fields in columns, for people.
    pub(crate) fn aligned(&self, color: bool) -> String {
        let heading = |text: &&'static str| Cell { text: (*text).to_owned(), style: "1" };
        let mut rows = vec![self.headings.iter().map(heading).collect::<Vec<_>>()];
        rows.extend(self.rows.iter().cloned());
        for cell in rows.iter_mut().flatten() {
            cell.text = visible(&cell.text);
        }
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|c| c.text.width()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = widths.get(at).map_or(0, |width| width - cell.text.width());
                if color && !cell.style.is_empty() {
                    line.extend(["\x1b[", cell.style, "m", &cell.text, "\x1b[0m"]);
                } else {
                    line.push_str(&cell.text);
                }
                line.push_str(&" ".repeat(pad + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Fields with tabs between them and no headings, for programs.
    pub(crate) fn tabbed(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let fields: Vec<String> = row.iter().map(|cell| visible(&cell.text)).collect();
            text.push_str(&fields.join("\t"));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["KEY", "STATE"]);
        table.row(vec!["a".into(), Cell::colored("placed", "32")]);
        table.row(vec!["日本".into(), "x\ty".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        assert_eq!(sample().aligned(false), "KEY   STATE\na     placed\n日本  x\\u{9}y\n");
        assert!(sample().aligned(true).contains("\x1b[32mplaced\x1b[0m"));
    }

    #[test]
    fn programs_get_tabs_and_no_headings_or_colours() {
        assert_eq!(sample().tabbed(), "a\tplaced\n日本\tx\\u{9}y\n");
    }
}
