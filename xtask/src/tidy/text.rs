//! Widths of lines, sizes of scripts, and texts that belong to one machine only.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, SourceFile};

const COLUMNS_MAX: usize = 100;
const LUA_LINES_MAX: usize = 40;

/// Folders of one machine; a user has others.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp", "/p/")];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = lines_too_wide(file);
    if file.is("lua") && file.text.lines().count() > LUA_LINES_MAX {
        let what = format!("a script of more than {LUA_LINES_MAX} lines");
        findings.push(Finding::new(file, 0, what));
    }
    for (n, line) in file.text.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
            findings.push(Finding::new(file, n + 1, format!("{path} is a path of one machine")));
        }
        if file.is("lock") && line.starts_with("source = \"git+") {
            findings.push(Finding::new(file, n + 1, "locked to something that is no release"));
        }
        let replaces = file.is("toml") && file.path.starts_with(".cargo/");
        if replaces && (line.starts_with("[source") || line.starts_with("[registr")) {
            findings.push(Finding::new(file, n + 1, "a registry is a machine's setting"));
        }
    }
    findings
}

/// Whether a line has the path from its beginning, not as part of a longer one.
fn has_path(line: &str, path: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(part_of_name))
}

fn lines_too_wide(file: &SourceFile) -> Vec<Finding> {
    if !["rs", "lua", "sql", "md", "sh"].iter().any(|extension| file.is(extension)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut in_block = false;
    for (n, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        let exempt = file.is("md") && {
            in_block ^= line.trim_start().starts_with("```");
            // A table's row, a program's own words, and an address cannot be broken.
            in_block || line.starts_with('|') || line.contains("](http")
        };
        if columns > COLUMNS_MAX && !exempt {
            let what = format!("{columns} columns, more than {COLUMNS_MAX}");
            findings.push(Finding::new(file, n + 1, what));
        }
    }
    findings
}

/// Links between the project's own pages that lead nowhere.
pub(super) fn dead_links(files: &[SourceFile]) -> Vec<Finding> {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let exists = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        known.contains(path)
            || known.range(folder.as_str()..).next().is_some_and(|k| k.starts_with(&folder))
    };
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is("md")) {
        for (n, line) in file.text.lines().enumerate() {
            for rest in line.split("](").skip(1) {
                let target = rest.split([')', '#']).next().unwrap_or_default();
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                if !exists(&joined(&file.path, target)) {
                    findings.push(Finding::new(file, n + 1, format!("dead link to {target}")));
                }
            }
        }
    }
    findings
}

/// The path from the root of what `file` calls `target`.
fn joined(file: &str, target: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in Path::new(target).iter().filter_map(|part| part.to_str()) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn says(path: &str, text: &str) -> Vec<String> {
        check(&sample(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wide_lines_are_found_and_tables_and_transcripts_spared() {
        let wide = "é".repeat(101);
        for path in ["a.rs", "a.md", "a.sql", "a.lua", "a.sh"] {
            assert_eq!(says(path, &wide), [format!("{path}:1: 101 columns, more than 100")]);
            assert!(says(path, &"é".repeat(100)).is_empty());
        }
        assert!(says("a.md", &format!("| {wide} |")).is_empty());
        assert!(says("a.md", &format!("```\n{wide}\n```")).is_empty());
        assert_eq!(says("a.md", &format!("```\nx\n```\n{wide}")).len(), 1);
        assert!(says("Cargo.toml", &wide).is_empty());
    }

    #[test]
    fn long_scripts_are_found() {
        assert!(says("a.lua", &"x\n".repeat(40)).is_empty());
        assert_eq!(says("a.lua", &"x\n".repeat(41)).len(), 1);
    }

    #[test]
    fn what_belongs_to_one_machine_is_found() {
        for path in MACHINE_PATHS {
            assert_eq!(says("a.md", &format!("see {path}x")).len(), 1, "{path}");
            assert!(says("a.md", &format!("see /home/me{path}x")).is_empty(), "{path}");
        }
        assert_eq!(says("Cargo.lock", "source = \"git+https://example.com/x\"").len(), 1);
        assert!(says("Cargo.lock", "source = \"registry+https://example.com/\"").is_empty());
        assert_eq!(says(".cargo/config.toml", "[source.mirror]").len(), 1);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let files = [
            sample("README.md", "[a](docs/a.md) [d](docs/adr) [w](https://example.com/x)"),
            sample("docs/a.md", "[b](b.md) [up](../README.md#top) [here](#here)"),
            sample("docs/adr/0001.md", "[a](../a.md)"),
        ];
        let found: Vec<String> = dead_links(&files).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["docs/a.md:1: dead link to b.md"]);
    }
}
