//! `synod run`: the sidecar.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::settings_arguments::SettingsArguments;
use crate::driver::{StartError, Stop};
use crate::net::MeshError;
use crate::node::candidacy::{self, CandidacyError};
use crate::node::commitment_file::CommitmentError;
use crate::node::data_directory::DataDirectoryError;
use crate::node::driver_thread::DriverError;
use crate::node::join::{self, JoinError};
use crate::node::logging;
use crate::node::run::{self, RunError};
use crate::protocol::Halt;
use crate::types::limits;
use crate::wal::OpenError;

/// How to run.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    #[command(flatten)]
    member: MemberArguments,
    /// Join the group of this code first, as `synod join` does: the code, or - for the first line of standard input. Once
    /// data_dir is a member's the code is not used
    #[arg(long, value_name = "CODE", env = CODE_VARIABLE, hide_env_values = true)]
    join: Option<String>,
}

/// How to join.
#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// The join code that `synod invite` printed on a member, or - for the first line of standard input. While the command
    /// runs every user of the machine can read its arguments, and until the code is used whoever reads it may use it
    #[arg(env = CODE_VARIABLE, hide_env_values = true)]
    code: String,
    #[command(flatten)]
    member: MemberArguments,
}

/// What every start of a member is told.
#[derive(Debug, clap::Args)]
struct MemberArguments {
    #[command(flatten)]
    settings: SettingsArguments,
    /// Stop, as on SIGTERM, when standard input ends: whoever started this holds the other end, and is gone then
    #[arg(long)]
    exit_with_parent: bool,
}

/// Where the join code may be given, too: it is seen by no other user.
const CODE_VARIABLE: &str = "SYNOD_JOIN";

/// Threads of the runtime: half of the processors, at most eight. The driver, the disk and the service beside us need the
/// others, and on small machines every further thread costs more in wake-ups than it brings (delivery at 2,000 publishes
/// a second on 2 processors: p50 1.6 ms with one thread, 1.85 ms with two).
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).clamp(1, 8))
}

/// Runs the member until it is told to stop.
pub fn run(arguments: &RunArguments, output: Output) -> Result<(), Failure> {
    // An empty variable is none.
    let given = arguments.join.as_deref().filter(|given| !given.is_empty());
    let code = given.map(|given| code(given, io::stdin().lock())).transpose()?;
    run_member(&arguments.member, code.as_deref(), output)
}

/// Joins a group, and runs the member until it is told to stop.
pub fn join(arguments: &JoinArguments, output: Output) -> Result<(), Failure> {
    let code = code(&arguments.code, io::stdin().lock())?;
    run_member(&arguments.member, Some(&code), output)
}

/// The code that was given, or the first line of the input for `-`. What follows in the input is left there.
fn code(given: &str, input: impl BufRead) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    if io::stdin().is_terminal() {
        eprintln!("the join code, on one line:");
    }
    let mut line = String::new();
    let read = input.take(limits::JOIN_CODE_BYTES_MAX).read_line(&mut line);
    read.map_err(|error| Failure::usage(format!("no join code can be read from standard input: {error}")))?;
    match line.trim() {
        "" => Err(Failure::usage("standard input begins with no join code; `synod invite` on any member prints one")),
        code => Ok(code.to_owned()),
    }
}

fn run_member(arguments: &MemberArguments, code: Option<&str>, output: Output) -> Result<(), Failure> {
    let settings = arguments.settings.for_start(code.is_some())?;
    end_with_any_panic();
    logging::start(settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let parent_gone = Arc::new(Notify::new());
    if arguments.exit_with_parent {
        watch_standard_input(parent_gone.clone());
    }
    let outcome = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be heard: {error}")));
        let signals =
            Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        let signals = Arc::new(tokio::sync::Mutex::new(signals));
        let stop = || told_to_stop(signals.clone(), parent_gone.clone());
        if let Some(code) = code {
            tokio::select! {
                joined = join::join(&settings, code) => joined.map_err(failure)?,
                () = stop() => return Ok(()),
            }
        } else if let Some(bootstrap) = &settings.bootstrap
            && !candidacy::found(&settings, bootstrap, stop()).await.map_err(failure)?
        {
            return Ok(());
        }
        run::run(arguments.settings.configuration()?, stop).await.map_err(failure)
    });
    // Threads that read the disk for somebody may still be at it; nothing waits for them.
    runtime.shutdown_background();
    outcome.map_err(|failure| match output {
        Output::Text => {
            tracing::error!(exit = failure.exit as u8, "{}", failure.message);
            Failure::told(failure.exit)
        }
        // Told as by every command: the last line, which a script can read.
        Output::Json => failure,
    })
}

/// A panic anywhere is a bug, and ends the process: a member of which a part is gone would seem to live. What was promised
/// is on the disk.
fn end_with_any_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(Exit::Bug as i32);
    }));
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

async fn told_to_stop(signals: Arc<tokio::sync::Mutex<Signals>>, parent_gone: Arc<Notify>) {
    let mut signals = signals.lock().await;
    let Signals { terminate, interrupt } = &mut *signals;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("told to stop by SIGINT"),
        () = parent_gone.notified() => tracing::info!("told to stop by the end of standard input"),
    }
}

/// Reads standard input on a thread of its own: a read of it cannot be cancelled.
fn watch_standard_input(gone: Arc<Notify>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
        gone.notify_one();
    });
}

/// How each cause ends the process.
fn failure(error: RunError) -> Failure {
    let exit = match &error {
        // Whoever has it may be about to end, as one that hangs on its disk.
        RunError::DataDirectory(DataDirectoryError::Locked { .. }) => Exit::Unavailable,
        RunError::System(_) | RunError::Mesh(MeshError::System(_)) => Exit::Failure,
        RunError::DataDirectory(_)
        | RunError::Identity(_)
        | RunError::NotAMember { .. }
        | RunError::Contacts(_)
        | RunError::Token(_)
        | RunError::CannotListen(_)
        | RunError::Mesh(_)
        | RunError::Api(_) => Exit::Usage,
        RunError::Join(error) => join_exit(error),
        RunError::Candidacy(error) => candidacy_exit(error),
        RunError::RefusedBefore(_) => Exit::IdentityLost,
        RunError::Departed(_) => Exit::Departed,
        RunError::DiskHangs => Exit::DiskFailed,
        RunError::Driver(error) => driver_exit(error),
    };
    Failure::new(exit, error)
}

fn join_exit(error: &JoinError) -> Exit {
    match error {
        JoinError::Code(_)
        | JoinError::OtherGroup { .. }
        | JoinError::Promised { .. }
        | JoinError::Genesis(_)
        | JoinError::Unreachable(_) => Exit::Usage,
        JoinError::Commitment(error) => commitment_exit(error),
        JoinError::NobodyAnswers(_) => Exit::Unavailable,
        JoinError::NotAdmitted { refusal, .. } if refusal.passes() => Exit::Unavailable,
        JoinError::NotAdmitted { .. } | JoinError::BadAnswer { .. } => Exit::NotAdmitted,
        JoinError::Io(_) => Exit::Failure,
    }
}

fn candidacy_exit(error: &CandidacyError) -> Exit {
    match error {
        CandidacyError::OtherName { .. }
        | CandidacyError::OtherGenesis { .. }
        | CandidacyError::NamedGenesis(_)
        | CandidacyError::Genesis(_)
        | CandidacyError::Candidate(_)
        | CandidacyError::Unreachable(_) => Exit::Usage,
        CandidacyError::NoGenesis(_) => Exit::Bug,
        CandidacyError::Exists { .. } => Exit::NotAdmitted,
        CandidacyError::Commitment(error) => commitment_exit(error),
        CandidacyError::Io(_) => Exit::DiskFailed,
    }
}

fn commitment_exit(error: &CommitmentError) -> Exit {
    match error {
        CommitmentError::OtherGroup { .. } | CommitmentError::OtherRelease { .. } => Exit::Usage,
        CommitmentError::Damaged { .. } => Exit::IdentityLost,
        CommitmentError::Unwritten(_) | CommitmentError::Unread { .. } => Exit::DiskFailed,
    }
}

fn driver_exit(error: &DriverError) -> Exit {
    match error {
        DriverError::Panicked => Exit::Bug,
        DriverError::Start(StartError::Halt(halt)) | DriverError::Stop(Stop::Halt(halt)) => halt_exit(halt),
        DriverError::Start(StartError::Log(_)) | DriverError::Stop(Stop::Log(_)) => Exit::DiskFailed,
        DriverError::Start(StartError::Open(error)) => match error {
            OpenError::Setting { .. }
            | OpenError::Owner { .. }
            | OpenError::Format { .. }
            | OpenError::Rules { .. } => Exit::Usage,
            OpenError::NoHeader | OpenError::Refused { .. } => Exit::IdentityLost,
            OpenError::Folder(_) | OpenError::Read { .. } | OpenError::Write { .. } => Exit::DiskFailed,
        },
    }
}

fn halt_exit(halt: &Halt) -> Exit {
    match halt {
        Halt::RotAboveDecided { .. } | Halt::RefusedAsStale { .. } | Halt::Unreadable(_) => Exit::IdentityLost,
        Halt::OtherGroup { .. } => Exit::Usage,
        Halt::Departed { .. } => Exit::Departed,
        Halt::TwoDigests { .. } | Halt::Diverged { .. } | Halt::InvalidDecision { .. } | Halt::EpochFork { .. } => {
            Exit::Contradiction
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::types::DoorRefusal;

    #[test]
    fn a_code_is_given_or_the_first_line_of_the_input() {
        assert_eq!(code("synod-join-x", &b"y\n"[..]).unwrap(), "synod-join-x");
        let mut input = &b" synod-join-y \r\nwhat follows\n"[..];
        assert_eq!(code("-", &mut input).unwrap(), "synod-join-y");
        assert_eq!(input, b"what follows\n");
        for input in ["", "\nsynod-join-z\n"] {
            let failure = code("-", input.as_bytes()).unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.message.contains("synod invite"), "{failure:?}");
        }
        let endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(code("-", endless).unwrap().len() as u64, limits::JOIN_CODE_BYTES_MAX);
    }

    #[test]
    fn who_may_come_again_and_who_not_are_told_apart() {
        let address: libp2p::Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let refused =
            |refusal| join_exit(&JoinError::NotAdmitted { address: address.clone(), refusal, others: Vec::new() });
        assert_eq!(refused(DoorRefusal::Busy), Exit::Unavailable);
        assert_eq!(refused(DoorRefusal::NoQuorum("n2 is missing".to_owned())), Exit::Unavailable);
        assert_eq!(join_exit(&JoinError::NobodyAnswers(Vec::new())), Exit::Unavailable);
        for refusal in [DoorRefusal::UnknownInvite, DoorRefusal::UsedInvite, DoorRefusal::ExpiredInvite] {
            assert_eq!(refused(refusal), Exit::NotAdmitted);
        }
    }

    #[test]
    fn a_directory_that_somebody_has_may_be_free_later() {
        let locked = DataDirectoryError::Locked { path: "d".into(), holder: Some(7) };
        assert_eq!(failure(locked.into()).exit, Exit::Unavailable);
        assert_eq!(failure(DataDirectoryError::Missing("d".into()).into()).exit, Exit::Usage);
    }

    /// Set in the process that shall end.
    const ENDING: &str = "SYNOD_TEST_OF_A_PANIC";

    #[test]
    fn a_panic_in_any_task_ends_the_process_as_a_bug() {
        if std::env::var_os(ENDING).is_some() {
            end_with_any_panic();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                // Nobody ever looks at how the task ended.
                tokio::spawn(async { panic!("a bug") });
                std::future::pending::<()>().await;
            });
        }
        let this = "cmd::run::tests::a_panic_in_any_task_ends_the_process_as_a_bug";
        let mut process = Command::new(std::env::current_exe().unwrap());
        let ended = process.args([this, "--exact", "--nocapture"]).env(ENDING, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(Exit::Bug as i32), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("a bug"), "{ended:?}");
    }
}
