//! Who may lean on whom, and what may come in from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use super::{nothing, read, root};

/// A package of this workspace, and those it may lean on. ARCHITECTURE.md shows the same picture.
const MAY_LEAN_ON: &[(&str, &[&str])] = &[
    ("windlass-model", &[]),
    ("windlass-store", &["windlass-model"]),
    ("windlass-store-sqlite", &["windlass-store", "windlass-model"]),
    ("windlass-store-postgres", &["windlass-store", "windlass-model"]),
    ("windlass-bus", &["windlass-model"]),
    ("windlass-engine", &["windlass-store", "windlass-bus", "windlass-model"]),
    (
        "windlass-boot",
        &[
            "windlass-store-sqlite",
            "windlass-store-postgres",
            "windlass-store",
            "windlass-bus",
            "windlass-model",
        ],
    ),
    ("windlass-api", &["windlass-boot", "windlass-store", "windlass-bus", "windlass-model"]),
    (
        "windlass-worker",
        &["windlass-boot", "windlass-engine", "windlass-store", "windlass-bus", "windlass-model"],
    ),
    (
        "windlass",
        &[
            "windlass-api",
            "windlass-worker",
            "windlass-boot",
            "windlass-engine",
            "windlass-store-sqlite",
            "windlass-store",
            "windlass-bus",
            "windlass-model",
        ],
    ),
    // These speak to the built program and know it from outside.
    ("scenarios", &["servers"]),
    ("servers", &[]),
    // Plays the parts themselves, in one thread.
    (
        "simulator",
        &[
            "windlass-api",
            "windlass-worker",
            "windlass-boot",
            "windlass-engine",
            "windlass-store",
            "windlass-bus",
            "windlass-model",
            "scenarios",
        ],
    ),
    ("bench", &["servers"]),
    ("xtask", &["servers"]),
];

/// For tests alone, beside what a package may lean on anyway.
const TESTS_MAY_LEAN_ON: &[(&str, &[&str])] = &[
    // A tick is tested against a real store.
    ("windlass-engine", &["windlass-store-sqlite"]),
    ("windlass-api", &["windlass-store-sqlite"]),
    ("windlass-worker", &["windlass-store-sqlite"]),
    ("windlass-bus", &["windlass-store", "servers"]),
    ("windlass-store-postgres", &["servers"]),
    ("windlass-boot", &["servers"]),
];

/// Whatever does IO, waits, or needs a runtime: the model is a function.
const FOREIGN_TO_THE_MODEL: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "futures",
    "futures-util",
    "async-trait",
    "mio",
    "hyper",
    "reqwest",
    "axum",
    "rusqlite",
    "libsqlite3-sys",
    "sqlx",
    "sqlx-core",
    "redis",
    "apalis",
    "apalis-core",
    "tracing-subscriber",
];

static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // For this machine only: crates of other platforms were never fetched, and tests need no network.
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &host()])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
});

/// Such as `x86_64-unknown-linux-gnu`.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output().expect("rustc can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages of this workspace.
fn members() -> Vec<&'static Value> {
    let ids: BTreeSet<&str> = list(&METADATA, "workspace_members").iter().filter_map(Value::as_str).collect();
    list(&METADATA, "packages").iter().filter(|package| ids.contains(text(package, "id"))).collect()
}

fn allowed(table: &'static [(&str, &[&str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(package, _)| *package == name).map(|(_, allowed)| *allowed)
}

#[test]
fn crates_lean_only_on_those_below_them() {
    let members = members();
    let names: BTreeSet<&str> = members.iter().map(|package| text(package, "name")).collect();
    let mut found = Vec::new();
    for package in members {
        let name = text(package, "name");
        let Some(below) = allowed(MAY_LEAN_ON, name) else {
            found.push(format!("{name} is new: say in {} on whom it may lean", file!()));
            continue;
        };
        let for_tests = allowed(TESTS_MAY_LEAN_ON, name).unwrap_or_default();
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            let is_for_tests = text(dependency, "kind") == "dev";
            let fine = below.contains(&on) || (is_for_tests && for_tests.contains(&on));
            if names.contains(on) && !fine {
                found.push(format!("{name} leans on {on}"));
            }
        }
    }
    nothing(&found, "Who may lean on whom stands in ARCHITECTURE.md:");
}

#[test]
fn every_rule_about_crates_speaks_of_a_crate_that_exists() {
    let names: BTreeSet<&str> = members().into_iter().map(|package| text(package, "name")).collect();
    let ruled: BTreeSet<&str> = MAY_LEAN_ON.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ruled);
}

#[test]
fn the_model_brings_in_no_runtime_and_no_io() {
    let found: Vec<String> = tree_of("windlass-model")
        .into_iter()
        .filter(|name| FOREIGN_TO_THE_MODEL.contains(name))
        .map(|name| format!("windlass-model brings in {name}"))
        .collect();
    nothing(&found, "The model has no clock, no chance, no IO, no async:");
}

/// All that a package needs to be built, tests aside.
fn tree_of(package: &str) -> BTreeSet<&'static str> {
    let names: BTreeMap<&str, &str> =
        list(&METADATA, "packages").iter().map(|it| (text(it, "id"), text(it, "name"))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&METADATA["resolve"], "nodes").iter().map(|node| (text(node, "id"), node)).collect();
    let first = names.iter().find(|(_, name)| **name == package).map(|(id, _)| *id).expect("it is a package");
    let mut seen = BTreeSet::from([first]);
    let mut open = vec![first];
    while let Some(id) = open.pop() {
        for dependency in list(nodes[id], "deps") {
            let needed = list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null());
            let id = text(dependency, "pkg");
            if needed && seen.insert(id) {
                open.push(id);
            }
        }
    }
    assert!(seen.len() > 1, "the tree of {package} is empty");
    seen.into_iter().map(|id| names[id]).collect()
}

#[test]
fn no_banned_crate_is_in_the_tree() {
    let banned: Vec<String> = read("deny.toml")
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("{ crate = \"")?.split_once('"').map(|(name, _)| name.to_owned())
        })
        .collect();
    assert!(banned.contains(&"openssl".to_owned()), "deny.toml is read: {banned:?}");
    // The lock file, because metadata leaves out what other platforms would bring in.
    let found: Vec<&str> = banned
        .iter()
        .map(String::as_str)
        .filter(|name| read("Cargo.lock").lines().any(|line| line == format!("name = \"{name}\"")))
        .collect();
    assert!(found.is_empty(), "deny.toml says why these must not be here: {found:?}");
}

#[test]
fn every_crate_obeys_the_rules_of_the_workspace() {
    let mut found = Vec::new();
    for package in members() {
        let name = text(package, "name");
        let manifest =
            std::fs::read_to_string(text(package, "manifest_path")).expect("manifests can be read");
        // A crate may have a table of its own for what fits a program and not a library.
        if !manifest.contains("[lints]\nworkspace = true") && !manifest.contains("unsafe_code = \"deny\"") {
            found.push(format!("{name} has no lints"));
        }
        if !text(package, "description").contains(' ') {
            found.push(format!("{name} has no description"));
        }
        if text(package, "license") != "Apache-2.0" {
            found.push(format!("{name} does not inherit the licence"));
        }
        for line in manifest.lines().skip_while(|line| !line.contains("dependencies]")) {
            if line.contains("version = \"")
                || line.split_once(" = \"").is_some_and(|(_, rest)| rest.ends_with('"'))
            {
                found.push(format!("{name} chooses a version of its own: {line}"));
            }
        }
    }
    nothing(&found, "Versions, lints and licence come from the workspace:");
}
