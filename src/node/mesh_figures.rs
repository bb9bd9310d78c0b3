//! The mesh's figures as the status shows them.

use serde_json::{Value, json};

use crate::net::{DiscoveryFigures, ForeignGroup, FoundAddress, Mesh, PeerFigures, SourceFigures};

/// The figures for scripts; null before the mesh is started.
pub fn document(mesh: Option<&Mesh>) -> Value {
    let Some(mesh) = mesh else { return Value::Null };
    let figures = mesh.figures();
    json!({
        "listen": figures.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "discovery": discovery(&figures.discovery),
        "gossip": {
            "listeners": figures.gossip.listeners,
            "announced": figures.gossip.announced,
            "heard": figures.gossip.heard,
            "malformed": figures.gossip.malformed,
            "bytes_in": figures.gossip.bytes_in,
            "bytes_out": figures.gossip.bytes_out,
        },
        "peers": figures.peers.iter().map(peer).collect::<Vec<_>>(),
        "refused": figures.refused,
        "refused_by_others": figures.refused_by_others,
        "malformed": figures.malformed,
        "truncated": figures.truncated,
    })
}

/// What sources gave, and what came of it.
pub fn discovery(figures: &DiscoveryFigures) -> Value {
    let address = |found: &FoundAddress| {
        json!({
            "address": found.address.to_string(),
            "member": found.key,
            "outcome": found.outcome.word(),
            "says": found.outcome.to_string(),
        })
    };
    let source = |source: &SourceFigures| {
        json!({
            "name": source.name,
            "finds": source.finds,
            "error": source.trouble,
            "addresses": source.addresses.iter().map(address).collect::<Vec<_>>(),
        })
    };
    let foreign = |group: &ForeignGroup| json!({"name": group.name, "cluster": group.cluster, "member": group.member, "address": group.place});
    json!({
        "sources": figures.sources.iter().map(source).collect::<Vec<_>>(),
        "foreign_groups": figures.foreign_groups.iter().map(foreign).collect::<Vec<_>>(),
        "observed": figures.observed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn peer(figures: &PeerFigures) -> Value {
    json!({
        "member": figures.peer,
        "name": figures.name,
        "connected": figures.linked,
        "transport": figures.transport.map(|transport| transport.to_string()),
        "trouble": figures.trouble,
        "round_trip_ms": figures.round_trip.map(|duration| duration.as_micros() as f64 / 1000.0),
        "links_total": figures.links,
        "frames_in": figures.frames_in,
        "frames_out": figures.frames_out,
        "bytes_in": figures.bytes_in,
        "bytes_out": figures.bytes_out,
        "dropped": figures.dropped,
        "urgent_queue_bytes": figures.urgent_queue_bytes,
        "bulk_queue_bytes": figures.bulk_queue_bytes,
    })
}
