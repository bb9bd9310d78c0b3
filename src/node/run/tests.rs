//! One member of a group whose others do not run.

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};

use super::*;
use crate::api::client::{Client, Target};
use crate::net::listen_address;
use crate::node::founding::{Plan, Ports, found, genesis_path};
use crate::node::join::tests::own_address;
use crate::node::settings::layers::Layers;
use crate::types::{Ack, Contact, RosterMember};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first member of a group of three, on an address of its own, with these settings.
fn configuration(settings: &[(&'static str, &str)]) -> (TempDir, Configuration) {
    let directory = tempfile::tempdir().unwrap();
    let address = listen_address(&own_address()).unwrap().1.ip().to_string();
    let settings = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let members = (0..3).map(|index| Ports::from_base(7171, index).unwrap()).collect();
    let plan = Plan { directory: directory.path().to_owned(), name: "trial".to_owned(), members, settings };
    let place = found(&plan).unwrap().swap_remove(0);
    for path in [&genesis_path(directory.path()), &place.config] {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace("127.0.0.1", &address)).unwrap();
    }
    let content = std::fs::read_to_string(&place.config).unwrap();
    let layers = Layers::gather(Some((&place.config, &content)), [], []);
    let configuration = Configuration::read(&layers, place.config.parent().unwrap()).unwrap();
    (directory, configuration)
}

/// Neither its leave nor its message can be ordered, and it would wait an hour for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_leave_and_drain_at_once() {
    let (_directory, configuration) = configuration(&[("leave_on_exit", "true"), ("api.publish_timeout", "1h")]);
    let client = Client::new(Target::Unix(configuration.settings.api.socket.clone()));
    let (signals, heard) = mpsc::unbounded_channel();
    let heard = Mutex::new(heard);
    let stop = || async {
        let signal: Option<()> = heard.lock().await.recv().await;
        signal.expect("the test goes on until the member has ended");
    };
    let member = run_with(configuration, stop, Duration::ZERO);
    let operator = async {
        while client.publish("t", None, Ack::Accepted, Bytes::new()).await.is_err() {
            tokio::task::yield_now().await;
        }
        signals.send(()).unwrap();
        signals.send(()).unwrap();
    };
    let (outcome, ()) = timeout(PATIENCE, async { tokio::join!(member, operator) }).await.expect("it ends at once");
    outcome.unwrap();
    drop(signals);
}

/// The order takes any text for an address, and so do hints.
#[tokio::test]
async fn addresses_of_others_that_cannot_be_read_are_passed_over() {
    let (_directory, configuration) = configuration(&[]);
    let directory = DataDirectory::lock(&configuration.settings.data_dir).unwrap();
    let identity = Identity::load(directory.path()).unwrap();
    let addresses = || vec!["nowhere".to_owned(), "/ip4/127.0.0.1/tcp/9".to_owned()];
    let other = Contact { id: MemberId([9; 32]), name: "n9".to_owned(), addresses: addresses() };
    contacts_file::write(&directory, &[other]).unwrap();
    let mut member = Member::new(configuration, identity, directory).await.unwrap();
    member.tells = true;
    let other = RosterMember { id: MemberId([9; 32]), name: "n9".to_owned(), addresses: addresses(), dial: true };
    let (_tells, roster) = watch::channel(Roster { members: vec![other], ..Roster::default() });
    let listens: Vec<String> = member.mesh_listen.iter().map(ToString::to_string).collect();
    assert_eq!(member.whereabouts(&roster).await, listens);
}
