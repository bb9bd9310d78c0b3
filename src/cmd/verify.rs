//! `synod verify <data-dir>`: a log read offline.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::node::data_directory::{DataDirectory, log_folder};
use crate::node::identity::Identity;
use crate::node::verification::{self, Report};
use crate::wal::DiskFiles;

/// What to read.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// A member's data directory; the member must not be running
    data_dir: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &VerifyArguments, output: Output) -> Result<(), Failure> {
    DataDirectory::check_unused(&arguments.data_dir).map_err(Failure::usage)?;
    let member = Identity::load(&arguments.data_dir).ok().map(|identity| identity.member());
    let files = DiskFiles::new(log_folder(&arguments.data_dir));
    let report = verification::verify(files, member).map_err(Failure::failed)?;
    output.print(&report.document(), || text(&report));
    if report.is_whole() { Ok(()) } else { Err(Failure::new(Exit::Failure, "the log is not whole")) }
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    if let Some(genesis) = &report.genesis {
        lines.push(format!("group       {} ({})", genesis.name, genesis.cluster().short()));
    }
    let recovered = &report.recovered;
    lines.push(format!(
        "log         {} segments, {} bytes, {} turns",
        recovered.segments, recovered.bytes, recovered.turns
    ));
    let records = report.records.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>();
    lines.push(format!("records     {}", if records.is_empty() { "none".to_owned() } else { records.join(", ") }));
    lines.push(format!("incarnation {}", report.incarnation));
    if let Some(round) = report.round {
        lines.push(format!("round       {round}"));
    }
    if let Some(vote) = report.highest_vote {
        lines.push(format!("highest vote slot {vote}"));
    }
    match report.decided {
        Some(tip) => lines.push(format!(
            "decided     slot {tip}: {} batches, {} positions; {} batches not ordered",
            report.decided_batches, report.positions, report.unordered_batches
        )),
        None => lines.push("decided     nothing".to_owned()),
    }
    if let Some(torn) = recovered.torn {
        lines.push(format!(
            "torn tail   segment {}, offset {}: {} bytes of a turn whose sync never returned; the next start cuts them",
            torn.segment, torn.offset, torn.bytes_dropped
        ));
    }
    lines.extend(recovered.rots.iter().map(|rot| format!("rot         {rot}")));
    if report.rot_is_overtaken {
        lines.push("            behind it stand newer words of the voter and a newer decided mark".to_owned());
    }
    lines.extend(report.mistakes.iter().map(|mistake| format!("mistake     {mistake}")));
    if report.mistakes_untold > 0 {
        lines.push(format!("mistake     and {} more", report.mistakes_untold));
    }
    lines.push(if report.is_whole() { "whole".to_owned() } else { "NOT WHOLE".to_owned() });
    lines.join("\n")
}
