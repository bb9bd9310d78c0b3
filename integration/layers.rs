//! The floors of the house: what a file names by `crate::` stands below it, never above it or beside it.

use std::fs;
use std::path::{Path, PathBuf};

/// Every module, by floor. Modules of one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["types"],
    &["codec", "wal", "protocol", "metrics"],
    &["driver"],
    &["delivery"],
    &["net", "api", "plugin", "store"],
    &["node", "sim"],
    &["cmd"],
    &["main"],
];
/// The adapters do not see the ordering core, although it is below them.
const WITHOUT_PROTOCOL: &[&str] = &["net", "api", "plugin", "store"];

#[test]
fn dependencies_point_down_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let inner = file.strip_prefix(&source).unwrap();
        let content = fs::read_to_string(&file).unwrap();
        wrong.extend(mistakes(inner, &content));
    }
    assert!(wrong.is_empty(), "these dependencies point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn a_dependency_that_points_up_or_sideways_is_found() {
    let found = |file: &str, content: &str| mistakes(Path::new(file), content);
    assert_eq!(found("wal/log.rs", "use crate::types::ids;\nuse crate::wal::frame;\n"), Vec::<String>::new());
    assert_eq!(found("wal/log.rs", "use crate::driver::Driver;\n").len(), 1);
    assert_eq!(found("wal/log.rs", "use crate::protocol::Replica;\n").len(), 1);
    assert_eq!(found("net/mesh.rs", "    let x = crate::api::serve();\n").len(), 1);
    assert_eq!(found("net/mesh.rs", "use crate::protocol::Replica;\n").len(), 1);
    assert_eq!(found("driver/mod.rs", "use crate::protocol::Replica;\n// see crate::node\n").len(), 0);
    assert_eq!(found("types/ids.rs", "use crate::{\n    types::time,\n    codec::{a, wal::b},\n};\n").len(), 1);
    assert_eq!(found("types/ids.rs", "use super::super::codec::Frame;\n").len(), 1);
    let climbing = "fn f() {\n    super::super::codec::g();\n}\n";
    assert_eq!(found("types/ids.rs", climbing).len(), 1, "in a function");
    let inner = format!("pub mod a {{\n{}\n}}\n", climbing.replace("fn f", "    fn f").replace("\n}", "\n    }"));
    assert_eq!(found("types/ids.rs", &inner).len(), 0, "one step leads out of an inner module");
    assert_eq!(found("types/ids.rs", &format!("{inner}{climbing}")).len(), 1, "behind it");
    assert_eq!(
        found("types/ids.rs", &inner.replace("super::codec", "super::super::codec")).len(),
        1,
        "two and one more"
    );
    assert_eq!(found("main.rs", "fn main() { synod::cmd::main() }\n").len(), 0);
    assert_eq!(found("new/mod.rs", "").len(), 1, "a module without a floor");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What one file names that it may not. `file` is its path below `src`.
fn mistakes(file: &Path, content: &str) -> Vec<String> {
    let first = file.iter().next().unwrap().to_str().unwrap();
    let module = first.strip_suffix(".rs").unwrap_or(first);
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = floor(module) else {
        return vec![format!("{}: `{module}` has no floor; give it one in integration/layers.rs", file.display())];
    };
    let code: String = content.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect();
    let mut named = names_after(&code, "crate::");
    named.extend(names_after(&code, "synod::"));
    let mut wrong: Vec<String> = named
        .into_iter()
        .filter(|name| name != module)
        .filter(|name| {
            let hidden = name == "protocol" && WITHOUT_PROTOCOL.contains(&module);
            hidden || floor(name).is_none_or(|other| other >= own)
        })
        .map(|name| format!("{}: names crate::{name}", file.display()))
        .collect();
    // A module at depth d leaves its floor by climbing d times.
    let depth = file.iter().count() - usize::from(file.ends_with("mod.rs"));
    if depth > 0 && module != "main" {
        let climbs = climbs_out(&code, depth).map(|line| format!("{}: climbs out of {module}: {line}", file.display()));
        wrong.extend(climbs);
    }
    wrong
}

/// Lines that climb out of a file whose outermost module is at that depth. Inner modules are deeper; as the code is
/// formatted, each ends where a brace stands as far in as its beginning.
fn climbs_out(code: &str, depth: usize) -> impl Iterator<Item = &str> {
    let mut inner: Vec<usize> = Vec::new();
    code.lines().filter(move |line| {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if text == "}" && inner.last() == Some(&indent) {
            inner.pop();
        } else if text.ends_with('{') && text.split(' ').take(2).any(|word| word == "mod") {
            inner.push(indent);
        }
        text.contains(&"super::".repeat(depth + inner.len()))
    })
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The first name after each `prefix`; all first names if a group in braces follows.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(names_of_group(group)),
            None => names.extend(name_at(rest)),
        }
    }
    names
}

/// First names of `a::b, c::{d, e}, f}` at the outermost level.
fn names_of_group(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0usize;
    let mut begins = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !character.is_whitespace() => {
                names.extend(name_at(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    (!name.is_empty()).then_some(name)
}
