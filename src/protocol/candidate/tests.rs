//! Candidates in words: what one says to what it hears. Whole courses stand in the scenarios.

use super::*;
use crate::types::limits::RULES_VERSION;
use crate::types::{CandidacyRefusal, ClusterLimits, Digest, FaultModelKind};

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
        addresses: vec![address(number)],
        is_address: |text| text.starts_with("/ip4/"),
        cluster: "shop".to_owned(),
        expect: 3,
        common: CommonSettings { model: FaultModelKind::Crash, rules_version: RULES_VERSION, limits, voters_target: 3 },
        nonce: StartNonce(number as u64),
        seed: [number as u8; 32],
        sabotage: Sabotage::NONE,
    }
}

fn address(number: usize) -> String {
    format!("/ip4/10.0.0.{number}/tcp/7271")
}

fn at(milliseconds: u64) -> Instant {
    Instant(0) + Duration::from_millis(milliseconds)
}

fn candidate(settings: CandidateSettings) -> Candidate {
    assert_eq!(settings.mistakes(), Vec::<String>::new());
    Candidate::new(settings, None, at(0)).unwrap()
}

/// What an earlier process left.
fn record(commitment: Commitment) -> Option<CommitmentRecord> {
    Some(CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster: "shop".to_owned(), commitment })
}

/// One that starts again, bound to that.
fn restored(settings: CandidateSettings, commitment: Commitment) -> Candidate {
    Candidate::new(settings, record(commitment), at(0)).unwrap()
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

/// One that has heard another.
fn knows(number: usize, other: usize) -> Candidate {
    let mut knows = candidate(settings(number));
    asks(&mut knows, other, here(&settings(other)));
    knows
}

fn asks_quietly(candidate: &mut Candidate, from: usize) {
    hears(candidate, from, here(&settings(from)), 10);
}

/// An ask; what comes of it stays to be looked at.
fn hears(candidate: &mut Candidate, from: usize, message: CandidacyMessage, milliseconds: u64) {
    let frame = CandidacyFrame::new("shop", 3, message);
    candidate.step(CandidateInput::Asked { from: id(from), frame }, at(milliseconds));
}

/// What its disk is to hold next.
fn writes(candidate: &mut Candidate) -> Option<Commitment> {
    candidate.ready().record.map(|record| record.commitment)
}

#[test]
fn a_promise_is_given_when_the_disk_has_it_and_not_before() {
    let genesis = proposal(&mut candidate(settings(1)));
    let mut two = candidate(settings(2));
    let propose = CandidacyMessage::Propose(genesis.clone());
    assert!(matches!(asks(&mut two, 1, propose.clone()), CandidacyMessage::Here(_)), "it has not said who it is");
    asks_quietly(&mut two, 1);
    two.ready();
    let frame = CandidacyFrame::new("shop", 3, propose);
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
        text(asks(&mut knows(2, 1), 1, CandidacyMessage::Propose(genesis)))
    };
    assert!(proposed(&|genesis| genesis.voters_target = 5).contains("voters_target = 5 there and 3 here"));
    assert!(proposed(&|genesis| genesis.members.swap(0, 1)).contains("not sorted by key"));
    assert!(proposed(&|genesis| drop(genesis.members.pop())).contains("another number of members"));
    assert!(proposed(&|genesis| genesis.members[1].addresses.clear()).contains("as it is now"));
    assert!(proposed(&|genesis| genesis.members[1].addresses.push(address(7))).contains("as it is now"));
    let rubbish = proposed(&|genesis| genesis.members[2].addresses.push("rubbish".to_owned()));
    assert!(rubbish.contains("`rubbish` is no address of a mesh"), "{rubbish}");
    assert!(proposed(&|genesis| genesis.members[2].addresses.clear()).contains("nobody reaches it"));
    assert!(proposed(&|genesis| genesis.members[2].name = "n1".to_owned()).contains("two members are named"));
    let mut knows_lower = knows(3, 1);
    asks(&mut knows_lower, 2, here(&settings(2)));
    let by_two = Genesis { members: good.members[1..].to_vec(), ..good.clone() };
    assert!(text(asks(&mut knows_lower, 2, CandidacyMessage::Propose(by_two))).contains("has a lower key"));
}

#[test]
fn who_has_no_address_to_be_dialled_at_does_not_count() {
    let mut one = candidate(settings(1));
    for (addresses, words) in [
        (vec![address(2), "rubbish".to_owned()], "`rubbish` is no address of a mesh"),
        (Vec::new(), "without an address nobody reaches it"),
    ] {
        let odd = CandidateSettings { addresses, ..settings(2) };
        assert!(odd.mistakes().iter().any(|mistake| mistake.contains(words)), "{:?}", odd.mistakes());
        let said = Candidate::new(odd, None, at(0)).unwrap().here();
        match asks(&mut one, 2, said) {
            CandidacyMessage::Refused(CandidacyRefusal::Unusable(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{other:?}"),
        }
        assert!(one.waiting().candidates.len() == 1 && one.waiting().to_string().contains(words), "{}", one.waiting());
    }
}

#[test]
fn an_address_that_two_have_is_left_out_and_who_has_no_other_is_told() {
    let bridge = || "/ip4/172.17.0.1/tcp/7271".to_owned();
    let bridged = |number| CandidateSettings { addresses: vec![bridge(), address(number)], ..settings(number) };
    let mut one = candidate(bridged(1));
    for other in [2, 3] {
        hears(&mut one, other, here(&bridged(other)), 10);
    }
    let Some(Commitment::Proposed(genesis)) = writes(&mut one) else { panic!() };
    let addresses: Vec<String> = genesis.members.iter().flat_map(|member| member.addresses.clone()).collect();
    assert_eq!(addresses, [1, 2, 3].map(address));
    let mut two = candidate(bridged(2));
    asks(&mut two, 1, here(&bridged(1)));
    hears(&mut two, 1, CandidacyMessage::Propose(genesis.clone()), 10);
    assert_eq!(writes(&mut two), Some(Commitment::Promised(genesis)));

    let alone = CandidateSettings { addresses: vec![bridge()], ..settings(3) };
    for number in [1, 2] {
        let mut told = candidate(bridged(number));
        asks(&mut told, 3 - number, here(&bridged(3 - number)));
        hears(&mut told, 3, here(&alone), 10);
        let words = told.waiting().to_string();
        assert!(words.contains("has no address of its own") && words.contains("set mesh.announce"), "{words}");
        assert_eq!(writes(&mut told), None);
    }
}

#[test]
fn addresses_in_another_order_are_no_move() {
    let both = vec![address(2), address(7)];
    let two = |addresses: &[String]| CandidateSettings { addresses: addresses.to_vec(), ..settings(2) };
    let mut one = candidate(settings(1));
    hears(&mut one, 2, here(&two(&both)), 10);
    hears(&mut one, 3, here(&settings(3)), 10);
    assert!(writes(&mut one).is_some());
    one.step(CandidateInput::Durable, at(20));
    hears(&mut one, 2, here(&two(&[address(7), address(2)])), 20);
    assert_eq!(writes(&mut one), None, "the proposal stands");
    hears(&mut one, 2, here(&two(&[address(7)])), 30);
    assert_eq!(writes(&mut one), Some(Commitment::Free), "it has one no more");
}

#[test]
fn who_is_elsewhere_gives_its_proposal_up_and_says_so() {
    let mut one = candidate(settings(1));
    proposal(&mut one);
    let moved = CandidateSettings { addresses: vec![address(9)], ..settings(1) };
    one.step(CandidateInput::Moved(moved.addresses.clone()), at(30));
    assert_eq!(writes(&mut one), Some(Commitment::Free));
    one.step(CandidateInput::Durable, at(40));
    match writes(&mut one) {
        Some(Commitment::Proposed(genesis)) => assert_eq!(genesis.members[0].addresses, moved.addresses),
        other => panic!("{other:?}"),
    }
    one.step(CandidateInput::Durable, at(50));
    let told = asks(&mut one, 7, here(&CandidateSettings { me: id(7), ..settings(2) }));
    assert!(matches!(told, CandidacyMessage::Here(Candidacy { addresses, .. }) if addresses == moved.addresses));
}

#[test]
fn who_moves_while_the_disk_works_gives_up_what_it_proposes_and_not_what_is_made() {
    let mut one = candidate(settings(1));
    [2, 3].into_iter().for_each(|other| asks_quietly(&mut one, other));
    assert!(matches!(writes(&mut one), Some(Commitment::Proposed(_))));
    one.step(CandidateInput::Moved(vec![address(9)]), at(15));
    assert_eq!(writes(&mut one), None, "one record at a time");
    one.step(CandidateInput::Durable, at(20));
    assert_eq!(writes(&mut one), Some(Commitment::Free));

    let mut one = candidate(settings(1));
    let genesis = proposal(&mut one);
    [2, 3].into_iter().for_each(|other| hears(&mut one, other, CandidacyMessage::Promised(genesis.cluster()), 25));
    assert_eq!(writes(&mut one), Some(Commitment::Made(genesis.clone())));
    one.step(CandidateInput::Moved(vec![address(9)]), at(26));
    one.step(CandidateInput::Durable, at(30));
    assert_eq!(one.ready().verdict, Some(CandidateVerdict::Founded(genesis)), "others may have heard of it");
}

#[test]
fn what_is_heard_while_the_disk_works_is_little_and_grows_old() {
    let mut two = candidate(settings(2));
    asks_quietly(&mut two, 1);
    let genesis = proposal(&mut candidate(settings(1)));
    hears(&mut two, 1, CandidacyMessage::Propose(genesis.clone()), 10);
    assert_eq!(writes(&mut two), Some(Commitment::Promised(genesis)));
    // Its disk hangs meanwhile. The third asks once, and falls silent; the first goes on asking.
    asks_quietly(&mut two, 3);
    for second in 1..=8 {
        hears(&mut two, 1, here(&settings(1)), second * 1000);
        let answer = CandidacyFrame::new("shop", 3, here(&settings(1)));
        two.step(CandidateInput::Answered { from: id(1), frame: answer }, at(second * 1000));
        assert!(two.heard.len() <= 4, "{}", two.heard.len());
    }
    assert_eq!(two.waiting().candidates.len(), 2, "who speaks counts, and nobody else");
    two.ready();
    two.step(CandidateInput::Durable, at(9000));
    let answers = two.ready().answers;
    assert!(answers.iter().all(|(to, _)| *to == id(1)), "nobody waits any more for {answers:?}");
}

#[test]
fn a_lower_candidate_is_believed_only_from_a_member_of_the_proposal() {
    let lower = MemberId([0; 32]);
    let refused = || CandidacyMessage::Refused(CandidacyRefusal::Lower(lower));
    let mut one = candidate(settings(1));
    proposal(&mut one);
    hears(&mut one, 7, refused(), 20);
    assert_eq!(writes(&mut one), None, "a stranger says so");
    one.step(CandidateInput::Unanswered { from: id(7), reason: "nobody is there".to_owned() }, at(30));
    hears(&mut one, 4, here(&settings(4)), 30);
    hears(&mut one, 4, refused(), 30);
    assert_eq!(writes(&mut one), None, "the odd one says so, which was asked for no promise");
    hears(&mut one, 2, refused(), 40);
    assert_eq!(writes(&mut one), Some(Commitment::Free));
    one.step(CandidateInput::Durable, at(50));
    let words = one.waiting().to_string();
    assert!(words.contains(&format!("n2 ({}) knows a candidate with a lower key, 00000000", id(2).short())), "{words}");
    assert_eq!(writes(&mut one), None, "it waits for that one");
    one.step(CandidateInput::Unanswered { from: id(4), reason: "nobody is there".to_owned() }, at(5_000));
    for other in [2, 3] {
        hears(&mut one, other, here(&settings(other)), 5_100);
    }
    assert!(matches!(writes(&mut one), Some(Commitment::Proposed(_))));
}

#[test]
fn who_is_bound_stays_whatever_group_a_stranger_tells_of() {
    let genesis = proposal(&mut candidate(settings(1)));
    let founded = CandidacyMessage::Founded(Digest([9; 32]));
    let hearsay = CandidacyMessage::Refused(CandidacyRefusal::Exists(Digest([9; 32])));
    for (number, commitment) in [(1, Commitment::Proposed(genesis.clone())), (2, Commitment::Promised(genesis.clone()))]
    {
        let mut bound = restored(settings(number), commitment);
        for message in [&founded, &hearsay] {
            assert!(matches!(asks(&mut bound, 7, message.clone()), CandidacyMessage::Here(_)));
        }
        let words = bound.waiting().to_string();
        let claim = format!("{} says that there is a group of this name already, {}", id(7).short(), Digest([9; 32]));
        assert!(words.contains(&claim), "{words}");
        let ready = bound.ready();
        assert!(ready.verdict.is_none() && ready.record.is_none());
        // One of those that it is bound to can make no group with it any more.
        asks(&mut bound, 3, founded.clone());
        assert!(bound.waiting().to_string().contains("exists: "), "{}", bound.waiting());
    }
    let mut free = candidate(settings(2));
    asks(&mut free, 7, founded);
    assert!(free.waiting().to_string().contains("exists: "), "it is bound to nothing");
}

#[test]
fn nothing_is_made_while_somebody_tells_of_another_group() {
    let mut one = candidate(settings(1));
    let genesis = proposal(&mut one);
    let founded = || CandidacyMessage::Founded(Digest([9; 32]));
    asks(&mut one, 7, founded());
    let promised = |candidate: &mut Candidate, from, now| {
        let frame = CandidacyFrame::new("shop", 3, CandidacyMessage::Promised(genesis.cluster()));
        candidate.step(CandidateInput::Answered { from: id(from), frame }, now);
    };
    promised(&mut one, 2, at(1_000));
    promised(&mut one, 3, at(4_000));
    promised(&mut one, 2, at(4_000));
    assert!(one.ready().record.is_none());
    assert!(one.waiting().to_string().contains("all have promised"), "{}", one.waiting());
    let stay = |one: &mut Candidate, now| {
        [2, 3].iter().for_each(|from| promised(one, *from, at(now)));
        one.step(CandidateInput::Tick, at(now));
        one.ready().record.map(|record| record.commitment)
    };
    for second in 5..30 {
        assert_eq!(stay(&mut one, 1_000 * second), None, "it may only be away");
    }
    let said = candidate(settings(7)).here();
    hears(&mut one, 7, said, 29_100);
    assert_eq!(one.ready().record.map(|record| record.commitment), Some(Commitment::Made(genesis.clone())));
}

/// What the earlier process was told is gone with it.
#[test]
fn a_proposer_that_starts_again_asks_anew_before_it_makes_anything() {
    let genesis = proposal(&mut candidate(settings(1)));
    let mut one = restored(settings(1), Commitment::Proposed(genesis.clone()));
    let promised = |one: &mut Candidate, milliseconds| {
        for other in [2, 3] {
            hears(one, other, here(&settings(other)), milliseconds);
            hears(one, other, CandidacyMessage::Promised(genesis.cluster()), milliseconds);
        }
        writes(one)
    };
    for milliseconds in [10, 2_000, 4_900] {
        assert_eq!(promised(&mut one, milliseconds), None, "sources may still find who knows of a group");
    }
    assert!(
        one.waiting().to_string().contains("all have promised; this candidate was started again"),
        "{}",
        one.waiting()
    );
    one.step(CandidateInput::Found(id(7)), at(4_950));
    assert_eq!(promised(&mut one, 5_100), None, "that one may know of a group");
    let unmet = format!("all have promised; {} was found", id(7).short());
    assert!(one.waiting().to_string().contains(&unmet), "{}", one.waiting());
    let reason = "nobody is there".to_owned();
    one.step(CandidateInput::Unanswered { from: id(7), reason }, at(5_200));
    assert_eq!(writes(&mut one), Some(Commitment::Made(genesis)));
}

/// As above, and it is elsewhere by now: what it proposed is given up.
#[test]
fn a_proposer_that_starts_again_elsewhere_asks_anew_as_well() {
    let genesis = proposal(&mut candidate(settings(1)));
    let elsewhere = CandidateSettings { addresses: vec![address(9)], ..settings(1) };
    let mut one = restored(elsewhere, Commitment::Proposed(genesis));
    assert_eq!(writes(&mut one), Some(Commitment::Free));
    one.step(CandidateInput::Durable, at(5));
    let anew = proposal(&mut one);
    let promised = |one: &mut Candidate, milliseconds| {
        for other in [2, 3] {
            hears(one, other, here(&settings(other)), milliseconds);
            hears(one, other, CandidacyMessage::Promised(anew.cluster()), milliseconds);
        }
        writes(one)
    };
    assert_eq!(promised(&mut one, 4_900), None);
    assert_eq!(one.next_timeout(), at(5_000));
    assert_eq!(promised(&mut one, 5_000), Some(Commitment::Made(anew.clone())));
}

#[test]
fn only_its_proposer_releases_a_promise_and_only_that_one() {
    let genesis = proposal(&mut candidate(settings(1)));
    let mut two = restored(settings(2), Commitment::Promised(genesis.clone()));
    hears(&mut two, 1, CandidacyMessage::Released(Digest([9; 32])), 10);
    hears(&mut two, 3, CandidacyMessage::Released(genesis.cluster()), 10);
    assert_eq!(writes(&mut two), None, "another genesis, and another key");
    hears(&mut two, 1, CandidacyMessage::Released(genesis.cluster()), 20);
    assert_eq!(writes(&mut two), Some(Commitment::Free));
}

/// It told nothing but that: it may be the lowest of all still.
#[test]
fn who_releases_before_it_has_said_who_it_is_is_waited_for() {
    let genesis = proposal(&mut candidate(settings(1)));
    let mut two = restored(settings(2), Commitment::Promised(genesis.clone()));
    let frame = CandidacyFrame::new("shop", 3, CandidacyMessage::Released(genesis.cluster()));
    two.step(CandidateInput::Answered { from: id(1), frame }, at(10));
    assert_eq!(writes(&mut two), Some(Commitment::Free));
    two.step(CandidateInput::Durable, at(20));
    [3, 4].into_iter().for_each(|other| asks_quietly(&mut two, other));
    assert_eq!(writes(&mut two), None);
    two.step(CandidateInput::Unanswered { from: id(1), reason: "nobody is there".to_owned() }, at(30));
    assert!(matches!(writes(&mut two), Some(Commitment::Proposed(_))));
}

/// As above, and it had said who it is, long ago.
#[test]
fn who_releases_after_a_long_silence_is_waited_for() {
    let genesis = proposal(&mut candidate(settings(1)));
    let mut two = candidate(settings(2));
    hears(&mut two, 1, here(&settings(1)), 10);
    hears(&mut two, 1, CandidacyMessage::Propose(genesis.clone()), 20);
    assert_eq!(writes(&mut two), Some(Commitment::Promised(genesis.clone())));
    two.step(CandidateInput::Durable, at(30));
    two.step(CandidateInput::Unanswered { from: id(1), reason: "nobody is there".to_owned() }, at(40));
    hears(&mut two, 1, CandidacyMessage::Released(genesis.cluster()), 7_000);
    assert_eq!(writes(&mut two), Some(Commitment::Free));
    two.step(CandidateInput::Durable, at(7_010));
    for other in [3, 4] {
        hears(&mut two, other, here(&settings(other)), 7_020);
    }
    assert_eq!(writes(&mut two), None);
}

#[test]
fn why_nothing_is_heard_of_a_key_is_told_and_many_are_counted() {
    let mut one = candidate(settings(1));
    let reason = |number: usize| format!("no route to {number}");
    one.step(CandidateInput::Found(id(2)), at(0));
    one.ready();
    one.step(CandidateInput::Unanswered { from: id(2), reason: reason(2) }, at(5));
    assert!(one.waiting().to_string().contains(&format!("{} does not answer: no route to 2", id(2).short())));
    let version = CandidateInput::Unread { from: id(3), reason: "protocol version 9 is not ours".to_owned() };
    one.step(version, at(6));
    assert!(one.waiting().to_string().contains("does not answer: protocol version 9 is not ours"), "{}", one.waiting());
    for other in 2..=8 {
        one.step(CandidateInput::Unanswered { from: id(other), reason: reason(other) }, at(7));
        one.step(CandidateInput::Unread { from: id(other), reason: reason(other) }, at(7));
    }
    let words = one.waiting().to_string();
    assert_eq!((words.matches("does not answer").count(), one.waiting().silent.len()), (4, 7), "{words}");
    assert!(words.ends_with("; and so for 3 more"), "{words}");
    asks(&mut one, 2, here(&settings(2)));
    assert_eq!(one.waiting().silent.len(), 6, "it is heard");
}

#[test]
fn who_lost_what_it_made_hears_it_from_its_members() {
    let mut one = candidate(settings(1));
    let genesis = proposal(&mut one);
    let group = FoundedGroup { me: id(2), genesis: genesis.clone() };
    let propose = CandidacyFrame::new("shop", 3, CandidacyMessage::Propose(genesis.clone()));
    let answer = group.answer(id(1), &propose).frame;
    assert_eq!(answer.message, CandidacyMessage::Made(genesis.clone()));
    one.step(CandidateInput::Answered { from: id(2), frame: answer }, at(30));
    assert_eq!(one.ready().record.map(|record| record.commitment), Some(Commitment::Made(genesis)));
}

#[test]
fn a_key_that_was_found_and_not_heard_holds_a_proposal_up() {
    let mut one = candidate(settings(1));
    one.step(CandidateInput::Found(id(5)), at(0));
    for other in [2, 3] {
        hears(&mut one, other, here(&settings(other)), 10);
    }
    assert_eq!(writes(&mut one), None, "it may know of a group");
    assert!(one.waiting().to_string().contains(&format!("{} was found and has not answered yet", id(5).short())));
    one.step(CandidateInput::Unanswered { from: id(5), reason: "nobody is there".to_owned() }, at(20));
    assert!(matches!(writes(&mut one), Some(Commitment::Proposed(_))));
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
    let bound = || restored(settings(2), Commitment::Promised(genesis.clone()));
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
