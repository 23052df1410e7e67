//! Whether every fault is noticed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::mutants::{self, Mutant, Row};
use crate::plan::Plan;
use crate::redis::{Kind, Server};
use crate::report::{Failed, Subject, run_all, threads};

/// The names of all faults.
pub fn mutant_names() -> impl Iterator<Item = &'static str> {
    mutants::ALL.iter().map(|mutant| mutant.name)
}

/// Prints the names of all faults.
///
/// # Errors
/// When nobody reads what is printed.
pub fn list_mutants() -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    for mutant in mutants::ALL {
        writeln!(out, "{:<40} within {} seeds", mutant.name, mutant.seeds)?;
    }
    Ok(())
}

/// Puts each fault in alone, and prints which rule notices it and how soon, as a table; returns
/// how many are not noticed in time.
///
/// # Errors
/// When a mutant is stale, there is no interpreter, or nobody reads what is printed.
pub fn all_mutants(from: u64) -> Result<u64, Failed> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n|---|---|---|---|", mutants::HEAD)?;
    let mut missed = 0;
    for mutant in mutants::ALL {
        let (by, needed) = if let Some((by, seed)) = search(mutant, from)? {
            (by, (seed - from + 1).to_string())
        } else {
            missed += 1;
            ("**nothing**", "-".to_owned())
        };
        writeln!(out, "| {} | {by} | {needed} | {} |", mutant.name, mutant.seeds)?;
        out.flush()?;
    }
    Ok(missed)
}

/// The first seed that notices a fault, and by which rule.
fn search(mutant: &Mutant, from: u64) -> Result<Option<(&'static str, u64)>, Failed> {
    let subject = Subject::of(mutant)?;
    let mut caught = None;
    run_all(&subject, from, mutant.seeds, None, |seed, done| {
        caught = done.violation.map(|violation| (violation.invariant, seed));
        Ok(caught.is_none())
    })?;
    Ok(caught)
}

/// What one seed came to, with a fault and without it.
struct Tried {
    mutant: &'static Mutant,
    seed: u64,
    caught: bool,
    /// The rule that was broken without the fault.
    sound: Option<&'static str>,
}

/// Puts each fault in alone, at the seed by which it was noticed when a table was made, and runs
/// that seed without it as well. Seeds change their meaning with the code: a fault that its seed
/// no longer shows is searched for among the seeds that it is allowed. Returns how many are not
/// noticed, and how many seeds break a rule without any fault.
///
/// # Errors
/// When there is no such table, a mutant is stale, there is no interpreter, or nobody reads what
/// is printed.
pub fn known_mutants(table: &Path) -> Result<u64, Failed> {
    let text = std::fs::read_to_string(table)?;
    let rows = mutants::rows(&text).ok_or_else(|| Failed::NoTable(table.display().to_string()))?;
    let mut out = io::stdout().lock();
    let (mut again, mut wrong) = (0, 0);
    for Tried { mutant, seed, caught, sound } in try_all(&rows)? {
        let name = mutant.name;
        if let Some(rule) = sound {
            wrong += 1;
            writeln!(out, "seed {seed} breaks a rule without {name}: {rule}")?;
        }
        if caught {
            continue;
        }
        again += 1;
        if let Some((rule, found)) = search(mutant, 1)? {
            writeln!(out, "{name}: not at seed {seed} any more, but at {found}: {rule}")?;
        } else {
            wrong += 1;
            writeln!(out, "{name}: not noticed within {} seeds", mutant.seeds)?;
        }
    }
    let all = mutants::ALL.len();
    writeln!(out, "{all} mutants, {} at their seeds, {wrong} wrong", all - again)?;
    Ok(wrong)
}

/// Runs each fault at its seed, on all cores.
fn try_all(rows: &[Row]) -> Result<Vec<Tried>, Failed> {
    let seeds: BTreeMap<&str, u64> =
        rows.iter().map(|row| (row.name.as_str(), row.needed)).collect();
    let seed = |mutant: &Mutant| seeds.get(mutant.name).copied().unwrap_or(1);
    let subject = |mutant: &'static Mutant| Ok((mutant, seed(mutant), Subject::of(mutant)?));
    let all = mutants::ALL.iter().map(subject).collect::<Result<Vec<_>, Failed>>()?;
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads() {
            let (sender, next, all) = (sender.clone(), &next, &all);
            scope.spawn(move || {
                let Ok(mut server) = Server::new(Kind::Redis70) else { return };
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (mutant, seed, subject) = one;
                    if sender.send(try_one(&mut server, mutant, *seed, subject)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    drop(sender);
    let mut tried = results.iter().collect::<io::Result<Vec<_>>>()?;
    if tried.len() < all.len() {
        return Err(io::Error::other("no interpreter for all of the mutants").into());
    }
    tried.sort_by_key(|tried| tried.mutant.name);
    Ok(tried)
}

fn try_one(
    server: &mut Server,
    mutant: &'static Mutant,
    seed: u64,
    subject: &Subject,
) -> io::Result<Tried> {
    let mut broken = |subject: &Subject| {
        let done = subject.run(server, Plan::new(seed), false)?;
        Ok::<_, io::Error>(done.violation.map(|violation| violation.invariant))
    };
    let (caught, sound) = (broken(subject)?.is_some(), broken(&Subject::sound())?);
    Ok(Tried { mutant, seed, caught, sound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mutant_is_stale() {
        for mutant in mutants::ALL {
            assert!(Subject::of(mutant).is_ok(), "{}", mutant.name);
        }
    }

    #[test]
    fn a_fault_is_noticed_at_its_seed_and_searched_for_when_it_has_another() {
        let mutant = Mutant::named("release-without-compare").unwrap();
        let (_, seed) = search(mutant, 1).unwrap().expect("within its seeds");
        let mut server = Server::new(Kind::Redis70).unwrap();
        let subject = Subject::of(mutant).unwrap();
        let tried = try_one(&mut server, mutant, seed, &subject).unwrap();
        assert!(tried.caught && tried.sound.is_none());
    }
}
