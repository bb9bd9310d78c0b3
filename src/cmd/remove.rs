//! `synod remove`: an operator removes a member that will not leave by itself, and is told what that may lose.

use hyper::Method;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::Output;
use super::sidecar::{self, SidecarArguments};
use super::status::cell;
use crate::types::ids::{named, short};

/// Whom to remove.
#[derive(Debug, clap::Args)]
pub struct RemoveArguments {
    #[command(flatten)]
    sidecar: SidecarArguments,
    /// Name or id of the member; of the id its first 8 digits suffice
    member: String,
    /// Remove it, knowing what that may lose
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub fn run(arguments: &RemoveArguments, output: Output) -> Result<(), Failure> {
    let client = arguments.sidecar.client()?;
    sidecar::block_on(async {
        let document = sidecar::document(&client, "/v1/members").await?;
        let member = find(&document, &arguments.member)?;
        let (name, id) = (cell(&member["name"]), cell(&member["id"]));
        if !arguments.yes {
            return Err(Failure::usage(format!("{}\nnothing was done; say --yes to remove {name}", warning(member))));
        }
        let answer = sidecar::change(&client, Method::DELETE, &format!("/v1/members/{id}"), &json!({})).await?;
        output.print(&answer, || removed(member));
        Ok(())
    })
}

/// The member of that name or id.
fn find<'a>(document: &'a Value, wanted: &str) -> Result<&'a Value, Failure> {
    let members = document["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = || {
        let names = members.iter().map(|member| format!("{} ({})", cell(&member["name"]), short(&cell(&member["id"]))));
        names.collect::<Vec<_>>().join(", ")
    };
    let found = named(members, wanted, |member| cell(&member["id"]), |member| member["name"].as_str());
    match found[..] {
        [member] => Ok(member),
        [] => Err(Failure::failed(format!("unknown_member: nobody is `{wanted}`; the members are {}", names()))),
        _ => Err(Failure::usage(format!("`{wanted}` could be {} members; give the id: {}", found.len(), names()))),
    }
}

/// What a removal may lose.
fn warning(member: &Value) -> String {
    let name = cell(&member["name"]);
    let way = if member["linked"] == true || member["self"] == true {
        format!("{name} is reachable: `synod leave` on it loses nothing.")
    } else {
        format!("{name} was {}.", heard(member))
    };
    let vote = if member["role"] == "voter" {
        " It votes, and keeps its vote until a ready learner takes it, or the target is lowered: if it runs, let it run \
         until then, since the group tolerates no more than before."
    } else {
        ""
    };
    format!(
        "removing {name} ({}) ends its membership for good; its id is never used again.\n\
         What it accepted and is not ordered yet is not ordered any more: what it answered `accepted` may be lost to \
         the group (its data directory keeps it).\n{way}{vote}",
        short(&cell(&member["id"]))
    )
}

fn removed(member: &Value) -> String {
    let name = cell(&member["name"]);
    let vote = if member["role"] == "voter" {
        "; its vote goes with the next epoch (`synod voters` shows when): until then let it run, if it does"
    } else {
        ""
    };
    format!("removed: {name} ({}) is no member any more{vote}", short(&cell(&member["id"])))
}

fn heard(member: &Value) -> String {
    match member["last_seen"].as_f64() {
        Some(seconds) => format!("heard {seconds:.1} s ago"),
        None => "not heard since this member's last start".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Value {
        let member = |name: &str, id: &str, linked: bool, role: &str| json!({ "name": name, "id": id, "linked": linked, "role": role, "last_seen": 61.5 });
        json!({ "members": [
            member("n1", "aaaaaaaa01", true, "voter"),
            member("n2", "aaaaaaaa02", false, "voter"),
            member("n3", "cccccccc03", false, "learner"),
        ] })
    }

    #[test]
    fn a_member_is_found_by_its_name_or_enough_of_its_id() {
        let members = members();
        assert_eq!(find(&members, "n2").unwrap()["id"], "aaaaaaaa02");
        assert_eq!(find(&members, "cccccccc").unwrap()["name"], "n3");
        assert_eq!(find(&members, "aaaaaaaa02").unwrap()["name"], "n2");
        assert!(find(&members, "aaaaaaaa").unwrap_err().message.contains("could be 2 members"));
        let nobody = find(&members, "cccc").unwrap_err().message;
        assert!(nobody.contains("unknown_member") && nobody.contains("n3 (cccccccc)"), "{nobody}");
    }

    #[test]
    fn the_warning_says_what_may_be_lost_and_what_loses_nothing() {
        let members = members();
        let told = |name| warning(find(&members, name).unwrap());
        assert!(told("n1").contains("`synod leave` on it loses nothing"));
        assert!(told("n2").contains("was heard 61.5 s ago") && told("n2").contains("It votes"));
        assert!(!told("n3").contains("It votes") && told("n3").contains("may be lost"));
    }
}
