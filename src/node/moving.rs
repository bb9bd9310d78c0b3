//! A running member that is elsewhere by now: its mesh listens at other addresses than before, so the group is told, in the
//! order, as it is at a start.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::time::sleep;

use super::outside::LateMesh;
use crate::driver::Input;
use crate::driver::inbox::InboxSender;

/// How often it is looked where the mesh listens. Addresses that are the same at two looks stay for a while; so the group is
/// told once in two looks at most.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Tells the driver where this member is whenever that is something else than it `told` last. Goes on for ever.
pub async fn follow<F: Future<Output = Vec<String>>>(
    mesh: LateMesh,
    mut told: Vec<String>,
    whereabouts: impl Fn() -> F,
    inbox: InboxSender,
) -> Infallible {
    let mut settling = Settling::default();
    loop {
        sleep(LOOK_INTERVAL).await;
        let Some(mesh) = mesh.get() else { continue };
        if !settling.look(mesh.listen_addresses()) {
            continue;
        }
        let addresses = whereabouts().await;
        if addresses.is_empty() {
            // There is no way to anybody just now: what was told last stands until there is.
            settling.look_again();
        } else if addresses != told {
            tracing::info!(?addresses, "this member is elsewhere by now");
            told = addresses.clone();
            // A driver that has ended needs no news.
            let _ = inbox.push(Input::Moved { addresses }, None);
        }
    }
}

/// Where the mesh listened at the last look, and when it was last the same at two looks.
#[derive(Default)]
pub(super) struct Settling {
    seen: Option<Vec<Multiaddr>>,
    settled: Option<Vec<Multiaddr>>,
}

impl Settling {
    /// Whether it has settled somewhere else since it was last asked.
    pub fn look(&mut self, listen: Vec<Multiaddr>) -> bool {
        let listen = Some(listen);
        let settles = self.seen == listen && self.settled != listen;
        if settles {
            self.settled.clone_from(&listen);
        }
        self.seen = listen;
        settles
    }

    /// The next look counts as the first at which it has settled there.
    pub fn look_again(&mut self) {
        self.settled = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_all_the_time_settles_nowhere() {
        let place = |port: u16| vec![format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()];
        let mut settling = Settling::default();
        let looks = |settling: &mut Settling, ports: &[u16]| -> Vec<bool> {
            ports.iter().map(|port| settling.look(place(*port))).collect()
        };
        assert_eq!(looks(&mut settling, &[1, 1, 1]), [false, true, false]);
        assert_eq!(looks(&mut settling, &[2, 3, 2, 3]), [false; 4]);
        assert_eq!(looks(&mut settling, &[3, 3]), [true, false]);
        assert_eq!(looks(&mut settling, &[1, 3, 3]), [false; 3], "it is back where it was");
        settling.look_again();
        assert_eq!(looks(&mut settling, &[3, 3]), [true, false], "there was no way to anybody");
    }
}
