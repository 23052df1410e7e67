//! What people and programs are shown.

use serde::Serialize;

use crate::scenario::{Design, Scenario};
use crate::theory::{Standing, standing};
use crate::verdict::Verdict;

/// Says something on the way: on stdout for people, on stderr beside JSON.
pub(crate) fn say(json: bool, line: &str) {
    if json {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
}

/// How a run ended, as its exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Bidlock did nothing wrong, and every control was caught where it must be.
    Good = 0,
    /// Bidlock did something wrong, or the run catches nothing.
    Bad = 1,
    /// Nothing is wrong, but too little has happened for a control to be caught.
    TooShort = 3,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// How it stands to what theory demands: `free`, `shown`, `too_short` or `missing`.
    standing: &'static str,
}

impl<'a> Line<'a> {
    pub(crate) fn of(design: Design, scenario: Scenario, verdict: &'a Verdict) -> Self {
        let standing = match standing(design, scenario, verdict) {
            Standing::Free => "free",
            Standing::Shown => "shown",
            Standing::TooShort => "too_short",
            Standing::Missing(_) => "missing",
        };
        Self { verdict, standing }
    }
}

/// Whether all designs did what they must; says which did not.
pub(crate) fn judge(json: bool, scenario: Scenario, verdicts: &[(Design, Verdict)]) -> Outcome {
    let (mut good, mut short) = (true, false);
    for (design, verdict) in verdicts {
        match standing(*design, scenario, verdict) {
            Standing::Free | Standing::Shown => {}
            Standing::TooShort => {
                short = true;
                say(json, &format!("{design}: no duplicates yet; too short a run to demand any"));
            }
            Standing::Missing(because) => {
                good = false;
                say(json, &format!("{design}: FAILED: no duplicates, although {because}"));
            }
        }
        for what in verdict.broken.iter().take(20) {
            say(json, &format!("{design}: BROKEN: {what}"));
        }
        let bad = !verdict.broken.is_empty();
        let twice = *design == Design::Bidlock && verdict.duplicates + verdict.double_bids > 0;
        good &= !bad && !twice;
    }
    match (good, short) {
        (false, _) => Outcome::Bad,
        (true, true) => Outcome::TooShort,
        (true, false) => Outcome::Good,
    }
}

/// The table at the end, for people.
pub(crate) fn table(verdicts: &[(Design, Verdict)]) -> String {
    let mut lines = vec![format!(
        "{:<13}{:>9}{:>12}{:>11}{:>12}{:>8}{:>12}{:>13}",
        "design",
        "postings",
        "submissions",
        "duplicates",
        "double bids",
        "unknown",
        "unexplained",
        "recovery ms"
    )];
    for (design, one) in verdicts {
        let is_ledgered = *design == Design::Bidlock;
        let only = |number: usize| if is_ledgered { number.to_string() } else { "-".to_owned() };
        lines.push(format!(
            "{:<13}{:>9}{:>12}{:>11}{:>12}{:>8}{:>12}{:>13}",
            one.design,
            one.postings,
            one.submissions,
            one.duplicates,
            one.double_bids,
            only(one.unknown),
            only(one.unknown_unexplained),
            one.recovery_ms_max
        ));
    }
    lines.join("\n")
}
