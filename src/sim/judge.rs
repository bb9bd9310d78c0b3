//! What becomes of everything a member did in a turn or a start: it is written into the digest of the run, counted, told,
//! and compared with the checkers, in order.

use std::sync::Arc;

use bytes::Bytes;

use super::check::{Promises, Violation, What, Wish, Witness};
use super::clock::Moment;
use super::group::Group;
use super::shell::Effect;
use super::stage::{Act, Stage};
use crate::types::peer::Envelope;
use crate::types::record::EntryRecord;
use crate::types::{
    Command, Delivered, DeliveredKind, Digest, Incarnation, Location, Outcome, PeerMessage, Record, Rejection, Ticket,
};

impl Stage {
    /// Judges everything a member did in a turn or a start, in order.
    pub(super) fn judge(&mut self, member: usize) -> Result<Vec<(Moment, Act)>, Violation> {
        let mut acts = Vec::new();
        let mut said: Option<Arc<Envelope>> = None;
        for (at, effect) in self.nodes[member].effects() {
            match effect {
                Effect::Durable { file, offset, bytes } => {
                    self.follow_with(at, member, 3, &[file.as_bytes(), &offset.to_le_bytes(), &bytes]);
                    let node = &self.nodes[member];
                    let found = self.storages[member].durable(&file, offset, &bytes, |name| node.contents(name));
                    self.durable(member, at, found)?;
                }
                Effect::Settled { file, contents } => {
                    self.follow_with(at, member, 8, &[file.as_bytes(), &contents]);
                    let found = self.storages[member].settled(&file, &contents);
                    self.durable(member, at, found)?;
                }
                Effect::Send { to, envelope } => {
                    // What goes to several members at once is encoded once.
                    let again = said.as_ref().is_some_and(|said| Arc::ptr_eq(said, &envelope));
                    let bytes = if again { Bytes::new() } else { envelope.encode() };
                    self.follow_with(at, member, 4, &[&to.0, &bytes]);
                    self.sent(member, &envelope, again)?;
                    said = Some(envelope.clone());
                    if let Some(to) = self.group.index(&to) {
                        acts.push((at, Act::Send { to, envelope }));
                    }
                }
                Effect::Refuse { peer, nonce, reason } => {
                    let whom = [&peer.0[..], &nonce.0.to_le_bytes()].concat();
                    self.follow_with(at, member, 9, &[&whom, reason.to_string().as_bytes()]);
                    self.chart.note(at, member, format!("refuses {}: {reason}", peer.short()));
                    if let Some(peer) = self.group.index(&peer).filter(|peer| self.nodes[*peer].nonce() == nonce) {
                        acts.push((at, Act::Refuse { peer, reason }));
                    }
                }
                Effect::Door { to, message } => {
                    let bytes = minicbor::to_vec(&message).expect("memory is writable");
                    self.follow_with(at, member, 10, &[&to.0, &bytes]);
                    self.statements.told(member, &to, &message, &mut self.agreement)?;
                    if let Some(to) = self.group.index(&to) {
                        acts.push((at, Act::Door { to, message }));
                    }
                }
                Effect::Serve(request) => acts.push((at, Act::Serve(request))),
                Effect::Deliver(delivered) => {
                    for delivered in &delivered {
                        self.delivered(member, at, delivered)?;
                    }
                }
                Effect::Answer(outcomes) => {
                    for (ticket, outcome) in outcomes {
                        self.answered(member, at, ticket, &outcome)?;
                        if !matches!(self.promises.wish(ticket), Wish::Publish(..)) {
                            acts.push((at, Act::Answer { ticket, outcome }));
                        }
                    }
                }
            }
        }
        self.greets(member)?;
        Ok(acts)
    }

    /// What hellos of new links say from now on: nobody may have heard it yet, but somebody soon will.
    fn greets(&self, member: usize) -> Result<(), Violation> {
        let shell = self.nodes[member].shell.lock();
        match shell.hello.as_ref().filter(|_| !shell.dead) {
            Some(hello) => self.statements.greets(member, hello, &self.agreement),
            None => Ok(()),
        }
    }

    /// Records became durable: each is judged by what every disk holds by now.
    fn durable(
        &mut self,
        member: usize,
        at: Moment,
        found: Result<Vec<(Location, Record)>, String>,
    ) -> Result<(), Violation> {
        let found = found.map_err(|text| Violation::new("log", format!("member {}: {text}", member + 1)))?;
        for (_, record) in found {
            if let Record::Voter(voter) = &record
                && self.agreement.voter(member).is_none_or(|earlier| earlier.round < voter.round)
            {
                self.chart.note(at, member, format!("enters {}", voter.round));
                self.notice(at, member, || format!("{} enters {}", member + 1, voter.round));
                self.statements.enters(member, voter.round, &self.agreement)?;
                self.coverage.views_entered += u64::from(voter.round.view.0 > 0);
            }
            self.agreement.durable(member, &record)?;
        }
        Ok(())
    }

    fn sent(&mut self, member: usize, envelope: &Envelope, again: bool) -> Result<(), Violation> {
        let coverage = &mut self.coverage;
        match &envelope.message {
            PeerMessage::FetchBatches { .. } => coverage.fetches_of_batches += 1,
            PeerMessage::FetchLane { .. } => coverage.fetches_of_lanes += 1,
            PeerMessage::FetchChain { .. } => coverage.fetches_of_chains += 1,
            PeerMessage::FetchDecided { .. } => coverage.fetches_of_decided += 1,
            PeerMessage::Epochs { .. } => coverage.chains_by_link += 1,
            PeerMessage::Proposal { entry, .. } => {
                let end = entry.entry.0.epoch_end().filter(|end| !self.ends_proposed.contains(&end.next));
                self.ends_proposed.extend(end.map(|end| end.next.clone()));
            }
            _ => {}
        }
        if again {
            return Ok(());
        }
        self.statements.sent(member, envelope, &mut self.agreement, &self.storages[member])
    }

    fn delivered(&mut self, member: usize, at: Moment, delivered: &Delivered) -> Result<(), Violation> {
        let read;
        let bytes: &[u8] = match &delivered.bytes {
            Some(bytes) => bytes,
            None => {
                read = self.read_back(member, delivered);
                &read
            }
        };
        let place = [delivered.first.0, delivered.slot.0, delivered.hlc.0].map(u64::to_le_bytes);
        self.follow_with(at, member, 5, &[place.as_flattened(), bytes]);
        let head = self.sequence.head();
        let witness = Witness { agreement: &self.agreement, storage: &self.storages[member] };
        self.sequence.delivered(member, delivered, bytes, &witness, &mut self.promises)?;
        if self.notices.is_some() {
            let told = self.tell_delivered(member, delivered, bytes);
            self.notice(at, member, || told);
        }
        if self.sequence.head() > head {
            self.coverage.ordered += delivered.count;
            self.note_early(delivered, bytes);
            self.note_event(self.sequence.rows(member) - 1);
        }
        Ok(())
    }

    /// What the log has of something that is delivered while it is read: a batch, or an entry.
    fn read_back(&self, member: usize, delivered: &Delivered) -> Vec<u8> {
        let payload = self.nodes[member].read(&delivered.location).unwrap_or_default();
        match delivered.kind {
            DeliveredKind::Batch(_) => payload,
            DeliveredKind::EpochEnd => EntryRecord::read(&payload).map_or(payload, |record| record.entry.to_vec()),
        }
    }

    /// A batch that its origin sent early and then lost in a crash was ordered all the same.
    fn note_early(&mut self, delivered: &Delivered, bytes: &[u8]) {
        let Some(header) = delivered.header() else { return };
        let origin = self.group.index(&header.origin).expect("checked when it was delivered");
        let lost = !self.storages[origin].holds_batch(&Digest::of("batch", bytes));
        let later: Incarnation = self.agreement.incarnation(origin);
        if lost && (later > header.incarnation || !self.nodes[origin].runs()) {
            self.coverage.early_batches_ordered += 1;
        }
    }

    /// A member event is delivered for the first time anywhere.
    fn note_event(&mut self, row: usize) {
        let coverage = &mut self.coverage;
        match &self.agreement.order.rows[row].what {
            What::Messages { .. } => {}
            What::EpochEnd(_) => coverage.epochs_ended += 1,
            What::Command { command, .. } => match &**command {
                Command::Invite { .. } => coverage.invited += 1,
                Command::JoinIntent { .. } => coverage.joined += 1,
                Command::LeaveIntent => coverage.left += 1,
                Command::RemoveIntent { .. } => coverage.removed += 1,
                Command::Configure { .. } => coverage.configured += 1,
                Command::Suspect { .. } => coverage.suspected += 1,
                Command::Unsuspect { .. } => coverage.unsuspected += 1,
                Command::Ready { .. } => coverage.ready += 1,
                Command::Move { .. } => coverage.moved += 1,
            },
        }
    }

    fn answered(&mut self, member: usize, at: Moment, ticket: Ticket, outcome: &Outcome) -> Result<(), Violation> {
        self.follow_with(at, member, 6, &[&ticket.0.to_le_bytes(), format!("{outcome:?}").as_bytes()]);
        let coverage = &mut self.coverage;
        match outcome {
            Outcome::Accepted { id } => {
                coverage.answered_accepted += 1;
                if !self.storages[member].holds_message(id) {
                    let text = format!("member {} accepted {id}, which is not on its disk", member + 1);
                    return Err(Violation::new("R7", text));
                }
            }
            Outcome::Ordered { .. } => coverage.answered_ordered += 1,
            Outcome::WithoutEffect { .. } => coverage.answered_without_effect += 1,
            Outcome::Left => self.let_go(member)?,
            Outcome::Rejected(Rejection::DiskFull(_)) => coverage.refused_disk_full += 1,
            Outcome::Rejected(Rejection::Gone(_)) => coverage.refused_gone += 1,
            Outcome::Rejected(Rejection::Membership { .. }) => coverage.refused_membership += 1,
            Outcome::Rejected(_) => coverage.answered_rejected += 1,
            Outcome::OutcomeUnknown { .. } => coverage.answered_unknown += 1,
        }
        if self.notices.is_some() {
            let said = self.tell_wish(ticket);
            self.notice(at, member, || format!("{} answers {said}: {}", member + 1, tell_outcome(outcome)));
        }
        self.without_effect(member, ticket, outcome)?;
        self.sequence.told(member, outcome, &self.agreement.order.rows)?;
        self.promises.answered(member, self.nodes[member].starts, ticket, outcome)
    }

    /// A member is told that it has left: the order says so, and if it voted, an epoch without it is established (rule E2).
    fn let_go(&mut self, member: usize) -> Result<(), Violation> {
        let fails = |rule, text: String| Err(Violation::new(rule, format!("member {} was let go, {text}", member + 1)));
        let id = self.group.id(member);
        let (order, epochs) = (&self.agreement.order, &self.agreement.epochs);
        if order.membership.departure(&id).is_none() {
            return fails("membership", "and the order has not let it go".to_owned());
        }
        let established = epochs.newest_established();
        if established.configuration.voters.contains(&id) {
            let epoch = established.configuration.epoch;
            return fails("E2", format!("and it votes in epoch {epoch}, the newest that is established"));
        }
        Ok(())
    }

    /// A command is said to have changed nothing: one like it was decided in that member's lane and did not.
    fn without_effect(&self, member: usize, ticket: Ticket, outcome: &Outcome) -> Result<(), Violation> {
        let (Outcome::WithoutEffect { .. }, Wish::Command(wished)) = (outcome, self.promises.wish(ticket)) else {
            return Ok(());
        };
        let decided = &self.agreement.order.commands;
        if decided.iter().any(|it| it.origin == member && *it.command == *wished && !it.has_effect) {
            return Ok(());
        }
        Err(Violation::new("answers", format!("member {} answered {outcome:?} to {wished:?}", member + 1)))
    }

    fn tell_wish(&self, ticket: Ticket) -> String {
        match self.promises.wish(ticket) {
            Wish::Publish(_, message) => Promises::says(&message.body),
            Wish::Command(command) => tell_command(&self.group, None, command),
            Wish::Leave => "leave".to_owned(),
        }
    }

    fn tell_delivered(&self, member: usize, delivered: &Delivered, bytes: &[u8]) -> String {
        let last = delivered.first.0 + delivered.count - 1;
        let place = match delivered.count {
            1 => format!("{} delivers {}", member + 1, delivered.first),
            _ => format!("{} delivers {}..{last}", member + 1, delivered.first),
        };
        let row = &self.agreement.order.rows[self.sequence.rows(member) - 1];
        if let Some(event) = tell_event(&self.group, &row.what) {
            return format!("{place}: {event}");
        }
        match crate::types::batch::messages(bytes) {
            Ok(messages) if delivered.count <= TOLD_MAX => {
                let said: Vec<String> = messages.iter().map(|message| Promises::says(&message.body)).collect();
                format!("{place}: {}", said.join(" "))
            }
            _ => format!("{place}: {} messages", delivered.count),
        }
    }
}

/// Messages of one batch that are told one by one.
const TOLD_MAX: u64 = 6;

/// A member event in one word, as `+joined(4)`.
pub fn tell_event(group: &Group, what: &What) -> Option<String> {
    match what {
        What::Messages { .. } => None,
        What::Command { origin, command, .. } => Some(tell_command(group, Some(*origin), command)),
        What::EpochEnd(next) => {
            let voters: Vec<String> = next.voters.iter().map(|voter| group.tell(voter)).collect();
            Some(format!("+epoch{}({})", next.epoch, voters.join(",")))
        }
    }
}

fn tell_command(group: &Group, origin: Option<usize>, command: &Command) -> String {
    let by = origin.map_or(String::new(), |origin| (origin + 1).to_string());
    match command {
        Command::Invite { .. } => "+invited".to_owned(),
        Command::JoinIntent { member, .. } => format!("+joined({})", group.tell(member)),
        Command::LeaveIntent => format!("+left({by})"),
        Command::RemoveIntent { member } => format!("+removed({})", group.tell(member)),
        Command::Configure { voters_target: Some(target), .. } => format!("+voters({target})"),
        Command::Configure { .. } => "+limits".to_owned(),
        Command::Suspect { member } => format!("+suspected({},by{by})", group.tell(member)),
        Command::Unsuspect { member } => format!("+unsuspected({},by{by})", group.tell(member)),
        Command::Ready { .. } => format!("+ready({by})"),
        Command::Move { .. } => format!("+moved({by})"),
    }
}

fn tell_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { .. } => "accepted".to_owned(),
        Outcome::Ordered { position, .. } => format!("ordered at {position}"),
        Outcome::Rejected(reason) => format!("rejected: {reason}"),
        Outcome::OutcomeUnknown { .. } => "outcome unknown".to_owned(),
        Outcome::WithoutEffect { reason } => format!("without effect: {reason}"),
        Outcome::Left => "left".to_owned(),
    }
}
