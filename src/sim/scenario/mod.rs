//! Scenarios: a script plays the world, and what happens is compared with what was recorded.
//!
//! The texts are in `integration/scenarios/`. They are run against real drivers; links take one millisecond and syncs
//! too, nothing is random. `SYNOD_SCENARIOS=record` makes the test write down what happens now: an explicit act, to be
//! reviewed like code. Deeds between two other lines are sorted by member; each member's own stand in their order.
//!
//! # Commands
//!
//! `M` is a member (1, 2 …), `A->B` a direction (`*` for any), `KIND` a message kind as in charts (`*` for any), `TIME`
//! like `50ms`, `2s`, `1h`.
//!
//! | command | what it does |
//! |---|---|
//! | `members N [of M] [suspected after TIME]` | a group of N, and machines up to M that may join, none of them started; must be first |
//! | `start M …` | starts processes; links to whoever runs come up by themselves |
//! | `advance TIME` | lets time pass |
//! | `publish M TEXT [accepted] [within TIME]` | a host publishes; it waits for `ordered` unless told otherwise |
//! | `publish M TEXT times N` / `publish M TEXT bytes N` | N messages; a body of N bytes |
//! | `drop KIND A->B`, `hold KIND A->B`, `pass KIND A->B` | what happens to messages from now on; `pass` delivers what was held |
//! | `open KIND A->B` | new messages pass; what was held stays held |
//! | `forget` | held messages never arrive |
//! | `cut M N`, `link M N` | a pair's link breaks and stays broken; may come up again |
//! | `silence A->B`, `speak A->B` | nothing arrives and nobody notices; it does again |
//! | `kill M`, `crash M [keeping all\|nothing\|leading N\|sectors 0101…]` | the process dies; the machine does, and of each unsynced write that is left |
//! | `doom M before-sync\|in-sync\|after-sync\|after N` | it dies then in its coming turns, like `kill`; `before-sync` needs something to leave first |
//! | `pause M`, `resume M` | the process stands still |
//! | `disk M sync TIME`, `disk M full`, `disk M room`, `disk M fails` | how its disk behaves |
//! | `clock M TIME`, `clock M -TIME` | moves its wall clock |
//! | `flip M newest KIND [back N]`, `flip M slot N` | turns a bit in a record of its log, while it is down |
//! | `copy M`, `restore M` | keeps a copy of its disk; puts it in the place of the disk, while it is down |
//! | `drain M` | as SIGTERM does |
//! | `invite M CODE [expired]` | an operator asks M for a join code of that name |
//! | `join N CODE at M` | machine N knocks at the door of M; it starts when it is let in |
//! | `leave M`, `remove N at M`, `voters N at M`, `limits message BYTES at M` | an operator tells M |
//! | `move M`, `lose M` | it is under another address, from now on or from its next start; its disk is gone |
//! | `tell A->B forged unsigned\|strangers`, `ask A->B` | words at the door of B; `drop door A->B` loses them |
//! | `announce A->B head`, `announce A->B epoch N [forged unsigned\|strangers]` | A's gossip, as it reaches B: what A knows; with a proof made by hand, or none |
//! | `epochs`, `verify M`, `membership M` | the epochs as disks have them; the chain on a disk, checked from the genesis; what M says of the members |
//! | `inject A->B …` | a message made by hand; `inject.rs` lists them |
//! | `show M …`, `order`, `count M NAME …`, `log M`, `records M N` | state; who delivered what; counters; what recovery found; the newest durable records |
//! | `order count` | how many messages have a position, and who has them all |
//! | `answers` | how publishers were answered |
//! | `quiet`, `loud` | members' deeds are not told; are told again |
//! | `watch KIND …`, `unwatch` | prints messages of these kinds as they arrive |
//!
//! Candidates for a group that is not founded yet have a world of their own (`candidates.rs`):
//!
//! | command | what it does |
//! |---|---|
//! | `candidates N expect K` | N machines, none of them started, that expect K; must be first |
//! | `start M …`, `advance TIME`, `kill M …` | as above; what a dying process was writing is lost |
//! | `doom M before-sync\|after-sync N` | it dies with the Nth of its coming records: lost, or durable and not known |
//! | `lose M …` | its disk is gone, and its key with it |
//! | `cut M N`, `link M N`, `silence A->B`, `speak A->B` | as above |
//! | `part M …`, `join` | these and the others do not reach each other; nothing is in the way any more |
//! | `set M expect N`, `set M voters N`, `set M name TEXT`, `set M cluster TEXT`, `move M` | what it is started with next |
//! | `set M listens own\|bridged\|bridge\|rubbish\|unusual\|nowhere` | where it says that it is: at the same bridge as others, at what nobody can dial |
//! | `stranger M lower`, `stranger M founded` | somebody else says to M that there is a lower candidate, a group |
//! | `waiting M …`, `groups` | what a candidate says that it waits for; the groups that are made |

mod candidates;
mod difference;
mod inject;
mod links;
mod members;
mod membership;
mod player;
mod script;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use crate::types::Sabotage;
pub use difference::Difference;
use player::Player;

/// Where the texts are, in a working copy of the repository.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/scenarios")
}

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name: the file's name without `.txt`.
    pub name: String,
    /// Its commands and recorded output.
    pub text: String,
}

/// All scenarios, by name. Empty if the repository's files are not there.
pub fn all() -> Vec<Scenario> {
    let files = fs::read_dir(folder()).into_iter().flatten().flatten().map(|file| file.path());
    let mut scenarios: Vec<Scenario> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some(Scenario { name, text: fs::read_to_string(&path).ok()? })
        })
        .collect();
    scenarios.sort_by(|one, other| one.name.cmp(&other.name));
    scenarios
}

/// The scenarios by name, each with how its output differs from the recorded one when these rules are switched off.
pub fn differences(sabotage: &Sabotage) -> impl Iterator<Item = (String, Difference)> {
    all().into_iter().map(|scenario| {
        let difference = Difference::between(&scenario.text, &scenario.play(sabotage));
        (scenario.name, difference)
    })
}

impl Scenario {
    /// Plays it; returns its text with what happened now in the place of what was recorded.
    pub fn play(&self, sabotage: &Sabotage) -> String {
        let mut player = Player::new(sabotage.clone());
        let mut blocks = script::read(&self.text);
        for block in &mut blocks {
            let commands: Vec<String> = block.commands().map(str::to_owned).collect();
            let played = super::campaign::guarded(|| {
                commands.iter().for_each(|command| player.command(command));
                player.output()
            });
            block.output = played.unwrap_or_else(|panicked| vec![format!("panicked: {panicked}")]);
        }
        script::write(&blocks)
    }

    /// Writes down what happens now.
    pub fn record(&self) -> std::io::Result<()> {
        fs::write(folder().join(format!("{}.txt", self.name)), self.play(&Sabotage::NONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_go_as_recorded() {
        let scenarios = all();
        assert!(!scenarios.is_empty(), "the scenarios of the repository are read");
        let mut differing = Vec::new();
        for scenario in &scenarios {
            if std::env::var("SYNOD_SCENARIOS").as_deref() == Ok("record") {
                scenario.record().unwrap();
            } else if let Some(difference) = difference(&scenario.text, &scenario.play(&Sabotage::NONE)) {
                differing.push(format!("{}: {difference}", scenario.name));
            }
        }
        assert!(differing.is_empty(), "{}\nSYNOD_SCENARIOS=record writes down what happens now", differing.join("\n"));
    }

    /// The first line that differs.
    fn difference(recorded: &str, played: &str) -> Option<String> {
        let mut lines = recorded.lines().zip(played.lines()).enumerate();
        if let Some((number, (was, is))) = lines.find(|(_, (was, is))| was != is) {
            return Some(format!("line {}: recorded `{was}`, now `{is}`", number + 1));
        }
        (recorded != played).then(|| "one text is longer than the other".to_owned())
    }
}
