//! `synod doctor`: everything around a member that can keep it from working, each with what to do. With a running sidecar
//! and without one.
//!
//! | file | duty |
//! |---|---|
//! | `situation` | what is known of the member before anything is tried: configuration, genesis, data directory |
//! | `sidecar` | what the sidecar says of itself, or why it says nothing |
//! | `standing` | judges that: readiness, quorum, clock, disk, queues |
//! | `network` | judges that: links, who reaches whom, sources |
//!
//! What is looked at beside the sidecar stands in `node/examination/`.

mod network;
mod sidecar;
mod situation;
mod standing;

use std::path::Path;

use libp2p::identity::Keypair;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{Output, Progress};
use super::settings_arguments::SettingsArguments;
use super::sidecar::{ApiArguments, block_on};
use super::status::cell;
use crate::node::examination::directory::{Examined, Held, Place};
use crate::node::examination::doors::Doors;
use crate::node::examination::ports::{Expected, Port};
use crate::node::examination::reached::judge_answer;
use crate::node::examination::{Finding, State, directory, disk, host_api, worst};
use crate::node::identity::Identity;
use crate::types::MemberId;
use sidecar::{Documents, Heard};
use situation::Situation;

/// Which member, and what it was started with.
#[derive(Debug, clap::Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// Runs the command. It fails if any check does.
pub fn run(arguments: &DoctorArguments, output: Output) -> Result<(), Failure> {
    let findings = block_on(examine(arguments, Progress::new(output)))?;
    let document = json!({
        "findings": findings.iter().map(Finding::document).collect::<Vec<_>>(),
        "worst": worst(&findings).name(),
    });
    output.print(&document, || text(&findings));
    let failed = findings.iter().filter(|finding| finding.state == State::Fail).count();
    match failed {
        0 => Ok(()),
        1 => Err(Failure::failed("a check failed")),
        _ => Err(Failure::failed(format!("{failed} checks failed"))),
    }
}

/// One check after the other: first what is here, then the sidecar, then the ways to the others.
async fn examine(arguments: &DoctorArguments, mut progress: Progress) -> Result<Vec<Finding>, Failure> {
    let mut situation = Situation::gather(arguments);
    progress.tell("the sidecar");
    let heard = sidecar::hear(arguments, &situation).await;
    let documents = heard.documents.as_ref();
    let used = documents.and_then(Documents::data_dir);
    let elsewhere = situation.data_dir.as_deref().zip(used).and_then(|(named, used)| directory::elsewhere(named, used));
    let settings = &arguments.settings;
    if elsewhere.is_some() && !settings.are_given() && settings.file().is_none() && !settings.give("data_dir") {
        // The defaults are nobody's configuration.
        situation = Situation::default();
    }
    let mut findings = situation.findings.clone();
    let data_dir = situation.data_dir.as_deref().filter(|_| elsewhere.is_none());
    let examined = data_dir.map(|data_dir| {
        progress.tell("the disk");
        let cluster = situation.genesis.as_ref().map(|genesis| genesis.cluster());
        directory::examine(&Place { data_dir, cluster, answers: heard.answers, founds: situation.founds })
    });
    findings.extend(elsewhere.clone());
    findings.extend(examined.iter().flat_map(|examined| examined.findings.clone()));
    findings.extend(examined.iter().flat_map(|examined| volume(&situation, examined)));
    findings.extend(ports(&situation, examined.as_ref(), &heard));
    // The member is of the user that has the directory that it uses.
    let place = if elsewhere.is_some() { used } else { data_dir };
    findings.extend(host_api(&situation, place, examined.as_ref(), &heard).await);
    findings.extend(heard.findings.clone());
    let key = examined.as_ref().and_then(|examined| examined.identity.as_ref());
    if let Some(documents) = documents {
        findings.extend(other_member(&situation, documents));
        findings.extend(standing::judge(documents, &situation.timing()));
        findings.extend(network::judge(documents));
    } else {
        findings.push(standing::clock_unknown());
    }
    let mut doors = doors(&situation, examined.as_ref(), documents);
    if let (None, Some(settings)) = (documents, &situation.settings) {
        progress.tell("what the sources of addresses say");
        let listen = situation.mesh_listen(key.map(Identity::member));
        for answer in settings.discovery.ask_once().await {
            findings.push(judge_answer(&answer));
            doors.add_answer(&answer, &listen);
        }
        findings.extend(settings.discovery.mdns.then(only_heard_while_running));
    }
    findings.extend(knock(doors, &situation, examined.as_ref(), documents, &mut progress).await?);
    Ok(findings)
}

/// Room and speed of the disk, as far as there is a directory to look at.
fn volume(situation: &Situation, examined: &Examined) -> Vec<Finding> {
    let Some(data_dir) = situation.data_dir.as_deref().filter(|data_dir| data_dir.is_dir()) else {
        return Vec::new();
    };
    let room = disk::room(data_dir, situation.segment_bytes());
    std::iter::once(room).chain(examined.usable.then(|| disk::speed(data_dir, &situation.timing()))).collect()
}

/// The token, and for a member that does not run the place of its socket.
async fn host_api(
    situation: &Situation,
    data_dir: Option<&Path>,
    examined: Option<&Examined>,
    heard: &Heard,
) -> Vec<Finding> {
    let Some(settings) = &situation.settings else { return Vec::new() };
    let runs = heard.answers || examined.is_some_and(|examined| examined.held.is_some());
    let token = host_api::token(&settings.api, data_dir, runs);
    let socket = if runs { None } else { host_api::socket(&settings.api, data_dir).await };
    token.into_iter().chain(socket).collect()
}

/// What comes by multicast comes to whoever takes part in it.
fn only_heard_while_running() -> Finding {
    Finding::ok("source mdns", "not asked: it is heard by a running member only, whose status shows what it gave")
}

fn ports(situation: &Situation, examined: Option<&Examined>, heard: &Heard) -> Vec<Finding> {
    let Some(settings) = &situation.settings else { return Vec::new() };
    let (api, mesh) = expected(examined.and_then(|examined| examined.held), heard);
    let member = examined.and_then(|examined| examined.identity.as_ref()).map(Identity::member);
    let ports = situation.mesh_listen(member).into_iter().filter_map(|address| Port::of_mesh(&address));
    std::iter::once(Port::of_api(settings.api.listen).examine(api))
        .chain(ports.map(|port| port.examine(mesh)))
        .collect()
}

/// Whose listeners there should be: of the API, and of the mesh. One that starts serves its API first, and has its mesh when
/// its log is read; one that is silent may not have come to either.
fn expected(held: Option<Held>, heard: &Heard) -> (Expected, Expected) {
    let process = held.and_then(|held| held.process);
    match (&heard.documents, heard.answers, held) {
        (Some(_), _, _) => (Expected::Member(process), Expected::Member(process)),
        (None, true, _) => (Expected::Member(process), Expected::Starting(process)),
        (None, false, Some(_)) => (Expected::Starting(process), Expected::Starting(process)),
        (None, false, None) => (Expected::Nobody, Expected::Nobody),
    }
}

fn other_member(situation: &Situation, documents: &Documents) -> Option<Finding> {
    let answers = documents.status["member"].as_str()?;
    let member = Identity::load(situation.data_dir.as_deref()?).ok()?.member();
    (member.to_string() != answers).then(|| directory::other_member(&member, answers))
}

/// Knocks at every door that is known. With the member's own key if nobody uses it just now: then the group says what it
/// is to them. Else with one drawn for this.
async fn knock(
    doors: Doors,
    situation: &Situation,
    examined: Option<&Examined>,
    documents: Option<&Documents>,
    progress: &mut Progress,
) -> Result<Vec<Finding>, Failure> {
    let cluster = situation.genesis.as_ref().map(|genesis| genesis.cluster());
    let cluster = cluster.or_else(|| documents.and_then(Documents::cluster));
    let own = examined.and_then(|examined| examined.identity.as_ref());
    let idle = own.filter(|_| documents.is_none() && examined.is_some_and(|examined| examined.held.is_none()));
    // At one's own door nobody is while one does not run, and no key dials itself.
    let doors = if documents.is_none() { doors.without(own.map(Identity::member)) } else { doors };
    if doors.is_empty() {
        return Ok(Vec::new());
    }
    // Whoever asks without a group is of none.
    if cluster.is_none() && situation.has_genesis {
        let what = "not tried: the genesis cannot be used, so nobody knows which group is meant";
        return Ok(vec![Finding::warn("reach", what, "correct the genesis first: all members have the same")]);
    }
    let secret = idle.map_or_else(|| Identity::draw().map(|drawn| drawn.secret()), |own| Ok(own.secret()));
    let secret = secret.map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
    let key = Keypair::ed25519_from_bytes(secret)
        .map_err(|error| Failure::failed(format!("no key to dial with: {error}")))?;
    let count = doors.len();
    progress.tell(&format!("answers at {count} addresses"));
    let tell = |tried: usize| {
        if tried < count {
            progress.tell(&format!("answers at {} of {count} addresses", count - tried));
        }
    };
    Ok(doors.examine(&key, cluster, tell).await)
}

fn doors(situation: &Situation, examined: Option<&Examined>, documents: Option<&Documents>) -> Doors {
    let mut doors = Doors::default();
    if let Some(genesis) = &situation.genesis {
        doors.add_genesis(genesis);
    }
    if let Some(examined) = examined {
        doors.add_contacts(&examined.contacts);
    }
    let mut members: Vec<&Value> = documents.iter().flat_map(|documents| documents.members()).collect();
    members.sort_by_key(|member| (member["joined"].as_u64(), cell(&member["name"])));
    for member in members {
        let id: Option<MemberId> = member["id"].as_str().and_then(|id| id.parse().ok());
        let addresses: Vec<String> =
            member["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        doors.add(id, member["name"].as_str().unwrap_or("?"), &addresses, "members");
    }
    let announced = situation.settings.iter().flat_map(|settings| &settings.mesh_announce);
    let announced: Vec<String> = announced.map(ToString::to_string).collect();
    let own = examined.and_then(|examined| examined.identity.as_ref()).map(Identity::member);
    doors.add(own, "itself", &announced, "mesh.announce");
    doors
}

/// A line for each check, and under what is not well what to do.
fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or_default();
    let line = |finding: &Finding| {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let advice = finding.advice.as_ref().map(|advice| format!("      \u{2192} {advice}\n")).unwrap_or_default();
        format!("{state:<4}  {:<width$}  {}\n{advice}", finding.check, finding.what)
    };
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let (warned, failed) = (count(State::Warn), count(State::Fail));
    let lines: String = findings.iter().map(line).collect();
    format!("{lines}\n{} checks: {warned} to be looked at, {failed} failed\n", findings.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_is_not_told_to_listen_already() {
        let heard = |documents: bool, answers: bool| Heard {
            findings: Vec::new(),
            documents: documents.then_some(Documents { status: Value::Null, members: Value::Null }),
            answers,
        };
        let held = Some(Held { process: Some(7) });
        let (member, starting) = (Expected::Member(Some(7)), Expected::Starting(Some(7)));
        assert_eq!(expected(held, &heard(true, true)), (member, member));
        assert_eq!(expected(held, &heard(false, true)), (member, starting), "it reads its log");
        assert_eq!(expected(held, &heard(false, false)), (starting, starting));
        assert_eq!(expected(None, &heard(false, false)), (Expected::Nobody, Expected::Nobody));
    }

    #[test]
    fn what_is_not_well_has_its_advice_below() {
        let told =
            text(&[Finding::ok("disk", "47 GiB free"), Finding::fail("member.key", "it is gone", "get it back")]);
        assert_eq!(
            told,
            "ok    disk        47 GiB free\nFAIL  member.key  it is gone\n      \u{2192} get it back\n\n\
             2 checks: 0 to be looked at, 1 failed\n"
        );
    }
}
