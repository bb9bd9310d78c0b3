//! Voting and deciding (rules R1–R7, R10, V6, V7).

use std::time::Duration;

use super::chain::Lack;
use super::halt::Halt;
use super::lanes::Logged;
use super::model::FaultModel;
use super::ready::Handed;
use super::replica::Replica;
use crate::types::peer::{ChainEntry, DecidedSlot};
use crate::types::record::{EntryRecord, Voted};
use crate::types::statement::{Round, Tip, Vote};
use crate::types::{
    Claim, Delivered, DeliveredKind, Digest, Epoch, MemberId, PeerMessage, Record, Rule, Seal, Slot, View, limits,
};

/// A vote that most likely decides nothing waits this long for company.
const VOTE_PATIENCE: Duration = Duration::from_millis(2);

impl<M: FaultModel> Replica<M> {
    pub(crate) fn handle_proposal(&mut self, from: MemberId, round: Round, entry: &ChainEntry) {
        if self.configuration.leader(round.view) != from {
            self.misbehaved(from, "a proposal in a view that somebody else leads");
            return;
        }
        // R1 and R6 switched off: proposals of other rounds are taken without entering them.
        let above = round > self.views.target() && !self.sabotage.upholds(Rule::R1);
        let below = round < self.views.target() && !self.sabotage.upholds(Rule::R6);
        if !above && !below && !self.observe(from, round) {
            return;
        }
        self.heard_leader(from, round);
        if let Some(digest) = self.keep_entry(entry) {
            self.note_proposed(from, round, entry.slot, digest);
        }
    }

    /// R4: the first entry named for a slot of a round stands; an honest leader names no second.
    fn note_proposed(&mut self, from: MemberId, round: Round, slot: Slot, digest: Digest) {
        let known = *self.views.proposed.entry((round, slot)).or_insert((digest, from));
        if known.0 != digest {
            self.misbehaved(from, "a second entry for one slot of one view");
            if !self.sabotage.upholds(Rule::R4) {
                self.views.proposed.insert((round, slot), (digest, from));
                self.vote_again(Tip { round, slot, digest });
            }
        }
    }

    /// Rule R4 switched off: a second vote for one slot of one view.
    fn vote_again(&mut self, tip: Tip) {
        if self.chain.whole(tip.slot, &tip.digest, &self.lanes).is_ok() {
            self.vote_for(tip);
        }
    }

    /// Keeps an entry that may become decided; what is voted for, proposed or adopted is never dropped for it.
    pub(crate) fn keep_entry(&mut self, entry: &ChainEntry) -> Option<Digest> {
        let views = &self.views;
        let in_use = |slot: Slot, digest: &Digest| {
            views.votes.get(&slot).is_some_and(|tip| tip.digest == *digest)
                || views.proposed.iter().any(|((_, at), (named, _))| *at == slot && named == digest)
        };
        self.chain.keep(entry, Logged::No, in_use)
    }

    /// R10: counted plainly, whatever view we are in. An entry named by a vote of a view is a proposal of that view (V7).
    pub(crate) fn handle_vote(&mut self, from: MemberId, vote: Vote) {
        if vote.phase >= M::PHASES {
            self.misbehaved(from, "a vote of a phase that this model does not have");
            return;
        }
        let tip = vote.tip;
        let forged = vote.seal.is_some_and(|seal| !seal.verify(&from, &self.configuration, &tip));
        if forged && self.sabotage.upholds(Rule::E3) {
            self.misbehaved(from, "a vote with a signature that is not its voter's");
            return;
        }
        if !self.admits_round(from, tip.round) {
            return;
        }
        let present = self.observe(from, tip.round);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.highest_vote = peer.highest_vote.max(Some(tip));
        }
        self.heard_leader(from, tip.round);
        if present && tip.slot > self.chain.decided.slot && self.in_reach(tip.slot) {
            self.views.proposed.entry((tip.round, tip.slot)).or_insert((tip.digest, from));
        }
        self.count(from, tip, vote.seal);
    }

    pub(crate) fn in_reach(&self, slot: Slot) -> bool {
        slot.0 <= self.chain.decided.slot.0 + limits::CANDIDATE_SLOTS
    }

    fn count(&mut self, voter: MemberId, tip: Tip, seal: Option<Seal>) {
        if tip.round.epoch != self.configuration.epoch && self.sabotage.upholds(Rule::E1) {
            return; // with the voters of its own epoch, who decided it long ago
        }
        let equal = self.ballots.count(voter, tip, seal, self.chain.decided.slot);
        if equal >= self.quorum {
            self.believe(tip);
        }
    }

    /// An own vote is durable: it counts, and hellos tell of it.
    pub(crate) fn handle_own_vote(&mut self, tip: Tip) {
        self.views.durable_claim = self.views.durable_claim.max(Some(tip));
        if self.votes() {
            let seal = self.seal_of(&tip);
            self.count(self.me, tip, seal);
        }
    }

    /// A decided mark from a peer, of whatever epoch: the crash model believes one authenticated member. Returns whether it
    /// can be believed.
    pub(crate) fn learn_mark(&mut self, tip: Tip, from: MemberId) -> bool {
        if self.is_beyond(tip.round) {
            self.misbehaved(from, "a view that nobody can have reached");
            return false;
        }
        if tip.round.epoch == self.configuration.epoch {
            self.observe(from, tip.round); // V6: a decided slot of a higher view opens that view
        }
        if let Some(peer) = self.peers.get_mut(&from)
            && (tip.slot, tip.round) > (peer.decided.slot, peer.decided.round)
        {
            peer.decided = tip;
        }
        self.believe(tip);
        true
    }

    /// What a believed mark says is decided.
    pub(crate) fn believe(&mut self, tip: Tip) {
        if self.chain.digest_at(tip.slot).is_some_and(|decided| decided != tip.digest) {
            self.contradiction = Some(tip);
        }
        self.note_established(tip.round.epoch);
        if tip.slot < self.chain.decided.slot || tip.slot == Slot(0) {
            return;
        }
        if self.marks.last_key_value().is_none_or(|(known, _)| *known < tip.slot) && tip.slot > self.chain.decided.slot
        {
            self.views.waiting_since = None; // V4: something is decided, though it is not here yet
        }
        let known = self.marks.entry(tip.slot).or_insert(tip);
        if tip.round > known.round && tip.digest == known.digest {
            known.round = tip.round;
        }
        while self.marks.len() > limits::CANDIDATE_SLOTS as usize {
            self.marks.pop_first();
        }
    }

    /// Decides whatever the believed marks and the held entries and payload allow.
    pub(crate) fn advance(&mut self) -> Result<(), Halt> {
        if let Some(said) = self.contradiction {
            return Err(Halt::Diverged { said, here: self.chain.decided });
        }
        if self.disk_full.is_some() {
            return Ok(()); // what is decided could not be made durable here
        }
        while let Some(tip) = self.marks.first_key_value().map(|(_, tip)| *tip) {
            if tip.slot > self.chain.decided.slot {
                break;
            }
            self.marks.pop_first();
            self.confirm(tip)?;
        }
        if !self.sabotage.upholds(Rule::V7) {
            self.advance_blindly();
        }
        let marks: Vec<Tip> = self.marks.values().rev().copied().collect();
        for (index, tip) in marks.into_iter().enumerate() {
            match self.chain.path(tip.slot, &tip.digest) {
                Ok(path) => {
                    let lack = self.decide_path(&path, tip.round)?;
                    if let Some(lack) = lack {
                        self.lacks.push((lack, None));
                    }
                    break;
                }
                Err(Lack::Invalid(_)) => return Err(Halt::Diverged { said: tip, here: self.chain.decided }),
                Err(lack) if index == 0 => self.lacks.push((lack, None)),
                Err(_) => {}
            }
        }
        self.marks = self.marks.split_off(&self.chain.decided.slot.next());
        Ok(())
    }

    /// A mark at or below the decided slot must agree with it; one of a higher round raises what is known of it.
    fn confirm(&mut self, tip: Tip) -> Result<(), Halt> {
        if self.chain.digest_at(tip.slot) != Some(tip.digest) {
            return Err(Halt::Diverged { said: tip, here: self.chain.decided });
        }
        if tip.slot == self.chain.decided.slot && tip.round > self.chain.decided.round {
            self.chain.decided.round = tip.round;
        }
        // The vote on a base that was decided before is overtaken once a quorum gave it: it is repeated no more.
        let decided = self.chain.decided;
        self.views.votes.retain(|slot, vote| *slot > decided.slot || vote.round > decided.round);
        Ok(())
    }

    /// Rule V7 switched off: whatever chain is here counts as decided up to the mark.
    fn advance_blindly(&mut self) {
        while let Some(tip) = self.marks.last_key_value().map(|(_, tip)| *tip)
            && tip.slot > self.chain.decided.slot
            && let Some(digest) = self.chain.any_successor()
            && self.chain.derived(&[(self.chain.decided.slot.next(), digest)], &self.lanes).is_ok()
        {
            self.decide_next(tip.round, digest);
            let slot = self.chain.decided.slot;
            if self.marks.get(&slot).is_some_and(|mark| mark.digest != digest) {
                self.marks.remove(&slot);
            }
        }
    }

    fn decide_path(&mut self, path: &[(Slot, Digest)], round: Round) -> Result<Option<Lack>, Halt> {
        for (slot, digest) in path {
            match self.chain.derived(&[(*slot, *digest)], &self.lanes) {
                Ok(_) if !self.prove_end(*slot, digest)? => return Ok(Some(Lack::Certificate(*slot))),
                Ok(_) => self.decide_next(round, *digest),
                Err(Lack::Invalid(reason)) => {
                    return Err(Halt::InvalidDecision { at: Tip { round, slot: *slot, digest: *digest }, reason });
                }
                Err(lack) => return Ok(Some(lack)),
            }
        }
        Ok(None)
    }

    fn decide_next(&mut self, round: Round, digest: Digest) {
        let slot = self.chain.decided.slot.next();
        self.log_slot(slot, &digest);
        let ends = self.chain.candidate(slot, &digest).is_some_and(|candidate| candidate.entry.epoch_end().is_some());
        self.counters.lanes_closed += self.chain.decide(round, digest, &mut self.lanes);
        let head = self.lanes.head(&self.me);
        self.lane.ordered(&head);
        if self.is_closed() {
            self.lane.close();
        }
        self.ballots.decided(slot);
        self.views.note_decision(slot);
        self.schedule.proposed = self.schedule.proposed.split_off(&slot.next());
        if ends {
            self.begin_epoch();
        }
        if self.repairing.is_some_and(|mark| slot >= mark.slot) {
            self.repairing = None;
            self.counters.repairs += 1;
            tracing::info!(%slot, "the damaged part of the log is repaired");
            if self.votes() {
                self.enter_epoch();
            }
            self.take_part();
        }
    }

    /// Hands a slot's payload and entry to the log, in this order, as far as they are not there.
    fn log_slot(&mut self, slot: Slot, digest: &Digest) {
        let Some(candidate) = self.chain.candidate(slot, digest) else { return };
        let (logged, parent, entry) = (candidate.logged, candidate.parent, candidate.bytes.clone());
        for reference in candidate.entry.batches().to_vec() {
            self.log_batch(&reference);
        }
        if logged == Logged::No {
            self.chain.mark(slot, digest, Logged::Handed);
            self.out.record(Record::Entry(EntryRecord { slot, parent, entry }), Handed::Entry(slot, *digest));
        }
    }

    /// Votes for what may be voted for (R1, R2, R3, R4, R6, R9).
    pub(crate) fn vote(&mut self) -> Result<(), Halt> {
        // While the disk is full nothing new is voted for: it could not be made durable.
        if !self.views.is_settled() || self.repairing.is_some() || self.disk_full.is_some() {
            return Ok(());
        }
        let present = self.views.round;
        if self.chain.decided.round.epoch > present.epoch {
            return Ok(()); // this epoch has ended elsewhere: whoever is behind has nothing to vote for in it
        }
        for round in self.rounds_to_vote_in(present) {
            while let Some(tip) = self.next_vote(round)? {
                self.vote_for(tip);
            }
        }
        Ok(())
    }

    /// R1, R6: the round of the durable record and no other.
    fn rounds_to_vote_in(&self, present: Round) -> Vec<Round> {
        let mut rounds = vec![present];
        if !self.sabotage.upholds(Rule::R1) || !self.sabotage.upholds(Rule::R6) {
            rounds.extend(self.views.proposed.keys().map(|(round, _)| *round).filter(|round| *round != present));
            rounds.dedup();
        }
        rounds
    }

    /// The next tip to vote for in this round, its whole chain held.
    fn next_vote(&mut self, round: Round) -> Result<Option<Tip>, Halt> {
        let voted = self.views.claim.filter(|tip| tip.round == round);
        if voted.is_none()
            && (round.view > View(0) || (round.epoch > Epoch(0) && self.sabotage.upholds(Rule::E2)))
            && let Some(first) = self.first_vote(round)?
        {
            return Ok(first);
        }
        let (slot, digest) = match voted {
            // R2: extend what was voted in this round.
            Some(tip) if tip.slot > self.chain.decided.slot => (tip.slot, tip.digest),
            Some(tip) if self.chain.digest_at(tip.slot) != Some(tip.digest) => {
                return Err(Halt::Diverged { said: tip, here: self.chain.decided });
            }
            _ => (self.chain.decided.slot, self.chain.decided.digest),
        };
        let next = slot.next();
        let Some((proposed, named_by)) = self.views.proposed.get(&(round, next)).copied() else { return Ok(None) };
        if let Some(candidate) = self.chain.candidate(next, &proposed)
            && candidate.parent != digest
            && self.sabotage.upholds(Rule::R2)
        {
            return Ok(None);
        }
        Ok(self.votable(round, next, proposed, named_by))
    }

    /// The first vote in a view above 0. `Some(None)`: nothing to vote for yet; `None`: go on from what is decided.
    fn first_vote(&mut self, round: Round) -> Result<Option<Option<Tip>>, Halt> {
        if let Some(base) = self.base_of(round) {
            let leader = self.configuration.leader(round.view);
            match base {
                Some(tip) if tip.slot > self.chain.decided.slot => {
                    if let Err(Lack::Invalid(_)) = self.chain.path(tip.slot, &tip.digest) {
                        return Err(Halt::Diverged { said: tip, here: self.chain.decided });
                    }
                    let mut vote = self.votable(round, tip.slot, tip.digest, leader);
                    if vote.is_none() && !self.sabotage.upholds(Rule::V6Adoption) {
                        vote = Some(Tip { round, slot: tip.slot, digest: tip.digest }); // the flip before the chain
                    }
                    if vote.is_some() {
                        let undecided = tip.slot.0 - self.chain.decided.slot.0;
                        self.counters.adoptions += 1;
                        self.counters.adoptions_of_several += u64::from(undecided > 1);
                    }
                    return Ok(Some(vote));
                }
                Some(tip) if tip.slot == self.chain.decided.slot && tip.digest == self.chain.decided.digest => {
                    self.counters.adoptions += 1;
                    return Ok(Some(Some(Tip { round, slot: tip.slot, digest: tip.digest })));
                }
                // Already overtaken in its own view: ignored.
                _ if self.chain.decided.round == round || self.chain.decided.slot == Slot(0) => return Ok(None),
                _ => {
                    let said = base.unwrap_or(Tip { round, slot: Slot(0), digest: self.configuration.cluster });
                    return Err(Halt::Diverged { said, here: self.chain.decided });
                }
            }
        }
        // Without NewView: any proposal of this view whose whole chain is held.
        let proposed: Vec<(Slot, (Digest, MemberId))> = self
            .views
            .proposed
            .range((round, Slot(0))..=(round, Slot(u64::MAX)))
            .map(|((_, slot), named)| (*slot, *named))
            .filter(|(slot, _)| *slot > self.chain.decided.slot)
            .collect();
        for (slot, (digest, named_by)) in proposed {
            if let Some(tip) = self.votable(round, slot, digest, named_by) {
                self.counters.votes_without_new_view += 1;
                return Ok(Some(Some(tip)));
            }
        }
        Ok(Some(None))
    }

    /// The base of a round, if it is known. No claim means the base of the epoch (rules E1, E2): in epoch 0 genesis, which
    /// nobody votes on, in others the end of the epoch before.
    fn base_of(&self, round: Round) -> Option<Claim> {
        let stated = if round.view == View(0) { None } else { *self.views.bases.get(&round)? };
        match stated {
            None => Some(self.epochs.base(round.epoch)),
            stated => Some(stated),
        }
    }

    /// R3, R9: the tip, if its whole chain is valid and held; else what is lacking is noted.
    fn votable(&mut self, round: Round, slot: Slot, digest: Digest, named_by: MemberId) -> Option<Tip> {
        let tip = Tip { round, slot, digest };
        match self.chain.whole(slot, &digest, &self.lanes) {
            Ok(_) => Some(tip),
            Err(Lack::Batches(missing)) => {
                self.lacks.push((Lack::Batches(missing), Some(named_by)));
                (!self.sabotage.upholds(Rule::R3)).then_some(tip)
            }
            Err(Lack::Invalid(what)) => {
                self.misbehaved(named_by, what);
                self.views.proposed.remove(&(round, slot));
                None
            }
            Err(lack) => {
                self.lacks.push((lack, Some(named_by)));
                None
            }
        }
    }

    /// Hands the chain and then the vote to the log; the vote leaves when all of it is durable (R3, R7).
    fn vote_for(&mut self, tip: Tip) {
        if let Ok(path) = self.chain.path(tip.slot, &tip.digest) {
            for (slot, digest) in path {
                self.log_slot(slot, &digest);
            }
        }
        self.counters.votes += 1;
        self.views.claim = Some(tip);
        self.views.votes.insert(tip.slot, tip);
        self.schedule.voted.insert(tip.slot, self.now.instant);
        let voted = Voted { tip, incarnation: self.incarnation };
        self.out.record(Record::Vote(voted), Handed::Vote(tip));
        let early = !self.sabotage.upholds(Rule::R7);
        if early {
            let seal = self.seal_of(&tip);
            self.broadcast(PeerMessage::Vote(Vote { phase: 0, tip, seal }), true);
            self.count(self.me, tip, seal);
        } else {
            self.send_vote(tip);
        }
        if !self.sabotage.upholds(Rule::Undecided) {
            self.act_on_vote(tip);
        }
    }

    /// Rule E1's other half switched off: the configuration changes when the end of the epoch is voted on.
    fn act_on_vote(&mut self, tip: Tip) {
        let candidate = self.chain.candidate(tip.slot, &tip.digest);
        let end = candidate.and_then(|candidate| candidate.entry.epoch_end().cloned());
        if let Some(end) = end.filter(|end| end.next.epoch > self.configuration.epoch) {
            self.act_in(end.next);
            self.enter_epoch();
        }
    }

    /// To all voters. Where two votes decide, a follower has its own and the leader's, so that its hearing of ours is for
    /// the case that the leader's does not come: between followers votes travel in company.
    fn send_vote(&mut self, tip: Tip) {
        let seal = self.seal_of(&tip);
        let vote = self.envelope(PeerMessage::Vote(Vote { phase: 0, tip, seal }));
        let leader = self.leader();
        let patient = self.quorum <= 2 && leader != self.me && self.linked(&leader);
        let until = self.now.instant + VOTE_PATIENCE;
        for to in self.linked_voters() {
            if patient && to != leader {
                self.out.late_in_company(to, vote.clone(), until);
            } else {
                self.out.late(to, vote.clone());
            }
        }
    }

    /// Hands over what is decided and durable here.
    pub(crate) fn deliver(&mut self) {
        while let Some(slot) = self.chain.next_delivery() {
            self.remember_recent(&slot);
            let epoch = slot.epoch;
            if slot.candidate.entry.epoch_end().is_some() {
                self.out.ready.deliver.push(Delivered {
                    first: slot.first,
                    count: 1,
                    slot: slot.slot,
                    epoch,
                    hlc: slot.candidate.entry.hlc,
                    kind: DeliveredKind::EpochEnd,
                    location: slot.candidate.logged.location().unwrap_or_default(),
                    bytes: Some(slot.candidate.bytes.clone()),
                });
            }
            for placed in slot.batches {
                if placed.held.header.origin == self.me {
                    self.answer_ordered(&placed, epoch);
                }
                let (count, location) = (placed.count, placed.held.logged.location());
                if count > 0 {
                    self.out.ready.deliver.push(Delivered {
                        first: placed.first,
                        count,
                        slot: slot.slot,
                        epoch,
                        hlc: placed.hlc,
                        kind: DeliveredKind::Batch(placed.held.header),
                        location: location.unwrap_or_default(), // none only where rule Delivery is switched off
                        bytes: placed.held.bytes,
                    });
                }
            }
            self.feed(slot.slot);
        }
    }

    /// Decided slots from a peer's log, from low to high (V7): they count once they link to our own decided chain, replace
    /// an undecided chain that differs, count as no vote and change no claim.
    pub(crate) fn handle_decided(&mut self, from: MemberId, mark: Tip, slots: Vec<DecidedSlot>) -> Result<(), Halt> {
        self.fetches.answered();
        self.feeds.answered(&from);
        let believed = M::believes(&PeerMessage::Decided { mark, slots: Vec::new() }, 1);
        if !believed || self.disk_full.is_some() || !self.learn_mark(mark, from) {
            return Ok(());
        }
        for slot in slots {
            let number = slot.entry.slot;
            if number <= self.chain.decided.slot || number > mark.slot {
                continue;
            }
            if number > self.chain.decided.slot.next() {
                self.feeds.hold(slot, mark.round);
            } else if !self.take_decided(from, slot, mark.round)? {
                break;
            }
        }
        while let Some((slot, round)) = self.feeds.next_held(self.chain.decided.slot) {
            if !self.take_decided(from, slot, round)? {
                break;
            }
        }
        Ok(())
    }

    /// The slot after the last decided one. False if it does not link, or something of it did not come along.
    fn take_decided(&mut self, from: MemberId, slot: DecidedSlot, round: Round) -> Result<bool, Halt> {
        let DecidedSlot { entry, batches, certificate } = slot;
        if entry.parent != self.chain.decided.digest {
            return Ok(false); // a gap, or another chain; the next request tells which
        }
        for batch in batches {
            self.lanes.admit(batch, Logged::No, true);
        }
        let Some(digest) = self.keep_entry(&entry) else { return Ok(false) };
        self.learn_certificate(from, &entry, certificate)?;
        if self.decide_path(&[(entry.slot, digest)], round)?.is_some() {
            return Ok(false);
        }
        self.counters.slots_by_catchup += 1;
        Ok(true)
    }
}
