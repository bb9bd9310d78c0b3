//! Announcements: ours go out when they are due, those of others are judged, passed on and taken as hints.

use std::time::Instant;

use libp2p::PeerId;
use libp2p::gossipsub::{Message, MessageAcceptance, MessageId};
use tracing::debug;

use super::Switchboard;
use crate::driver::Input;
use crate::net::announcing::Verdict;
use crate::net::gossip::Event;
use crate::net::identity::member_of_peer;
use crate::net::is_loopback_only;
use crate::net::link::weight;
use crate::net::source::Place;
use crate::types::{Announcement, AnnouncementMessage, MemberId, Presence, limits};

impl Switchboard {
    pub(super) fn gossiped(&mut self, event: Event) {
        match event {
            Event::Message { propagation_source, message_id, message } => {
                self.hear_announcement(propagation_source, &message_id, &message);
            }
            Event::Subscribed { .. } => self.announcer.set_listened(self.count_listeners() > 0, Instant::now()),
            _ => {}
        }
    }

    /// A connection closed; perhaps nobody listens any more.
    pub(super) fn note_listeners(&mut self) {
        if self.count_listeners() == 0 {
            self.announcer.set_listened(false, Instant::now());
        }
    }

    pub(super) fn count_listeners(&self) -> usize {
        let listeners = self.swarm.behaviour().gossip.as_ref().map_or(0, |gossip| gossip.listeners());
        self.shared.totals.gossip_listeners.set(listeners as u64);
        listeners
    }

    /// Announces what is due.
    pub(super) fn announce(&mut self) {
        let now = Instant::now();
        if self.stop.is_some() || self.announcer.next_due().is_none_or(|due| due > now) {
            return;
        }
        self.announcer.set_addresses(self.own_addresses(), now);
        for announcement in self.announcer.due(now) {
            let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else { return };
            match gossip.publish(announcement.encode().to_vec()) {
                Ok(()) => self.shared.totals.announced.add(1),
                Err(error) => debug!(%error, "an announcement is not heard by anybody"),
            }
        }
    }

    /// Where we listen may have changed.
    pub(super) fn note_addresses(&mut self) {
        self.announcer.set_addresses(self.own_addresses(), Instant::now());
    }

    /// What the others are told: what the settings say, else where we listen. Addresses of loopback lead nowhere, unless
    /// there are no others.
    fn own_addresses(&self) -> Vec<String> {
        if !self.announced.is_empty() {
            return self.announced.iter().map(ToString::to_string).collect();
        }
        let listen = self.shared.listen.all();
        let near = is_loopback_only(&listen);
        let places = listen.iter().filter_map(Place::of).filter(|place| super::finding::is_of_use(place, near));
        let mut addresses: Vec<String> = places.map(|place| place.address.to_string()).collect();
        addresses.sort();
        addresses
    }

    fn hear_announcement(&mut self, from: PeerId, id: &MessageId, message: &Message) {
        let acceptance = match message.source.as_ref().and_then(member_of_peer) {
            Some(source) => self.judge_announcement(source, from, &message.data),
            None => MessageAcceptance::Reject,
        };
        match acceptance {
            MessageAcceptance::Accept | MessageAcceptance::Ignore => {}
            MessageAcceptance::Reject => {
                self.shared.totals.malformed_announcements.add(1);
                debug!(peer = ?member_of_peer(&from), "what it passes on is no announcement of this group");
            }
        }
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.judge(id, &from, acceptance);
        }
    }

    pub(super) fn judge_announcement(&mut self, source: MemberId, from: PeerId, bytes: &[u8]) -> MessageAcceptance {
        let Ok(announcement) = Announcement::admit(bytes) else { return MessageAcceptance::Reject };
        if announcement.cluster != self.shared.hello.borrow().cluster {
            return MessageAcceptance::Reject;
        }
        // Whoever passed it on may be a member that knows more than we do; then it answers for it.
        let is_known = |member: &MemberId| self.shared.known.contains(member);
        let Some(teller) = Some(source).filter(is_known).or_else(|| member_of_peer(&from).filter(is_known)) else {
            return MessageAcceptance::Ignore;
        };
        if teller != source && !matches!(announcement.message, AnnouncementMessage::EpochHead(_)) {
            return MessageAcceptance::Ignore;
        }
        let verdict = self.announcer.hear(teller, &announcement.message, Instant::now());
        if verdict == Verdict::Drop {
            return MessageAcceptance::Ignore;
        }
        self.shared.totals.heard.add(1);
        match announcement.message {
            AnnouncementMessage::Presence(presence) => self.take_presence(source, &presence),
            // Our own is nothing new.
            head if verdict == Verdict::Take => self.tell_driver(teller, head),
            AnnouncementMessage::EpochHead(_) => {}
        }
        match verdict {
            Verdict::PassOn => MessageAcceptance::Accept,
            Verdict::Take | Verdict::Drop => MessageAcceptance::Ignore,
        }
    }

    fn take_presence(&mut self, source: MemberId, presence: &Presence) {
        let near = is_loopback_only(&self.shared.listen.all());
        let places = presence.addresses.iter().filter_map(|text| Place::of(&text.parse().ok()?));
        let places = places.filter(|place| super::finding::is_of_use(place, near)).take(limits::ADDRESSES_MAX);
        let hints: Vec<Place> = places.map(|place| Place { key: Some(source), ..place }).collect();
        // The first one counts most.
        self.take_hints(hints.into_iter().rev().collect());
    }

    fn tell_driver(&self, from: MemberId, message: AnnouncementMessage) {
        if let AnnouncementMessage::EpochHead(head) = message {
            // Who has no room now learns it by its links.
            let weight = weight(limits::ANNOUNCEMENT_BYTES);
            let Ok(credit) = self.intake.credits.clone().try_acquire_many_owned(weight) else { return };
            let input = Input::Announced { from, epoch: Some(head.epoch), link: Some(Box::new(head.link)) };
            // A driver that has ended needs no news.
            let _ = self.intake.inbox.push(input, Some(Box::new(credit)));
        }
    }
}
