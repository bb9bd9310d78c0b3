//! How `dev add` and `dev remove` speak to the `dev` that runs: over a Unix socket in the group's directory, one line of JSON
//! there and one back. What takes time (an invite, a leave) the commands do themselves; `dev` only starts a process, or
//! forgets one that has ended, so its own loop never waits for anybody.
//!
//! ```text
//! request = { "add": { "code": join code } }   answer = { "name": …, "api": …, "config": … }
//!         | { "forget": { "name": … } }               | { "error": text }
//! ```

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::cmd::exit::Failure;

/// Name of the socket in the group's directory.
const SOCKET: &str = "dev.sock";
/// Longest request or answer.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// From the connection to the end of the request, and from the request to its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that wait for the loop; further ones wait in the system's queue.
const WAITING_MAX: usize = 4;

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// Start a further member, which joins by this code.
    Add {
        /// The join code.
        code: String,
    },
    /// Forget a member that has left and ended, and remove its folder.
    Forget {
        /// Its name.
        name: String,
    },
}

/// A wish, and where its answer goes.
pub type Asked = (Wish, oneshot::Sender<Result<Value, String>>);

/// The socket of a `dev` that runs; its file goes when this is dropped.
pub struct Control {
    path: PathBuf,
    wishes: mpsc::Receiver<Asked>,
}

/// The socket's file in a group's directory.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}

impl Control {
    /// Listens in a directory that this process has locked.
    pub fn listen(directory: &Path) -> io::Result<Control> {
        let path = path(directory);
        // What is there is of a process that was killed: nobody else has the directory.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let (sender, wishes) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One at a time. Who says nothing in time is not answered, and the next one is served.
                let _ = timeout(PATIENCE, serve(stream, &sender)).await;
            }
        });
        Ok(Control { path, wishes })
    }

    /// The next wish; the loop answers it.
    pub async fn next(&mut self) -> Asked {
        match self.wishes.recv().await {
            Some(asked) => asked,
            // Nobody listens any more; the group goes on as it is.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What stays is removed by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(stream: UnixStream, wishes: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Wish>(&line) {
        Ok(wish) => {
            let (sender, answer) = oneshot::channel();
            let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            wishes.send((wish, sender)).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            answer.await.map_err(closed)?
        }
        Err(error) => Err(format!("not a request to `synod dev`: {error}")),
    };
    let answer = answer.unwrap_or_else(|error| json!({ "error": error }));
    writer.write_all(format!("{answer}\n").as_bytes()).await
}

/// Asks the `dev` of a directory.
pub async fn ask(directory: &Path, wish: &Wish) -> Result<Value, Failure> {
    let path = path(directory);
    let exchange = async {
        let (reader, mut writer) = UnixStream::connect(&path).await?.into_split();
        let wish = serde_json::to_string(wish).map_err(io::Error::other)?;
        writer.write_all(format!("{wish}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(reader.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
        serde_json::from_str::<Value>(&line).map_err(io::Error::other)
    };
    let no_answer = || Failure::failed(format!("`synod dev` does not answer at {}", path.display()));
    let answer = timeout(2 * PATIENCE, exchange).await.map_err(|_| no_answer())?;
    let answer = answer.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    match answer["error"].as_str() {
        Some(error) => Err(Failure::failed(error)),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_asked_and_answered() {
        let directory = tempfile::tempdir().unwrap();
        let mut control = Control::listen(directory.path()).unwrap();
        let wish = Wish::Forget { name: "n4".to_owned() };
        let answering = async {
            let (asked, answer) = control.next().await;
            assert_eq!(asked, wish);
            answer.send(Ok(json!({ "name": "n4" }))).unwrap();
            let (_, answer) = control.next().await;
            answer.send(Err("n4 still runs".to_owned())).unwrap();
        };
        let asking = async {
            assert_eq!(ask(directory.path(), &wish).await.unwrap()["name"], "n4");
            assert_eq!(ask(directory.path(), &wish).await.unwrap_err().message, "n4 still runs");
        };
        tokio::join!(answering, asking);
        let mut stream = UnixStream::connect(path(directory.path())).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("not a request"), "{answer}");
        drop(control);
        assert!(!path(directory.path()).exists());
    }
}
