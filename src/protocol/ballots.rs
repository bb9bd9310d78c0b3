//! Votes, counted plainly (rule R10): per slot, equal votes only, whatever view the counter is in.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::limits;
use crate::types::statement::Tip;
use crate::types::{Certificate, Digest, Epoch, MemberId, Rule, Sabotage, Seal, Slot};

#[derive(Clone, Debug, Default)]
pub(crate) struct Ballots {
    slots: BTreeMap<Slot, BTreeMap<Tip, BTreeMap<MemberId, Option<Seal>>>>,
    sabotage: Sabotage,
}

impl Ballots {
    pub fn new(sabotage: Sabotage) -> Ballots {
        Ballots { slots: BTreeMap::new(), sabotage }
    }

    /// Counts a vote for a slot above `decided`; returns the number of equal votes. Slots too far above are not
    /// counted: whoever is that far behind catches up by decided marks.
    pub fn count(&mut self, voter: MemberId, tip: Tip, seal: Option<Seal>, decided: Slot) -> usize {
        if tip.slot < decided || tip.slot.0 > decided.0 + limits::CANDIDATE_SLOTS {
            return 0;
        }
        let slot = self.slots.entry(tip.slot).or_default();
        let known = slot.entry(tip).or_default().entry(voter).or_default();
        *known = known.or(seal);
        let equal = slot[&tip].len();
        while slot.len() > limits::CANDIDATES_PER_SLOT {
            slot.pop_first(); // Tips sort by round: the oldest goes.
        }
        if !self.sabotage.upholds(Rule::R10) {
            let anybody: BTreeSet<&MemberId> = slot.values().flat_map(BTreeMap::keys).collect();
            return anybody.len();
        }
        equal
    }

    /// The signed votes on this end of an epoch, of the round in which most have signed it.
    pub fn sealed(&self, epoch: Epoch, slot: Slot, digest: &Digest, next: &Digest) -> Option<Certificate> {
        let of_end = |tip: &&Tip| tip.round.epoch == epoch && tip.digest == *digest;
        let tips = self.slots.get(&slot)?.keys().filter(of_end);
        let certificates = tips.map(|tip| Certificate {
            tip: *tip,
            votes: self.slots[&slot][tip]
                .iter()
                .filter_map(|(voter, seal)| Some((*voter, seal.filter(|seal| seal.next == *next)?.signature)))
                .collect(),
        });
        certificates.max_by_key(|certificate| certificate.votes.len())
    }

    /// Forgets the votes below `decided`.
    pub fn decided(&mut self, decided: Slot) {
        self.slots = self.slots.split_off(&decided);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::View;
    use crate::types::statement::Round;

    fn tip(view: u64, slot: u64, digest: u8) -> Tip {
        let round = Round { epoch: Epoch(0), view: View(view) };
        Tip { round, slot: Slot(slot), digest: Digest([digest; 32]) }
    }

    #[test]
    fn only_equal_votes_of_different_voters_add_up() {
        let mut ballots = Ballots::default();
        let [a, b] = [MemberId([1; 32]), MemberId([2; 32])];
        assert_eq!(ballots.count(a, tip(0, 1, 7), None, Slot(0)), 1);
        assert_eq!(ballots.count(a, tip(0, 1, 7), None, Slot(0)), 1, "one voter, one vote");
        assert_eq!(ballots.count(b, tip(0, 1, 8), None, Slot(0)), 1, "another digest");
        assert_eq!(ballots.count(b, tip(1, 1, 7), None, Slot(0)), 1, "another view");
        assert_eq!(ballots.count(b, tip(0, 1, 7), None, Slot(0)), 2);
        assert_eq!(ballots.count(b, tip(0, 200, 7), None, Slot(0)), 0, "too far ahead");
    }
}
