//! The stage that runs all tests of the workspace and counts them.

use std::time::Duration;

use anyhow::Result;

use crate::run::{Project, run};
use crate::stages::{Counts, Found};

/// For all tests of the workspace, with their building: what hangs is a failure all the same.
const LIMIT: Duration = Duration::from_mins(30);

pub(crate) fn stage(project: &Project) -> Result<Found> {
    let args = "test --workspace --all-features --no-fail-fast";
    let ended = run(project, project.cargo(args), LIMIT)?;
    let silent = count(&ended.output) == Counts::default();
    // A binary that did not build or was killed prints no result of its own.
    let mut found = Found::of(ended, count);
    if silent {
        found.counts.failed = 1;
        found.output.push_str("\nno test ran");
    }
    Ok(found)
}

/// Adds up the result lines of all test binaries. An ignored test is a test that did not pass.
pub(crate) fn count(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines().filter(|line| line.starts_with("test result:")) {
        for part in line.split(['.', ';']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let [number, kind] = words[..] else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match kind {
                "passed" => counts.passed += number,
                "failed" | "ignored" => counts.failed += number,
                _ => {}
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_add_up() {
        let output = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.12s
test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s
";
        assert_eq!(count(output), Counts { passed: 13, failed: 2 });
    }

    #[test]
    fn an_ignored_test_counts_as_failed_and_other_lines_not_at_all() {
        let output = "test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                      the child said: test result: ok. 50 passed; 0 failed\n";
        assert_eq!(count(output), Counts { passed: 1, failed: 1 });
        assert_eq!(count(""), Counts::default());
    }
}
