//! Machines that join through a real mesh, whose driver is the test.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::driver::Input;
use crate::driver::inbox::inbox;
use crate::net::{Founded, Mesh, MeshSettings, Sources, identity};
use crate::node::configuration::Configuration;
use crate::node::settings::layers::Layers;
use crate::protocol::FoundedGroup;
use crate::types::peer::Hello;
use crate::types::{
    ClusterLimits, Commitment, CommitmentRecord, Digest, Epoch, FaultModelKind, GenesisMember, Incarnation, LaneHead,
    Roster, Round, Slot, StartNonce, Timing, Tip, WallTime,
};

/// Drawn from the millions of 127.0.0.0/8, with a port that the system gives to no connection: ports never collide.
pub fn own_address() -> Multiaddr {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    format!("/ip4/127.{}.{b}.{}/tcp/{}", a.max(1), c.clamp(1, 254), 20_000 + u16::from(d)).parse().unwrap()
}

fn hello(cluster: ClusterId) -> Hello {
    Hello {
        version: limits::PROTOCOL_VERSION,
        cluster,
        epoch: Epoch(0),
        configuration: Digest([2; 32]),
        incarnation: Incarnation(1),
        nonce: StartNonce(1),
        highest_vote: None,
        sealed: LaneHead::START,
        decided: Tip { round: Round::default(), slot: Slot(0), digest: Digest::ZERO },
    }
}

fn genesis_of(id: MemberId, address: &Multiaddr) -> Genesis {
    Genesis {
        name: "trial".to_owned(),
        nonce: [5; 16],
        model: FaultModelKind::Crash,
        rules_version: limits::RULES_VERSION,
        members: vec![GenesisMember { name: "n1".to_owned(), id, addresses: vec![address.to_string()] }],
        limits: ClusterLimits::default(),
        voters_target: 1,
    }
}

/// What is answered to a knock; none leaves it waiting.
type Answer = Box<dyn FnMut(&Genesis, &DoorMessage) -> Option<DoorMessage> + Send>;

/// The same for everybody.
type Word = fn(&Genesis) -> DoorMessage;

/// A group of one, with a door.
struct Group {
    genesis: Genesis,
    address: Multiaddr,
    id: MemberId,
    /// Who knocked, and what it said.
    knocks: mpsc::Receiver<(MemberId, DoorMessage)>,
    end: Arc<AtomicBool>,
    driver: Option<JoinHandle<()>>,
    _hello: watch::Sender<Hello>,
}

impl Group {
    async fn start(answer: Answer) -> Group {
        Group::of(None, answer).await
    }

    /// Another member of it, with a door of its own.
    async fn another(&self, answer: Answer) -> Group {
        Group::of(Some(self.genesis.clone()), answer).await
    }

    async fn of(genesis: Option<Genesis>, mut answer: Answer) -> Group {
        let (key, address) = (Keypair::generate_ed25519(), own_address());
        let id = identity::member_of(&key).unwrap();
        let genesis = genesis.unwrap_or_else(|| genesis_of(id, &address));
        let (hello, says) = watch::channel(hello(genesis.cluster()));
        let (sender, mut inbox) = inbox();
        let group = FoundedGroup { me: id, genesis: genesis.clone() };
        let mesh = Mesh::start(MeshSettings {
            keypair: key,
            listen: vec![address.clone()],
            leader_timeout: Timing::default().leader_timeout,
            sources: Sources::default(),
            announce: Vec::new(),
            gossip: false,
            founded: Founded {
                greeting: group.greeting(),
                answer: Box::new(move |from, asked| (group.answer(from, asked).frame, None)),
            },
            roster: watch::channel(Roster::default()).1,
            hello: says,
            inbox: sender,
            credits: Arc::new(Semaphore::new(limits::INBOX_BYTES)),
        });
        let mesh = mesh.await.unwrap();
        let (heard, knocks) = mpsc::channel();
        let end = Arc::new(AtomicBool::new(false));
        let (ended, group) = (end.clone(), genesis.clone());
        let driver = std::thread::spawn(move || {
            while !ended.load(Ordering::Acquire) {
                for input in inbox.take(10, Duration::from_millis(20)) {
                    let Input::Door { from, message } = input else { continue };
                    let answer = answer(&group, &message);
                    // The test may have ended.
                    let _ = heard.send((from, message));
                    if let Some(answer) = answer {
                        mesh.door(from, answer);
                    }
                }
            }
        });
        Group { genesis, address, id, knocks, end, driver: Some(driver), _hello: hello }
    }

    /// One that admits everybody.
    async fn open() -> Group {
        Group::start(Box::new(|genesis, _| Some(admits(genesis)))).await
    }

    async fn refusing(refusal: DoorRefusal) -> Group {
        Group::start(Box::new(move |_, _| Some(DoorMessage::Refused(refusal.clone())))).await
    }

    fn code(&self) -> JoinCode {
        self.code_with(vec![self.address.to_string()])
    }

    fn code_with(&self, addresses: Vec<String>) -> JoinCode {
        JoinCode { cluster: self.genesis.cluster(), secret: [9; 16], expires: WallTime(u64::MAX), addresses }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        let ended = self.driver.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))), "the driver's thread does not panic");
    }
}

fn told(genesis: Option<&Genesis>, standing: Standing, contacts: Vec<Contact>) -> DoorMessage {
    let genesis = genesis.map(Genesis::encode);
    let (from, established) = (Epoch(0), Epoch(0));
    DoorMessage::Tell(Told { genesis, from, links: Vec::new(), established, standing, contacts })
}

fn admits(genesis: &Genesis) -> DoorMessage {
    let contact = Contact { id: genesis.members[0].id, name: "n1".to_owned(), addresses: Vec::new() };
    told(Some(genesis), Standing::Learner, vec![contact])
}

/// As often everybody is asked in these tests.
const ROUNDS: usize = 2;

/// A machine without anything on it.
struct Machine {
    folder: TempDir,
    listen: Multiaddr,
}

impl Machine {
    fn new() -> Machine {
        Machine { folder: tempfile::tempdir().unwrap(), listen: own_address() }
    }

    fn layers(&self) -> Layers {
        let file = format!("name = \"n4\"\n[api]\nlisten = \"127.0.0.1:0\"\n[mesh]\nlisten = [\"{}\"]\n", self.listen);
        Layers::gather(Some((&self.folder.path().join("synod.toml"), &file)), [], [])
    }

    fn settings(&self) -> Settings {
        Settings::from_layers(&self.layers(), self.folder.path()).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.data_dir().join(name).exists()
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    async fn joins(&self, code: &JoinCode) -> Result<(), RunError> {
        join_within(&self.settings(), &code.text(), ROUNDS).await
    }

    async fn fails(&self, code: &JoinCode) -> JoinError {
        match self.joins(code).await {
            Err(RunError::Join(error)) => *error,
            other => panic!("expected a failed join, got {other:?}"),
        }
    }
}

fn member_of(data_dir: &Path) -> MemberId {
    Identity::load(data_dir).unwrap().member()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_promised_a_genesis_joins_no_other_group() {
    let (group, machine) = (Group::open().await, Machine::new());
    let promise = |genesis: &Genesis| {
        let (cluster, commitment) = (genesis.name.clone(), Commitment::Promised(genesis.clone()));
        let record = CommitmentRecord { version: limits::PROTOCOL_VERSION, cluster, commitment };
        commitment_file::write(&DataDirectory::make(&machine.data_dir()).unwrap(), &record).unwrap();
    };
    let other = Genesis { nonce: [6; 16], ..group.genesis.clone() };
    promise(&other);
    let refused = machine.fails(&group.code()).await;
    assert!(matches!(&refused, JoinError::Promised { promised, .. } if *promised == other.cluster()), "{refused}");
    assert!(group.knocks.try_recv().is_err() && !machine.has(GENESIS_FILE));
    promise(&group.genesis);
    machine.joins(&group.code()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_becomes_a_member_once() {
    let (group, machine) = (Group::open().await, Machine::new());
    machine.joins(&group.code()).await.unwrap();
    let member = member_of(&machine.data_dir());
    let (from, message) = group.knocks.recv().unwrap();
    assert_eq!(from, member);
    let addresses = vec![machine.listen.to_string()];
    assert_eq!(message, DoorMessage::Join { secret: [9; 16], name: "n4".to_owned(), addresses });
    let configuration = Configuration::read(&machine.layers(), machine.folder.path()).unwrap();
    assert_eq!((configuration.genesis, configuration.joined), (group.genesis.clone(), true));
    let contacts = contacts_file::read(&machine.data_dir()).unwrap();
    assert_eq!(contacts[0].addresses, [group.address.to_string()], "where it was reached");
    assert_eq!(contacts[0].id, group.id);
    machine.joins(&group.code()).await.unwrap();
    assert!(group.knocks.try_recv().is_err(), "it is a member: nobody is asked");
    let other = JoinCode { cluster: Digest([7; 32]), ..group.code() };
    assert!(matches!(machine.fails(&other).await, JoinError::OtherGroup { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_join_goes_on_with_the_same_key() {
    let mut first = true;
    let answer = move |genesis: &Genesis, _: &DoorMessage| (!std::mem::take(&mut first)).then(|| admits(genesis));
    let (group, machine) = (Group::start(Box::new(answer)).await, Machine::new());
    let (settings, code) = (machine.settings(), group.code().text());
    let task = tokio::spawn(async move { join(&settings, &code).await });
    let (before, _) = tokio::task::block_in_place(|| group.knocks.recv().unwrap());
    // As a crash: its connection closes, its lock goes.
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(machine.has("member.key") && !machine.has(GENESIS_FILE));
    std::fs::write(machine.data_dir().join("genesis.toml.new"), "half a genes").unwrap();
    machine.joins(&group.code()).await.unwrap();
    assert_eq!(group.knocks.recv().unwrap().0, before);
    assert!(machine.has(GENESIS_FILE));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why_and_nothing_is_kept() {
    for (refusal, word) in [
        (DoorRefusal::UnknownInvite, "unknown_invite"),
        (DoorRefusal::UsedInvite, "used_invite"),
        (DoorRefusal::ExpiredInvite, "expired_invite"),
        (DoorRefusal::FormerMember, "former_member"),
        (DoorRefusal::NoQuorum("n2 is missing".to_owned()), "n2 is missing"),
        (DoorRefusal::BadRequest("another member is named `n4`".to_owned()), "is named `n4`"),
    ] {
        let (group, machine) = (Group::refusing(refusal.clone()).await, Machine::new());
        let error = machine.fails(&group.code()).await;
        assert!(error.to_string().starts_with("not admitted: ") && error.to_string().contains(word), "{error}");
        assert!(matches!(&error, JoinError::NotAdmitted { refusal: told, .. } if *told == refusal), "{error}");
        assert!(!machine.has(GENESIS_FILE) && !machine.has("contacts.json"));
        let asked = group.knocks.try_iter().count();
        assert_eq!(asked, if refusal.passes() { ROUNDS } else { 1 }, "{refusal}");
    }
    let (group, machine) = (Group::open().await, Machine::new());
    let foreign = JoinCode { cluster: Digest([7; 32]), ..group.code() };
    assert!(machine.fails(&foreign).await.to_string().contains("foreign_cluster"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_of_the_code_is_tried() {
    let nobody = own_address();
    let machine = Machine::new();
    let (behind, group) = (Group::refusing(DoorRefusal::UnknownInvite).await, Group::open().await);
    let addresses = |last: &Multiaddr| {
        vec!["nonsense".to_owned(), nobody.to_string(), behind.address.to_string(), last.to_string()]
    };
    let error = machine.fails(&group.code_with(addresses(&own_address())[..2].to_vec())).await;
    let told = error.to_string();
    assert!(matches!(error, JoinError::NobodyAnswers(_)) && told.contains("nonsense: "), "{told}");
    assert!(told.contains(&format!("{nobody}: ")) && told.contains("Connection refused"), "{told}");
    // Another group answers at the third address, and ours at the last.
    machine.joins(&group.code_with(addresses(&group.address))).await.unwrap();
    assert!(machine.has(GENESIS_FILE));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_prove_itself_is_not_believed() {
    let forged = |genesis: &Genesis| Genesis { name: "other".to_owned(), ..genesis.clone() };
    let answers: [(Word, &str); 4] = [
        (|_| told(None, Standing::Learner, Vec::new()), "tells no genesis"),
        (|genesis| told(Some(genesis), Standing::Stranger, Vec::new()), "grants no membership"),
        (|_| DoorMessage::Ask { have: None }, "answers with a question"),
        (|_| admits(&genesis_of(MemberId([1; 32]), &own_address())), "its genesis is that of group"),
    ];
    for (answer, word) in answers {
        let group = Group::start(Box::new(move |genesis, _| Some(answer(genesis)))).await;
        let machine = Machine::new();
        let error = machine.fails(&group.code()).await;
        assert!(matches!(&error, JoinError::BadAnswer { address, .. } if *address == group.address));
        assert!(error.to_string().contains(word), "{error}");
        assert!(!machine.has(GENESIS_FILE) && !machine.has("contacts.json"));
    }
    let group = Group::start(Box::new(move |genesis, _| Some(admits(&forged(genesis))))).await;
    assert!(matches!(Machine::new().fails(&group.code()).await, JoinError::BadAnswer { .. }));
}

/// What one address says is not what the group says, unless it is so by the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_counts_when_nobody_takes_the_code() {
    let group = Group::open().await;
    let liar = group.another(Box::new(|_, _| Some(DoorMessage::Ask { have: None }))).await;
    let refuses = |_: &Genesis, _: &DoorMessage| Some(DoorMessage::Refused(DoorRefusal::ExpiredInvite));
    let expired = group.another(Box::new(refuses)).await;
    let code = |members: &[&Group]| group.code_with(members.iter().map(|one| one.address.to_string()).collect());
    let machine = Machine::new();
    machine.joins(&code(&[&liar, &expired, &group])).await.unwrap();
    assert!(machine.has(GENESIS_FILE));
    assert_eq!((liar.knocks.try_iter().count(), expired.knocks.try_iter().count()), (1, 1));
}

#[test]
fn the_most_telling_word_is_told_and_the_others_beside_it() {
    let at = |port: u16| -> Multiaddr { format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap() };
    let says = |port, refusal| Heard::Refusal(at(port), refusal);
    let silent = || Heard::Nothing(format!("{}: it is silent", at(9)));
    let foreign = || DoorRefusal::Cluster { theirs: Digest([1; 32]), ours: Digest([2; 32]) };
    let told = |heard| verdict(heard).to_string();
    let text = told(vec![
        silent(),
        says(1, DoorRefusal::ExpiredInvite),
        says(2, DoorRefusal::NoQuorum("n2 is missing".to_owned())),
        Heard::BadAnswer(at(3), "it tells no genesis".to_owned()),
    ]);
    assert!(text.starts_with("not admitted: no_quorum") && text.contains("(says /ip4/127.0.0.1/tcp/2)"), "{text}");
    for part in ["\n  - /ip4/127.0.0.1/tcp/1: expired_invite", "tcp/9: it is silent", "tcp/3: what answers there"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(told(vec![says(1, DoorRefusal::UnknownInvite), says(2, DoorRefusal::UsedInvite)]).contains("used_invite"));
    let stranger = vec![says(1, foreign()), silent(), Heard::BadAnswer(at(3), "it is another".to_owned())];
    assert!(matches!(verdict(stranger), JoinError::NobodyAnswers(lines) if lines.len() == 3));
    assert!(told(vec![says(1, foreign())]).contains("foreign_cluster"));
    assert!(matches!(verdict(vec![Heard::BadAnswer(at(3), String::new())]), JoinError::BadAnswer { .. }));
}

/// With the key of a member behind the address the secret is told to that key alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_told_to_the_key_that_the_code_names() {
    let (group, machine) = (Group::open().await, Machine::new());
    let listener = group.another(Box::new(|genesis, _| Some(admits(genesis)))).await;
    let door = |address: &Multiaddr, id: &MemberId| identity::door_of(id, &address.to_string()).unwrap();
    let error = machine.fails(&group.code_with(vec![door(&listener.address, &group.id)])).await;
    assert!(matches!(error, JoinError::NobodyAnswers(_)), "{error}");
    assert!(listener.knocks.try_recv().is_err(), "it heard nothing");
    machine.joins(&group.code_with(vec![door(&group.address, &group.id)])).await.unwrap();
    let contacts = contacts_file::read(&machine.data_dir()).unwrap();
    assert_eq!(contacts[0].addresses, [group.address.to_string()]);
}

/// A start that would fail is not ordered.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_before_everything_can_be_listened_on() {
    let (group, machine) = (Group::open().await, Machine::new());
    let taken = std::net::TcpListener::bind(crate::net::listen_address(&machine.listen).unwrap().1).unwrap();
    let error = machine.joins(&group.code()).await.unwrap_err();
    assert!(matches!(error, RunError::CannotListen(_)), "{error}");
    assert!(error.to_string().contains(&machine.listen.to_string()), "{error}");
    assert!(group.knocks.try_recv().is_err() && !machine.has("member.key"));
    drop(taken);
    machine.joins(&group.code()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_code_and_a_finished_directory_are_refused_before_anybody_is_asked() {
    let (group, machine) = (Group::open().await, Machine::new());
    for (code, word) in [("hello", "synod-join-"), (&group.code().text()[..40], "damaged")] {
        let error = join(&machine.settings(), code).await.unwrap_err();
        let RunError::Join(error) = error else { panic!("{error}") };
        assert!(matches!(*error, JoinError::Code(_)) && error.to_string().contains(word), "{error}");
        assert!(!machine.data_dir().exists());
    }
    let directory = DataDirectory::make(&machine.data_dir()).unwrap();
    directory.mark_departed("this member has left its group").unwrap();
    drop(directory);
    let error = machine.joins(&group.code()).await.unwrap_err();
    assert!(matches!(error, RunError::Departed(_)) && error.to_string().contains("has left"), "{error}");
    assert!(group.knocks.try_recv().is_err());
}
