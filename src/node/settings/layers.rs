//! Where settings come from: the file, above it the environment, above it the flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::table::{self, CLUSTER_WIDE, FOREIGN_PREFIXES, OTHER_VARIABLES, SETTINGS, Setting, Shape, VARIABLE_PREFIX};

/// Who gave a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// One value as it was given, as text (a list separated by commas), and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The text.
    pub text: String,
    /// Who gave it.
    pub origin: Origin,
}

/// The value of every setting, and what was wrong with the sources.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, Given>,
    mistakes: Vec<String>,
}

impl Layers {
    /// Lays the sources over the defaults: file, then environment, then flags.
    ///
    /// `file` is the path and content of the configuration file, `flags` are (key, text).
    pub fn gather(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Layers {
        let mut layers = Layers::default();
        if let Some((path, content)) = file {
            layers.lay_file(path, content);
        }
        layers.lay_environment(environment);
        for (key, text) in flags {
            let setting = table::setting(key).expect("flags are made from the table");
            layers.lay(setting, text, Origin::Flag(setting.flag()));
        }
        layers
    }

    /// A value, the default if nobody gave one.
    pub fn value(&self, key: &'static str) -> Given {
        let default = table::setting(key).expect("only keys of the table are asked for").default;
        let given = || Given { text: default.to_owned(), origin: Origin::Default };
        self.values.get(key).cloned().unwrap_or_else(given)
    }

    /// What is wrong with the sources themselves: keys nobody knows, values of the wrong kind.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }

    fn lay(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        self.values.insert(setting.key, Given { text, origin });
    }

    fn lay_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in environment {
            if !name.starts_with(VARIABLE_PREFIX) {
                continue;
            }
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
                self.lay(setting, text, Origin::Variable(name));
            } else if !OTHER_VARIABLES.contains(&name.as_str())
                && !FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            {
                self.mistakes.push(format!(
                    "environment variable {name} is no setting; `synod config default` lists them, unset it"
                ));
            }
        }
    }

    fn lay_file(&mut self, path: &Path, content: &str) {
        let table: toml::Table = match content.parse() {
            Ok(table) => table,
            Err(error) => {
                self.mistakes.push(format!("{} is not TOML: {}", path.display(), error.to_string().trim_end()));
                return;
            }
        };
        for (key, value) in &table {
            match value {
                toml::Value::Table(section) if !is_known(key) && !CLUSTER_WIDE.contains(&key.as_str()) => {
                    for (name, value) in section {
                        self.lay_value(path, &format!("{key}.{name}"), value);
                    }
                }
                value => self.lay_value(path, key, value),
            }
        }
    }

    fn lay_value(&mut self, path: &Path, key: &str, value: &toml::Value) {
        let Some(setting) = table::setting(key) else {
            self.mistakes.push(unknown(path, key));
            return;
        };
        match text_of(setting.shape, value) {
            Some(text) => self.lay(setting, text, Origin::File(path.to_owned())),
            None => self.mistakes.push(format!(
                "{key} = {value} in {}: expected {}",
                path.display(),
                match setting.shape {
                    Shape::Text => "text in quotes",
                    Shape::List => "an array of texts in quotes",
                }
            )),
        }
    }
}

fn is_known(key: &str) -> bool {
    table::setting(key).is_some()
}

fn text_of(shape: Shape, value: &toml::Value) -> Option<String> {
    match (shape, value) {
        (Shape::Text, toml::Value::String(text)) => Some(text.clone()),
        (Shape::List, toml::Value::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

/// What to say about a key that no setting has: where it belongs, or which one was perhaps meant.
fn unknown(path: &Path, key: &str) -> String {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let file = path.display();
    if CLUSTER_WIDE.contains(&name) || CLUSTER_WIDE.contains(&section) {
        return format!("{key} in {file} is cluster-wide: it belongs in genesis.toml, the same on all members");
    }
    match SETTINGS.iter().find(|setting| setting.place().1 == name) {
        Some(meant) => format!("{key} in {file} is no setting; perhaps {} is meant", meant.key),
        None => format!("{key} in {file} is no setting; `synod config default` lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Layers {
        let own = |(name, text): &(&str, &str)| (name.to_string(), text.to_string());
        Layers::gather(
            Some((Path::new("synod.toml"), file)),
            environment.iter().map(own).collect::<Vec<_>>(),
            flags.iter().map(|(key, text)| (*key, text.to_string())).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let file = "[timing]\nheartbeat = \"10ms\"\nleader_timeout = \"100ms\"\norder_timeout = \"2s\"\n";
        let layers = gather(
            file,
            &[("SYNOD_TIMING_HEARTBEAT", "20ms"), ("SYNOD_TIMING_LEADER_TIMEOUT", "200ms"), ("HOME", "/")],
            &[("timing.heartbeat", "30ms")],
        );
        assert_eq!(layers.mistakes(), &[] as &[String]);
        let texts = ["timing.heartbeat", "timing.leader_timeout", "timing.order_timeout", "timing.timeout_max"]
            .map(|key| layers.value(key).text);
        assert_eq!(texts, ["30ms", "200ms", "2s", "5s"]);
        assert_eq!(layers.value("timing.heartbeat").origin, Origin::Flag("timing-heartbeat".into()));
    }

    #[test]
    fn every_unknown_key_is_told_with_its_place() {
        let file = "mesage = 1\nsegment_bytes = \"1MiB\"\nnonce = \"x\"\n[limits]\nmessage_bytes_max = 5\n\
                    [timing]\nheartbeat = 50\n[mesh]\nlisten = \"/ip4/1.2.3.4/tcp/1\"\n[nonsense]\na = 1\n";
        let layers = gather(file, &[("SYNOD_HEARTBEAT", "1s"), ("SYNOD_SERVICE_HOST", "10.0.0.1")], &[]);
        let mistakes = layers.mistakes().join("\n");
        for part in [
            "mesage in synod.toml is no setting",
            "perhaps wal.segment_bytes is meant",
            "nonce in synod.toml is cluster-wide",
            "limits in synod.toml is cluster-wide",
            "timing.heartbeat = 50 in synod.toml: expected text in quotes",
            "expected an array",
            "nonsense.a in synod.toml is no setting",
            "SYNOD_HEARTBEAT is no setting",
        ] {
            assert!(mistakes.contains(part), "{part} is missing in\n{mistakes}");
        }
        assert_eq!(layers.mistakes().len(), 8, "{mistakes}");
    }

    #[test]
    fn a_file_that_is_not_toml_is_told_with_the_line() {
        let layers = gather("data_dir = ", &[], &[]);
        assert!(layers.mistakes()[0].contains("line 1"), "{:?}", layers.mistakes());
    }
}
