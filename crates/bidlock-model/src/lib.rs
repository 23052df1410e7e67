//! The protocols of bidlock as state spaces, checked exhaustively for small bounds.
//!
//! Models call the pure functions of `bidlock-core` and `bidlock-ledger` for what a client believes
//! and for what an attempt may become, so that they cannot drift from the code. Scripts and
//! transactions are written down again, one step each.

mod check;
mod joined;
mod ledger;
mod lock;

pub use check::{Report, Story};

/// Checks every model whose name begins so, one after the other.
pub fn all(only: &str) -> impl Iterator<Item = Report> {
    lock::runs::all(only).chain(ledger::runs::all(only)).chain(joined::all(only))
}

/// The first line of the table of mistakes in `docs/verification.md`.
pub const TABLE: &str = "| mistake | found by | steps |";

/// A mistake in a protocol, and what came of the search for it.
#[derive(Debug)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// The property that has to find it.
    pub property: &'static str,
    /// What was found.
    pub report: Report,
}

impl Mutant {
    /// How many steps lead to the property's end; none when it was not found.
    #[must_use]
    pub fn steps(&self) -> usize {
        let story = self.report.broken.iter().find(|story| story.property == self.property);
        story.map_or(0, |story| story.steps.len())
    }
}

/// Looks for every mistake, one after the other.
pub fn mutants() -> impl Iterator<Item = Mutant> {
    let all = lock::runs::mutants().chain(ledger::runs::mutants());
    all.map(|(name, property, report)| Mutant { name, property, report })
}

/// What has to be possible in some model of a kind for the rest to mean anything, and was in none.
#[must_use]
pub fn unreached(reports: &[Report]) -> Vec<&'static str> {
    let kind = |report: &Report| report.name.split(':').next().unwrap_or_default();
    let mut missing = Vec::new();
    for report in reports {
        for what in &report.unreached {
            let mut alike = reports.iter().filter(|other| kind(other) == kind(report));
            if alike.all(|other| other.unreached.contains(what)) && !missing.contains(what) {
                missing.push(what);
            }
        }
    }
    missing
}
