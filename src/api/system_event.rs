//! What happens to the group itself, as hosts see it: the `data` of events whose type begins with `synod.`. It is a
//! function of what is ordered, and of nothing else, so that at one position everybody sees the same.
//!
//! | type | `data`, beside `by`, the member that ordered it |
//! |---|---|
//! | `synod.member.invited` | `invite`: how its digest begins, `expires` |
//! | `synod.member.joined` | `member`, `name`, `addresses`, `invite` |
//! | `synod.member.left`, `…removed`, `…suspected`, `…unsuspected` | `member` |
//! | `synod.member.ready` | `member`, `slot`, `digest`: what it holds |
//! | `synod.member.moved` | `member`, `addresses` |
//! | `synod.voters.configured` | `voters_target`, `limits`; null leaves them as they are |
//! | `synod.epoch.began` (without `by`) | `epoch`, `voters` in leader order, `voters_target`, `joined`, `gone`: voters since, voters no more |

use serde_json::{Value, json};

use crate::types::{Command, Configuration, MemberId};

/// The type of the event at an epoch's end.
pub(super) const EPOCH_BEGAN: &str = "synod.epoch.began";

/// The data of a command that the member `by` ordered.
pub(super) fn command(command: &Command, by: &MemberId) -> Value {
    match command {
        Command::Invite { secret, expires } => {
            json!({"by": by, "invite": secret.short(), "expires": expires.to_string()})
        }
        Command::JoinIntent { member, name, addresses, invite } => {
            json!({"by": by, "member": member, "name": name, "addresses": addresses, "invite": invite.short()})
        }
        Command::LeaveIntent => json!({"by": by, "member": by}),
        Command::RemoveIntent { member } | Command::Suspect { member } | Command::Unsuspect { member } => {
            json!({"by": by, "member": member})
        }
        Command::Configure { voters_target, limits } => {
            json!({"by": by, "voters_target": voters_target, "limits": limits})
        }
        Command::Ready { slot, digest } => json!({"by": by, "member": by, "slot": slot.0, "digest": digest}),
        Command::Move { addresses } => json!({"by": by, "member": by, "addresses": addresses}),
    }
}

/// The data of an epoch's end.
pub(super) fn epoch_began(ended: &Configuration, next: &Configuration) -> Value {
    let without = |voters: &[MemberId], others: &[MemberId]| -> Vec<MemberId> {
        voters.iter().filter(|voter| !others.contains(voter)).copied().collect()
    };
    json!({
        "epoch": next.epoch.0,
        "voters": next.voters,
        "voters_target": next.voters_target,
        "joined": without(&next.voters, &ended.voters),
        "gone": without(&ended.voters, &next.voters),
    })
}
