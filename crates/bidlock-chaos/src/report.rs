//! What people and programs are shown.

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

/// Whether all designs did what they must; says which did not.
pub(crate) fn passes(json: bool, scenario: Scenario, verdicts: &[(Design, Verdict)]) -> bool {
    let mut good = true;
    for (design, verdict) in verdicts {
        match standing(*design, scenario, verdict) {
            Standing::Free | Standing::Shown => {}
            Standing::TooShort => {
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
    good
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
