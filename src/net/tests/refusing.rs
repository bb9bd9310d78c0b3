//! Who does not belong here, or not any more, hears why, and it is counted; nobody else notices.

use super::*;
use crate::types::StartNonce;

/// Starts two members that ought to refuse each other; gives what each of them hears.
async fn strangers(first: Hello, second: Hello) -> (Member, Refusal, Member, Refusal) {
    let [mut one, mut two] = two_members(&seats(), [first, second]).await;
    let (heard_by_two, heard_by_one) = (two.expect_refusal(one.id), one.expect_refusal(two.id));
    (one, heard_by_one, two, heard_by_two)
}

fn counted(member: &Member, reason: &str) -> (bool, bool) {
    let figures = member.mesh.figures();
    (figures.refused.contains_key(reason), figures.refused_by_others.contains_key(reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_by_name() {
    let (one, by_one, two, by_two) = strangers(hello(1), Hello { version: 9, ..hello(2) }).await;
    assert_eq!(by_two, Refusal::Version { theirs: 9, ours: 1 });
    assert_eq!(by_one, Refusal::Version { theirs: 1, ours: 9 });
    assert_eq!(counted(&one, "version"), (true, true));
    assert_eq!(counted(&two, "version"), (true, true));
    assert!(!one.figures_of(two.id).linked && one.figures_of(two.id).links == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_by_name() {
    let other = Hello { cluster: Digest([7; 32]), configuration: Digest([8; 32]), ..hello(2) };
    let (one, by_one, two, by_two) = strangers(hello(1), other).await;
    assert_eq!(by_two, Refusal::Cluster { theirs: Digest([7; 32]), ours: Digest([1; 32]) });
    assert_eq!(by_one, Refusal::Cluster { theirs: Digest([1; 32]), ours: Digest([7; 32]) });
    assert_eq!(counted(&one, "cluster"), (true, true));
    assert_eq!(counted(&two, "cluster"), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_is_refused_by_name_unless_the_epoch_differs() {
    let other = Hello { configuration: Digest([8; 32]), ..hello(2) };
    let (one, by_one, two, by_two) = strangers(hello(1), other.clone()).await;
    assert_eq!(
        (by_one, by_two),
        (Refusal::Configuration { epoch: Epoch(0) }, Refusal::Configuration { epoch: Epoch(0) })
    );
    assert_eq!(counted(&one, "configuration"), (true, true));
    assert_eq!(counted(&two, "configuration"), (true, true));

    let seats = seats::<2>();
    let [mut one, two] = two_members(&seats, [hello(1), Hello { epoch: Epoch(1), ..other }]).await;
    one.expect_up(two.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_by_name_whichever_id_is_smaller() {
    let [small, middle, large] = seats::<3>();
    let mut member = Member::start(&middle, &group(std::slice::from_ref(&middle)), hello(1)).await;
    for seat in [small, large] {
        // The stranger thinks that it belongs to the group.
        let mut stranger = Member::start(&seat, &group(&[seat.clone(), middle.clone()]), hello(2)).await;
        assert_eq!(stranger.expect_refusal(member.id), Refusal::NotAMember(stranger.id));
        assert_eq!(counted(&stranger, "not_a_member"), (false, true));
        assert_eq!(stranger.figures_of(member.id).links, 0, "never linked");
    }
    until("both are counted", || member.mesh.figures().refused.get("not_a_member") == Some(&2)).await;
    assert!(member.inbox.take(10, Duration::ZERO).is_empty(), "the driver hears nothing of strangers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_member_comes_back_when_it_is_mended() {
    let seats = seats::<2>();
    let members = group(&seats);
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let other = Hello { cluster: Digest([7; 32]), ..hello(2) };
    let mut wrong = Member::start(&seats[1], &members, other).await;
    wrong.expect_refusal(one.id);
    one.expect_refusal(wrong.id);
    wrong.mesh.stop().await;
    let mut mended = Member::start(&seats[1], &members, hello(3)).await;
    assert_eq!(mended.expect_up(one.id), hello(1));
    // It may have been refused more than once before.
    let up = loop {
        match one.next() {
            Input::Refused { .. } => {}
            input => break input,
        }
    };
    assert!(matches!(up, Input::LinkUp { hello, .. } if hello.incarnation == Incarnation(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_refusal_reaches_the_peer() {
    let (mut one, mut two) = pair().await;
    let refusal = Refusal::StaleDisk { says: "vote 3".into(), said: "vote 9".into() };
    one.mesh.refuse(two.id, hello(2).nonce, refusal.clone());
    one.expect_down(two.id);
    match two.next() {
        Input::LinkDown { .. } => assert_eq!(two.expect_refusal(one.id), refusal),
        Input::Refused { reason, .. } => {
            assert_eq!(reason, refusal);
            two.expect_down(one.id);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    until("counted", || counted(&one, "stale_disk").0 && counted(&two, "stale_disk").1).await;
}

/// The driver judges late: the process that it refuses has made room for the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_spares_the_process_that_came_instead() {
    for goes in 0..2 {
        let (seats, mut one, older) = linked(goes, 4).await;
        let mut newer = Member::start(&seats[goes].elsewhere(), &group(&seats), hello(6)).await;
        one.expect_down(older.id);
        assert_eq!(one.expect_up(older.id), hello(6));
        newer.expect_up(one.id);
        let refusal = Refusal::StaleDisk { says: "incarnation 4".into(), said: "incarnation 5".into() };
        one.mesh.refuse(newer.id, hello(4).nonce, refusal);
        one.mesh.send(newer.id, &urgent(1));
        // Commands are taken in their order: when it has stopped, it has judged the refusal.
        one.mesh.clone().stop().await;
        newer.expect_message(one.id);
        newer.expect_down(one.id);
        assert_eq!(counted(&newer, "stale_disk"), (false, false), "nobody refused it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_process_is_refused_and_the_link_stays() {
    for goes in 0..2 {
        let (seats, mut one, two) = linked(goes, 5).await;
        let mut copy = Member::start(&seats[goes].elsewhere(), &group(&seats), hello(4)).await;
        assert!(matches!(copy.expect_refusal(one.id), Refusal::StaleDisk { .. }));
        two.mesh.send(one.id, &urgent(1));
        one.expect_message(two.id);
        assert_eq!(one.figures_of(two.id).links, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_start_are_both_refused() {
    for goes in 0..2 {
        let (seats, mut one, mut two) = linked(goes, 5).await;
        let twin = Hello { nonce: StartNonce(7), ..hello(5) };
        let mut twin = Member::start(&seats[goes].elsewhere(), &group(&seats), twin).await;
        assert_eq!(twin.expect_refusal(one.id), Refusal::TwoProcesses(twin.id));
        assert_eq!(two.expect_refusal(one.id), Refusal::TwoProcesses(two.id));
        one.expect_down(two.id);
    }
}
