//! `contacts.json` in the data directory of a member that has joined: where the door said that members are found. The
//! genesis may name none of them, and the log knows them only when some of it is fetched. Hints: nothing is decided by them.
//!
//! ```text
//! [{"id": "3f9a…", "name": "n1", "addresses": ["/ip4/10.0.0.1/tcp/7271"]}, …]
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::data_directory::DataDirectory;
use crate::types::Contact;

/// Name of the file.
pub const CONTACTS_FILE: &str = "contacts.json";

/// The file is there and cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be read: {reason}; it tells this member where the others are: remove it if those that the genesis names still \
     are, or restore it",
    path.display()
)]
pub struct BadContacts {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// Writes the contacts, durably.
pub fn write(directory: &DataDirectory, contacts: &[Contact]) -> io::Result<()> {
    let documents = contacts
        .iter()
        .map(|Contact { id, name, addresses }| json!({ "id": id, "name": name, "addresses": addresses }));
    directory.store(CONTACTS_FILE, format!("{:#}\n", Value::from_iter(documents)))
}

/// Reads the contacts; none if there is no such file.
pub fn read(data_dir: &Path) -> Result<Vec<Contact>, BadContacts> {
    let path = data_dir.join(CONTACTS_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BadContacts { path, reason: error.to_string() }),
    };
    contacts(&text).ok_or_else(|| BadContacts { path, reason: "it is no list of contacts".to_owned() })
}

fn contacts(text: &str) -> Option<Vec<Contact>> {
    let document: Value = serde_json::from_str(text).ok()?;
    document.as_array()?.iter().map(contact).collect()
}

fn contact(document: &Value) -> Option<Contact> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Contact {
        id: document["id"].as_str()?.parse().ok()?,
        name: text(&document["name"])?,
        addresses: document["addresses"].as_array()?.iter().map(text).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MemberId;

    #[test]
    fn what_is_written_reads_back_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let held = DataDirectory::lock(directory.path()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), []);
        let contact = |number: u8| Contact {
            id: MemberId([number; 32]),
            name: format!("n{number}\"\n"),
            addresses: vec![format!("/ip4/10.0.0.{number}/tcp/7271")],
        };
        let contacts = [contact(1), contact(2)];
        write(&held, &contacts).unwrap();
        assert_eq!(read(directory.path()).unwrap(), contacts);
        for damaged in ["", "{}", "[1]", "[{\"id\": \"xyz\", \"name\": \"a\", \"addresses\": []}]"] {
            fs::write(directory.path().join(CONTACTS_FILE), damaged).unwrap();
            let told = read(directory.path()).unwrap_err().to_string();
            assert!(told.contains(CONTACTS_FILE) && told.contains("remove it"), "{told}");
        }
    }
}
