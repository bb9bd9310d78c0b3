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

/// What long work says of itself to people, on standard error: a line for each change.
pub struct Progress {
    output: Output,
    last: String,
}

impl Progress {
    /// Nothing is said yet; scripts are told nothing.
    pub fn new(output: Output) -> Progress {
        Progress { output, last: String::new() }
    }

    /// Says what is waited for, if that is something new.
    pub fn tell(&mut self, waits_for: &str) {
        if self.output == Output::Text && !waits_for.is_empty() && waits_for != self.last {
            eprintln!("waiting for: {waits_for}");
            self.last = waits_for.to_owned();
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

/// Columns of equal width, one for each word of the heading. Every row has as many cells.
pub fn table<const COLUMNS: usize>(
    heading: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    columns(std::iter::once(heading.map(str::to_owned)).chain(rows).map(Vec::from).collect())
}

/// The same, where only the rows tell how many columns there are; the first row is the heading.
pub fn columns(rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..).map_while(width).collect();
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
        let rows = [["n1", "leader"], ["northern", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["NAME", "ROLE"], rows), "NAME      ROLE\nn1        leader\nnorthern  x\n");
        assert_eq!(table(["NAME", "ROLE"], []), "NAME  ROLE\n");
    }
}
