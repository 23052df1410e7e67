//! Who may import whom.

use super::Finding;
use crate::metadata::Package;

/// Every crate, and its siblings that it may import other than for its own tests.
const SIBLINGS: &[(&str, &[&str])] = &[
    ("bidlock-core", &[]),
    ("bidlock-platform", &["bidlock-core"]),
    ("bidlock-sqlite", &["bidlock-core"]),
    ("bidlock-redis", &["bidlock-core"]),
    ("bidlock-ledger", &["bidlock-core"]),
    ("bidlock-testkit", &["bidlock-core", "bidlock-ledger"]),
    (
        "bidlock",
        &["bidlock-core", "bidlock-platform", "bidlock-sqlite", "bidlock-redis", "bidlock-ledger"],
    ),
    ("bidlock-cli", &["bidlock"]),
    ("bidlock-python", &["bidlock"]),
    ("bidlock-bench", &["bidlock", "bidlock-redis", "bidlock-sqlite"]),
    (
        "bidlock-chaos",
        &["bidlock", "bidlock-core", "bidlock-history", "bidlock-redis", "bidlock-testkit"],
    ),
    ("bidlock-sim", &["bidlock", "bidlock-core", "bidlock-ledger", "bidlock-redis"]),
    ("bidlock-history", &["bidlock-core"]),
    ("bidlock-model", &["bidlock-core", "bidlock-ledger"]),
    ("xtask", &[]),
];

/// Siblings that may be imported only behind a feature.
const OPTIONAL: &[(&str, &str)] = &[("bidlock-testkit", "bidlock-ledger")];

/// Outside crates that only these may import other than for their own tests.
const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["bidlock-bench", "bidlock-chaos", "bidlock-cli", "xtask"]),
    ("clap", &["bidlock-chaos", "bidlock-cli", "bidlock-sim"]),
    ("pyo3", &["bidlock-python"]),
    ("redis", &["bidlock-bench", "bidlock-chaos", "bidlock-testkit"]),
    ("rusqlite", &["bidlock-bench", "bidlock-chaos", "bidlock-sqlite", "bidlock-ledger"]),
    ("tokio-postgres", &["bidlock-bench", "bidlock-chaos", "bidlock-ledger", "bidlock-testkit"]),
    ("stateright", &["bidlock-model"]),
    ("tracing-subscriber", &["bidlock-cli"]),
];

/// The waist: nothing in it does I/O or knows a runtime.
const WAIST: &str = "bidlock-core";
const NOT_IN_WAIST: &[&str] = &["tokio", "nix", "getrandom", "libc", "rustix"];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_one).collect()
}

fn check_one(package: &Package) -> Vec<Finding> {
    let own = package.name.as_str();
    let finding = |what: String| Finding { path: format!("{own}/Cargo.toml"), line: 0, what };
    let Some((_, allowed)) = SIBLINGS.iter().find(|(name, _)| *name == own) else {
        return vec![finding(format!("{own} is not in tidy's table of who may import whom"))];
    };
    let mut findings = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
        let name = dependency.name.as_str();
        let is_sibling = SIBLINGS.iter().any(|(sibling, _)| *sibling == name);
        if is_sibling && !allowed.contains(&name) {
            findings.push(finding(format!("{own} may not import {name}")));
        }
        if OPTIONAL.contains(&(own, name)) && !dependency.optional {
            findings.push(finding(format!("{own} may import {name} behind a feature only")));
        }
        let reserved = RESERVED.iter().find(|(crate_name, _)| *crate_name == name);
        if reserved.is_some_and(|(_, users)| !users.contains(&own)) {
            findings.push(finding(format!("{name} is not for {own}")));
        }
        if own == WAIST && NOT_IN_WAIST.contains(&name) {
            findings.push(finding(format!("{own} does no I/O and knows no runtime: no {name}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, dev, optional)| Dependency {
            name: (*name).to_owned(),
            dev: *dev,
            optional: *optional,
        });
        Package {
            name: name.to_owned(),
            dependencies: dependencies.collect(),
            ..Package::default()
        }
    }

    fn says(name: &str, dependency: (&str, bool, bool)) -> usize {
        check(&[package(name, &[dependency])]).len()
    }

    #[test]
    fn wrong_imports_are_found() {
        for (name, dependency) in [
            ("bidlock-core", "bidlock-sqlite"),
            ("bidlock-core", "tokio"),
            ("bidlock-sqlite", "bidlock-platform"),
            ("bidlock-ledger", "bidlock-sqlite"),
            ("bidlock", "bidlock-testkit"),
            ("bidlock-cli", "bidlock-sqlite"),
            ("bidlock-cli", "bidlock-ledger"),
            ("bidlock-cli", "rusqlite"),
            ("bidlock", "anyhow"),
            ("xtask", "bidlock"),
        ] {
            assert_eq!(says(name, (dependency, false, false)), 1, "{name} imports {dependency}");
        }
        assert_eq!(check(&[package("bidlock-new", &[])]).len(), 1, "an unknown crate");
    }

    #[test]
    fn right_imports_and_those_of_tests_are_not() {
        for (name, dependency) in [
            ("bidlock-sqlite", ("bidlock-core", false, false)),
            ("bidlock-sqlite", ("bidlock-testkit", true, false)),
            ("bidlock-core", ("tokio", true, false)),
            ("bidlock-sqlite", ("rusqlite", false, false)),
            ("bidlock-cli", ("bidlock", false, false)),
            ("bidlock-cli", ("serde_json", false, false)),
        ] {
            assert_eq!(says(name, dependency), 0, "{name} imports {dependency:?}");
        }
    }

    #[test]
    fn the_testkit_sees_the_ledger_behind_a_feature_only() {
        assert_eq!(says("bidlock-testkit", ("bidlock-ledger", false, true)), 0);
        assert_eq!(says("bidlock-testkit", ("bidlock-ledger", false, false)), 1);
    }
}
