//! The stage that runs all tests of the workspace and counts them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use crate::metadata::packages;
use crate::run::{Ended, Project, must, run};
use crate::stages::{Counts, Found};

/// For all tests of the workspace, with their building: what hangs is a failure all the same.
const LIMIT: Duration = Duration::from_mins(30);

/// Test files that wait for clocks and servers for most of their time: about half of all in length.
/// The others run meanwhile.
const PATIENT: &[&str] = &["real", "faults", "fleet", "operate", "saboteurs", "interop"];

pub(crate) fn stage(project: &Project) -> Result<Found> {
    must(project, project.cargo("test --workspace --all-features --no-run"), LIMIT)?;
    // A name may be that of several packages' tests: they all run.
    let files: BTreeSet<String> =
        packages(project)?.into_iter().flat_map(|package| package.test_files).collect();
    let (patient, others): (Vec<&str>, Vec<&str>) =
        files.iter().map(String::as_str).partition(|name| PATIENT.contains(name));
    let lane = |kinds: &[&str], files: &[&str]| {
        let mut command = project.cargo("test --workspace --all-features --no-fail-fast");
        command.args(kinds);
        for name in files {
            command.args(["--test", name]);
        }
        run(project, command, LIMIT)
    };
    let ran = std::thread::scope(|scope| {
        let beside = scope.spawn(|| lane(&[], &patient));
        let own = [lane(&["--lib", "--bins"], &others), lane(&["--doc"], &[])];
        let beside = beside.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a lane broke down")));
        own.into_iter().chain([beside]).collect::<Result<Vec<Ended>>>()
    })?;
    let mut found = Found { counts: Counts::default(), output: String::new() };
    for ended in ran {
        let lane = judge(ended);
        found.counts.add(lane.counts);
        if lane.counts.failed > 0 {
            found.output.push_str(&lane.output);
        }
    }
    Ok(found)
}

fn judge(ended: Ended) -> Found {
    let mut counts = count(&ended.output);
    let mut output = ended.output;
    if counts.passed + counts.failed == 0 {
        counts.failed = 1;
        output.push_str("\nno test ran");
    }
    if !ended.status.success() && counts.failed == 0 {
        // A binary that did not build or was killed prints no result of its own.
        counts.failed = 1;
    }
    Found { counts, output }
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
