//! What a service manager hears of a member: a socket stands in for systemd's.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use super::harness::disk::Disk;
use super::harness::member::Signal;
use super::harness::{Group, Load, program, until};

/// Asked of members, in microseconds: signs of life come four times as often.
const WATCHDOG_USEC: &str = "1000000";

/// The socket, and everything that came to it, a word each.
struct ServiceManager {
    name: String,
    socket: UnixDatagram,
    heard: Vec<String>,
    /// How many of these words were waited for already.
    seen: usize,
}

impl ServiceManager {
    /// With a socket in that folder.
    fn in_folder(folder: &Path) -> ServiceManager {
        let path = folder.join("notify");
        let address = SocketAddr::from_pathname(&path).unwrap();
        ServiceManager::at(&address, path.to_str().unwrap().to_owned())
    }

    /// With a socket that has a name and no file.
    fn without_file(folder: &Path) -> ServiceManager {
        let name = folder.join("notify").to_str().unwrap().to_owned();
        ServiceManager::at(&SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}"))
    }

    fn at(address: &SocketAddr, name: String) -> ServiceManager {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        ServiceManager { name, socket, heard: Vec::new(), seen: 0 }
    }

    /// Adds to a command what systemd gives its services.
    fn starts(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.name).env("WATCHDOG_USEC", WATCHDOG_USEC);
        command
    }

    /// Waits for such a word behind those it waited for before, and gives back the ones in between.
    async fn hears(&mut self, wanted: &str) -> Vec<String> {
        let fact = format!("`{wanted}` is heard");
        let at = until(&fact, async || {
            let mut datagram = [0; 8192];
            while let Ok(count) = self.socket.recv(&mut datagram) {
                let words = String::from_utf8(datagram[..count].to_vec()).unwrap();
                self.heard.extend(words.lines().map(str::to_owned));
            }
            self.heard[self.seen..].iter().position(|word| word.contains(wanted))
        })
        .await;
        let between = self.heard[self.seen..self.seen + at].to_vec();
        self.seen += at + 1;
        between
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_hears_of_the_start_of_readiness_and_of_the_stop() {
    let mut group = Group::found().await;
    let mut manager = ServiceManager::without_file(group.folder());
    group.members[0].start_by(manager.starts(program::command()));
    // The log is read; whether others are there is another question.
    manager.hears("READY=1").await;
    manager.hears("STATUS=not ready: ").await;
    manager.hears("WATCHDOG=1").await;
    group.start_all().await;
    manager.hears("STATUS=ready").await;
    manager.hears("WATCHDOG=1").await;
    group.members[0].signal(Signal::Terminate);
    manager.hears("STOPPING=1").await;
    assert_eq!(group.members[0].ended().await.code(), Some(0));
    let told = |word: &str| manager.heard.iter().filter(|heard| *heard == word).count();
    assert_eq!((told("READY=1"), told("STOPPING=1")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_hears_what_a_member_to_be_waits_for() {
    let mut group = Group::fresh(3, 3, None).await;
    let mut manager = ServiceManager::in_folder(group.folder());
    group.members[0].start_by(manager.starts(program::command()));
    // Nobody waits for the others with it, least of all the boot of the machine. It lives meanwhile.
    manager.hears("READY=1").await;
    manager.hears("waits for 2 more").await;
    manager.hears("WATCHDOG=1").await;
    manager.hears("WATCHDOG=1").await;
    group.members[1].start();
    manager.hears("waits for 1 more").await;
    assert!(!manager.heard.contains(&"STATUS=ready".to_owned()), "{:?}", manager.heard);
    group.start_all().await;
    manager.hears("STATUS=ready").await;
    manager.hears("WATCHDOG=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_stands_still_gives_no_sign_of_life() {
    let mut group = Group::found().await;
    let mut manager = ServiceManager::in_folder(group.folder());
    let disk = Disk::make(group.folder());
    group.members[0].start_by(manager.starts(disk.command()));
    group.start_all().await;
    let load = Load::start_at(&group, &group.others(0));
    manager.hears("WATCHDOG=1").await;
    disk.hang();
    manager.hears("the driver has not turned").await;
    for _ in 0..3 {
        // The process lives and speaks: of a further second, each longer than a sign of life may take.
        let meanwhile = manager.hears("the driver has not turned").await;
        assert!(!meanwhile.contains(&"WATCHDOG=1".to_owned()), "{meanwhile:?}");
    }
    disk.go_on();
    manager.hears("WATCHDOG=1").await;
    manager.hears("STATUS=ready").await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_that_cannot_be_told_anything_is_named() {
    let mut group = Group::found().await;
    let mut command = program::command();
    command.env("NOTIFY_SOCKET", "nowhere");
    group.members[0].start_by(command);
    group.start_all().await;
    assert!(group.members[0].log().contains("NOTIFY_SOCKET is \"nowhere\""), "{}", group.members[0].log());
}
