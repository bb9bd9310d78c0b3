//! A loopback address of its own for every group: ports never collide, whatever else runs on this machine, because
//! nobody else uses the address, and the ports that the system gives out for connections are those of 127.0.0.1.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Holding this port holds the address.
const HELD_PORT: u16 = 6999;

/// An address that is ours until this is dropped.
pub struct Address {
    ip: Ipv4Addr,
    _held: TcpListener,
}

impl Address {
    /// Draws addresses of 127.0.0.0/8 until one is free.
    pub fn reserve() -> Address {
        loop {
            let [a, b, c, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
            // 127.0.x.y stays to others.
            let ip = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
            if let Ok(held) = TcpListener::bind((ip, HELD_PORT)) {
                return Address { ip, _held: held };
            }
        }
    }

    /// As text.
    pub fn text(&self) -> String {
        self.ip.to_string()
    }

    /// With a port.
    pub fn with_port(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }
}
