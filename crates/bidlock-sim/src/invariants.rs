//! What must hold in every run: a file per property. Each counts how often it had something to
//! judge.

mod i10_everything_ends;
mod i11_nothing_left;
mod i12_revoked;
mod i13_told;
mod i1_counter;
mod i4_over_stays_over;
mod i5_renewal_extends;
mod i8_repeats;
mod i9_too_late;
mod l8_outcomes;
mod l_states;
mod liveness;
mod p1_one_bid;
mod p2_one_holder;
mod p3_tokens_rise;
mod p4_longest_first;
mod p4_nobody_forgotten;
mod p5_fail_closed;
mod p6_holder_knows;

use crate::facts::{Facts, Happened};

/// One property.
pub(crate) trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The promises and rules that it checks.
    fn cites(&self) -> &'static str;

    /// Takes note of what happened; says what must not be.
    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String>;
}

/// All properties, for one run.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(p1_one_bid::OneBid::default()),
        Box::new(l_states::States::default()),
        Box::new(l8_outcomes::Outcomes),
        Box::new(p2_one_holder::OneHolder),
        Box::new(p3_tokens_rise::TokensRise::default()),
        Box::new(p4_longest_first::LongestFirst),
        Box::new(p4_nobody_forgotten::NobodyForgotten::default()),
        Box::new(p5_fail_closed::FailClosed::default()),
        Box::new(p6_holder_knows::HolderKnows),
        Box::new(liveness::Liveness),
        Box::new(i1_counter::Counter),
        Box::new(i4_over_stays_over::OverStaysOver),
        Box::new(i5_renewal_extends::RenewalExtends),
        Box::new(i8_repeats::Repeats),
        Box::new(i9_too_late::TooLate),
        Box::new(i10_everything_ends::EverythingEnds),
        Box::new(i11_nothing_left::NothingLeft::default()),
        Box::new(i12_revoked::Revoked),
        Box::new(i13_told::Told),
    ]
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

/// Judges everything that has happened; the first broken rule ends the run.
pub(crate) fn judge(
    invariants: &mut [Box<dyn Invariant>],
    facts: &mut Facts,
) -> Result<(), Violation> {
    let happened = std::mem::take(&mut facts.happened);
    for one in &happened {
        for invariant in invariants.iter_mut() {
            invariant.on(facts, one).map_err(|what| Violation {
                invariant: invariant.name(),
                what: format!("{what} ({})", invariant.cites()),
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn each_property_stands_in_the_docs_beside_each_number_that_it_cites_and_nowhere_else() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verification.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, table) = page.split_once("## Evidence, property by property").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
        let mut told: Vec<(String, String)> = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let names = cells[4].split(", ").filter(|name| *name != "-");
            told.extend(names.map(|name| (cells[1].to_owned(), name.to_owned())));
        }
        let all = all();
        let cited = all.iter().flat_map(|one| one.cites().split(' ').map(|n| (n, one.name())));
        let mut cited: Vec<_> = cited.map(|(n, name)| (n.to_owned(), name.to_owned())).collect();
        told.sort();
        cited.sort();
        assert_eq!(told, cited);
    }
}
