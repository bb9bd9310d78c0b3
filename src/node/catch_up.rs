//! Decided slots for members that lack them, read from the log on a thread of its own, so that a peer far behind never
//! holds up the driver.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use crate::types::peer::{ChainEntry, DecidedSlot};
use crate::types::record::EntryRecord;
use crate::types::{Batch, Entry, Location, MemberId, PeerMessage, Serve, ServeSlot, limits};

/// Takes requests of the driver.
pub struct CatchUp {
    requests: SyncSender<Serve>,
}

/// Why a slot could not be served; the peer asks somebody else.
type Unreadable = String;

impl CatchUp {
    /// Starts the thread. It ends when this is dropped and its last answer is sent.
    ///
    /// `read` reads a record's payload, `send` hands a message to the mesh.
    pub fn start(
        read: impl Fn(Location) -> Result<Vec<u8>, Unreadable> + Send + 'static,
        send: impl Fn(MemberId, PeerMessage) + Send + 'static,
    ) -> io::Result<CatchUp> {
        let (requests, queue) = sync_channel(limits::CATCHUP_REQUESTS);
        thread::Builder::new().name("catch-up".to_owned()).spawn(move || answer(&queue, &read, &send))?;
        Ok(CatchUp { requests })
    }

    /// Queues a request; drops it if too many wait.
    pub fn serve(&self, request: Serve) {
        match self.requests.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Full(request)) => {
                tracing::debug!(peer = %request.to.short(), "too many requests for decided slots wait; this one is dropped");
            }
            Err(TrySendError::Disconnected(_)) => panic!("the catch-up thread lives as long as this sender"),
        }
    }
}

fn answer(
    queue: &Receiver<Serve>,
    read: &impl Fn(Location) -> Result<Vec<u8>, Unreadable>,
    send: &impl Fn(MemberId, PeerMessage),
) {
    while let Ok(request) = queue.recv() {
        let mut slots = Vec::with_capacity(request.slots.len());
        for slot in &request.slots {
            match slot_at(slot, read) {
                Ok(slot) => slots.push(slot),
                Err(reason) => {
                    tracing::error!(%reason, "a decided slot cannot be read from the log; a peer that lacks it has to ask another member");
                    break;
                }
            }
        }
        if !slots.is_empty() {
            send(request.to, PeerMessage::Decided { mark: request.mark, slots });
        }
    }
}

fn slot_at(
    slot: &ServeSlot,
    read: &impl Fn(Location) -> Result<Vec<u8>, Unreadable>,
) -> Result<DecidedSlot, Unreadable> {
    let record = EntryRecord::read(&read(slot.entry)?).map_err(|error| error.to_string())?;
    let entry = Entry::admit(&record.entry).map_err(|error| error.to_string())?;
    let batch = |at: &Location| Batch::recall(read(*at)?.into()).map_err(|error| error.to_string());
    let batches = slot.batches.iter().map(batch).collect::<Result<Vec<_>, _>>()?;
    let entry = ChainEntry { slot: record.slot, parent: record.parent, entry: (entry, record.entry) };
    Ok(DecidedSlot { entry, batches, certificate: slot.certificate.clone() })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::types::{Digest, EntryBody, Hlc, Record, Round, Slot, Tip};

    fn location(offset: u32) -> Location {
        Location { segment: 1, offset, length: 0 }
    }

    fn request(entries: &[u32]) -> Serve {
        let slots = entries
            .iter()
            .map(|entry| ServeSlot { entry: location(*entry), batches: Vec::new(), certificate: None })
            .collect();
        let mark = Tip { round: Round::default(), slot: Slot(9), digest: Digest::ZERO };
        Serve { to: MemberId([2; 32]), mark, slots }
    }

    fn payload(slot: u32) -> Vec<u8> {
        let entry = Entry { hlc: Hlc(1), body: EntryBody::Batches(Vec::new()) }.encode();
        let record = EntryRecord { slot: Slot(u64::from(slot)), parent: Digest::ZERO, entry };
        Record::Entry(record).payload().to_vec()
    }

    #[test]
    fn slots_are_read_up_to_the_first_that_cannot_be() {
        let (sent, received) = mpsc::channel();
        let read = |at: Location| match at.offset {
            offset if offset < 100 => Ok(payload(offset)),
            100 => Ok(b"no record".to_vec()),
            _ => Err("damaged".to_owned()),
        };
        let catch_up = CatchUp::start(read, move |to, message| sent.send((to, message)).unwrap()).unwrap();
        for entries in [&[1, 2][..], &[3, 100, 4], &[200], &[5]] {
            catch_up.serve(request(entries));
        }
        drop(catch_up);
        let slots: Vec<Vec<u64>> = received
            .iter()
            .map(|(_, message)| match message {
                PeerMessage::Decided { slots, .. } => slots.iter().map(|slot| slot.entry.slot.0).collect(),
                other => panic!("{}", other.name()),
            })
            .collect();
        assert_eq!(slots, [vec![1, 2], vec![3], vec![5]]);
    }
}
