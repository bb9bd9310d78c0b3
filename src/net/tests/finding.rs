//! Others found through sources: members linked, everybody else asked once who it is.

use super::*;

fn at(addresses: &[&Multiaddr]) -> Sources {
    Sources { addresses: addresses.iter().map(|address| Place::at((*address).clone())).collect(), ..Sources::default() }
}

impl Member {
    fn outcome(&self, address: &Multiaddr) -> Option<Outcome> {
        let sources = self.mesh.figures().discovery.sources;
        let mut all = sources.into_iter().flat_map(|source| source.addresses);
        all.find(|found| found.address == *address).map(|found| found.outcome)
    }

    fn is(&self, word: &str, address: &Multiaddr) -> bool {
        self.outcome(address).is_some_and(|outcome| outcome.word() == word)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_found_at_an_address_without_a_key() {
    let seats = seats::<2>();
    for (seeks, is_found) in [(0, 1), (1, 0)] {
        let members = unreachable(&group(&seats));
        let mut one = Member::start(&seats[is_found], &members, hello(1)).await;
        let (there, own) = (&seats[is_found].address, &seats[seeks].address);
        let nobody = own_address();
        let sources = at(&[there, own, &nobody]);
        let mut two = Member::start_with(&seats[seeks], &members, hello(2), sources).await;
        one.expect_up(two.id);
        two.expect_up(one.id);
        until("it is seen as linked", || two.is("linked", there)).await;
        until("we are not somebody else", || two.is("ourselves", own)).await;
        until("nobody is there", || two.is("unreachable", &nobody)).await;
        assert_eq!(two.figures_of(one.id).links, 1);
        one.mesh.stop().await;
        two.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_found_in_a_file_that_changes_and_by_its_name() {
    let seats = seats::<3>();
    let members = unreachable(&group(&seats));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("others");
    std::fs::write(&file, "# nobody yet\nnonsense\n").unwrap();
    let (_, socket) = listen_address(&seats[2].address).unwrap();
    let sources =
        Sources { file: Some(file.clone()), dns: vec![socket.to_string().parse().unwrap()], ..Sources::default() };
    let mut one = Member::start_with(&seats[0], &members, hello(1), sources).await;
    let mut three = Member::start(&seats[2], &members, hello(3)).await;
    one.expect_up(three.id);
    three.expect_up(one.id);
    let mut two = Member::start(&seats[1], &members, hello(2)).await;
    let of_file = |one: &Member| {
        one.mesh
            .figures()
            .discovery
            .sources
            .into_iter()
            .find(|source| source.name == "file")
            .unwrap_or_else(|| SourceFigures { name: "file", finds: 0, trouble: None, addresses: Vec::new() })
    };
    until("the broken line is told", || of_file(&one).trouble.is_some_and(|told| told.contains("in line 2"))).await;
    let (_, socket) = listen_address(&seats[1].address).unwrap();
    std::fs::write(&file, format!("{socket} # where it is now\n")).unwrap();
    one.expect_up(two.id);
    two.expect_up(one.id);
    until("the line is mended", || of_file(&one).trouble.is_none() && of_file(&one).finds == 1).await;
}

/// A roster that is behind the group: the driver hears that there is somebody to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_known_here_is_told_to_the_driver() {
    let [here, there] = seats::<2>();
    let mut stays = Member::start(&there, &[], hello(1)).await;
    let members = group(std::slice::from_ref(&here));
    let mut here = Member::start_with(&here, &members, hello(2), at(&[&there.address])).await;
    match here.next() {
        Input::Announced { from, epoch: None, link: None } => assert_eq!(from, there.id),
        other => panic!("expected a member, got {other:?}"),
    }
    until("it is shown", || here.is("unknown_member", &there.address)).await;
    // Its door is where it was found.
    here.mesh.door(there.id, DoorMessage::Ask { have: Some(Epoch(0)) });
    assert!(matches!(stays.next(), Input::Door { from, .. } if from == here.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_geneses_of_one_name_meet_loudly_and_never_merge() {
    let [here, there] = seats::<2>();
    let foreign = Hello { cluster: Digest([9; 32]), ..hello(1) };
    let one = Member::start(&there, &group(std::slice::from_ref(&there)), foreign.clone()).await;
    let members = group(std::slice::from_ref(&here));
    let two = Member::start_with(&here, &members, hello(2), at(&[&there.address])).await;
    until("the one that looks sees it", || two.mesh.figures().discovery.foreign_groups.len() == 1).await;
    until("the other one hears of it", || one.mesh.figures().discovery.foreign_groups.len() == 1).await;
    let (seen, heard) =
        (two.mesh.figures().discovery.foreign_groups.remove(0), one.mesh.figures().discovery.foreign_groups.remove(0));
    assert_eq!((seen.name.as_str(), seen.cluster, seen.member), ("trial", foreign.cluster, one.id));
    assert_eq!(seen.place, there.address.to_string());
    assert_eq!((heard.name.as_str(), heard.cluster, heard.member), ("trial", hello(2).cluster, two.id));
    until("it is no member", || two.is("other_group", &there.address)).await;
    assert!(one.mesh.figures().peers.is_empty() && two.mesh.figures().peers.is_empty());
    assert!(one.mesh.figures().refused.is_empty(), "nobody was asked for a link");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_group_is_named_once() {
    let [here, there] = seats::<2>();
    let foreign = Hello { cluster: Digest([9; 32]), ..hello(1) };
    let _stranger = Member::start_in("elsewhere", &there, &[], foreign, Sources::default()).await;
    let members = group(std::slice::from_ref(&here));
    let two = Member::start_with(&here, &members, hello(2), at(&[&there.address])).await;
    until("its name is told", || {
        two.outcome(&there.address) == Some(Outcome::OtherGroup { name: "elsewhere".to_owned(), cluster: None })
    })
    .await;
    assert!(two.mesh.figures().discovery.foreign_groups.is_empty());
}

/// Where a stranger's address comes with a member's key, the key decides: nothing is said there.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_beside_an_address_is_no_trust() {
    let seats = seats::<3>();
    let members = unreachable(&group(&seats[..2]));
    let mut stranger = Member::start(&seats[2], &[], hello(1)).await;
    let claimed = Place { key: Some(seats[1].id), address: seats[2].address.clone() };
    let sources = Sources { addresses: vec![claimed], ..Sources::default() };
    let one = Member::start_with(&seats[0], &members, hello(2), sources).await;
    until("it is tried and told", || {
        one.figures_of(seats[1].id).trouble.is_some_and(|trouble| trouble.contains("another key"))
    })
    .await;
    assert!(!one.figures_of(seats[1].id).linked);
    assert!(stranger.inbox.take(1, Duration::from_millis(1)).is_empty());
}

/// Two that need no link have none, wherever they meet.
#[tokio::test(flavor = "multi_thread")]
async fn whom_the_roster_wants_not_dialled_is_found_and_left_alone() {
    let seats = seats::<3>();
    let mut members = unreachable(&group(&seats));
    members[1].dial = false;
    let mut two = Member::start(&seats[1], &unreachable(&members[..2]), hello(2)).await;
    let mut three = Member::start(&seats[2], &members, hello(3)).await;
    let sources = at(&[&seats[1].address, &seats[2].address]);
    let mut one = Member::start_with(&seats[0], &members, hello(1), sources).await;
    one.expect_up(three.id);
    three.expect_up(one.id);
    until("it is found", || one.is("member", &seats[1].address)).await;
    until("the other one is linked", || one.is("linked", &seats[2].address)).await;
    assert_eq!((one.figures_of(two.id).links, two.figures_of(one.id).links), (0, 0));
    // Until it is wanted.
    members[1].dial = true;
    one.learn(&members, &[]);
    one.expect_up(two.id);
    two.expect_up(one.id);
}
