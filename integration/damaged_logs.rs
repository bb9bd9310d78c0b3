//! Torn tails and rot in the log of one member, which was killed under load.

use synod::types::{Ack, Record};

use super::harness::damage::Logged;
use super::harness::load::{Fate, publish};
use super::harness::program::Ended;
use super::harness::sequence::{Event, agree, continues, read};
use super::harness::{Group, Load, Published, synod, until};
/// A member that is stopped for good because it no longer knows what it promised.
const IDENTITY_LOST: i32 = 73;

/// A group that published, with one follower killed under load. What was delivered before, and what is known.
async fn one_killed_under_load() -> (Group, usize, Vec<Event>, Published) {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 150).await;
    let victim = group.follower().await;
    group.members[victim].kill();
    load.goes_on(&group.others(victim), 50).await;
    let mut published = load.finish().await;
    published.none_failed_at(&group.others(victim));
    let others = group.others(victim);
    let before = agree(&group, &others, &mut published).await;
    (group, victim, before, published)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_and_the_member_catches_up() {
    let (mut group, victim, before, mut published) = one_killed_under_load().await;
    for round in 0..2 {
        Logged::read(&group.members[victim].wal()).tear_the_tail();
        let verified = verify(&group, victim).await;
        assert_eq!(verified.code, Some(0), "a torn tail is no damage: {verified:?}");
        assert!(!verified.json()["torn"].is_null(), "{verified:?}");
        group.members[victim].start_and_catch_up().await;
        let log = group.members[victim].log();
        assert_eq!(log.matches("the unfinished end of the last write was cut off").count(), round + 1, "{log}");
        let after = agree(&group, &group.everybody(), &mut published).await;
        continues(&after, &before);
        // A second crash finds nothing of what was cut.
        group.members[victim].kill();
    }
    group.members[victim].start_and_catch_up().await;
    agree(&group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_below_the_decided_mark_is_repaired_from_peers() {
    let (mut group, victim, before, mut published) = one_killed_under_load().await;
    let logged = Logged::read(&group.members[victim].wal());
    let mark = logged.decided();
    let old = |slot: synod::types::Slot| slot.0 > 5 && slot.0 + 20 < mark.0;
    let batches: Vec<_> = logged.records.iter().filter(|(_, record)| matches!(record, Record::Batch(_))).collect();
    let batch = batches[batches.len() / 2].0;
    logged.flip_a_bit(logged.first(|record| matches!(record, Record::Entry(entry) if old(entry.slot))));
    logged.flip_a_bit(batch);
    verify(&group, victim).await.refused(1, &["the log is not whole"]);
    group.members[victim].start_and_catch_up().await;
    let after = agree(&group, &group.everybody(), &mut published).await;
    continues(&after, &before);
    // It serves the repaired messages from its own disk, also without peers, after a further start.
    group.kill_all();
    group.members[victim].start();
    let alone = group.members[victim].unix();
    until("everything is read again", async || {
        let status = group.members[victim].try_status().await?;
        (status["delivered"].as_u64()? >= before.len() as u64).then_some(())
    })
    .await;
    continues(&before, &read(&alone, before.len() as u64).await);
    group.start_all().await;
    agree(&group, &group.everybody(), &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_above_the_decided_mark_ends_the_member_with_its_own_exit_code() {
    let mut group = Group::start().await;
    let load = Load::start(&group);
    load.goes_on(&group.everybody(), 50).await;
    let mut published = load.finish().await;
    let before = agree(&group, &group.everybody(), &mut published).await;
    // Alone, the leader proposes and votes, and nothing is decided.
    let leader = group.leader().await;
    let others = group.others(leader);
    for other in &others {
        group.members[*other].kill();
    }
    for number in 0..3 {
        let client = group.members[leader].unix();
        let sent = publish(&client, leader, format!("undecided/{number}"), Ack::Accepted).await.unwrap();
        assert!(matches!(sent.fate, Fate::Accepted { .. }), "{sent:?}");
        published.add([sent]);
    }
    group.members[leader].kill();
    start_alone_once(&mut group, leader).await;
    let logged = Logged::read(&group.members[leader].wal());
    let mark = logged.decided();
    let above = logged.first(|record| matches!(record, Record::Entry(entry) if entry.slot > mark));
    logged.flip_a_bit(above);
    for other in &others {
        group.members[*other].start();
    }
    group.members[leader].start();
    group.members[leader].refuses(IDENTITY_LOST, &["must come back as a new one", "exit=73"]).await;
    for other in &others {
        group.members[*other].ready().await;
    }
    let after = agree(&group, &others, &mut published).await;
    continues(&after, &before);
    // It stays so: the damage is not forgotten at the next start, and nobody else minds.
    group.members[leader].start();
    group.members[leader].refuses(IDENTITY_LOST, &["must come back as a new one"]).await;
    agree(&group, &others, &mut published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_newest_vote_ends_the_member_with_its_own_exit_code() {
    let (mut group, victim, before, mut published) = one_killed_under_load().await;
    group.others(victim).into_iter().for_each(|other| group.members[other].kill());
    start_alone_once(&mut group, victim).await;
    let logged = Logged::read(&group.members[victim].wal());
    logged.flip_a_bit(logged.last(|record| matches!(record, Record::Vote(_))));
    for member in &mut group.members {
        member.start();
    }
    group.members[victim].refuses(IDENTITY_LOST, &["must come back as a new one", "newest voter record"]).await;
    let others = group.others(victim);
    for other in &others {
        group.members[*other].ready().await;
    }
    let after = agree(&group, &others, &mut published).await;
    continues(&after, &before);
}

/// Starts a member whose peers are down, and kills it again: from now on its log says where the segment before ends.
async fn start_alone_once(group: &mut Group, member: usize) {
    group.members[member].start();
    let client = group.members[member].unix();
    until("its start is finished", async || client.get("/startupz").await.ok().map(drop)).await;
    group.members[member].kill();
}

async fn verify(group: &Group, member: usize) -> Ended {
    let data_dir = group.members[member].data_dir.as_os_str();
    synod(["verify".as_ref(), data_dir, "--output".as_ref(), "json".as_ref()]).await
}
