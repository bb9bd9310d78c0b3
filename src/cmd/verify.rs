//! `synod verify`: offline, what a data directory holds and whether it is whole; or what an exported chain of epochs proves.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::exit::Failure;
use super::output::Output;
use crate::node::data_directory::{DataDirectory, log_folder};
use crate::node::epoch_proof::{EpochProof, Signers};
use crate::node::identity::Identity;
use crate::node::verification::{self, Report};
use crate::types::{ClusterId, MemberId, limits};
use crate::wal::DiskFiles;

/// What to read.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// A member's data directory (the member must not be running), or what `synod epochs --output json` printed: a file,
    /// or - for standard input
    what: PathBuf,
    /// The group it must be of: its id, all 64 digits. Without it a chain of epochs proves itself only to who knows the id
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
}

/// Runs the command.
pub fn run(arguments: &VerifyArguments, output: Output) -> Result<(), Failure> {
    if arguments.what.is_dir() { arguments.log(output) } else { arguments.proof(output) }
}

impl VerifyArguments {
    fn log(&self, output: Output) -> Result<(), Failure> {
        DataDirectory::check_unused(&self.what).map_err(Failure::usage)?;
        let member = Identity::load(&self.what).ok().map(|identity| identity.member());
        let files = DiskFiles::new(log_folder(&self.what));
        let report = verification::verify(files, member).map_err(Failure::failed)?;
        output.print(&report.document(), || log_text(&report));
        self.check_cluster(report.cluster())?;
        if report.is_whole() { Ok(()) } else { Err(Failure::failed("the log is not whole")) }
    }

    fn proof(&self, output: Output) -> Result<(), Failure> {
        let document = read(&self.what)?;
        let proof = EpochProof::of_document(&document).map_err(Failure::failed)?;
        let whole = proof.is_whole();
        let printed = json!({
            "whole": whole,
            "group": proof.genesis.name,
            "cluster": proof.genesis.cluster(),
            "epochs": proof.document(),
            "mistakes": proof.mistakes,
        });
        output.print(&printed, || proof_text(&proof));
        self.check_cluster(Some(proof.genesis.cluster()))?;
        if whole { Ok(()) } else { Err(Failure::failed("the chain of epochs is not whole")) }
    }

    fn check_cluster(&self, found: Option<ClusterId>) -> Result<(), Failure> {
        match (self.cluster, found) {
            (Some(wanted), Some(found)) if wanted != found => {
                Err(Failure::failed(format!("it is of group {found}, not of {wanted}")))
            }
            (Some(wanted), None) => Err(Failure::failed(format!("it names no group, {wanted} is wanted"))),
            _ => Ok(()),
        }
    }
}

/// A document, which is bounded.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let most = limits::PROOF_BYTES_MAX;
    let mut document = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(most + 1).read_to_end(&mut document)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut document))
    };
    read.map_err(unreadable)?;
    if document.len() as u64 > most {
        return Err(Failure::usage(format!("{}: more than {most} bytes are no chain of epochs", path.display())));
    }
    Ok(document)
}

fn proof_text(proof: &EpochProof) -> String {
    let name = |member: &MemberId| {
        let named = proof.genesis.members.iter().find(|named| named.id == *member);
        named.map_or_else(|| member.short(), |named| named.name.clone())
    };
    let mut lines = vec![format!("group       {}, {}", proof.genesis.name, proof.genesis.cluster())];
    lines.extend(epoch_lines(proof, &name));
    lines.extend(proof.mistakes.iter().map(|mistake| format!("mistake     {mistake}")));
    lines.push(if proof.is_whole() {
        format!("proven up to epoch {}; whether there is a later one no proof can tell", proof.last().epoch)
    } else {
        "NOT WHOLE".to_owned()
    });
    lines.join("\n")
}

/// A line for each epoch: who votes in it, and who signed the end of the one before it.
fn epoch_lines(proof: &EpochProof, name: &impl Fn(&MemberId) -> String) -> Vec<String> {
    let names = |members: &[MemberId]| members.iter().map(name).collect::<Vec<_>>().join(", ");
    let why = |certificate: &Option<Signers>| match certificate {
        None => "by the cluster id".to_owned(),
        Some(Signers { tip, members, quorum: (needed, voters) }) => {
            format!("by {} of {voters} ({}; {needed} needed) at slot {}", members.len(), names(members), tip.slot)
        }
    };
    let line = |index: usize| {
        let epoch = &proof.epochs[index];
        let heading = if index == 0 { "epochs" } else { "" };
        let configuration = &epoch.configuration;
        let voters = names(&configuration.voters);
        format!("{heading:<12}{}: voters {voters}; proven {}", configuration.epoch, why(&epoch.certificate))
    };
    (0..proof.epochs.len()).map(line).collect()
}

fn log_text(report: &Report) -> String {
    let name = |member: &MemberId| report.names.get(member).cloned().unwrap_or_else(|| member.short());
    let mut lines = Vec::new();
    if let Some(genesis) = &report.genesis {
        lines.push(format!("group       {} ({})", genesis.name, genesis.cluster().short()));
    }
    lines.extend(report.member.map(|member| match report.names.get(&member) {
        Some(name) => format!("member      {name} ({})", member.short()),
        None => format!("member      {}: this log does not name it (yet, if it has just joined)", member.short()),
    }));
    let recovered = &report.recovered;
    lines.push(format!(
        "log         {} segments, {} bytes, {} turns",
        recovered.segments, recovered.bytes, recovered.turns
    ));
    let records = report.records.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>();
    lines.push(format!("records     {}", if records.is_empty() { "none".to_owned() } else { records.join(", ") }));
    lines.push(format!("incarnation {}", report.incarnation));
    lines.extend(report.round.map(|round| format!("round       {round}")));
    lines.extend(report.highest_vote.map(|vote| format!("highest vote slot {vote}")));
    lines.push(match report.decided {
        Some(tip) => format!(
            "decided     slot {tip}: {} batches with {} messages and {} membership commands; {} batches not ordered",
            report.decided_batches, report.messages, report.commands, report.unordered_batches
        ),
        None => "decided     nothing".to_owned(),
    });
    lines.extend(report.epochs.iter().flat_map(|proof| epoch_lines(proof, &name)));
    lines.extend(troubles(report));
    lines.push(if report.is_whole() { "whole".to_owned() } else { "NOT WHOLE".to_owned() });
    lines.join("\n")
}

/// What is torn, rotten or wrong, a line each.
fn troubles(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(torn) = report.recovered.torn {
        lines.push(format!(
            "torn tail   segment {}, offset {}: {} bytes of a turn whose sync never returned; the next start cuts them",
            torn.segment, torn.offset, torn.bytes_dropped
        ));
    }
    lines.extend(report.recovered.rots.iter().map(|rot| format!("rot         {rot}")));
    if report.rot_is_overtaken {
        lines.push("            behind it stand newer words of the voter and a newer decided mark".to_owned());
    }
    lines.extend(report.mistakes.iter().map(|mistake| format!("mistake     {mistake}")));
    if report.mistakes_untold > 0 {
        lines.push(format!("mistake     and {} more", report.mistakes_untold));
    }
    lines
}
