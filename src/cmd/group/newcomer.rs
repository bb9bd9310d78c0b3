//! A further member of a group that runs: invited at one of its members, prepared in a folder beside theirs, and joining by
//! its own first start.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use super::member_process::MemberProcess;
use crate::api::client::Client;
use crate::cmd::exit::Failure;
use crate::cmd::sidecar;
use crate::net::Transport;
use crate::node::configuration_file;
use crate::node::founding::{Ports, config_path};

/// A join code for what is started right away.
const TTL: &str = "10m";

/// Asks a member for a join code.
pub async fn invite(client: &Client) -> Result<String, Failure> {
    let invite: Value = sidecar::change(client, Method::POST, "/v1/invites", &json!({ "ttl": TTL })).await?;
    let code = invite["code"].as_str();
    code.map(str::to_owned).ok_or_else(|| Failure::failed(format!("an invite without a code: {invite}")))
}

/// Makes the folder of a member that will join: its configuration, and an empty data directory. Its key and the group's
/// genesis come with its first start.
pub fn prepare(directory: &Path, name: &str, ip: IpAddr, ports: Ports) -> Result<MemberProcess, Failure> {
    let config = config_path(directory, name);
    let values = [
        ("data_dir", "data".to_owned()),
        ("name", name.to_owned()),
        ("api.listen", SocketAddr::new(ip, ports.api).to_string()),
        ("mesh.listen", mesh_listen(ip, ports.mesh)),
        ("discovery.mdns", "false".to_owned()),
        ("wal.segment_bytes", super::SEGMENT_BYTES.to_owned()),
    ];
    let folder = config.parent().expect("a file is in a folder");
    let make = || {
        fs::create_dir(folder)?;
        fs::create_dir(folder.join("data"))?;
        fs::write(&config, configuration_file::write(&values))
    };
    make().map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    MemberProcess::of(name, config)
}

/// TCP, and QUIC at the same port.
fn mesh_listen(ip: IpAddr, port: u16) -> String {
    [Transport::Tcp, Transport::Quic].map(|transport| transport.multiaddress((ip, port).into()).to_string()).join(",")
}
