//! The chain of epochs: how far it is proven, and how far the decided chain has come in it (rules E2, E3).

use crate::types::epoch::BadLink;
use crate::types::statement::Tip;
use crate::types::{
    Certificate, Configuration, Digest, Epoch, EpochLink, Genesis, MemberId, Rule, Sabotage, Slot, limits,
};

/// Every epoch that this member can prove.
#[derive(Clone, Debug)]
pub(crate) struct Epochs {
    /// Of epoch 0, 1, 2 …; the first is the genesis'.
    configurations: Vec<Configuration>,
    /// Link e proves epoch e + 1.
    links: Vec<EpochLink>,
    /// The newest epoch in which something is known to be decided.
    pub established: Epoch,
}

/// What came of a link that somebody told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It proves an epoch that could not be proven here before.
    New,
    /// It is known.
    Known,
    /// Links before it are missing.
    Gap,
    /// It does not prove what it should.
    Bad(BadLink),
    /// It proves another epoch than the one proven here: two quorums have signed.
    Fork,
}

impl Epochs {
    pub fn new(genesis: &Genesis) -> Epochs {
        Epochs { configurations: vec![genesis.configuration()], links: Vec::new(), established: Epoch(0) }
    }

    /// The newest epoch that can be proven.
    pub fn newest(&self) -> &Configuration {
        self.configurations.last().expect("there is epoch 0")
    }

    pub fn configuration(&self, epoch: Epoch) -> Option<&Configuration> {
        self.configurations.get(usize::try_from(epoch.0).ok()?)
    }

    /// The proof that this epoch ended.
    pub fn end_of(&self, epoch: Epoch) -> Option<&EpochLink> {
        self.links.get(usize::try_from(epoch.0).ok()?)
    }

    /// The slot and digest on which this epoch starts: the end of the one before it.
    pub fn base(&self, epoch: Epoch) -> Option<Tip> {
        let before = epoch.0.checked_sub(1)?;
        self.end_of(Epoch(before)).map(|link| link.certificate.tip)
    }

    /// The certificate of the end of an epoch in this slot.
    pub fn certificate_at(&self, slot: Slot) -> Option<&Certificate> {
        let place = self.links.binary_search_by_key(&slot, |link| link.certificate.tip.slot).ok()?;
        Some(&self.links[place].certificate)
    }

    /// Whether this is the proven end of an epoch.
    pub fn proves(&self, epoch: Epoch, slot: Slot, digest: &Digest) -> bool {
        self.end_of(epoch)
            .is_some_and(|link| (link.certificate.tip.slot, link.certificate.tip.digest) == (slot, *digest))
    }

    /// What follows that epoch, as much as goes into one answer.
    pub fn after(&self, epoch: Epoch) -> Vec<EpochLink> {
        let from = usize::try_from(epoch.0).unwrap_or(usize::MAX).min(self.links.len());
        self.links[from..].iter().take(limits::DOOR_LINKS).cloned().collect()
    }

    /// Takes the proof that `ends` ended, and of what follows. One's own log vouches for what it holds: `trusted`.
    pub fn learn(&mut self, ends: Epoch, link: EpochLink, trusted: bool, sabotage: &Sabotage) -> Learned {
        let Ok(place) = usize::try_from(ends.0) else { return Learned::Gap };
        let Some(before) = self.configurations.get(place) else { return Learned::Gap };
        if self.is_known(place, &link) {
            return Learned::Known; // signatures cost time, and anybody may repeat what is known
        }
        let next = match trusted || !sabotage.upholds(Rule::E3) {
            true => link.next(ends),
            false => link.verify(before),
        };
        let next = match next {
            Ok(next) => next,
            Err(bad) => return Learned::Bad(bad),
        };
        match self.configurations.get(place + 1) {
            Some(_) => Learned::Fork,
            None => {
                self.configurations.push(next);
                self.links.push(link);
                Learned::New
            }
        }
    }

    /// Certificates of one end may be of different views and voters; the entry is one.
    fn is_known(&self, place: usize, link: &EpochLink) -> bool {
        self.links.get(place).is_some_and(|known| {
            let (ours, theirs) = (&known.certificate.tip, &link.certificate.tip);
            (ours.slot, ours.digest) == (theirs.slot, theirs.digest)
                && (&known.parent, &known.entry) == (&link.parent, &link.entry)
        })
    }

    /// Every epoch with its proof.
    pub fn iter(&self) -> impl Iterator<Item = (&Configuration, Option<&EpochLink>)> {
        let proofs = std::iter::once(None).chain(self.links.iter().map(Some));
        self.configurations.iter().zip(proofs)
    }

    /// Whether this key votes in an epoch that is proven beyond that one.
    pub fn votes_later(&self, member: &MemberId, than: Epoch) -> bool {
        let from = usize::try_from(than.0).unwrap_or(usize::MAX).saturating_add(1);
        self.configurations.get(from..).is_some_and(|later| later.iter().any(|epoch| epoch.voters.contains(member)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::statement::Round;
    use crate::types::{
        ClusterLimits, Entry, EntryBody, EpochEnd, FaultModelKind, GenesisMember, Hlc, Seal, View, chain_digest,
    };
    use ed25519_dalek::SigningKey;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn id(number: u8) -> MemberId {
        MemberId(key(number).verifying_key().to_bytes())
    }

    fn epochs() -> Epochs {
        let member = |number| GenesisMember { name: format!("n{number}"), id: id(number), addresses: Vec::new() };
        Epochs::new(&Genesis {
            name: "test".to_owned(),
            nonce: [0; 16],
            model: FaultModelKind::Crash,
            rules_version: 0,
            members: (1..=3).map(member).collect(),
            limits: ClusterLimits::default(),
            voters_target: 3,
        })
    }

    /// The end of epoch 0 with these voters in the next one, signed by 1 and 2.
    fn end(before: &Configuration, voters: [u8; 3], view: u64) -> EpochLink {
        let next = Configuration { epoch: Epoch(1), voters: voters.map(id).to_vec(), ..before.clone() };
        let digest = next.digest();
        let entry = Entry { hlc: Hlc(5), body: EntryBody::EpochEnd(EpochEnd { next }) }.encode();
        let (parent, slot) = (Digest([9; 32]), Slot(4));
        let round = Round { epoch: Epoch(0), view: View(view) };
        let tip = Tip { round, slot, digest: chain_digest(&before.cluster, &parent, slot, &entry) };
        let mut votes: Vec<_> =
            [1, 2].map(|number| (id(number), Seal::sign(&key(number), before, &tip, digest).signature)).to_vec();
        votes.sort_unstable();
        EpochLink { parent, entry, certificate: Certificate { tip, votes } }
    }

    #[test]
    fn an_end_is_learnt_once_whatever_view_it_was_signed_in() {
        let mut epochs = epochs();
        let before = epochs.newest().clone();
        let link = end(&before, [1, 2, 4], 0);
        assert_eq!(epochs.learn(Epoch(1), link.clone(), false, &Sabotage::NONE), Learned::Gap);
        assert_eq!(epochs.learn(Epoch(u64::MAX), link.clone(), false, &Sabotage::NONE), Learned::Gap);
        assert_eq!(epochs.learn(Epoch(0), link.clone(), false, &Sabotage::NONE), Learned::New);
        assert_eq!(epochs.learn(Epoch(0), end(&before, [1, 2, 4], 7), false, &Sabotage::NONE), Learned::Known);
        assert_eq!(epochs.newest().epoch, Epoch(1));
        assert!(epochs.proves(Epoch(0), Slot(4), &link.certificate.tip.digest));
        assert!(epochs.votes_later(&id(4), Epoch(0)) && !epochs.votes_later(&id(3), Epoch(0)));
    }

    #[test]
    fn two_signed_ends_of_one_epoch_are_a_fork_and_a_forged_one_is_not() {
        let mut epochs = epochs();
        let before = epochs.newest().clone();
        assert_eq!(epochs.learn(Epoch(0), end(&before, [1, 2, 4], 0), false, &Sabotage::NONE), Learned::New);
        let mut forged = end(&before, [1, 2, 5], 0);
        forged.certificate.votes.pop();
        assert!(matches!(epochs.learn(Epoch(0), forged, false, &Sabotage::NONE), Learned::Bad(_)));
        assert_eq!(epochs.learn(Epoch(0), end(&before, [1, 2, 5], 0), false, &Sabotage::NONE), Learned::Fork);
    }
}
