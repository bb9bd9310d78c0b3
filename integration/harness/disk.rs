//! A disk that does not answer while it is told to: every sync of whoever runs on it waits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::wait::until;
use super::{preload, program};

/// Stands before the system's own syncs.
const SYNC: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static void wait_for_the_disk(void) {
    while (access(getenv("HANGS_WHILE"), F_OK) == 0 && unlink(getenv("LETS_PASS")) != 0) usleep(10000);
}
int fdatasync(int file) {
    wait_for_the_disk();
    return syscall(SYS_fdatasync, file);
}
int fsync(int file) {
    wait_for_the_disk();
    return syscall(SYS_fsync, file);
}
"#;

/// Hangs while a file is there.
pub struct Disk {
    library: PathBuf,
    hangs_while: PathBuf,
    lets_pass: PathBuf,
}

impl Disk {
    /// One that answers, with its files in that folder.
    pub fn make(folder: &Path) -> Disk {
        let library = preload::make(folder.join("sync.so"), SYNC);
        Disk { library, hangs_while: folder.join("hangs"), lets_pass: folder.join("lets-pass") }
    }

    /// The program, on this disk.
    pub fn command(&self) -> Command {
        let mut command = program::command();
        command.env("LD_PRELOAD", &self.library);
        command.env("HANGS_WHILE", &self.hangs_while).env("LETS_PASS", &self.lets_pass);
        command
    }

    /// From now on it does not answer.
    pub fn hang(&self) {
        fs::write(&self.hangs_while, "").unwrap();
    }

    /// It answers one sync, and hangs as before.
    pub async fn answer_one(&self) {
        fs::write(&self.lets_pass, "").unwrap();
        until("a sync has passed", async || (!self.lets_pass.exists()).then_some(())).await;
    }

    /// It answers again.
    pub fn go_on(&self) {
        fs::remove_file(&self.hangs_while).unwrap();
    }
}
