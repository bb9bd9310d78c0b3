//! A file that lists others, a line each; read again when it changes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
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
    /// What was told last.
    told: Option<Content>,
}

/// What is in the file, or why it is not read.
type Content = Result<String, String>;

impl WatchedFile {
    pub fn new(path: PathBuf) -> WatchedFile {
        WatchedFile { path, told: None }
    }

    fn news(&self, content: &Content) -> News {
        let (finds, trouble) = match content {
            Ok(text) => {
                let News { finds, trouble } = read(text);
                (finds, trouble)
            }
            Err(error) => (Vec::new(), Some(error.clone())),
        };
        News { finds, trouble: trouble.map(|what| format!("{}: {what}", self.path.display())) }
    }
}

/// No more of the file than counts, and only if it is one: a pipe would be waited for.
fn content(path: &Path) -> Content {
    let plain = |error: io::Error| error.to_string();
    if !fs::metadata(path).map_err(plain)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(plain)?;
    file.take(limits::SOURCE_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(plain)?;
    if bytes.len() as u64 > limits::SOURCE_FILE_BYTES {
        return Err(format!("longer than the {} bytes that are read", limits::SOURCE_FILE_BYTES));
    }
    String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())
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
            let path = self.path.clone();
            // The runtime may be on its way down.
            if let Ok(content) = tokio::task::spawn_blocking(move || content(&path)).await
                && self.told.as_ref() != Some(&content)
            {
                let news = self.news(&content);
                self.told = Some(content);
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
        // As long as before, and most likely within the same moment.
        fs::write(&path, "10.0.0.2:1\n").unwrap();
        assert_eq!(addresses(&file.next().await), ["/ip4/10.0.0.2/tcp/1"]);
        fs::write(&path, [0xff; 3]).unwrap();
        assert!(file.next().await.trouble.unwrap().contains("it is no text"));
        fs::write(&path, "x".repeat(limits::SOURCE_FILE_BYTES as usize + 1)).unwrap();
        assert!(file.next().await.trouble.unwrap().contains("longer than"));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), directory.path(), Path::new("/dev/zero")] {
            assert_eq!(content(path), Err("it is no file".to_owned()), "{}", path.display());
        }
    }
}
