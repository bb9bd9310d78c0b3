//! The chain of epochs that the decided entries make, and every word about it that was ever said or written.

use std::collections::BTreeSet;

use crate::sim::group::Group;
use crate::types::{Configuration, Digest, Epoch, EpochLink, MemberId, Round, Slot, Tip};

/// The epochs that quorums' disks decided.
pub struct Epochs {
    group: Group,
    epochs: Vec<EpochState>,
    /// Links that were checked, by the epoch they end and the digest of their bytes.
    checked: BTreeSet<(Epoch, Digest)>,
}

/// One epoch.
pub struct EpochState {
    /// Who votes in it and by which rules.
    pub configuration: Configuration,
    /// Digest of that.
    pub digest: Digest,
    /// The slot that ended the epoch before, or genesis.
    pub base: Slot,
    /// The chain's digest there.
    pub base_digest: Digest,
    /// Its voters, one bit each.
    pub voters: u32,
    /// Something was decided in it (rule E2).
    pub established: bool,
}

impl Epochs {
    /// The first epoch of a group.
    pub fn new(group: &Group) -> Epochs {
        let mut epochs = Epochs { group: group.clone(), epochs: Vec::new(), checked: BTreeSet::new() };
        epochs.begin(group.genesis.configuration(), Slot(0), group.cluster);
        epochs.epochs[0].established = true;
        epochs
    }

    /// An epoch is decided.
    pub fn begin(&mut self, configuration: Configuration, base: Slot, base_digest: Digest) {
        let bit = |id: &MemberId| self.group.index(id).map_or(0, |index| 1 << index);
        let voters = configuration.voters.iter().map(bit).sum();
        let digest = configuration.digest();
        self.epochs.push(EpochState { configuration, digest, base, base_digest, voters, established: false });
    }

    /// One of them, if it is decided.
    pub fn at(&self, epoch: Epoch) -> Option<&EpochState> {
        self.epochs.get(epoch.0 as usize)
    }

    /// The newest.
    pub fn newest(&self) -> &EpochState {
        self.epochs.last().expect("there is the first")
    }

    /// The newest that is established.
    pub fn newest_established(&self) -> &EpochState {
        self.epochs.iter().rfind(|epoch| epoch.established).expect("the first is")
    }

    /// The epoch that a decided slot, or the one after the decided ones, belongs to; the end of an epoch belongs to it.
    pub fn of_slot(&self, slot: Slot) -> Epoch {
        let later = self.epochs.iter().rev().find(|epoch| epoch.base < slot);
        later.map_or(Epoch(0), |epoch| epoch.configuration.epoch)
    }

    /// Something was decided in an epoch. Whether that was the first time.
    pub fn establish(&mut self, epoch: Epoch) -> bool {
        let state = &mut self.epochs[epoch.0 as usize];
        !std::mem::replace(&mut state.established, true)
    }

    /// Whether a member votes in that epoch; none votes in one that is not decided.
    pub fn votes(&self, member: usize, epoch: Epoch) -> bool {
        self.at(epoch).is_some_and(|state| state.voters >> member & 1 == 1)
    }

    /// Whether a member is the leader of a round.
    pub fn leads(&self, member: usize, round: Round) -> bool {
        self.at(round.epoch).is_some_and(|state| state.configuration.leader(round.view) == self.group.id(member))
    }

    /// Rule E3: a link is of the one chain, and a quorum of the voters it names signed it, each of whom holds that vote on
    /// its disk.
    pub fn check_link(
        &mut self,
        ends: Epoch,
        link: &EpochLink,
        voted: impl Fn(&MemberId, &Tip) -> bool,
    ) -> Result<(), String> {
        let name = (ends, Digest::of("simulated link", &minicbor::to_vec(link).expect("memory is writable")));
        if self.checked.contains(&name) {
            return Ok(());
        }
        let before = self.at(ends).ok_or_else(|| format!("epoch {ends} itself is not decided"))?;
        link.verify(&before.configuration).map_err(|error| error.to_string())?;
        let tip = link.certificate.tip;
        let next = self.at(ends.next()).ok_or_else(|| format!("no quorum's disks ended epoch {ends}"))?;
        if (next.base, next.base_digest) != (tip.slot, tip.digest) {
            return Err(format!("a fork: epoch {ends} ended in slot {}, not with {tip}", next.base));
        }
        if let Some((voter, _)) = link.certificate.votes.iter().find(|(voter, _)| !voted(voter, &tip)) {
            return Err(format!("{} did not vote for {tip}", voter.short()));
        }
        self.checked.insert(name);
        Ok(())
    }

    /// As [`Epochs::check_link`], for links from epoch `from` on.
    pub fn check_chain(
        &mut self,
        from: Epoch,
        links: &[EpochLink],
        voted: impl Fn(&MemberId, &Tip) -> bool,
    ) -> Result<(), String> {
        let ends = (from.0..).map(Epoch);
        ends.zip(links).try_for_each(|(ends, link)| self.check_link(ends, link, &voted))
    }
}
