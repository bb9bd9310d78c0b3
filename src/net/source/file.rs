//! A file that lists others, a line each; read again when it changes.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use tokio::time::sleep;

use super::{News, Source};
use crate::types::limits;

/// Whether the file has changed is looked for this often.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Broken lines that are told by number.
const BROKEN_TOLD: usize = 4;

/// The file.
pub(super) struct WatchedFile {
    path: PathBuf,
    /// How it stood when it was told last.
    told: Option<State>,
}

/// By which a change is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    There { modified: Option<SystemTime>, bytes: u64 },
    Missing(String),
}

impl WatchedFile {
    pub fn new(path: PathBuf) -> WatchedFile {
        WatchedFile { path, told: None }
    }

    /// The state, and what is in the file if that is new.
    fn look(path: &PathBuf, told: Option<&State>) -> Option<(State, News)> {
        let state = match fs::metadata(path) {
            Ok(metadata) => State::There { modified: metadata.modified().ok(), bytes: metadata.len() },
            Err(error) => State::Missing(error.to_string()),
        };
        if told == Some(&state) {
            return None;
        }
        let trouble = |what: String| News { finds: Vec::new(), trouble: Some(format!("{}: {what}", path.display())) };
        let news = match &state {
            State::Missing(error) => trouble(error.clone()),
            State::There { bytes, .. } if *bytes > limits::SOURCE_FILE_BYTES => {
                trouble(format!("longer than the {} bytes that are read", limits::SOURCE_FILE_BYTES))
            }
            State::There { .. } => match fs::read_to_string(path) {
                Ok(text) => {
                    let News { finds, trouble } = read(&text);
                    News { finds, trouble: trouble.map(|what| format!("{}: {what}", path.display())) }
                }
                Err(error) => trouble(plain(&error)),
            },
        };
        Some((state, news))
    }
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "it is no text".to_owned(),
        _ => error.to_string(),
    }
}

/// What a file says; broken lines are passed over, and named.
fn read(text: &str) -> News {
    let (mut finds, mut broken) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().expect("there is a first part").trim();
        if line.is_empty() {
            continue;
        }
        match line.parse() {
            Ok(place) => finds.push(place),
            Err(_) => broken.push(number + 1),
        }
    }
    let numbers: Vec<String> = broken.iter().take(BROKEN_TOLD).map(usize::to_string).collect();
    let and = if broken.len() > BROKEN_TOLD { " and more" } else { "" };
    let trouble = (!broken.is_empty()).then(|| {
        format!(
            "no place to look for others in line {}{and}: a multiaddress or host:port is expected",
            numbers.join(", ")
        )
    });
    News { finds, trouble }
}

impl Source for WatchedFile {
    const NAME: &'static str = "file";

    async fn next(&mut self) -> News {
        loop {
            let (path, told) = (self.path.clone(), self.told.clone());
            let looked = tokio::task::spawn_blocking(move || WatchedFile::look(&path, told.as_ref())).await;
            // The runtime may be on its way down.
            if let Ok(Some((state, news))) = looked {
                self.told = Some(state);
                return news;
            }
            sleep(LOOK_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Place;

    fn addresses(news: &News) -> Vec<String> {
        news.finds.iter().map(Place::to_string).collect()
    }

    #[test]
    fn broken_lines_are_named_and_the_others_count() {
        let news = read("# others\n10.0.0.1:1\n\nnonsense\n  /ip4/10.0.0.2/tcp/2  # the second\n:\n");
        assert_eq!(addresses(&news), ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2"]);
        assert!(news.trouble.unwrap().contains("in line 4, 6:"));
        assert!(read(&"x\n".repeat(9)).trouble.unwrap().contains("line 1, 2, 3, 4 and more:"));
        assert_eq!(read(""), News::default());
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("others");
        let mut file = WatchedFile::new(path.clone());
        let news = file.next().await;
        assert!(news.finds.is_empty() && news.trouble.unwrap().contains("others: No such file"));
        fs::write(&path, "10.0.0.1:1\n").unwrap();
        assert_eq!(addresses(&file.next().await), ["/ip4/10.0.0.1/tcp/1"]);
        fs::write(&path, [0xff; 3]).unwrap();
        assert!(file.next().await.trouble.unwrap().contains("it is no text"));
        fs::write(&path, "x".repeat(limits::SOURCE_FILE_BYTES as usize + 1)).unwrap();
        assert!(file.next().await.trouble.unwrap().contains("longer than"));
    }
}
