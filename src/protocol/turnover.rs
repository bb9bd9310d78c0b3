//! From one epoch to the next: when its end is due, what proves it, and what changes when it is decided (rules E1, E2, E3,
//! E5, E6).

use std::time::Duration;

use super::chain::Derived;
use super::epochs::Learned;
use super::halt::Halt;
use super::model::FaultModel;
use super::ready::Handed;
use super::replica::Replica;
use crate::types::epoch::BadLink;
use crate::types::peer::ChainEntry;
use crate::types::statement::{Round, Tip};
use crate::types::{
    Certificate, Configuration, Digest, Epoch, EpochLink, Incarnation, MemberId, PeerMessage, Position, Record, Rule,
    Seal, Slot, View, limits,
};

/// Who was not heard for this long is not heard: statuses come at least every second.
const HEARD: Duration = Duration::from_millis(2500);

impl<M: FaultModel> Replica<M> {
    /// E3: this voter's signature, where it votes on the end of an epoch.
    pub(crate) fn seal_of(&self, tip: &Tip) -> Option<Seal> {
        if tip.round.epoch != self.configuration.epoch {
            return None; // the vote on the base of an epoch is as any other
        }
        let end = self.chain.candidate(tip.slot, &tip.digest)?.entry.epoch_end()?;
        Some(Seal::sign(self.key(), &self.configuration, tip, end.next.digest()))
    }

    /// Rule E6: the next configuration, if the end of the epoch is due here and everybody is heard who is wanted.
    pub(crate) fn due_end(&self, derived: &Derived) -> Option<Configuration> {
        let membership = &derived.membership;
        let near = |voter: &MemberId| {
            let status = self.peers.get(voter).and_then(|peer| peer.status.as_ref());
            status.is_some_and(|said| {
                said.decided.slot.0.saturating_add(limits::READY_SLOTS) >= self.chain.decided.slot.0
            })
        };
        let voters = membership.due(&derived.heads, &self.sabotage, |learner| self.hears(learner) && near(learner))?;
        // The first voter of the list leads: one that is heard.
        let first =
            if voters.contains(&self.me) { Some(&self.me) } else { voters.iter().find(|voter| self.hears(voter)) };
        let first = *first.unwrap_or(&self.me);
        let next = membership.next(voters, &first);
        let heard = next.voters.iter().filter(|voter| self.hears(voter)).count();
        (heard >= self.quorum_of(&next)).then_some(next)
    }

    /// V4: the leader could end the epoch, and has not.
    pub(crate) fn end_is_due(&self) -> bool {
        self.chain.state.membership.is_unsettled() && self.due_end(&self.chain.state).is_some()
    }

    /// Whether a member's words come here these days.
    pub(crate) fn hears(&self, member: &MemberId) -> bool {
        let recently = |heard| self.now.instant.since(heard) < HEARD;
        *member == self.me || self.peers.get(member).is_some_and(|peer| peer.linked && peer.heard.is_some_and(recently))
    }

    /// Whether this slot of the present epoch may be decided: the end of an epoch only by its certificate (rule E3). Signed
    /// votes that were counted here make one.
    pub(crate) fn prove_end(&mut self, slot: Slot, digest: &Digest) -> Result<bool, Halt> {
        let candidate = self.chain.candidate(slot, digest).expect("what is about to be decided is here");
        let epoch = self.chain.state.membership.configuration.epoch;
        let Some(end) = candidate.entry.epoch_end() else { return Ok(true) };
        if self.epochs.end_of(epoch).is_some() {
            let proven = self.epochs.proves(epoch, slot, digest);
            return if proven { Ok(true) } else { Err(Halt::EpochFork { epoch }) };
        }
        let next = end.next.digest();
        let counted = self.ballots.sealed(epoch, slot, digest, &next);
        let round = Round { epoch, view: View(0) };
        let nobody = Certificate { tip: Tip { round, slot, digest: *digest }, votes: Vec::new() };
        let certificate = match counted {
            Some(certificate) if certificate.votes.len() >= self.quorum => certificate,
            counted if !self.sabotage.upholds(Rule::E3) => counted.unwrap_or(nobody),
            _ => return Ok(false),
        };
        let link = EpochLink { parent: candidate.parent, entry: candidate.bytes.clone(), certificate };
        self.learn_link(epoch, link, true)?;
        Ok(true)
    }

    /// The certificate that came with a slot from a peer's log.
    pub(crate) fn learn_certificate(
        &mut self,
        from: MemberId,
        entry: &ChainEntry,
        certificate: Option<Certificate>,
    ) -> Result<(), Halt> {
        let Some(certificate) = certificate else { return Ok(()) };
        let epoch = self.chain.state.membership.configuration.epoch;
        let link = EpochLink { parent: entry.parent, entry: entry.entry.1.clone(), certificate };
        if let Learned::Bad(bad) = self.learn_link(epoch, link, false)? {
            tracing::debug!(peer = %from.short(), %bad, "a certificate proves nothing");
            self.misbehaved(from, "a certificate that proves nothing");
        }
        Ok(())
    }

    /// The chain of epochs, as a peer or the door tells it. Gives what of it proves nothing, if anything does.
    pub(crate) fn learn_epochs(
        &mut self,
        from: MemberId,
        ends: Epoch,
        links: Vec<EpochLink>,
    ) -> Result<Option<BadLink>, Halt> {
        let mut epoch = ends;
        for link in links.into_iter().take(limits::DOOR_LINKS) {
            match self.learn_link(epoch, link, false)? {
                Learned::New | Learned::Known => {}
                Learned::Bad(bad) => {
                    tracing::debug!(peer = %from.short(), %bad, "a chain of epochs proves nothing");
                    self.misbehaved(from, "a chain of epochs that proves nothing");
                    return Ok(Some(bad));
                }
                Learned::Gap | Learned::Fork => break,
            }
            epoch = epoch.next();
        }
        Ok(None)
    }

    /// What is proven is logged, once.
    fn learn_link(&mut self, ends: Epoch, link: EpochLink, trusted: bool) -> Result<Learned, Halt> {
        let learned = self.epochs.learn(ends, link.clone(), trusted, &self.sabotage);
        match &learned {
            Learned::New => {
                self.doorway.changed = true;
                self.believe(link.certificate.tip); // a quorum's votes: no mark says more
                if self.incarnation > Incarnation(0) {
                    self.out.record(Record::Epoch(link), Handed::Other);
                }
            }
            Learned::Fork => return Err(Halt::EpochFork { epoch: ends }),
            Learned::Known | Learned::Gap | Learned::Bad(_) => {}
        }
        Ok(learned)
    }

    /// Who is behind is told the chain of epochs (rule E3).
    pub(crate) fn tell_epochs(&mut self, to: MemberId, has: Epoch) {
        if has < self.epochs.newest().epoch {
            let links = self.epochs.after(has);
            self.send_early(to, PeerMessage::Epochs { from: has, links });
        }
    }

    /// Something is decided in that epoch: it is established (rule E2).
    pub(crate) fn note_established(&mut self, epoch: Epoch) {
        if epoch > self.epochs.established {
            self.epochs.established = epoch;
            self.doorway.changed = true;
            self.schedule.changed = true;
        }
    }

    /// The end of the epoch is decided here: the next one begins (rules E1, E2). Its voters vote on its base at once.
    pub(crate) fn begin_epoch(&mut self) {
        let next = self.chain.state.membership.configuration.clone();
        self.depart_voters(&next);
        self.began.push(Position(self.chain.state.next_position.0 - 1));
        self.act_in(next);
        if self.incarnation == Incarnation(0) {
            return; // while the log is read; the start goes on from here
        }
        self.counters.epochs_begun += 1;
        tracing::info!(epoch = %self.configuration.epoch, voters = self.configuration.voters.len(), "an epoch begins");
        // The log tells in this order what proves the epoch, that it has begun, and that it is entered.
        self.marked = self.chain.decided;
        self.out.record(Record::Decided(self.marked), Handed::Mark);
        self.enter_epoch();
    }

    /// This replica acts by the rules of that configuration from now on.
    pub(crate) fn act_in(&mut self, configuration: Configuration) {
        self.configuration_digest = configuration.digest();
        self.quorum = self.quorum_of(&configuration);
        self.views.begin(configuration.epoch, self.now.instant);
        self.configuration = configuration;
        self.schedule.proposed.clear();
        self.schedule.changed = true;
        self.doorway.changed = true;
        self.feeds.forget_feeder();
        self.meet();
    }

    /// L1: view 0 of the epoch is entered by a durable record, unless a start found a later one.
    pub(crate) fn enter_epoch(&mut self) {
        let round = Round { epoch: self.configuration.epoch, view: View(0) };
        if self.views.recorded.is_none() && self.views.entering.is_none() {
            self.enter(round);
        }
        for tip in self.views.votes.values().copied().collect::<Vec<_>>() {
            self.handle_own_vote(tip);
        }
    }
}
