//! What cargo knows of the workspace's packages.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run::{Project, must};
use crate::stages::LIMIT;

/// One package of the workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) rust_version: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One entry of a package's dependency tables.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only its own tests and examples see it.
    pub(crate) dev: bool,
    pub(crate) optional: bool,
}

pub(crate) fn packages(project: &Project) -> Result<Vec<Package>> {
    let mut metadata = project.cargo("metadata --no-deps --format-version 1");
    metadata.arg("--quiet");
    read(&must(project, metadata, LIMIT)?)
}

fn read(json: &str) -> Result<Vec<Package>> {
    let document: Value = serde_json::from_str(json).context("reading cargo metadata")?;
    let packages = document["packages"].as_array().context("cargo metadata names no packages")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dependency = |entry: &Value| Dependency {
        name: text(&entry["name"]),
        dev: entry["kind"] == "dev",
        optional: entry["optional"] == true,
    };
    let package = |entry: &Value| Package {
        name: text(&entry["name"]),
        rust_version: text(&entry["rust_version"]),
        dependencies: entry["dependencies"]
            .as_array()
            .map_or_else(Vec::new, |all| all.iter().map(dependency).collect()),
    };
    Ok(packages.iter().map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_dependencies_are_told_apart() {
        let json = r#"{"packages": [{"name": "a", "rust_version": "1.95", "dependencies": [
            {"name": "b", "kind": null, "optional": true},
            {"name": "c", "kind": "dev", "optional": false}]}]}"#;
        let [a] = &read(json).unwrap()[..] else { panic!("one package") };
        assert_eq!((a.name.as_str(), a.rust_version.as_str()), ("a", "1.95"));
        let kinds: Vec<_> = a.dependencies.iter().map(|d| (d.dev, d.optional)).collect();
        assert_eq!(kinds, [(false, true), (true, false)]);
        assert!(read("{}").is_err(), "a document without packages is not an empty workspace");
    }
}
