//! Libraries that stand before the system's own functions, in one process.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Makes one of its C source, at that path.
pub fn make(path: PathBuf, source: &str) -> PathBuf {
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-x", "c", "-", "-o"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a C compiler, which links this test too");
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success());
    path
}
