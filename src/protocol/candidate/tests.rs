//! Candidates in words: what one says to what it hears. Whole courses stand in the scenarios.

use super::*;
use crate::types::limits::RULES_VERSION;
use crate::types::{CandidacyRefusal, ClusterLimits, FaultModelKind};

/// Keys that rise with the number.
fn id(number: usize) -> MemberId {
    let draw = |seed: u8| ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
    let mut keys: Vec<[u8; 32]> = (1..=8).map(draw).collect();
    keys.sort();
    MemberId(keys[number - 1])
}

fn settings(number: usize) -> CandidateSettings {
    let limits = ClusterLimits::default();
    CandidateSettings {
        me: id(number),
        name: format!("n{number}"),
        addresses: vec![format!("/ip4/10.0.0.{number}/tcp/7271")],
        cluster: "shop".to_owned(),
        expect: 3,
        common: CommonSettings { model: FaultModelKind::Crash, rules_version: RULES_VERSION, limits, voters_target: 3 },
        nonce: StartNonce(number as u64),
        seed: [number as u8; 32],
        sabotage: Sabotage::NONE,
    }
}

fn at(milliseconds: u64) -> Instant {
    Instant(0) + Duration::from_millis(milliseconds)
}

fn candidate(settings: CandidateSettings) -> Candidate {
    assert_eq!(settings.mistakes(), Vec::<String>::new());
    Candidate::new(settings, None, at(0)).unwrap()
}

/// What a candidate of these settings says of itself.
fn here(settings: &CandidateSettings) -> CandidacyMessage {
    candidate(settings.clone()).here()
}

/// The one answer to an ask.
fn asks(candidate: &mut Candidate, from: usize, message: CandidacyMessage) -> CandidacyMessage {
    let frame = CandidacyFrame::new("shop", 3, message);
    candidate.step(CandidateInput::Asked { from: id(from), frame }, at(10));
    let mut answers = candidate.ready().answers;
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0).1.message
}

/// Three that know each other, of which the first proposes.
fn proposal(candidate: &mut Candidate) -> Genesis {
    for other in [2, 3] {
        asks_quietly(candidate, other);
    }
    let record = candidate.ready().record.expect("it knows enough to propose");
    candidate.step(CandidateInput::Durable, at(20));
    match record.commitment {
        Commitment::Proposed(genesis) => genesis,
        other => panic!("{other:?}"),
    }
}

fn asks_quietly(candidate: &mut Candidate, from: usize) {
    let frame = CandidacyFrame::new("shop", 3, here(&settings(from)));
    candidate.step(CandidateInput::Asked { from: id(from), frame }, at(10));
}

#[test]
fn a_promise_is_given_when_the_disk_has_it_and_not_before() {
    let genesis = proposal(&mut candidate(settings(1)));
    let mut two = candidate(settings(2));
    let frame = CandidacyFrame::new("shop", 3, CandidacyMessage::Propose(genesis.clone()));
    two.step(CandidateInput::Asked { from: id(1), frame }, at(10));
    let ready = two.ready();
    assert_eq!(ready.record.unwrap().commitment, Commitment::Promised(genesis.clone()));
    assert!(ready.answers.is_empty(), "it waits for the disk");
    two.step(CandidateInput::Durable, at(20));
    let answers = two.ready().answers;
    assert_eq!(answers[0].1.message, CandidacyMessage::Promised(genesis.cluster()));
}

#[test]
fn what_is_proposed_has_everybody_by_key_and_no_name_twice() {
    let mut one = candidate(CandidateSettings { name: "n3".to_owned(), ..settings(1) });
    let genesis = proposal(&mut one);
    let names: Vec<&str> = genesis.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["n3", "n2", &format!("n3-{}", id(3).short())]);
    assert_eq!(genesis.members[0].id, id(1));
    assert!(genesis.members.is_sorted_by_key(|member| member.id));
    assert_eq!(genesis.check(), Ok(()));
}

#[test]
fn two_proposals_are_never_alike() {
    let mut one = candidate(settings(1));
    let genesis = proposal(&mut one);
    let mut again = candidate(CandidateSettings { seed: [77; 32], ..settings(1) });
    assert_ne!(proposal(&mut again).cluster(), genesis.cluster());
    one.step(CandidateInput::Tick, at(60_000));
    let ready = one.ready();
    assert_eq!(ready.record.unwrap().commitment, Commitment::Free, "nobody is heard any more");
    one.step(CandidateInput::Durable, at(60_010));
    let stale = Promise { proposer: id(1), cluster: genesis.cluster() };
    let CandidacyMessage::Here(candidacy) = here(&settings(2)) else { panic!() };
    let held = CandidacyMessage::Here(Candidacy { promise: Some(stale), ..candidacy });
    assert_eq!(asks(&mut one, 2, held), CandidacyMessage::Released(genesis.cluster()));
}

#[test]
fn a_proposal_is_refused_for_what_is_wrong_with_it() {
    let good = proposal(&mut candidate(settings(1)));
    let text = |message| match message {
        CandidacyMessage::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    let proposed = |change: &dyn Fn(&mut Genesis)| {
        let mut genesis = good.clone();
        change(&mut genesis);
        text(asks(&mut candidate(settings(2)), 1, CandidacyMessage::Propose(genesis)))
    };
    assert!(proposed(&|genesis| genesis.voters_target = 5).contains("voters_target = 5 there and 3 here"));
    assert!(proposed(&|genesis| genesis.members.swap(0, 1)).contains("not sorted by key"));
    assert!(proposed(&|genesis| drop(genesis.members.pop())).contains("another number of members"));
    assert!(proposed(&|genesis| genesis.members[1].addresses.clear()).contains("as it is now"));
    assert!(proposed(&|genesis| genesis.members[2].name = "n1".to_owned()).contains("two members are named"));
    let mut knows_lower = candidate(settings(3));
    asks(&mut knows_lower, 1, here(&settings(1)));
    let by_two = Genesis { members: good.members[1..].to_vec(), ..good.clone() };
    assert!(text(asks(&mut knows_lower, 2, CandidacyMessage::Propose(by_two))).contains("has a lower key"));
}

#[test]
fn two_processes_with_one_key_are_told_apart_from_a_restart() {
    let mut one = candidate(settings(1));
    let process = |nonce| here(&CandidateSettings { nonce: StartNonce(nonce), ..settings(2) });
    for nonce in [5, 6, 7] {
        assert!(matches!(asks(&mut one, 2, process(nonce)), CandidacyMessage::Here(_)), "it started again");
    }
    let refused = CandidacyMessage::Refused(CandidacyRefusal::TwoProcesses);
    assert_eq!(asks(&mut one, 2, process(6)), refused);
    assert!(one.waiting().to_string().contains("does not count: two_processes"), "{}", one.waiting());
    assert_eq!(asks(&mut one, 1, process(9)), refused, "and so is our own key");
}

#[test]
fn a_genesis_is_believed_only_from_one_that_it_names() {
    let genesis = proposal(&mut candidate(settings(1)));
    let record = |commitment| {
        let cluster = "shop".to_owned();
        Some(CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster, commitment })
    };
    let bound = || Candidate::new(settings(2), record(Commitment::Promised(genesis.clone())), at(0)).unwrap();
    let made = CandidacyMessage::Made(genesis.clone());
    let mut two = bound();
    assert!(matches!(asks(&mut two, 7, made.clone()), CandidacyMessage::Here(_)), "a stranger says so");
    let hearsay = CandidacyMessage::Refused(CandidacyRefusal::Exists(genesis.cluster()));
    assert!(matches!(asks(&mut two, 3, hearsay), CandidacyMessage::Here(_)), "it was told so itself");
    let frame = CandidacyFrame::new("shop", 0, made);
    two.step(CandidateInput::Asked { from: id(3), frame }, at(20));
    assert_eq!(two.ready().record.unwrap().commitment, Commitment::Made(genesis.clone()));
    two.step(CandidateInput::Durable, at(30));
    assert_eq!(two.ready().verdict, Some(CandidateVerdict::Founded(genesis.clone())));

    let mut other = Candidate::new(settings(1), record(Commitment::Promised(genesis.clone())), at(0));
    assert_eq!(other.err(), Some(BadCandidate::NotMine(id(1))), "its own proposal is no promise of another's");
    other = Candidate::new(settings(4), record(Commitment::Made(genesis.clone())), at(0));
    assert_eq!(other.err(), Some(BadCandidate::NotMine(id(4))));
    let elsewhere = CandidateSettings { cluster: "stall".to_owned(), ..settings(2) };
    assert!(Candidate::new(elsewhere.clone(), record(Commitment::Free), at(0)).is_ok(), "it is bound to nothing");
    let refused = Candidate::new(elsewhere, record(Commitment::Promised(genesis)), at(0)).err().unwrap();
    assert!(refused.to_string().contains("belongs to a candidate for the group named `shop`"), "{refused}");
}

#[test]
fn members_of_a_founded_group_tell_what_they_have_to() {
    let genesis = proposal(&mut candidate(settings(1)));
    let group = FoundedGroup { me: id(1), genesis: genesis.clone() };
    let promise = Some(Promise { proposer: id(1), cluster: genesis.cluster() });
    let CandidacyMessage::Here(candidacy) = here(&settings(2)) else { panic!() };
    let held = CandidacyFrame::new("shop", 3, CandidacyMessage::Here(Candidacy { promise, ..candidacy.clone() }));
    let founded = CandidacyMessage::Founded(genesis.cluster());
    assert_eq!(group.answer(id(2), &held).frame.message, CandidacyMessage::Made(genesis.clone()));
    assert_eq!(group.answer(id(5), &held).frame.message, founded, "its genesis does not name that one");
    let free = CandidacyFrame::new("shop", 3, CandidacyMessage::Here(candidacy));
    assert_eq!(group.answer(id(2), &free).frame.message, founded);
    let elsewhere = CandidacyFrame { cluster: "stall".to_owned(), ..free };
    let answer = group.answer(id(2), &elsewhere);
    assert!(matches!(answer.frame.message, CandidacyMessage::Refused(CandidacyRefusal::OtherName { .. })));
    assert_eq!(answer.other_group, None);
    let other = FoundedGroup { me: id(4), genesis: Genesis { nonce: [9; 16], ..genesis } };
    let met = group.answer(id(4), &other.greeting());
    assert_eq!(met.other_group, Some(other.genesis.cluster()));
    assert_eq!(other.other_group(&met.frame), Some(group.genesis.cluster()), "and the other one notices, too");
}

#[test]
fn keys_without_number_are_bounded() {
    let mut one = candidate(settings(1));
    for number in 0..limits::CANDIDATES_MAX as u64 + 50 {
        let mut key = [0xff; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        one.step(CandidateInput::Found(MemberId(key)), at(number));
    }
    assert_eq!(one.ready().asks.len(), limits::CANDIDATES_MAX);
    assert!(one.next_timeout() > at(0));
}
