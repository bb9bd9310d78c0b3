//! Every bound on what is kept, queued or sent, in one place, related to each other at compile time. Sizes in bytes.
//! Cluster-wide bounds that may differ between groups stand in [`super::configuration::ClusterLimits`]; these here are the
//! same everywhere. Intervals and patience of one file's own stand in that file.

use std::time::Duration;

/// Version of the peer protocol: another one is refused at the hello.
pub const PROTOCOL_VERSION: u32 = 1;
/// Version of the rules that make positions out of decided entries. 0 until the first release. A genesis or a log of
/// another version is refused.
pub const RULES_VERSION: u32 = 0;

/// Slots the leader keeps in flight (PROTOCOL §2).
pub const WINDOW_SLOTS: u64 = 4;
/// How far above the decided slot entries and votes are kept; a voter further behind catches up instead.
pub const CANDIDATE_SLOTS: u64 = 64;
/// Different entries kept for one slot: one per view that proposed one, the oldest dropped.
pub const CANDIDATES_PER_SLOT: usize = 16;
/// Batches one entry may order.
pub const ENTRY_BATCHES_MAX: usize = 256;
/// Payload that a leader orders with one entry, unless a single batch exceeds it: a slot travels whole in a catch-up.
pub const ENTRY_PAYLOAD_BYTES: u64 = 32 << 20;

/// Largest message body a group may allow.
pub const MESSAGE_BYTES_CEILING: u64 = 8 << 20;
/// Largest batch a group may allow, all included.
pub const BATCH_BYTES_CEILING: u64 = 16 << 20;
/// Messages in one batch.
pub const BATCH_MESSAGES_MAX: usize = 16_384;
/// Topic of one message.
pub const TOPIC_BYTES_MAX: usize = 256;
/// Content type text.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// What a message adds to its body, at most, when it is encoded.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 1024;

/// A lane seals at most this many bytes that are not yet ordered; beyond it messages wait in the intake.
pub const LANE_UNORDERED_BYTES: u64 = 64 << 20;
/// A lane seals at most this many batches that are not yet ordered.
pub const LANE_UNORDERED_BATCHES: usize = 4096;
/// Bytes of one lane sent to one peer and not yet reported durable by it (rule N1).
pub const LANE_CREDIT_BYTES: u64 = 16 << 20;
/// Pending batches of one lane kept here: what its origin may have unordered, and as much again for a member behind.
pub const PENDING_BATCHES: usize = 2 * LANE_UNORDERED_BATCHES;
/// Pending bytes of one lane kept here.
pub const PENDING_BYTES: u64 = 2 * LANE_UNORDERED_BYTES;
/// Messages that wait in the intake before publishing is refused.
pub const INTAKE_MESSAGES: usize = 65_536;
/// Bytes that wait in the intake before publishing is refused.
pub const INTAKE_BYTES: u64 = 64 << 20;

/// Inputs one turn takes.
pub const INPUTS_PER_TURN: usize = 4096;
/// Bytes of inputs that adapters may have queued before they wait.
pub const INBOX_BYTES: usize = 64 << 20;
/// What a queued input takes in memory besides the bytes it carries, at most.
pub const INPUT_OVERHEAD_BYTES: usize = 1 << 10;
/// Requests of peers for decided slots that wait to be read from the log; further ones are dropped (and repeated).
pub const CATCHUP_REQUESTS: usize = 64;

/// Bytes of entries and batches in one answer of a catch-up. A single slot may exceed it: slots are not split.
pub const CATCHUP_BYTES: u64 = 1 << 20;
/// Slots in one answer of a catch-up.
pub const CATCHUP_SLOTS: usize = 256;
/// Entries in one answer about an undecided chain.
pub const CHAIN_ENTRIES: usize = 2 * CANDIDATE_SLOTS as usize;
/// Batches asked for in one request.
pub const FETCH_BATCHES: usize = 256;

/// Largest message between peers: one slot's entry and payload must fit in an answer.
pub const PEER_MESSAGE_BYTES: u64 = 64 << 20;
/// Largest frame on a bulk stream; larger messages are cut, so that nothing waits long behind one.
pub const BULK_FRAME_BYTES: usize = 64 << 10;
/// Bulk bytes sent to one peer and not yet acknowledged by it.
pub const BULK_WINDOW_BYTES: usize = 512 << 10;
/// Bytes queued for one peer on its urgent stream before frames are dropped (they are repeated as state).
pub const URGENT_QUEUE_BYTES: usize = 16 << 20;
/// Bytes queued for one peer on its bulk stream before messages are dropped (they are fetched again).
pub const BULK_QUEUE_BYTES: usize = 64 << 20;

/// Records of the log have at most this payload; in small segments less.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Segments of the log are at least this large.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// Segments of the log are at most this large.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Zero-filled segments kept ready.
pub const SPARES_MAX: usize = 16;
/// Memory for writing that the log keeps from turn to turn; what a larger turn needed is given back.
pub const WRITE_BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Payload goes by the urgent stream while no more than this waits there, itself included.
pub const URGENT_PAYLOAD_BYTES: usize = 8 << 10;
/// Largest message on an urgent stream; what is larger travels in pieces on the bulk stream.
pub const URGENT_FRAME_BYTES: usize = 1 << 20;
/// Largest hello or refusal. Until a peer has said hello nothing longer is read from it.
pub const HELLO_FRAME_BYTES: usize = 4 << 10;
/// What the text of a refusal quotes of a peer's mistake.
pub const REFUSAL_TEXT_BYTES: usize = 512;
/// From a new connection to an agreed link; a peer that takes longer is dropped.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection stays open for the peer to read why it is refused, or for the last frames at a stop.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections of keys that are no members, at a time: each is told why it is refused.
pub const STRANGERS_MAX: usize = 16;
/// A connection of a key that is no member is closed after this: nothing at a door takes longer.
pub const STRANGER_CONNECTION_MAX: Duration = Duration::from_secs(45);
/// Refused keys that are remembered so that each is logged once; beyond it all are forgotten.
pub const STRANGERS_REMEMBERED: usize = 256;
/// Lines in the log about keys that are no members, within a minute. Keys cost nothing; the rest is counted.
pub const STRANGERS_LOGGED: u32 = 16;
/// Connections of one key at a time: one link, and what has not been sorted out yet.
pub const MEMBER_CONNECTIONS_MAX: usize = 8;
/// Incoming connections that have not shown their key yet.
pub const PENDING_CONNECTIONS_MAX: u32 = 64;
/// Streams of one connection, in both directions, pings and what is being negotiated included.
pub const CONNECTION_STREAMS_MAX: usize = 32;
/// What one stream, and one connection, of QUIC may have sent and not yet seen taken.
pub const QUIC_STREAM_BYTES: u32 = 1 << 20;
/// The same for all streams of a connection together.
pub const QUIC_CONNECTION_BYTES: u32 = 4 << 20;
/// A QUIC dial is given at least this long to be answered; nobody tells that a port is closed.
pub const QUIC_HANDSHAKE_LEAST: Duration = Duration::from_secs(1);
/// Pause after the first failed dial; doubles with every further one.
pub const DIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between dials to a member that cannot be reached.
pub const DIAL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A member whose link goes over QUIC is dialled over TCP again after a pause that doubles, to this much.
pub const TCP_AGAIN_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Pause after a refusal: until somebody mends a configuration, haste is of no use.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Addresses that one source may tell of at a time; further ones are passed over, and it is told.
pub const SOURCE_ADDRESSES_MAX: usize = 64;
/// Largest file that lists others.
pub const SOURCE_FILE_BYTES: u64 = 64 << 10;
/// News of sources that nobody has taken; a source waits while there is no room.
pub const SOURCE_NEWS_WAITING: usize = 16;
/// What one source tells costs a dial for each address it may tell of, and then one every so often.
pub const SOURCE_DIAL_PAUSE: Duration = Duration::from_millis(250);
/// Dials at a time to addresses whose key is not known, or is no member's.
pub const UNKNOWN_DIALS_MAX: usize = 4;
/// Pause before an address that led to no member is tried again; doubles each time.
pub const UNKNOWN_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest such pause where nobody answered.
pub const UNREACHED_PAUSE_MAX: Duration = Duration::from_secs(15);
/// Longest such pause where somebody answered who is no member.
pub const STRANGER_PAUSE_MAX: Duration = Duration::from_secs(240);
/// The same between candidates, who are to find each other soon.
pub const CANDIDATE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Addresses of one member that others told of, besides those of the roster; the newest count.
pub const HINTS_MAX: usize = 8;
/// A hint is a reason to dial at once, but not more often than this.
pub const HINT_PAUSE: Duration = Duration::from_secs(1);
/// Other groups of our name that are remembered; one that only said so itself makes room for any other.
pub const FOREIGN_GROUPS_MAX: usize = 16;
/// Largest announcement by gossip: an epoch's end with the signatures of its voters, or a member's addresses.
pub const ANNOUNCEMENT_BYTES: usize = 16 << 10;
/// Announcements that wait for one slow neighbour.
pub const ANNOUNCEMENTS_WAITING: usize = 64;
/// An announcement seen twice within this time is dropped.
pub const ANNOUNCEMENT_SEEN_KEPT: Duration = Duration::from_secs(120);
/// Frames of gossip that are heard of one member within a minute; many announcements may come at once when many start.
pub const GOSSIP_OF_MEMBER: u32 = 1024;
/// Every member announces where it is this often, a quarter more or less.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(90);
/// A link that has been silent for this long is given up for a newer one of the same process, and when this machine's
/// addresses have changed.
pub const LINK_DOUBT: Duration = Duration::from_millis(1500);
/// A link is pinged this often.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A link whose pings are not answered for this long is closed.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(4);

/// Segments that one reader of the log keeps open.
pub const READER_FILES: usize = 64;
/// Recently delivered batches kept in memory for subscribers.
pub const DELIVERY_RING_BYTES: usize = 32 << 20;
/// One read from the log on behalf of a subscriber.
pub const READ_PIECE_BYTES: usize = 1 << 20;
/// Messages in one page.
pub const PAGE_MESSAGES_MAX: usize = 1000;
/// Messages in one page when the client does not say.
pub const PAGE_MESSAGES: usize = 100;
/// Bytes scanned for one page.
pub const PAGE_SCAN_BYTES: usize = 8 << 20;
/// Longest long poll.
pub const LONG_POLL_MAX: Duration = Duration::from_secs(60);
/// A reader that takes nothing for this long is closed.
pub const READER_STALL_MAX: Duration = Duration::from_secs(30);

/// Pieces encoded for readers and kept for the next one.
pub const ENCODED_CACHE_BYTES: usize = 8 << 20;
/// Bodies and batches larger than this are parsed and encoded away from the threads that serve connections.
pub const INLINE_WORK_BYTES: usize = 256 << 10;
/// Batches read for a subscriber from memory in one go.
pub const READ_RING_BYTES: usize = 256 << 10;

/// Connections of one listener of the host API, where the system has descriptors for them; further ones wait in the
/// system's queue.
pub const CONNECTIONS_MAX: usize = 8192;
/// And what each listener takes however few descriptors there are.
pub const CONNECTIONS_LEAST: usize = 8;
/// Descriptors that clients leave to the log, its readers and the mesh.
pub const DESCRIPTORS_RESERVED: usize = 384;
/// A client sends a request's head within this time; a connection without a request for this long is closed.
pub const REQUEST_HEAD_MAX: Duration = Duration::from_secs(30);
/// Request line and headers of one request.
pub const REQUEST_HEAD_BYTES: usize = 64 << 10;
/// A client sends a request's body within this time.
pub const REQUEST_BODY_MAX: Duration = Duration::from_secs(30);
/// A request body up to this size is taken without asking for room.
pub const SMALL_BODY_BYTES: usize = 16 << 10;
/// Larger request bodies being received at one time, all together.
pub const BODIES_BYTES: usize = 64 << 20;
/// What is read and dropped of a body over the limit, so that its sender gets to see the answer.
pub const BODY_DISCARD_BYTES: usize = 8 << 20;
/// And for how long.
pub const BODY_DISCARD_MAX: Duration = Duration::from_secs(1);
/// Body of a request that changes the membership.
pub const OPERATION_BODY_BYTES: u64 = 4 << 10;
/// Longest text that is read as a join code.
pub const JOIN_CODE_BYTES_MAX: u64 = 4 << 10;
/// Addresses that a join code names: of a group's members, one each as far as they suffice. Four are enough for one to be
/// there while seven voters have a quorum.
pub const JOIN_CODE_ADDRESSES: usize = 4;
/// A machine that nobody lets in just now, and nobody has turned away for good, asks everybody again so often.
pub const JOIN_ROUNDS: usize = 5;
/// And rests in between; a key is not heard more often than a few times a second.
pub const JOIN_PAUSE: Duration = Duration::from_secs(2);
/// How long a join code holds, if nobody says otherwise.
pub const INVITE_TTL: Duration = Duration::from_secs(3600);
/// No join code holds longer.
pub const INVITE_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The driver answers every publish at its deadline; when it cannot (its disk hangs), the host hears this much later.
pub const PUBLISH_ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// A driver that has not turned for this long stands still: its disk may hang.
pub const DRIVER_SILENCE_MAX: Duration = Duration::from_secs(2);
/// And one that has not turned for this long may never turn again: time to start the process anew.
pub const DRIVER_STANDSTILL_MAX: Duration = Duration::from_secs(30);
const _: () = assert!(DRIVER_SILENCE_MAX.as_secs() < DRIVER_STANDSTILL_MAX.as_secs());
/// How long the accept loop rests when the system has no descriptors left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Levels of nesting in a body declared JSON: with what events and pages add, less than common parsers refuse (128).
pub const JSON_DEPTH_MAX: usize = 100;

/// Name of a group or a member.
pub const NAME_BYTES_MAX: usize = 64;
/// Addresses of one member.
pub const ADDRESSES_MAX: usize = 8;
/// One address, as text.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Members of a group, learners included.
pub const MEMBERS_MAX: usize = 128;
/// Invites that nobody has used; a further one takes the place of the oldest.
pub const INVITES_MAX: usize = 64;
/// A learner this many slots behind the head may say that it is ready, and a joining voter this many behind the leader's
/// tip is counted on (rules E5, E6).
pub const READY_SLOTS: u64 = 1024;
/// Epoch links in one answer, at the door or over a link.
pub const DOOR_LINKS: usize = 64;
/// Largest frame at the door: a genesis, links and contacts.
pub const DOOR_FRAME_BYTES: usize = 512 << 10;
/// Text of a refusal at the door.
pub const DOOR_TEXT_BYTES: usize = 2 << 10;
/// Keys that are no members and may wait at the door at a time; members may, each with one knock.
pub const DOOR_WAITING_MAX: usize = 16;
/// Knocks of one key that are heard within a second.
pub const DOOR_KNOCKS_OF_KEY: u32 = 4;
/// Knocks of keys that are no members, all together, that are heard within a second.
pub const DOOR_KNOCKS_OF_STRANGERS: u32 = 32;
/// From a knock to its answer; a join waits for its place in the order.
pub const DOOR_TIMEOUT: Duration = Duration::from_secs(30);
/// How many candidates may found a group: the largest of the sizes below.
pub const CANDIDATES_EXPECTED_MAX: usize = 7;
/// Keys that a candidate remembers; beyond it those that were silent longest are forgotten.
pub const CANDIDATES_MAX: usize = 128;
/// Largest frame between candidates: a genesis.
pub const CANDIDACY_FRAME_BYTES: usize = 32 << 10;
/// Text of a refusal between candidates, or of an address.
pub const CANDIDACY_TEXT_BYTES: usize = 2 << 10;
/// From a candidate's question to its answer, which may wait for a disk.
pub const CANDIDACY_TIMEOUT: Duration = Duration::from_secs(2);
/// Keys whose question to a candidate is being heard or answered, at a time.
pub const CANDIDACY_WAITING_MAX: usize = 64;
/// Questions of one key to a candidate that are heard within a second.
pub const CANDIDACY_ASKS_OF_KEY: u32 = 16;
/// Questions of all keys to a candidate that are heard within a second.
pub const CANDIDACY_ASKS: u32 = 512;
/// Addresses of the group that an examination knocks at.
pub const EXAMINED_DOORS_MAX: usize = MEMBERS_MAX * ADDRESSES_MAX;
/// And at how many of them at a time.
pub const EXAMINED_AT_A_TIME: usize = 4;
/// Longest document of epochs that is checked offline.
pub const PROOF_BYTES_MAX: u64 = 64 << 20;
/// Messages of the next epoch that are kept until it is entered here.
pub const NEXT_EPOCH_MESSAGES: usize = 256;
/// Membership commands that wait to be sealed by one member.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Recently decided slots kept in memory for members that do not vote.
pub const FEED_RING_BYTES: u64 = 8 << 20;
/// Requests for decided slots that one member has open at a time, each at another peer where there is one.
pub const CATCHUP_OPEN: usize = 4;
/// Slots that came ahead of those before them, while several members are asked at once.
pub const CATCHUP_HELD_BYTES: u64 = 32 << 20;
/// How many members may vote.
pub const VOTERS_TARGETS: &[u32] = &[3, 5, 7];

/// Voters of a group in the crash model: useful sizes, and 1 for trying out.
pub const CRASH_GROUP_SIZES: &[usize] = &[1, 3, 5, 7];

const _: () = assert!(CRASH_GROUP_SIZES[CRASH_GROUP_SIZES.len() - 1] == CANDIDATES_EXPECTED_MAX);
// Texts, keys and addresses of a genesis, each with its length before it, and what else stands in a frame.
const _: () = assert!(
    CANDIDATES_EXPECTED_MAX * (NAME_BYTES_MAX + ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 4) + 64) + 512
        < CANDIDACY_FRAME_BYTES
);
const _: () = assert!(ADDRESS_BYTES_MAX <= CANDIDACY_TEXT_BYTES && CANDIDACY_TEXT_BYTES + 512 < CANDIDACY_FRAME_BYTES);
const _: () = assert!(2 * CANDIDATES_EXPECTED_MAX < CANDIDATES_MAX && CANDIDATES_MAX <= CANDIDACY_ASKS as usize);
const _: () = assert!(BATCH_BYTES_CEILING < PEER_MESSAGE_BYTES);
const _: () = assert!(MESSAGE_BYTES_CEILING + MESSAGE_OVERHEAD_BYTES < BATCH_BYTES_CEILING);
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64, "an offset in the log is a u32");
const _: () = assert!(RECORD_PAYLOAD_BYTES_MAX as u64 <= SEGMENT_BYTES_MAX / 2);
// Every batch and every entry is one record.
const _: () = assert!(BATCH_BYTES_CEILING <= RECORD_PAYLOAD_BYTES_MAX as u64);
const _: () = assert!(ENTRY_BATCHES_MAX * 128 < RECORD_PAYLOAD_BYTES_MAX);
const _: () = assert!(ENTRY_PAYLOAD_BYTES + BATCH_BYTES_CEILING < PEER_MESSAGE_BYTES);
const _: () = assert!(WINDOW_SLOTS < CANDIDATE_SLOTS);
const _: () = assert!(LANE_CREDIT_BYTES <= LANE_UNORDERED_BYTES);
const _: () = assert!(PENDING_BYTES >= LANE_UNORDERED_BYTES);
const _: () = assert!(BULK_FRAME_BYTES * 4 <= BULK_WINDOW_BYTES);
// A proposal of the most batches (a reference takes fewer than 100 bytes) fits on the urgent stream.
const _: () = assert!(ENTRY_BATCHES_MAX * 128 < URGENT_FRAME_BYTES);
const _: () = assert!(URGENT_FRAME_BYTES < URGENT_QUEUE_BYTES);
const _: () = assert!(URGENT_PAYLOAD_BYTES < URGENT_FRAME_BYTES);
const _: () =
    assert!(2 * BULK_WINDOW_BYTES <= QUIC_STREAM_BYTES as usize && 2 * QUIC_STREAM_BYTES <= QUIC_CONNECTION_BYTES);
const _: () = assert!(PEER_MESSAGE_BYTES as usize <= BULK_QUEUE_BYTES);
const _: () = assert!(PEER_MESSAGE_BYTES as usize <= INBOX_BYTES && INBOX_BYTES <= u32::MAX as usize);
const _: () = assert!(REFUSAL_TEXT_BYTES * 2 < HELLO_FRAME_BYTES);
const _: () = assert!(
    LINK_DOUBT.as_millis() > PING_INTERVAL.as_millis() && LINK_DOUBT.as_millis() < LINK_SILENCE_MAX.as_millis()
);
const _: () = assert!(ANNOUNCEMENT_BYTES > ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 4) + 256);
// What is told at the door fits: everybody's name and addresses, the genesis, and links with seven voters and signatures.
const _: () = assert!(
    DOOR_FRAME_BYTES
        > (MEMBERS_MAX + 7) * (NAME_BYTES_MAX + ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 4) + 64) + DOOR_LINKS * 2048
);
const _: () = assert!(STRANGER_CONNECTION_MAX.as_secs() > DOOR_TIMEOUT.as_secs() + 2 * HELLO_TIMEOUT.as_secs());
// What all start to say at once, their addresses and then the newest epoch, comes by any one neighbour.
const _: () = assert!(GOSSIP_OF_MEMBER as usize >= 4 * MEMBERS_MAX);
const _: () = assert!(LINK_SILENCE_MAX.as_secs() >= 3 * PING_INTERVAL.as_secs());
const _: () = assert!(READ_PIECE_BYTES <= PAGE_SCAN_BYTES);
const _: () = assert!(PAGE_MESSAGES <= PAGE_MESSAGES_MAX);
const _: () = assert!(BODIES_BYTES as u64 >= MESSAGE_BYTES_CEILING);
const _: () = assert!(INBOX_BYTES as u64 >= MESSAGE_BYTES_CEILING + MESSAGE_OVERHEAD_BYTES);
const _: () = assert!(READ_RING_BYTES <= READ_PIECE_BYTES);
// A link to every member, what has not been sorted out with seven of them, strangers, and who has not shown a key.
const _: () = assert!(
    DESCRIPTORS_RESERVED
        > MEMBERS_MAX
            + 7 * MEMBER_CONNECTIONS_MAX
            + STRANGERS_MAX
            + PENDING_CONNECTIONS_MAX as usize
            + 2 * CONNECTIONS_LEAST
            + READER_FILES
);
