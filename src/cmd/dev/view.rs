//! What `dev` shows: a live table on a terminal, a line per change elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use serde_json::json;

use crate::cmd::group::member_process::MemberProcess;
use crate::cmd::group::poll::Standing;
use crate::cmd::output::{Output, print_line, table};

/// The view of a group.
pub struct View {
    form: Form,
    names: Vec<(String, String)>,
    last: Option<(Instant, Vec<Standing>)>,
    lines_shown: usize,
}

enum Form {
    LiveTable,
    TextLines,
    JsonLines,
}

impl View {
    /// Nothing is shown yet.
    pub fn new(output: Output, members: &[MemberProcess]) -> View {
        let form = match output {
            Output::Json => Form::JsonLines,
            Output::Text if std::io::stdout().is_terminal() => Form::LiveTable,
            Output::Text => Form::TextLines,
        };
        let name = |member: &MemberProcess| (member.name().to_owned(), member.settings().api.listen.to_string());
        View { form, names: members.iter().map(name).collect(), last: None, lines_shown: 0 }
    }

    /// Shows how the members stand now.
    pub fn show(&mut self, standings: Vec<Standing>) {
        match self.form {
            Form::LiveTable => self.show_table(&standings),
            Form::TextLines | Form::JsonLines => self.show_changes(&standings),
        }
        self.last = Some((Instant::now(), standings));
    }

    /// Leaves what is shown as it is.
    pub fn finish(&self) {
        if !matches!(self.form, Form::JsonLines) {
            print_line("stopping");
        }
    }

    fn show_table(&mut self, standings: &[Standing]) {
        let head = standings.iter().map(|standing| standing.delivered).max().unwrap_or(0);
        let row = |(index, standing): (usize, &Standing)| {
            let (name, api) = &self.names[index];
            [
                name.clone(),
                standing.state.clone(),
                standing.role.clone(),
                standing.delivered.to_string(),
                (head - standing.delivered).to_string(),
                self.rate(index, standing).map_or("-".to_owned(), |rate| format!("{rate:.0}")),
                format!("http://{api}"),
            ]
        };
        let heading = ["NAME", "STATE", "ROLE", "HEAD", "LAG", "RATE/S", "API"];
        let table = table(heading, standings.iter().enumerate().map(row));
        // Back to the first line of the table shown before, and everything below it cleared.
        let back = if self.lines_shown > 0 { format!("\x1b[{}A\x1b[J", self.lines_shown) } else { String::new() };
        self.lines_shown = table.lines().count();
        print_line(&format!("{back}{}", table.trim_end()));
    }

    /// Positions a second since the last look; none if the member did not answer then or now.
    fn rate(&self, index: usize, now: &Standing) -> Option<f64> {
        let (at, standings) = self.last.as_ref()?;
        let delivered = now.delivered.checked_sub(standings.get(index)?.delivered)?;
        Some(delivered as f64 / at.elapsed().as_secs_f64())
    }

    fn show_changes(&self, standings: &[Standing]) {
        for (index, standing) in standings.iter().enumerate() {
            let before = self.last.as_ref().and_then(|(_, standings)| standings.get(index));
            if before.is_some_and(|before| (&before.state, &before.role) == (&standing.state, &standing.role)) {
                continue;
            }
            let name = &self.names[index].0;
            let Standing { state, role, delivered } = standing;
            match self.form {
                Form::JsonLines => print_line(
                    &json!({ "name": name, "state": state, "role": role, "delivered": delivered }).to_string(),
                ),
                _ => print_line(&format!("{name}: {state}, {role}, delivered {delivered}")),
            }
        }
    }
}
