//! Joining a group: a key, a knock at the door of a member that the join code names, and the group's genesis, which makes the
//! data directory a member's. Whatever is interrupted goes on when it is repeated: the key stays, asking again for what the
//! group has granted changes nothing, and the genesis comes last and whole.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;

use super::commitment_file::{self, CommitmentError};
use super::data_directory::DataDirectory;
use super::genesis_file::GENESIS_FILE;
use super::identity::{Identity, IdentityError};
use super::listeners::Listeners;
use super::run::{RunError, refuse_the_departed};
use super::service_manager::ServiceManager;
use super::settings::{Mistakes, Settings};
use super::{contacts_file, genesis_file, reach, token};
use crate::net::door::{NoAnswer, knock};
use crate::net::listen_address;
use crate::types::join_code::NotAJoinCode;
use crate::types::{ClusterId, Contact, DoorMessage, DoorRefusal, Genesis, JoinCode, MemberId, Standing, Told, limits};

/// Why a machine did not join. Its key is made, if it came to that; joining again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The code cannot be read.
    #[error(transparent)]
    Code(#[from] NotAJoinCode),
    /// The data directory is another group's.
    #[error(
        "data_dir = \"{}\" belongs to group {}, and the join code is of group {}: join with another data_dir; one directory is \
         one member of one group", path.display(), ours.short(), code.short()
    )]
    OtherGroup {
        /// The directory.
        path: PathBuf,
        /// Its group.
        ours: ClusterId,
        /// The group of the code.
        code: ClusterId,
    },
    /// It is bound to a group that is not founded yet.
    #[error(
        "data_dir = \"{}\" has promised to found group {}, named `{name}`, and the join code is of group {}: join with another \
         data_dir, or start this one as before, with bootstrap.expect and without a code; a promise is released only by the one \
         it was given to",
        path.display(), promised.short(), code.short()
    )]
    Promised {
        /// The directory.
        path: PathBuf,
        /// The name of the group that it has promised to found.
        name: String,
        /// That group's id.
        promised: ClusterId,
        /// The group of the code.
        code: ClusterId,
    },
    /// What it is bound to is not known.
    #[error(transparent)]
    Commitment(#[from] CommitmentError),
    /// The genesis in the data directory cannot be read.
    #[error("the genesis in data_dir cannot be used: {}", .0.0.join("; "))]
    Genesis(Mistakes),
    /// There is nowhere to listen, or nothing to tell the others.
    #[error("{0}")]
    Unreachable(String),
    /// Nobody answers at the addresses of the code.
    #[error(
        "nobody answers at the addresses of the join code; see that a member runs there and can be reached, or ask for a new \
         code:\n  - {}", .0.join("\n  - ")
    )]
    NobodyAnswers(Vec<String>),
    /// The group says no.
    #[error("not admitted: {refusal} (says {address}){}", also(others))]
    NotAdmitted {
        /// Who says so.
        address: Multiaddr,
        /// Why.
        refusal: DoorRefusal,
        /// What was heard elsewhere.
        others: Vec<String>,
    },
    /// What answers is not what it says.
    #[error(
        "{address}: what answers there does not prove to be of the group: {reason}; ask for a new join code{}",
        also(others)
    )]
    BadAnswer {
        /// Where.
        address: Multiaddr,
        /// What is wrong.
        reason: String,
        /// What was heard elsewhere.
        others: Vec<String>,
    },
    /// A file could not be written.
    #[error("data_dir: {0}; nothing is lost, join again when that is mended")]
    Io(#[from] io::Error),
}

fn also(others: &[String]) -> String {
    others.iter().map(|other| format!("\n  - {other}")).collect()
}

/// Makes the data directory a member's of the group that the code names. If it is one already, the code is not used.
pub async fn join(settings: &Settings, code: &str) -> Result<(), RunError> {
    join_within(settings, code, limits::JOIN_ROUNDS).await
}

async fn join_within(settings: &Settings, code: &str, rounds: usize) -> Result<(), RunError> {
    let code = JoinCode::parse(code).map_err(JoinError::from)?;
    let directory = DataDirectory::make(&settings.data_dir)?;
    refuse_the_departed(&directory)?;
    if let Some(genesis) = present(settings, &directory)? {
        let ours = genesis.cluster();
        if ours != code.cluster {
            return Err(JoinError::OtherGroup { path: directory.path().to_owned(), ours, code: code.cluster }.into());
        }
        tracing::info!(group = genesis.name, "data_dir is a member's of that group already; the join code is not used");
        return Ok(());
    }
    check_unbound(&directory, code.cluster)?;
    check_start(settings).await?;
    if let Some(manager) = ServiceManager::of_environment() {
        manager.status(&format!("joining group {}", code.cluster.short()));
    }
    let identity = identity(&directory)?;
    let admission = Joiner::new(settings, &identity, code, rounds).await?.ask().await?;
    // The genesis comes last: with it the directory is a member's.
    contacts_file::write(&directory, &admission.contacts).map_err(JoinError::from)?;
    directory.store(GENESIS_FILE, genesis_file::write(&admission.genesis)).map_err(JoinError::from)?;
    tracing::info!(group = admission.genesis.name, member = %identity.member(), by = %admission.by.short(), "joined");
    Ok(())
}

/// Rule G1: who has promised a genesis becomes a member of that group or of none, until it is released.
fn check_unbound(directory: &DataDirectory, code: ClusterId) -> Result<(), RunError> {
    let Some(record) = commitment_file::standing(directory).map_err(JoinError::from)? else { return Ok(()) };
    let promised = record.commitment.promise().map(|promise| promise.cluster);
    match promised.filter(|promised| *promised != code) {
        None => Ok(()),
        Some(promised) => {
            let path = directory.path().to_owned();
            Err(JoinError::Promised { path, name: record.cluster, promised, code }.into())
        }
    }
}

/// What a start would refuse is told before the group is asked: its order is not to name a member that cannot run.
async fn check_start(settings: &Settings) -> Result<(), RunError> {
    settings.api.token_file.as_deref().map(token::read).transpose().map_err(RunError::Token)?;
    let listen = reach::listens(settings, None).map_err(JoinError::Unreachable)?;
    Ok(Listeners::check(settings, &listen).await?)
}

/// The genesis that the directory has, or that names its key.
pub(super) fn present(settings: &Settings, directory: &DataDirectory) -> Result<Option<Genesis>, RunError> {
    let path = directory.path().join(GENESIS_FILE);
    if fs::exists(&path).map_err(JoinError::from)? {
        return Ok(Some(genesis_file::read(&path).map_err(JoinError::Genesis)?));
    }
    let Ok(identity) = Identity::load(directory.path()) else { return Ok(None) };
    // It is of no matter why a genesis elsewhere cannot be read: it is not needed here.
    let founded = genesis_file::read(&settings.genesis).ok();
    Ok(founded.filter(|genesis| genesis.members.iter().any(|named| named.id == identity.member())))
}

/// The key of the directory; drawn if it has none.
pub(super) fn identity(directory: &DataDirectory) -> Result<Identity, RunError> {
    match Identity::load(directory.path()) {
        Err(IdentityError::Missing(_)) => {
            let identity = Identity::draw()?;
            identity.store(directory.path())?;
            Ok(identity)
        }
        loaded => Ok(loaded?),
    }
}

/// What the group granted.
#[derive(Debug)]
struct Admission {
    genesis: Genesis,
    contacts: Vec<Contact>,
    by: MemberId,
}

/// One that asks to be let in.
struct Joiner {
    key: Keypair,
    code: JoinCode,
    /// What it says.
    message: DoorMessage,
    /// How often everybody is asked, at most.
    rounds: usize,
}

/// What one address came to, short of being let in.
enum Heard {
    /// Nobody is there, or nobody answers.
    Nothing(String),
    /// It is no address.
    Unusable(String),
    Refusal(Multiaddr, DoorRefusal),
    /// It proves nothing.
    BadAnswer(Multiaddr, String),
}

impl Joiner {
    async fn new(settings: &Settings, identity: &Identity, code: JoinCode, rounds: usize) -> Result<Joiner, RunError> {
        let key = Keypair::ed25519_from_bytes(identity.secret()).map_err(io::Error::other)?;
        let listen = reach::listens(settings, None).map_err(JoinError::Unreachable)?;
        // A port that is drawn at each start is told at each start.
        let fixed = |address: &Multiaddr| listen_address(address).is_none_or(|(_, socket)| socket.port() != 0);
        let fixed: Vec<Multiaddr> = listen.into_iter().filter(fixed).collect();
        let group: Vec<Multiaddr> = code.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        let addresses = reach::announced(settings, &fixed, &group).await;
        if addresses.is_empty() && !fixed.is_empty() {
            let reason = "this machine has no way to the addresses of the join code, so it cannot tell the others where it \
                          is; set mesh.announce to the addresses at which they reach it";
            return Err(JoinError::Unreachable(reason.to_owned()).into());
        }
        let message = DoorMessage::Join {
            secret: code.secret,
            name: settings.name.clone().unwrap_or_else(|| identity.member().short()),
            addresses: addresses.iter().map(ToString::to_string).collect(),
        };
        Ok(Joiner { key, code, message, rounds })
    }

    /// Asks at every address in turn, and again while somebody may let it in yet. A word of one address is not that of the
    /// group: that one may be behind, have another clock, or be another machine by now.
    async fn ask(&self) -> Result<Admission, JoinError> {
        for round in 1.. {
            let mut heard = Vec::new();
            for text in &self.code.addresses {
                match self.ask_at(text).await {
                    Ok(admission) => return Ok(admission),
                    Err(no) => {
                        tracing::info!("not let in yet: {no}");
                        heard.push(no);
                    }
                }
            }
            let goes_on = heard.iter().any(Heard::may_change) && !heard.iter().any(Heard::is_final);
            if !goes_on || round >= self.rounds {
                return Err(verdict(heard));
            }
            tracing::info!(
                round,
                of = self.rounds,
                "nobody has let this machine in yet; asking again in {} s",
                limits::JOIN_PAUSE.as_secs()
            );
            tokio::time::sleep(limits::JOIN_PAUSE).await;
        }
        unreachable!("the last round returns")
    }

    async fn ask_at(&self, text: &str) -> Result<Admission, Heard> {
        let address: Multiaddr = text.parse().map_err(|error| Heard::Unusable(format!("{text}: {error}")))?;
        tracing::info!(group = %self.code.cluster.short(), %address, "asking to join");
        match knock(&self.key, &address, self.code.cluster, self.message.clone()).await {
            Ok((by, DoorMessage::Tell(told))) => {
                self.admission(by, &address, told).map_err(|reason| Heard::BadAnswer(address, reason))
            }
            Ok((_, DoorMessage::Refused(refusal))) => Err(Heard::Refusal(address, refusal)),
            Ok((_, DoorMessage::Ask { .. } | DoorMessage::Join { .. })) => {
                Err(Heard::BadAnswer(address, "it answers with a question".to_owned()))
            }
            Err(NoAnswer { address, reason }) => Err(Heard::Nothing(format!("{address}: {reason}"))),
        }
    }

    /// Checks what was told: the genesis proves itself by the code's cluster id.
    fn admission(&self, by: MemberId, address: &Multiaddr, told: Told) -> Result<Admission, String> {
        let genesis = told.genesis.ok_or("it tells no genesis")?;
        let genesis: Genesis = minicbor::decode(&genesis).map_err(|error| format!("its genesis: {error}"))?;
        if genesis.cluster() != self.code.cluster {
            return Err(format!("its genesis is that of group {}", genesis.cluster().short()));
        }
        genesis.check().map_err(|error| error.to_string())?;
        let text = genesis_file::write(&genesis);
        if genesis_file::parse(&text).ok().as_ref() != Some(&genesis) {
            return Err("its genesis cannot be written down".to_owned());
        }
        if !matches!(told.standing, Standing::Voter | Standing::Learner) {
            return Err("it grants no membership".to_owned());
        }
        Ok(Admission { genesis, contacts: with_reached(told.contacts, by, address), by })
    }
}

/// The contacts, and in them the address at which one was reached: it works, whatever it says of itself.
fn with_reached(mut contacts: Vec<Contact>, by: MemberId, address: &Multiaddr) -> Vec<Contact> {
    contacts.truncate(limits::MEMBERS_MAX);
    let reached: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
    if let Some(contact) = contacts.iter_mut().find(|contact| contact.id == by) {
        let reached = reached.to_string();
        if !contact.addresses.contains(&reached) && contact.addresses.len() < limits::ADDRESSES_MAX {
            contact.addresses.push(reached);
        }
    }
    contacts
}

impl Heard {
    /// Whether it may be otherwise in a moment.
    fn may_change(&self) -> bool {
        match self {
            Heard::Nothing(_) => true,
            Heard::Refusal(_, refusal) => refusal.passes(),
            Heard::Unusable(_) | Heard::BadAnswer(..) => false,
        }
    }

    /// Whether it is so by the order, or by what this machine says of itself: then no other member says otherwise.
    fn is_final(&self) -> bool {
        matches!(
            self,
            Heard::Refusal(_, DoorRefusal::UsedInvite | DoorRefusal::FormerMember | DoorRefusal::BadRequest(_))
        )
    }

    /// How much it says about why the group does not let this machine in. Who is not of the group says less of that than its
    /// silence.
    fn weight(&self) -> u8 {
        match self {
            Heard::Refusal(_, refusal) => match refusal {
                DoorRefusal::FormerMember => 9,
                DoorRefusal::UsedInvite => 8,
                DoorRefusal::BadRequest(_) | DoorRefusal::ForgedChain(_) => 7,
                DoorRefusal::NoQuorum(_) => 6,
                DoorRefusal::Busy => 5,
                DoorRefusal::ExpiredInvite => 4,
                DoorRefusal::UnknownInvite => 3,
                DoorRefusal::Version { .. } => 2,
                DoorRefusal::Cluster { .. } => 0,
            },
            Heard::Nothing(_) | Heard::Unusable(_) => 1,
            Heard::BadAnswer(..) => 0,
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Nothing(text) | Heard::Unusable(text) => f.write_str(text),
            Heard::Refusal(address, refusal) => write!(f, "{address}: {refusal}"),
            Heard::BadAnswer(address, reason) => {
                write!(f, "{address}: what answers there does not prove to be of the group: {reason}")
            }
        }
    }
}

/// What to tell when no address let us in: of all that was heard what says most, and the rest beside it.
fn verdict(mut heard: Vec<Heard>) -> JoinError {
    heard.sort_by_key(|heard| Reverse(heard.weight()));
    let texts = |heard: &[Heard]| heard.iter().map(Heard::to_string).collect::<Vec<_>>();
    let others = texts(heard.get(1..).unwrap_or_default());
    match heard.first() {
        Some(Heard::Refusal(address, refusal)) => {
            JoinError::NotAdmitted { address: address.clone(), refusal: refusal.clone(), others }
        }
        Some(Heard::BadAnswer(address, reason)) => {
            JoinError::BadAnswer { address: address.clone(), reason: reason.clone(), others }
        }
        Some(Heard::Nothing(_) | Heard::Unusable(_)) | None => JoinError::NobodyAnswers(texts(&heard)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
