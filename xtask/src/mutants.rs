//! `cargo xtask mutants`: searches for every mistake, and writes into `docs/verification.md` what
//! notices it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::run::{Project, must};
use crate::say;

/// Where the tables are.
const PAGE: &str = "docs/verification.md";
/// What prints them.
const COMMANDS: &[&str] = &[
    "run --release --quiet --package bidlock-model -- --mutants --table",
    "run --release --quiet --package bidlock-sim -- --all-mutants",
];
/// A search over thousands of seeds takes minutes.
const LIMIT: Duration = Duration::from_hours(2);

/// Makes the tables anew.
pub(crate) fn task() -> Result<bool> {
    let project = Project::find()?;
    let path = project.root.join(PAGE);
    for command in COMMANDS {
        say(&format!("mutants: cargo {command}"));
        let table = must(&project, project.cargo(command), LIMIT)?;
        let page = std::fs::read_to_string(&path)?;
        let page = with_table(&page, &table).with_context(|| format!("no such table in {PAGE}"))?;
        std::fs::write(&path, page)?;
    }
    Ok(true)
}

/// The page with this table in the place of the one with the same first line.
fn with_table(page: &str, table: &str) -> Option<String> {
    let head = table.lines().next().filter(|line| line.starts_with('|'))?;
    let lines: Vec<&str> = page.lines().collect();
    let begin = lines.iter().position(|line| *line == head)?;
    let length = lines[begin..].iter().take_while(|line| line.starts_with('|')).count();
    let new = table.lines().take_while(|line| line.starts_with('|'));
    let after = lines[begin + length..].iter().copied();
    let all: Vec<&str> = lines[..begin].iter().copied().chain(new).chain(after).collect();
    Some(all.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_with_its_head() {
        let page = "a\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n| z |\n|---|\n";
        let table = "| x | y |\n|---|---|\n| 3 | 4 |\n| 5 | 6 |\nand a word\n";
        let made = with_table(page, table).unwrap();
        let expected = "a\n\n| x | y |\n|---|---|\n| 3 | 4 |\n| 5 | 6 |\n\n| z |\n|---|\n";
        assert_eq!(made, expected);
        assert_eq!(with_table(page, "| q |\n"), None);
        assert_eq!(with_table(page, "no table"), None);
    }
}
