//! Members come, move and go while the mesh runs.

use super::*;

/// Two members, linked, the first of which dials.
async fn pair_of(seats: &[Seat; 2]) -> (Member, Member) {
    let members = group(seats);
    let mut one = Member::start(&seats[0], &members, hello(1)).await;
    let mut two = Member::start(&seats[1], &unreachable(&members), hello(2)).await;
    one.expect_up(two.id);
    two.expect_up(one.id);
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_is_dialled() {
    let seats = seats::<2>();
    let members = group(&seats);
    let mut one = Member::start(&seats[0], &members[..1], hello(1)).await;
    let mut two = Member::start(&seats[1], &unreachable(&members), hello(2)).await;
    assert!(one.mesh.figures().peers.is_empty());
    one.learn(&members, &[]);
    one.expect_up(two.id);
    two.expect_up(one.id);
    assert_eq!(one.figures_of(two.id).name, "b");
}

/// It dials before the others have heard that it is a member.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_early_is_let_in_when_it_is_a_member() {
    for early in 0..2 {
        let seats = seats::<2>();
        let members = group(&seats);
        let mut one = Member::start(&seats[1 - early], &[], hello(1)).await;
        let mut two = Member::start(&seats[early], &members, hello(2)).await;
        assert_eq!(two.expect_refusal(one.id), Refusal::NotAMember(two.id));
        let not_dialled = RosterMember { dial: false, ..members[early].clone() };
        one.learn(&[not_dialled], &[]);
        one.expect_up(two.id);
        while !matches!(two.next(), Input::LinkUp { .. }) {}
        two.mesh.send(one.id, &urgent(1));
        one.expect_message(two.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_is_dialled_at_its_new_address() {
    let seats = seats::<2>();
    let (mut one, two) = pair_of(&seats).await;
    two.mesh.stop().await;
    one.expect_down(two.id);
    let elsewhere = seats[1].elsewhere();
    let mut two = Member::start(&elsewhere, &[], hello(3)).await;
    two.learn(&unreachable(&group(&seats)), &[]);
    one.learn(&group(&[seats[0].clone(), elsewhere]), &[]);
    assert_eq!(one.expect_up(two.id), hello(3));
    two.expect_up(one.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_worked_is_dialled_still() {
    let seats = seats::<2>();
    let (mut one, two) = pair_of(&seats).await;
    one.learn(&group(&[seats[0].clone(), seats[1].elsewhere()]), &[]);
    assert_eq!(one.figures_of(two.id).links, 1, "a link stays where it is");
    two.mesh.stop().await;
    one.expect_down(two.id);
    let mut two = Member::start(&seats[1], &unreachable(&group(&seats)), hello(3)).await;
    assert_eq!(one.expect_up(two.id), hello(3));
    two.expect_up(one.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_hears_why_and_hears_it_again() {
    for former in [Some(Standing::Left), Some(Standing::Removed), None] {
        let seats = seats::<2>();
        let members = group(&seats);
        let mut one = Member::start(&seats[0], &unreachable(&members), hello(1)).await;
        let mut two = Member::start(&seats[1], &members, hello(2)).await;
        one.expect_up(two.id);
        two.expect_up(one.id);
        one.learn(&members[..1], &former.map(|standing| (two.id, standing)).into_iter().collect::<Vec<_>>());
        one.expect_down(two.id);
        let expected = match former {
            Some(standing) => Refusal::Departed { id: two.id, standing },
            None => Refusal::NotAMember(two.id),
        };
        assert_eq!(two.expect_refusal(one.id), expected);
        two.learn(&members, &[]);
        assert_eq!(two.expect_refusal(one.id), expected, "as a stranger, after its hello");
        assert!(one.mesh.figures().peers.is_empty());
        assert!(one.inbox.take(10, Duration::ZERO).is_empty(), "nothing comes after the end of its link");
        // And back.
        one.learn(&members, &[]);
        one.expect_up(two.id);
    }
}

/// What is sent to who goes is lost; what is sent to who stays is not.
#[tokio::test(flavor = "multi_thread")]
async fn who_stays_notices_nothing() {
    let seats = seats::<3>();
    let members = group(&seats);
    let mut all = Vec::new();
    for (seat, incarnation) in seats.iter().zip(1..) {
        all.push(Member::start(seat, &members, hello(incarnation)).await);
    }
    let [one, two, three] = &mut all[..] else { panic!("three") };
    until("all are linked", || one.mesh.figures().peers.iter().all(|peer| peer.linked)).await;
    for number in 0..50 {
        one.mesh.send(two.id, &urgent(number));
        one.learn(&members[..2 + usize::from(number % 2 == 0)], &[(three.id, Standing::Left)]);
    }
    let mut received = 0;
    while received < 50 {
        if let Input::Received { peer, envelope } = two.next() {
            assert_eq!((peer, envelope), (one.id, urgent(received)));
            received += 1;
        }
    }
    assert_eq!(one.figures_of(two.id).links, 1);
}
