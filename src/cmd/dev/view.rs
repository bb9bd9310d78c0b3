//! What `dev` shows: a live table on a terminal, a line per change elsewhere.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;

use crate::cmd::group::poll::Standing;
use crate::cmd::output::{Output, print_line, table};

/// The view of a group.
pub struct View {
    form: Form,
    last: Option<(Instant, Vec<Row>)>,
    lines_shown: usize,
}

/// One member.
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its API.
    pub api: SocketAddr,
    /// How it stands.
    pub standing: Standing,
}

enum Form {
    LiveTable,
    TextLines,
    JsonLines,
}

impl View {
    /// Nothing is shown yet.
    pub fn new(output: Output) -> View {
        let form = match output {
            Output::Json => Form::JsonLines,
            Output::Text if std::io::stdout().is_terminal() => Form::LiveTable,
            Output::Text => Form::TextLines,
        };
        View { form, last: None, lines_shown: 0 }
    }

    /// Shows how the members stand now.
    pub fn show(&mut self, rows: Vec<Row>) {
        match self.form {
            Form::LiveTable => self.show_table(&rows),
            Form::TextLines | Form::JsonLines => self.show_changes(&rows),
        }
        self.last = Some((Instant::now(), rows));
    }

    /// Leaves what is shown as it is.
    pub fn finish(&self) {
        if !matches!(self.form, Form::JsonLines) {
            print_line("stopping");
        }
    }

    fn show_table(&mut self, rows: &[Row]) {
        let head = rows.iter().map(|row| row.standing.delivered).max().unwrap_or(0);
        let line = |row: &Row| {
            [
                row.name.clone(),
                row.standing.state.clone(),
                row.standing.role.clone(),
                row.standing.delivered.to_string(),
                (head - row.standing.delivered).to_string(),
                self.rate(row).map_or("-".to_owned(), |rate| format!("{rate:.0}")),
                format!("http://{}", row.api),
            ]
        };
        let heading = ["NAME", "STATE", "ROLE", "HEAD", "LAG", "RATE/S", "API"];
        let table = table(heading, rows.iter().map(line));
        // Back to the first line of the table shown before, and everything below it cleared.
        let back = if self.lines_shown > 0 { format!("\x1b[{}A\x1b[J", self.lines_shown) } else { String::new() };
        self.lines_shown = table.lines().count();
        print_line(&format!("{back}{}", table.trim_end()));
    }

    /// What was shown of a member at the last look.
    fn before(&self, name: &str) -> Option<&Standing> {
        let (_, rows) = self.last.as_ref()?;
        rows.iter().find(|row| row.name == name).map(|row| &row.standing)
    }

    /// Positions a second since the last look; none if the member did not answer then or now.
    fn rate(&self, row: &Row) -> Option<f64> {
        let (at, _) = self.last.as_ref()?;
        let delivered = row.standing.delivered.checked_sub(self.before(&row.name)?.delivered)?;
        Some(delivered as f64 / at.elapsed().as_secs_f64())
    }

    fn show_changes(&self, rows: &[Row]) {
        for Row { name, standing, .. } in rows {
            let Standing { state, role, delivered } = standing;
            if self.before(name).is_some_and(|before| (&before.state, &before.role) == (state, role)) {
                continue;
            }
            match self.form {
                Form::JsonLines => print_line(
                    &json!({ "name": name, "state": state, "role": role, "delivered": delivered }).to_string(),
                ),
                _ => print_line(&format!("{name}: {state}, {role}, delivered {delivered}")),
            }
        }
        let gone = self.last.iter().flat_map(|(_, rows)| rows).map(|row| &row.name);
        for name in gone.filter(|name| rows.iter().all(|row| row.name != **name)) {
            match self.form {
                Form::JsonLines => print_line(&json!({ "name": name, "state": "removed" }).to_string()),
                _ => print_line(&format!("{name}: removed")),
            }
        }
    }
}
