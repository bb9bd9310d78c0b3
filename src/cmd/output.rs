//! How commands speak: tables and lines for people, one JSON document for scripts.

use serde_json::Value;

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document (or one a line, where the output has no end).
    Json,
}

impl Output {
    /// Prints the result: the document, or what `text` makes of it.
    pub fn print(self, document: &Value, text: impl FnOnce() -> String) {
        match self {
            Output::Json => print_line(&document.to_string()),
            Output::Text => print_line(text().trim_end()),
        }
    }
}

/// Prints a line. Whoever reads may have gone (`synod tail | head`): then the process ends quietly.
pub fn print_line(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Columns of equal width, the first row being the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["NAME", "ROLE"], ["n1", "leader"], ["northern", "x"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| cell.to_string()).collect()).collect();
        assert_eq!(table(&rows), "NAME      ROLE\nn1        leader\nnorthern  x\n");
    }
}
