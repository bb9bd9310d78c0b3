//! Ports of a group on this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use libp2p::Multiaddr;

use super::member_process::MemberProcess;
use crate::cmd::exit::Failure;
use crate::net::{Transport, listen_address};
use crate::node::founding::Ports;
use crate::node::genesis_file;

/// Free ports for so many members. They are free now; somebody else may still take one before its member does.
pub fn free(members: usize) -> Result<Vec<Ports>, Failure> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: io::Result<Vec<(TcpListener, TcpListener)>> =
        (0..members).map(|_| Ok((listen()?, listen()?))).collect();
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    listeners
        .and_then(|pairs| pairs.iter().map(|(api, mesh)| Ok(Ports { api: port(api)?, mesh: port(mesh)? })).collect())
        .map_err(|error| Failure::failed(format!("no free port on 127.0.0.1: {error}")))
}

/// Whether a member could listen on both just now.
pub fn are_free(ip: IpAddr, ports: Ports) -> bool {
    let is_free = |(transport, port): (Transport, u16)| transport.free_port((ip, port).into()).is_ok();
    [(Transport::Tcp, ports.api), (Transport::Tcp, ports.mesh), (Transport::Quic, ports.mesh)].into_iter().all(is_free)
}

/// Fails if any port of these members is in use, and names them all.
pub fn check_free(members: &[MemberProcess]) -> Result<(), Failure> {
    let mut taken = Vec::new();
    for member in members {
        let settings = member.settings();
        let mesh =
            if settings.mesh_listen.is_empty() { genesis_addresses(member)? } else { settings.mesh_listen.clone() };
        let api = Some((settings.api.listen, "host API"));
        let mesh = mesh.iter().filter_map(listen_address).map(|address| (address, "mesh"));
        let api = api.map(|(address, purpose)| ((Transport::Tcp, address), purpose));
        for ((transport, address), purpose) in api.into_iter().chain(mesh) {
            if let Err(error) = transport.free_port(address) {
                taken.push(format!("{address} ({purpose} of {}, {transport}): {error}", member.name()));
            }
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "these addresses cannot be used; stop what uses them, or choose another --base-port for a new group:\n  {}",
        taken.join("\n  ")
    )))
}

/// Where genesis says that the mesh of this member listens.
fn genesis_addresses(member: &MemberProcess) -> Result<Vec<Multiaddr>, Failure> {
    let genesis = genesis_file::read(&member.settings().genesis).map_err(Failure::usage)?;
    let named = genesis.members.into_iter().find(|named| Some(named.id) == member.member());
    Ok(named.into_iter().flat_map(|named| named.addresses).filter_map(|text| text.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::group;

    #[test]
    fn all_ports_in_use_are_named_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let ports = free(3).unwrap();
        let held = [ports[0].api, ports[2].mesh].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        let members = group::found(directory.path(), "trial", ports.clone()).unwrap();
        let message = check_free(&members).unwrap_err().message;
        assert!(message.contains(&format!("127.0.0.1:{} (host API of n1, tcp)", ports[0].api)), "{message}");
        assert!(message.contains(&format!("127.0.0.1:{} (mesh of n3, tcp)", ports[2].mesh)), "{message}");
        drop(held);
    }
}
