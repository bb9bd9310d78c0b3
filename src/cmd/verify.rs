//! `synod verify`: offline, what a data directory holds and whether it is whole; or what an exported chain of epochs proves.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::node::data_directory::{DataDirectory, log_folder};
use crate::node::epoch_proof::{EpochProof, Fork, Signers};
use crate::node::identity::Identity;
use crate::node::verification::{self, Report};
use crate::types::{ClusterId, MemberId, limits};
use crate::wal::DiskFiles;

/// What to read.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// Members' data directories (the members must not be running), and what `synod epochs --output json` printed: files, or
    /// - for standard input. Of one group they are compared: whether their chains of epochs fork
    #[arg(required = true, value_name = "PATH")]
    what: Vec<PathBuf>,
    /// The group it must be of: its id, all 64 digits. Without it a chain of epochs proves itself only to who knows the id
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
}

/// What one path holds.
struct Finding {
    path: PathBuf,
    /// For scripts.
    document: Value,
    /// For people.
    text: String,
    /// The chain of epochs; a log that is empty has none.
    proof: Option<EpochProof>,
    /// What is not whole, if anything is.
    broken: Option<&'static str>,
}

/// Runs the command.
pub fn run(arguments: &VerifyArguments, output: Output) -> Result<(), Failure> {
    let findings = arguments.what.iter().map(|path| find(path)).collect::<Result<Vec<Finding>, Failure>>()?;
    let forks = forks(&findings);
    match findings.as_slice() {
        [one] => output.print(&one.document, || one.text.clone()),
        several => output.print(&document(several, &forks), || text(several, &forks)),
    }
    findings.iter().try_for_each(|finding| arguments.check_cluster(finding))?;
    let within = findings.iter().filter_map(|finding| Some(finding.proof.as_ref()?.fork.as_ref()?.to_string()));
    if let Some(fork) = within.chain(forks.iter().map(|between| between.fork.to_string())).next() {
        let advice = "that is no crash: keep all logs, and find out who runs a second copy of a key";
        return Err(Failure::new(Exit::Contradiction, format!("{fork}; {advice}")));
    }
    match findings.iter().find_map(|finding| finding.broken) {
        Some(what) => Err(Failure::failed(format!("{what} is not whole"))),
        None => Ok(()),
    }
}

fn find(path: &Path) -> Result<Finding, Failure> {
    if path.is_dir() { log(path) } else { exported(path) }
}

fn log(path: &Path) -> Result<Finding, Failure> {
    DataDirectory::check_unused(path).map_err(Failure::usage)?;
    let member = Identity::load(path).ok().map(|identity| identity.member());
    let files = DiskFiles::new(log_folder(path));
    let report = verification::verify(files, member).map_err(Failure::failed)?;
    Ok(Finding {
        path: path.to_owned(),
        document: report.document(),
        text: log_text(&report),
        broken: (!report.is_whole()).then_some("the log"),
        proof: report.epochs,
    })
}

fn exported(path: &Path) -> Result<Finding, Failure> {
    let proof = EpochProof::of_document(&read(path)?).map_err(Failure::failed)?;
    let document = json!({
        "whole": proof.is_whole(),
        "group": proof.genesis.name,
        "cluster": proof.genesis.cluster(),
        "epochs": proof.document(),
        "mistakes": proof.mistakes,
    });
    let broken = (!proof.is_whole()).then_some("the chain of epochs");
    Ok(Finding { path: path.to_owned(), document, text: proof_text(&proof), broken, proof: Some(proof) })
}

impl VerifyArguments {
    fn check_cluster(&self, finding: &Finding) -> Result<(), Failure> {
        let path = finding.path.display();
        let found = finding.proof.as_ref().map(|proof| proof.genesis.cluster());
        match (self.cluster, found) {
            (Some(wanted), Some(found)) if wanted != found => {
                Err(Failure::failed(format!("{path}: it is of group {found}, not of {wanted}")))
            }
            (Some(wanted), None) => Err(Failure::failed(format!("{path}: it names no group, {wanted} is wanted"))),
            _ => Ok(()),
        }
    }
}

/// A fork between two of the paths.
struct Between<'a> {
    paths: [&'a Path; 2],
    fork: Fork,
}

/// Each two of the findings whose chains fork.
fn forks(findings: &[Finding]) -> Vec<Between<'_>> {
    let mut forks = Vec::new();
    for (index, one) in findings.iter().enumerate() {
        for other in &findings[index + 1..] {
            let (Some(chain), Some(against)) = (&one.proof, &other.proof) else { continue };
            let paths = [one.path.as_path(), other.path.as_path()];
            forks.extend(chain.fork_from(against).map(|fork| Between { paths, fork }));
        }
    }
    forks
}

fn document(findings: &[Finding], forks: &[Between]) -> Value {
    let fork = |Between { paths, fork }: &Between| {
        let end = |(path, signers): (&&Path, &Signers)| {
            json!({
                "path": path,
                "slot": signers.tip.slot.0,
                "round": signers.tip.round.to_string(),
                "digest": signers.tip.digest,
                "signed_by": signers.members,
            })
        };
        let ends: Vec<Value> = paths.iter().zip(&fork.ends).map(end).collect();
        json!({ "epoch": fork.epoch.0, "ends": ends, "signed_both": fork.signed_both() })
    };
    let found = |finding: &Finding| json!({ "path": finding.path, "found": finding.document });
    json!({
        "whole": forks.is_empty() && findings.iter().all(|finding| finding.broken.is_none()),
        "paths": findings.iter().map(found).collect::<Vec<_>>(),
        "forks": forks.iter().map(fork).collect::<Vec<_>>(),
    })
}

fn text(findings: &[Finding], forks: &[Between]) -> String {
    let mut parts: Vec<String> =
        findings.iter().map(|finding| format!("{}\n{}", finding.path.display(), finding.text)).collect();
    let fork = |Between { paths: [one, other], fork }: &Between| {
        format!("FORK between {} and {}\n{fork}", one.display(), other.display())
    };
    parts.extend(forks.iter().map(fork));
    if forks.is_empty() {
        parts.push(
            "no two of them contradict each other: chains of one group are the same as far as both go".to_owned(),
        );
    }
    parts.join("\n\n")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::epoch_proof::tests::{chain, document, genesis, id, link};
    use crate::types::{Digest, EpochLink, Slot};

    /// Documents that members with these chains gave out, checked together.
    fn checked(chains: &[&[EpochLink]], output: Output) -> Result<(), Failure> {
        let folder = tempfile::tempdir().unwrap();
        let write = |(number, links): (usize, &&[EpochLink])| {
            let path = folder.path().join(format!("n{number}.json"));
            std::fs::write(&path, document(links).to_string()).unwrap();
            path
        };
        let what = chains.iter().enumerate().map(write).collect();
        run(&VerifyArguments { what, cluster: Some(genesis().cluster()) }, output)
    }

    /// Another end of epoch 0, with 2 in both quorums.
    fn other_end() -> EpochLink {
        link(&genesis().configuration(), (Slot(5), Digest([9; 32])), &[1, 2, 5], &[1, 2])
    }

    #[test]
    fn two_documents_whose_chains_fork_are_refused() {
        let (links, other) = (chain(), [other_end()]);
        for output in [Output::Text, Output::Json] {
            checked(&[&links, &links[..1]], output).unwrap();
            let failure = checked(&[&links, &links[..1], &other], output).unwrap_err();
            assert_eq!(failure.exit, Exit::Contradiction);
            let told = ["epoch 0 has two ends", &format!("signed both: {}", id(1).short()), "second copy of a key"];
            assert!(told.iter().all(|part| failure.message.contains(part)), "{}", failure.message);
        }
        let forked = [links.as_slice(), &other].concat();
        let failure = checked(&[&forked], Output::Text).unwrap_err();
        assert!(failure.exit == Exit::Contradiction && failure.message.contains("epoch 0 has two ends"), "{failure:?}");
        let failure = checked(&[&links, &links[1..]], Output::Text).unwrap_err();
        assert_eq!(failure, Failure::failed("the chain of epochs is not whole"));
    }

    #[test]
    fn a_fork_is_told_with_both_ends_and_who_signed() {
        let finding = |name: &str, links: Vec<EpochLink>| Finding {
            path: name.into(),
            document: Value::Null,
            text: format!("all of {name}"),
            broken: None,
            proof: Some(EpochProof::check(genesis(), links)),
        };
        let findings = [finding("one", chain()), finding("other", vec![other_end()])];
        let forks = forks(&findings);
        let told = super::document(&findings, &forks);
        let fork = &told["forks"][0];
        assert_eq!((&told["whole"], &fork["epoch"], &fork["signed_both"]), (&json!(false), &json!(0), &json!([id(1)])));
        assert_eq!((&fork["ends"][0]["path"], &fork["ends"][1]["slot"]), (&json!("one"), &json!(5)));
        let text = text(&findings, &forks);
        assert!(text.contains("all of one") && text.contains("FORK between one and other\nforked: epoch 0"), "{text}");
    }
}
