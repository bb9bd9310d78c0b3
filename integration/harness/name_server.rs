//! A name server on a host of a test's own: what leads to whom, changed as one wants.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::network::nothing_may_be_left_out;

/// Where programs for the system's administrators are, too.
const PATH: &str = "PATH=$PATH:/usr/sbin:/sbin";
/// Serves as long as its standard input is open.
const SERVE: &str = "dnsmasq \"$@\" & cat >/dev/null; kill $!; wait";

/// A name server, which knows what it was told last.
pub struct NameServer {
    launcher: Vec<String>,
    folder: PathBuf,
    process: Option<Child>,
}

impl NameServer {
    /// One that is to be started by these words before its name, with its files in that folder, and knows nothing yet. None
    /// where the program is missing: it says so past the harness, and fails where nothing may be left out.
    pub fn make(launcher: Vec<String>, folder: &Path) -> Option<NameServer> {
        let look = format!("{PATH}; command -v dnsmasq");
        let found = Command::new("sh").args(["-c", &look]).stdout(Stdio::null()).status().unwrap();
        if found.success() {
            return Some(NameServer { launcher, folder: folder.to_owned(), process: None });
        }
        let said = "NOT TRIED: names by DNS: there is no dnsmasq (Debian: dnsmasq-base)";
        assert!(!nothing_may_be_left_out(), "{said}");
        std::io::stderr().write_all(format!("{said}\n").as_bytes()).unwrap();
        None
    }

    /// From now on it knows these hosts with their addresses, of which one name may have several, and services with a host and
    /// a port each; and nothing else.
    pub fn knows(&mut self, hosts: &[(&str, Ipv4Addr)], services: &[(&str, &str, u16)]) {
        self.stop();
        let table = self.folder.join("names");
        let lines: Vec<String> = hosts.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        fs::write(&table, lines.concat()).unwrap();
        let (launcher, words) = self.launcher.split_first().expect("it runs on a host");
        let mut command = Command::new(launcher);
        command.args(words).args(["sh", "-c", &format!("{PATH}; {SERVE}"), "dnsmasq"]);
        // Without the machine's own names and servers, as whoever starts it, and silent.
        command.args(["--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--log-facility=/dev/null"]);
        command.arg(format!("--addn-hosts={}", table.display()));
        command.args(services.iter().map(|(service, host, port)| format!("--srv-host={service},{host},{port}")));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("the launcher starts"));
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            // Its port is free when it has ended.
            process.wait().unwrap();
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}
