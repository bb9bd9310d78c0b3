//! A disk that does not answer while it is told to: every sync of whoever runs on it waits.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::program;

/// Stands before the system's own `fdatasync`.
const SYNC: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int file) {
    while (access(getenv("HANGS_WHILE"), F_OK) == 0) usleep(10000);
    return syscall(SYS_fdatasync, file);
}
"#;

/// Hangs while a file is there.
pub struct Disk {
    library: PathBuf,
    hangs_while: PathBuf,
}

impl Disk {
    /// One that answers, with its files in that folder.
    pub fn make(folder: &Path) -> Disk {
        let disk = Disk { library: folder.join("sync.so"), hangs_while: folder.join("hangs") };
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-x", "c", "-", "-o"])
            .arg(&disk.library)
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a C compiler, which links this test too");
        compiler.stdin.take().unwrap().write_all(SYNC.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success());
        disk
    }

    /// The program, on this disk.
    pub fn command(&self) -> Command {
        let mut command = program::command();
        command.env("LD_PRELOAD", &self.library).env("HANGS_WHILE", &self.hangs_while);
        command
    }

    /// From now on it does not answer.
    pub fn hang(&self) {
        fs::write(&self.hangs_while, "").unwrap();
    }

    /// It answers again.
    pub fn go_on(&self) {
        fs::remove_file(&self.hangs_while).unwrap();
    }
}
