//! Checks of the dependency graph and of the oldest supported Rust.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::metadata::{self, Package};
use crate::run::{Project, must};
use crate::stages::{Found, LIMIT};

/// The oldest Rust that the project promises to build with; README and every package name it.
pub(crate) const OLDEST_RUST: &str = "1.95";

/// Crates that may be in the graph in several versions, and why.
const DUPLICATES_ALLOWED: &[(&str, &str)] = &[
    ("getrandom", "ring, for TLS, is not yet where all others are"),
    ("base64", "postgres-protocol is one release behind pem, which only tests use"),
    ("fallible-iterator", "postgres-protocol is one release behind rusqlite"),
    ("hashbrown", "stateright, for the models, is not"),
    ("rand", "stateright, for the models, is not"),
    ("rand_core", "stateright, for the models, is not"),
];

/// Refuses two versions of one crate, and a lock file that does not fit the manifests.
pub(crate) fn duplicates(project: &Project) -> Result<Found> {
    let args = "tree --locked --workspace --all-features --duplicates --depth 0 --prefix none";
    let args = format!("{args} --quiet");
    let tree = must(project, project.cargo(&args), LIMIT)?;
    let twice = in_two_versions(&tree);
    let allowed = |name: &String| DUPLICATES_ALLOWED.iter().any(|(known, _)| known == name);
    let bad: Vec<_> = twice.iter().filter(|(name, _)| !allowed(name)).collect();
    if !bad.is_empty() {
        bail!("in the graph in several versions (see `cargo tree --duplicates`): {bad:?}");
    }
    if let Some((stale, _)) = DUPLICATES_ALLOWED.iter().find(|(n, _)| !twice.contains_key(*n)) {
        bail!("{stale} is in the graph once: remove it from the list of allowed duplicates");
    }
    Ok(Found::good())
}

/// Names with more than one version. One version with different features is listed by cargo too,
/// and is no duplicate here.
fn in_two_versions(tree: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in tree.lines() {
        if let [name, version, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
            versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    versions.retain(|_, known| known.len() > 1);
    versions
}

/// Checks that every package names the oldest Rust. Clippy, which came before, has looked at all
/// targets with the Rust that runs here; where that is another one, it is said that it proves
/// nothing about the oldest.
pub(crate) fn oldest_rust(project: &Project) -> Result<Found> {
    let packages = metadata::packages(project)?;
    let wrong = other_rust(&packages);
    if !wrong.is_empty() {
        bail!("rust-version is not {OLDEST_RUST} in {wrong:?}");
    }
    let readme = std::fs::read_to_string(project.root.join("README.md")).unwrap_or_default();
    if let Some(other) = other_in_text(&readme) {
        bail!("README.md speaks of Rust {other}, and rust-version is {OLDEST_RUST}");
    }
    let mut rustc = project.command("rustc");
    rustc.arg("--version");
    let version = must(project, rustc, LIMIT)?;
    if !version.starts_with(&format!("rustc {OLDEST_RUST}.")) {
        crate::say(&format!("oldest Rust: not proven by {}", version.trim()));
    }
    Ok(Found::good())
}

fn other_rust(packages: &[Package]) -> Vec<&str> {
    let other = packages.iter().filter(|package| package.rust_version != OLDEST_RUST);
    other.map(|package| package.name.as_str()).collect()
}

/// The first `Rust 1.N` of a text that is not the oldest Rust.
fn other_in_text(text: &str) -> Option<String> {
    text.split("Rust ").skip(1).find_map(|rest| {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let version = rest[..end].trim_end_matches('.');
        (version.starts_with("1.") && version != OLDEST_RUST).then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_different_versions_are_duplicates() {
        let tree = "syn v1.0.1\n\nsyn v2.0.0\n\nnix v0.31.0\n\nnix v0.31.0 (*)\n";
        let twice = in_two_versions(tree);
        assert_eq!(twice.keys().collect::<Vec<_>>(), ["syn"]);
        assert_eq!(twice["syn"].len(), 2);
    }

    #[test]
    fn a_package_or_readme_with_another_rust_is_named() {
        let package = |name: &str, rust: &str| Package {
            name: name.to_owned(),
            rust_version: rust.to_owned(),
            ..Package::default()
        };
        let packages = [package("good", OLDEST_RUST), package("old", "1.80"), package("none", "")];
        assert_eq!(other_rust(&packages), ["old", "none"]);
        assert_eq!(other_in_text("needs Rust 1.80."), Some("1.80".to_owned()));
        assert_eq!(other_in_text("needs Rust 1.95 or newer; Rust toolchain"), None);
    }
}
