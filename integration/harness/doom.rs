//! A process that is killed at one of the changes of names in its data directory: before that file is made, renamed or removed,
//! and after everything that it did before.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::member::Member;
use super::{preload, program};

/// Stands before the system's own functions that change names.
const CHANGES: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
static int changes;
static void change(const char *path) {
    const char *folder = getenv("DIES_IN");
    size_t length = strlen(folder);
    if (strncmp(path, folder, length) != 0 || path[length] != '/' || strchr(path + length + 1, '/')) return;
    if (__atomic_add_fetch(&changes, 1, __ATOMIC_SEQ_CST) != atoi(getenv("DIES_AT"))) return;
    kill(getpid(), SIGKILL);
    pause();
}
int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (flags & O_CREAT && access(path, F_OK) != 0) change(path);
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int mkdir(const char *path, mode_t mode) {
    change(path);
    return mkdirat(AT_FDCWD, path, mode);
}
int rename(const char *from, const char *to) {
    change(to);
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
int unlink(const char *path) {
    if (access(path, F_OK) == 0) change(path);
    return unlinkat(AT_FDCWD, path, 0);
}
int bind(int socket, const struct sockaddr *address, socklen_t length) {
    if (address->sa_family == AF_UNIX) change(((const struct sockaddr_un *)address)->sun_path);
    return syscall(SYS_bind, socket, address, length);
}
"#;

/// Kills whoever runs under it at that change.
pub struct Doom {
    library: PathBuf,
}

impl Doom {
    /// With its files in that folder.
    pub fn make(folder: &Path) -> Doom {
        Doom { library: preload::make(folder.join("doom.so"), CHANGES) }
    }

    /// The program, as that member, killed at that change of its names; the first is number 1.
    pub fn command(&self, member: &Member, change: usize) -> Command {
        let mut command = program::command();
        command.env("LD_PRELOAD", &self.library);
        command.env("DIES_IN", &member.data_dir).env("DIES_AT", change.to_string());
        command
    }
}
