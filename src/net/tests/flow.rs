//! What is sent arrives, in the order of its stream, and whoever takes nothing holds the sender back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_arrive_whole_and_in_order_beside_urgent_ones() {
    let (one, mut two) = pair().await;
    let sizes =
        [5 << 20, limits::URGENT_PAYLOAD_BYTES, 8 << 20, limits::BULK_FRAME_BYTES, limits::BULK_WINDOW_BYTES, 7 << 20];
    let sent: Vec<Envelope> = sizes.iter().zip(0..).map(|(bytes, number)| bulk(number, *bytes)).collect();
    for envelope in &sent {
        one.mesh.send(two.id, envelope);
    }
    one.mesh.send(two.id, &urgent(1));
    let (mut received, mut urgent_after) = (Vec::new(), None);
    while received.len() < sent.len() || urgent_after.is_none() {
        match two.expect_message(one.id) {
            PeerMessage::FetchDecided { .. } => urgent_after = Some(received.len()),
            message => received.push(envelope(message)),
        }
    }
    assert!(received == sent, "bulk messages are whole and in order");
    assert!(urgent_after < Some(sent.len()), "urgent messages pass");
    let figures = one.figures_of(two.id);
    assert_eq!((figures.dropped, figures.urgent_queue_bytes, figures.bulk_queue_bytes), (0, 0, 0));
    assert!(figures.bytes_out > 20 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_the_urgent_stream_goes_by_the_other() {
    let (one, mut two) = pair().await;
    let origins = (0..40_000u64).map(|number| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        crate::types::BatchRef { origin: MemberId(id), batch: Default::default(), digest: Digest::ZERO }
    });
    let large = envelope(PeerMessage::FetchBatches { decided: Slot(1), batches: origins.collect() });
    assert!(!large.message.is_bulk() && large.encode().len() > limits::URGENT_FRAME_BYTES);
    one.mesh.send(two.id, &large);
    assert_eq!(two.expect_message(one.id), large.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_takes_nothing_holds_its_peer_back() {
    let (mut one, mut two) = pair().await;
    let envelope = bulk(1, 4 << 20).encode();
    let most = (limits::INBOX_BYTES + limits::BULK_QUEUE_BYTES) / envelope.len() + 2;
    for _ in 0..2 * most {
        one.mesh.send_bytes(two.id, true, envelope.clone());
    }
    let figures = one.figures_of(two.id);
    assert!(figures.dropped > 0, "what does not fit is counted");
    assert!(figures.bulk_queue_bytes <= limits::BULK_QUEUE_BYTES);
    until("as much has arrived as may wait", || {
        let arrived = two.figures_of(one.id).bytes_in as usize;
        arrived > limits::INBOX_BYTES - envelope.len()
    })
    .await;
    // The inbox holds its bytes, one more message waits for credits, and a window of pieces may be under way.
    let arrived = two.figures_of(one.id).bytes_in as usize;
    assert!(arrived < limits::INBOX_BYTES + 2 * envelope.len() + limits::BULK_WINDOW_BYTES);
    assert!(one.figures_of(two.id).linked && two.figures_of(one.id).linked);
    let sent = 2 * most - one.figures_of(two.id).dropped as usize;
    for _ in 0..sent {
        assert!(matches!(two.expect_message(one.id), PeerMessage::Batch(_)));
    }
    two.mesh.send(one.id, &urgent(1));
    one.expect_message(two.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_writes_what_is_queued_and_frees_the_port() {
    let (one, mut two) = pair().await;
    for number in 0..50 {
        one.mesh.send(two.id, &bulk(number, 100_000));
        one.mesh.send(two.id, &urgent(number));
    }
    let address = one.mesh.listen_addresses()[0].clone();
    one.mesh.stop().await;
    for _ in 0..100 {
        two.expect_message(one.id);
    }
    two.expect_down(one.id);
    transport::probe(&address).unwrap();
}

/// A short message takes more room in the queue than its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_message_holds_credits_for_its_place_in_the_queue() {
    let (one, mut two) = pair().await;
    let envelope = urgent(1).encode();
    one.mesh.send_bytes(two.id, false, envelope.clone());
    let held = || limits::INBOX_BYTES - two.credits.available_permits();
    until("it waits in the inbox", || held() > 0).await;
    assert_eq!(held(), envelope.len() + limits::INPUT_OVERHEAD_BYTES);
    two.expect_message(one.id);
    assert_eq!(two.credits.available_permits(), limits::INBOX_BYTES);
}
