//! Messages made by hand: what an honest member would never send, or not yet.
//!
//! ```text
//! inject A->B proposal SLOT@VIEW on base|SLOT@VIEW of M/INCARNATION/NUMBER …
//! inject A->B vote SLOT@VIEW
//! inject A->B claim VIEW none|SLOT@VIEW [other]
//! inject A->B new-view VIEW none|SLOT@VIEW
//! inject A->B batch M/INCARNATION/NUMBER            one that was sent before
//! inject A->B false-batch M/INCARNATION/NUMBER [COUNT]   another one of that number (and the next), linked to nothing
//! inject A->B epochs forged unsigned|strangers            an end of the newest epoch that no quorum signed
//! ```
//!
//! `VIEW` is a view of epoch 0, or `EPOCH.VIEW`. `SLOT@VIEW` is the newest proposal for that slot of that view, by anybody or
//! by hand; `other` replaces its digest.

use super::player::{Player, Understood, number};
use crate::types::peer::ChainEntry;
use crate::types::statement::Tip;
use crate::types::{
    Batch, BatchHeader, BatchId, BatchNumber, Digest, Entry, EntryBody, Epoch, Hlc, Incarnation, Message, MessageKind,
    PeerMessage, Round, Slot, View, Vote, chain_digest,
};

/// The messages that the words describe.
pub(super) fn messages(player: &mut Player, from: usize, words: &[&str]) -> Understood<Vec<PeerMessage>> {
    let ["false-batch", name, count] = words else { return Ok(vec![message(player, from, words)?]) };
    let (origin, first) = batch_id(player, name)?;
    let ids = (0..number(count)?).map(|step| BatchId { number: BatchNumber(first.number.0 + step), ..first });
    ids.map(|id| false_batch(player, origin, id)).collect()
}

fn message(player: &mut Player, from: usize, words: &[&str]) -> Understood<PeerMessage> {
    match words {
        ["proposal", place, "on", parent, "of", batches @ ..] => proposal(player, place, parent, batches),
        ["vote", place] => Ok(PeerMessage::Vote(Vote { phase: 0, tip: tip(player, place)?, seal: None })),
        ["claim", view, rest @ ..] => {
            let claim = match rest {
                ["none"] => None,
                [place] => Some(tip(player, place)?),
                [place, "other"] => Some(Tip { digest: Digest::of("scenario", b"other"), ..tip(player, place)? }),
                _ => return Err("claim VIEW none or claim VIEW SLOT@VIEW [other]".to_owned()),
            };
            Ok(PeerMessage::Claim { round: round(view)?, claim })
        }
        ["new-view", view, "none"] => Ok(PeerMessage::NewView { round: round(view)?, base: None }),
        ["new-view", view, place] => Ok(PeerMessage::NewView { round: round(view)?, base: Some(tip(player, place)?) }),
        ["batch", name] => {
            let known = batch_id(player, name)?;
            let batch = player.batches.get(&known).ok_or(format!("batch {name} was never sent"))?;
            Ok(PeerMessage::Batch(batch.clone()))
        }
        ["epochs", "forged", signers] => {
            let (from, link) = super::membership::forged(player, signers)?;
            Ok(PeerMessage::Epochs { from, links: vec![link] })
        }
        ["false-batch", name] => {
            let (origin, id) = batch_id(player, name)?;
            false_batch(player, origin, id)
        }
        _ => Err(format!("member {} cannot say that", from + 1)),
    }
}

fn proposal(player: &mut Player, place: &str, parent: &str, batches: &[&str]) -> Understood<PeerMessage> {
    let (slot, round) = slot_of_view(place)?;
    let (parent, last) = match parent {
        "base" => (player.stage()?.group.cluster, Hlc(1 << 32)),
        place => (tip(player, place)?.digest, seen(player, place)?.entry.0.hlc),
    };
    let mut refs = Vec::new();
    for name in batches {
        let known = batch_id(player, name)?;
        refs.push(player.batches.get(&known).ok_or(format!("batch {name} was never sent"))?.reference());
    }
    // Past anything an honest leader has read off its clock so far, and different from it.
    let entry = Entry { hlc: Hlc(last.0 + (1 << 40)), body: EntryBody::Batches(refs) };
    let bytes = entry.encode();
    Ok(PeerMessage::Proposal { round, entry: ChainEntry { slot, parent, entry: (entry, bytes) } })
}

fn false_batch(player: &mut Player, origin: usize, id: BatchId) -> Understood<PeerMessage> {
    let message = Message {
        kind: MessageKind::Application,
        topic: "simulation".to_owned(),
        content_type: None,
        body: player.stage()?.promises.text("false"),
    };
    let first = id.number == BatchNumber(1);
    let header = BatchHeader {
        origin: player.stage()?.group.id(origin),
        incarnation: id.incarnation,
        number: id.number,
        first: crate::types::MessageNumber(1),
        count: 1,
        parent: if first { Digest::ZERO } else { Digest::of("scenario", b"nothing") },
        resumes: first.then(BatchId::default),
    };
    let batch = Batch::seal(header, vec![message]);
    player.stage()?.agreement.forged(batch.digest);
    Ok(PeerMessage::Batch(batch))
}

/// The tip of the newest proposal for a slot of a view.
fn tip(player: &mut Player, place: &str) -> Understood<Tip> {
    let (slot, round) = slot_of_view(place)?;
    let cluster = player.stage()?.group.cluster;
    let proposal = seen(player, place)?;
    let digest = chain_digest(&cluster, &proposal.parent, slot, &proposal.entry.1);
    Ok(Tip { round, slot, digest })
}

fn seen(player: &Player, place: &str) -> Understood<ChainEntry> {
    let key = slot_of_view(place)?;
    player.proposals.get(&key).cloned().ok_or(format!("nothing was proposed for {place}"))
}

fn slot_of_view(word: &str) -> Understood<(Slot, Round)> {
    let (slot, view) = word.split_once('@').ok_or("a slot of a view is written 3@0")?;
    Ok((Slot(number(slot)?), round(view)?))
}

fn round(view: &str) -> Understood<Round> {
    let (epoch, view) = view.split_once('.').unwrap_or(("0", view));
    Ok(Round { epoch: Epoch(number(epoch)?), view: View(number(view)?) })
}

fn batch_id(player: &mut Player, word: &str) -> Understood<(usize, BatchId)> {
    let parts: Vec<&str> = word.split('/').collect();
    let [member, incarnation, number_] = parts[..] else { return Err("a batch is written 1/1/2".to_owned()) };
    let id = BatchId { incarnation: Incarnation(number(incarnation)?), number: BatchNumber(number(number_)?) };
    Ok((player.member(member)?, id))
}
