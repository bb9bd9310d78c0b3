//! The mesh's figures as the status shows them.

use serde_json::{Value, json};

use crate::net::{Mesh, PeerFigures};

/// The figures for scripts; null before the mesh is started.
pub fn document(mesh: Option<&Mesh>) -> Value {
    let Some(mesh) = mesh else { return Value::Null };
    let figures = mesh.figures();
    json!({
        "listen": figures.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "peers": figures.peers.iter().map(peer).collect::<Vec<_>>(),
        "refused": figures.refused,
        "refused_by_others": figures.refused_by_others,
        "malformed": figures.malformed,
        "truncated": figures.truncated,
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
