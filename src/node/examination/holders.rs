//! Which process has a port, as far as `/proc` tells: the sockets of this network namespace are for everybody to see, whose
//! they are only for their user and for root.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What carries a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Connections.
    Tcp,
    /// Datagrams: QUIC.
    Udp,
}

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process, with its name.
    Process(u32, String),
    /// One of another user, that this one may not look into.
    OfUser(u32),
    /// `/proc` does not tell.
    Unknown,
}

/// A line of `/proc/net/tcp` or its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    state: u8,
    user: u32,
    inode: u64,
}

/// How the system writes down that a TCP socket listens.
const LISTENS: u8 = 0x0A;

/// Who has this port, at this address or at all of them.
pub fn holder(carrier: Carrier, address: SocketAddr) -> Holder {
    let files = match carrier {
        Carrier::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Carrier::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let sockets = files.iter().filter_map(|path| fs::read_to_string(path).ok()).flat_map(|text| sockets(&text));
    let in_the_way =
        |socket: &Socket| meet(socket.local, address) && (carrier == Carrier::Udp || socket.state == LISTENS);
    let Some(socket) = sockets.into_iter().find(in_the_way) else { return Holder::Unknown };
    match process_of(socket.inode) {
        Some(process) => Holder::Process(process, process_name(process).unwrap_or_else(|| "?".to_owned())),
        None => Holder::OfUser(socket.user),
    }
}

/// The name of a process, if there is one of that number here.
pub fn process_name(process: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Whether a listener at one address is in the way of one at the other.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip().to_canonical() == other.ip().to_canonical())
}

/// The process that has a socket open, if this user may see that.
fn process_of(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|process| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
        descriptors
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
    })
}

/// All lines that read as sockets; the heading does not.
fn sockets(text: &str) -> Vec<Socket> {
    text.lines().filter_map(socket).collect()
}

/// ```text
///   sl  local_address rem_address   st tx_queue:rx_queue tr:when retrnsmt   uid  timeout inode …
///    0: 0100007F:1C03 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 4711 …
/// ```
fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    Some(Socket {
        local: SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?),
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        user: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Words of 32 bits as the machine has them in memory, in hexadecimal digits.
fn address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().expect("four words of four bytes");
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn lines_of_the_system_are_read() {
        let address = format!("{:08X}:1C03", u32::from_ne_bytes([127, 0, 0, 1]));
        let line =
            format!("   0: {address} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0");
        let read = socket(&line).unwrap();
        assert_eq!(read, Socket { local: "127.0.0.1:7171".parse().unwrap(), state: LISTENS, user: 1000, inode: 4711 });
        assert_eq!(super::address(&"0".repeat(32)), Some(Ipv6Addr::UNSPECIFIED.into()));
        for other in ["", "  sl  local_address rem_address   st", "0: 0100:1C03 x 0A", "0: é0000000:1C03 x 0A"] {
            assert_eq!(socket(other), None, "{other}");
        }
    }

    #[test]
    fn addresses_meet_as_listeners_do() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(meet(address("0.0.0.0:1"), address("10.0.0.1:1")));
        assert!(meet(address("[::]:1"), address("10.0.0.1:1")));
        assert!(meet(address("[::ffff:10.0.0.1]:1"), address("10.0.0.1:1")));
        assert!(!meet(address("10.0.0.1:1"), address("10.0.0.2:1")));
        assert!(!meet(address("0.0.0.0:1"), address("0.0.0.0:2")));
    }

    #[test]
    fn this_process_is_found_by_its_ports() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (carrier, address) in [(Carrier::Tcp, tcp.local_addr().unwrap()), (Carrier::Udp, udp.local_addr().unwrap())]
        {
            let Holder::Process(process, _) = holder(carrier, address) else { panic!("it is ours") };
            assert_eq!(process, std::process::id());
        }
    }
}
