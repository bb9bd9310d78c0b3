//! Writes `synod.toml` with every setting, its meaning as a comment, and its default as a commented line.

use std::fmt::Write;

use toml::Value;

use super::settings::table::{SETTINGS, Setting, Shape};

/// Comments are broken at this column.
const COLUMN: usize = 110;

/// The file, with these values set: (key, text; a list separated by commas).
pub fn write(values: &[(&str, String)]) -> String {
    let mut text = String::from(
        "# Settings of one member. Each may also be given as a variable (wal.segment_bytes: SYNOD_WAL_SEGMENT_BYTES)\n\
         # or a flag (--wal-segment-bytes): flags win over variables, variables over this file.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (place, name) = setting.place();
        if place != section {
            write!(text, "\n[{place}]").expect("writing to a String cannot fail");
            section = place;
        }
        let given = values.iter().find(|(key, _)| *key == setting.key);
        let line = match given {
            Some((_, value)) => format!("{name} = {}", literal(setting, value)),
            None => format!("# {name} = {}", literal(setting, setting.default)),
        };
        write!(text, "\n{}{line}\n", comment(setting.meaning)).expect("writing to a String cannot fail");
    }
    text
}

fn literal(setting: &Setting, text: &str) -> Value {
    match setting.shape {
        Shape::Text => Value::from(text),
        Shape::List => Value::from(text.split(',').filter(|item| !item.is_empty()).collect::<Vec<_>>()),
    }
}

fn comment(meaning: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in meaning.split_whitespace() {
        if lines.last().expect("there is one").len() + 1 + word.len() > COLUMN {
            lines.push(String::from("#"));
        }
        let line = lines.last_mut().expect("there is one");
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::node::settings::Settings;
    use crate::node::settings::layers::Layers;

    fn read(content: &str) -> Settings {
        let layers = Layers::gather(Some((Path::new("synod.toml"), content)), [], []);
        Settings::from_layers(&layers, Path::new("")).unwrap()
    }

    #[test]
    fn the_written_file_reads_as_the_defaults() {
        assert_eq!(read(&write(&[])), read(""));
    }

    #[test]
    fn the_file_in_the_repository_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/synod.toml");
        let stored = std::fs::read_to_string(path).unwrap();
        assert_eq!(stored, write(&[]), "renew it: synod config default > config/synod.toml");
    }

    #[test]
    fn every_line_can_be_uncommented() {
        let listens = "/ip4/127.0.0.1/tcp/7271,/ip4/10.0.0.1/tcp/7271".to_owned();
        let written = write(&[("mesh.listen", listens), ("data_dir", "d\"q".to_owned())]);
        assert_eq!(read(&written).mesh_listen.len(), 2);
        let uncommented: String = written
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => {
                    format!("{setting}\n").replace("socket = \"\"", "").replace("token_file = \"\"", "")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(read(&uncommented), read(&written));
    }
}
