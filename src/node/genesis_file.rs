//! `genesis.toml`: the group's genesis as people write it. The canonical bytes, and with them the group's id, are made
//! from its content, not from its text: comments and order of keys do not matter.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::Path;

use libp2p::Multiaddr;
use toml::{Table, Value};

use super::settings::{Mistakes, mesh_multiaddress, table};
use crate::net::Place;
use crate::types::text::{size, size_text};
use crate::types::{ClusterLimits, FaultModelKind, Genesis, GenesisMember, MemberId, limits};

/// Name of the file: beside the members' folders where a group is founded, in the data directory of who has joined.
pub const GENESIS_FILE: &str = "genesis.toml";

/// Longest name of a group or a member, in bytes.
const NAME_BYTES_MAX: usize = limits::NAME_BYTES_MAX;

/// Reads and checks the file; every mistake at once.
pub fn read(path: &Path) -> Result<Genesis, Mistakes> {
    let content = std::fs::read_to_string(path).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::NotFound => {
                "`synod init` makes one for a new group, the same for all its members; fresh machines found a group without one \
                 by bootstrap.expect and cluster; a group that there is is joined by `synod join` with a join code: `synod \
                 invite` on a member prints one, and without one nobody gets in"
            }
            _ => "it is a text file that the user of this process may read",
        };
        Mistakes(vec![format!("genesis = \"{}\" cannot be read: {error}; {advice}", path.display())])
    })?;
    parse(&content)
        .map_err(|mistakes| Mistakes(mistakes.0.iter().map(|one| format!("{}: {one}", path.display())).collect()))
}

/// Whether an address of somebody else can stand in the file: it leads to a mesh, and is written as it is read back.
pub fn is_address(text: &str) -> bool {
    let leads = |address: Multiaddr| Place::of(&address).is_some() && address.to_string() == text;
    mesh_multiaddress(text).is_ok_and(leads)
}

/// Reads and checks the text of the file; every mistake at once.
pub fn parse(content: &str) -> Result<Genesis, Mistakes> {
    let table: Table = content
        .parse()
        .map_err(|error: toml::de::Error| Mistakes(vec![format!("not TOML: {}", error.to_string().trim_end())]))?;
    let mut reader = Reader { mistakes: Vec::new() };
    let genesis = reader.genesis(table);
    if let Some(genesis) = &genesis
        && let Err(bad) = genesis.check()
    {
        reader.mistakes.extend(bad.0);
    }
    let mistakes = reader.mistakes;
    Mistakes::unless(mistakes, || genesis.expect("what is missing is a mistake"))
}

/// Writes the file, with comments.
pub fn write(genesis: &Genesis) -> String {
    let nonce = genesis.nonce.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut text = format!(
        "# The group's genesis: the same file on all members. Its digest is the group's name, so any change makes\n\
         # another group, and members of the two refuse each other. It never changes while the group lives.\n\
         name = {name}\n\
         # Random, so that two geneses alike in all else are still two groups. 16 bytes.\n\
         nonce = \"{nonce}\"\n\
         # crash: members stop and come back; of 3 members one may be down, of 5 two, of 7 three.\n\
         model = \"{model}\"\n\
         # By which rules positions are made.\n\
         rules_version = {rules_version}\n\
         # How many members are to vote, as soon as there are as many that can: 3, 5 or 7, or all below.\n\
         voters_target = {voters_target}\n\
         \n\
         [limits]\n\
         # Largest body of a message, and largest batch with all its messages.\n\
         message_bytes_max = \"{message_bytes_max}\"\n\
         batch_bytes_max = \"{batch_bytes_max}\"\n",
        name = Value::from(genesis.name.as_str()),
        model = model_text(genesis.model),
        rules_version = genesis.rules_version,
        voters_target = genesis.voters_target,
        message_bytes_max = size_text(genesis.limits.message_bytes_max),
        batch_bytes_max = size_text(genesis.limits.batch_bytes_max),
    );
    for member in &genesis.members {
        let addresses = Value::from(member.addresses.clone());
        let name = Value::from(member.name.as_str());
        write!(text, "\n[[members]]\nname = {name}\nid = \"{}\"\naddresses = {addresses}\n", member.id)
            .expect("writing to a String cannot fail");
    }
    text
}

const MODELS: [(&str, FaultModelKind); 2] =
    [("crash", FaultModelKind::Crash), ("byzantine", FaultModelKind::Byzantine)];

fn model_text(model: FaultModelKind) -> &'static str {
    MODELS.iter().find(|(_, kind)| *kind == model).expect("every model has a name").0
}

/// Takes keys out of tables and keeps what is wrong; what is left in a table is a key nobody knows.
struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    fn genesis(&mut self, mut table: Table) -> Option<Genesis> {
        let name = self.name(&mut table, "");
        let nonce = self.text(&mut table, "", "nonce").and_then(|text| self.nonce(&text));
        let model = self.text(&mut table, "", "model").and_then(|text| self.model(&text));
        let rules_version = self.rules_version(&mut table);
        let limits = self.limits(&mut table);
        let members = self.members(&mut table);
        let voters_target = self.voters_target(&mut table);
        self.nothing_left(table, "");
        let (members, voters_target) = (members?, voters_target?);
        Some(Genesis {
            name: name?,
            nonce: nonce?,
            model: model?,
            rules_version: rules_version?,
            voters_target: voters_target.unwrap_or(members.len() as u32),
            members,
            limits: limits?,
        })
    }

    fn wrong<T>(&mut self, mistake: String) -> Option<T> {
        self.mistakes.push(mistake);
        None
    }

    fn text(&mut self, table: &mut Table, place: &str, key: &str) -> Option<String> {
        match table.remove(key) {
            Some(Value::String(text)) => Some(text),
            Some(other) => self.wrong(format!("{place}{key} = {other}: expected text in quotes")),
            None => self.wrong(format!("{place}{key} is missing")),
        }
    }

    fn name(&mut self, table: &mut Table, place: &str) -> Option<String> {
        let name = self.text(table, place, "name")?;
        let usable = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(usable) {
            return self.wrong(format!(
                "{place}name = {}: a name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`",
                Value::from(name)
            ));
        }
        Some(name)
    }

    fn nonce(&mut self, text: &str) -> Option<[u8; 16]> {
        let bytes = (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten();
        bytes
            .map(u128::to_be_bytes)
            .or_else(|| self.wrong(format!("nonce = \"{text}\": expected 32 hexadecimal digits, drawn at random")))
    }

    fn model(&mut self, text: &str) -> Option<FaultModelKind> {
        let kind = MODELS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
        kind.or_else(|| self.wrong(format!("model = \"{text}\": expected \"crash\"")))
    }

    fn rules_version(&mut self, table: &mut Table) -> Option<u32> {
        match table.remove("rules_version") {
            Some(Value::Integer(number)) if u32::try_from(number).is_ok() => u32::try_from(number).ok(),
            Some(other) => self.wrong(format!("rules_version = {other}: expected a whole number from 0")),
            None => self.wrong("rules_version is missing".to_owned()),
        }
    }

    /// How many members are to vote; if it is not given, all that the genesis names.
    fn voters_target(&mut self, table: &mut Table) -> Option<Option<u32>> {
        match table.remove("voters_target") {
            Some(Value::Integer(number)) if u32::try_from(number).is_ok() => Some(u32::try_from(number).ok()),
            Some(other) => self.wrong(format!("voters_target = {other}: expected 3, 5 or 7")),
            None => Some(None),
        }
    }

    /// The limits; one that is not given has its default.
    fn limits(&mut self, table: &mut Table) -> Option<ClusterLimits> {
        let mut limits = match table.remove("limits") {
            Some(Value::Table(limits)) => limits,
            Some(other) => return self.wrong(format!("limits = {other}: expected a section [limits]")),
            None => Table::new(),
        };
        let default = ClusterLimits::default();
        let message_bytes_max = self.size(&mut limits, "message_bytes_max", default.message_bytes_max);
        let batch_bytes_max = self.size(&mut limits, "batch_bytes_max", default.batch_bytes_max);
        self.nothing_left(limits, "limits.");
        Some(ClusterLimits { message_bytes_max: message_bytes_max?, batch_bytes_max: batch_bytes_max? })
    }

    fn size(&mut self, table: &mut Table, key: &str, default: u64) -> Option<u64> {
        if !table.contains_key(key) {
            return Some(default);
        }
        let text = self.text(table, "limits.", key)?;
        size(&text).map_err(|error| self.wrong::<()>(format!("limits.{key}: {error}"))).ok()
    }

    fn members(&mut self, table: &mut Table) -> Option<Vec<GenesisMember>> {
        match table.remove("members") {
            Some(Value::Array(items)) => {
                let members: Vec<_> =
                    items.into_iter().enumerate().map(|(index, item)| self.member(index + 1, item)).collect();
                members.into_iter().collect()
            }
            Some(other) => self.wrong(format!("members = {other}: expected sections [[members]]")),
            None => self.wrong("members are missing: one section [[members]] for each".to_owned()),
        }
    }

    fn member(&mut self, number: usize, item: Value) -> Option<GenesisMember> {
        let place = format!("member {number}: ");
        let Value::Table(mut table) = item else {
            return self.wrong(format!("{place}expected a section [[members]]"));
        };
        let name = self.name(&mut table, &place);
        let id = self.text(&mut table, &place, "id").and_then(|text| {
            text.parse::<MemberId>().map_err(|error| self.wrong::<()>(format!("{place}id: {error}"))).ok()
        });
        let addresses = self.addresses(&mut table, &place);
        self.nothing_left(table, &place);
        Some(GenesisMember { name: name?, id: id?, addresses: addresses? })
    }

    fn addresses(&mut self, table: &mut Table, place: &str) -> Option<Vec<String>> {
        let Some(Value::Array(items)) = table.remove("addresses") else {
            return self.wrong(format!("{place}addresses: expected an array of multiaddresses"));
        };
        if items.is_empty() {
            return self.wrong(format!("{place}addresses is empty: the others could not reach it"));
        }
        let mut addresses = Vec::new();
        for item in items {
            match item.as_str().map(mesh_multiaddress) {
                Some(Ok(address)) => addresses.push(address.to_string()),
                Some(Err(error)) => self.mistakes.push(format!("{place}addresses: {error}")),
                None => self.mistakes.push(format!("{place}addresses: {item} is not text in quotes")),
            }
        }
        Some(addresses)
    }

    fn nothing_left(&mut self, table: Table, place: &str) {
        for (key, _) in table {
            let local = table::SETTINGS.iter().find(|setting| {
                let (section, name) = setting.place();
                section == key || name == key
            });
            self.mistakes.push(match local {
                Some(setting) => format!(
                    "{place}{key} is node-local: it belongs in synod.toml ({}), each member has its own",
                    setting.key
                ),
                None => format!("{place}{key} is no key of a genesis"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis() -> Genesis {
        let member = |number: u8| GenesisMember {
            name: format!("n{number}"),
            id: MemberId(ed25519_dalek::SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes()),
            addresses: vec![format!("/ip4/10.0.0.{number}/tcp/7271")],
        };
        Genesis {
            name: "orders".to_owned(),
            nonce: [7; 16],
            model: FaultModelKind::Crash,
            rules_version: crate::types::limits::RULES_VERSION,
            members: vec![member(1), member(2), member(3)],
            limits: ClusterLimits::default(),
            voters_target: 3,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(parse(&write(&genesis())).unwrap(), genesis());
    }

    #[test]
    fn a_byzantine_genesis_is_refused_by_name() {
        let text = write(&genesis()).replace("\"crash\"", "\"byzantine\"");
        assert!(parse(&text).unwrap_err().to_string().contains("model = \"byzantine\" is not there yet"));
    }

    #[test]
    fn node_local_keys_are_sent_home_and_all_mistakes_are_told() {
        let text = write(&genesis())
            .replace("nonce = \"07", "nonce = \"zz")
            .replace("message_bytes_max = \"1MiB\"", "message_bytes_max = 5\nheartbeat = \"1s\"")
            .replace("/ip4/10.0.0.2/tcp/7271", "nowhere");
        let mistakes = parse(&format!("data_dir = \"x\"\ncolour = 1\n{text}")).unwrap_err().to_string();
        for part in [
            "data_dir is node-local: it belongs in synod.toml",
            "colour is no key",
            "expected 32 hexadecimal digits",
            "limits.message_bytes_max = 5: expected text",
            "limits.heartbeat is node-local: it belongs in synod.toml (timing.heartbeat)",
            "member 2: addresses: `nowhere` is not a multiaddress",
        ] {
            assert!(mistakes.contains(part), "{part} is missing in\n{mistakes}");
        }
    }
}
