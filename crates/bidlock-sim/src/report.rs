//! Runs seeds, and tells how they went.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bidlock_redis::Scripts;

use crate::coverage::{Coverage, MET};
use crate::faulty::Switches;
use crate::mutants::Mutant;
use crate::plan::Plan;
use crate::redis::{Kind, Server};
use crate::shrink::shrink;
use crate::world::{Outcome, World};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many seeds.
    pub seeds: u64,
    /// The first of them.
    pub from: u64,
    /// Begins no more seeds after so many seconds.
    pub seconds: Option<u64>,
    /// A fault to put in.
    pub mutant: Option<String>,
    /// Prints everything that happens.
    pub trace: bool,
    /// Prints one line of JSON for each seed.
    pub json: bool,
    /// Prints how often what was checked and what happened.
    pub coverage: bool,
}

/// What is run: the real code, or a fault in it.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    scripts: Scripts,
    switches: Switches,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// There is no fault of that name.
    #[error("there is no mutant {0:?}: see --list-mutants")]
    NoMutant(String),
    /// There is no table of mutants where one was looked for.
    #[error("{0} has no table of mutants")]
    NoTable(String),
    /// The scripts no longer have what a fault replaces.
    #[error("the scripts no longer have what the mutant {0:?} replaces")]
    StaleMutant(String),
    /// The operating system's, or Lua's, error.
    #[error("cannot simulate")]
    System(#[from] io::Error),
    /// There is no interpreter.
    #[error("cannot simulate a server")]
    Lua(#[from] mlua::Error),
}

impl Subject {
    pub(crate) fn sound() -> Self {
        Self { scripts: Scripts::default(), switches: Switches::default() }
    }

    pub(crate) fn of(mutant: &Mutant) -> Result<Self, Failed> {
        let stale = || Failed::StaleMutant(mutant.name.to_owned());
        let scripts = mutant.scripts().ok_or_else(stale)?;
        Ok(Self { scripts, switches: mutant.switches() })
    }

    fn named(name: Option<&str>) -> Result<Self, Failed> {
        let Some(name) = name else { return Ok(Self::sound()) };
        let mutant = Mutant::named(name).ok_or_else(|| Failed::NoMutant(name.to_owned()))?;
        Self::of(mutant)
    }

    pub(crate) fn run(&self, server: &mut Server, plan: Plan, keeps: bool) -> io::Result<Outcome> {
        Ok(World::new(plan, server, self.scripts.clone(), self.switches, keeps)?.run())
    }
}

/// Seeds end here: threads that count on beyond the last one must not begin again at zero.
const LAST: u64 = u64::MAX / 2;

/// How many threads run seeds: each has a server of its own, and no seed sees another.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Runs seeds on all cores, and hands over what they came to in their order, until `each` has
/// seen enough.
pub(crate) fn run_all(
    subject: &Subject,
    from: u64,
    seeds: u64,
    seconds: Option<u64>,
    mut each: impl FnMut(u64, Outcome) -> io::Result<bool>,
) -> Result<(), Failed> {
    let (next, end) = (AtomicU64::new(from), from.saturating_add(seeds).min(LAST));
    let (sender, results) = mpsc::sync_channel::<(u64, io::Result<Outcome>)>(64);
    let (over, ends) = mpsc::channel::<()>();
    thread::scope(|scope| {
        if let Some(seconds) = seconds {
            let next = &next;
            scope.spawn(move || {
                if ends.recv_timeout(Duration::from_secs(seconds)).is_err() {
                    next.store(end, Ordering::Relaxed);
                }
            });
        }
        let _over = over;
        for _ in 0..threads() {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let Ok(mut server) = Server::new(Kind::Redis70) else { return };
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let done = subject.run(&mut server, Plan::new(seed), false);
                    if sender.send((seed, done)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = from;
        for (seed, done) in &results {
            waiting.insert(seed, done);
            while let Some(done) = waiting.remove(&due) {
                if !each(due, done?)? {
                    // No thread goes on for what nobody takes.
                    next.store(end, Ordering::Relaxed);
                    drop(results);
                    return Ok(());
                }
                due += 1;
            }
        }
        Ok(())
    })
}

/// Runs seeds as the options say; returns how many rules were broken, or were never reached.
///
/// # Errors
/// When there is no such mutant, no interpreter, or nobody reads what is printed.
pub fn main(options: &Options) -> Result<u64, Failed> {
    let mut out = io::stdout().lock();
    let subject = Subject::named(options.mutant.as_deref())?;
    if options.trace {
        return trace(&mut out, &subject, options.from);
    }
    let mut coverage = Coverage::default();
    let (mut events, mut micros, mut violations) = (0, 0, 0);
    let mut failing = None;
    let mut seeds = 0;
    let most = if options.seconds.is_some() { u64::MAX } else { options.seeds };
    run_all(&subject, options.from, most, options.seconds, |seed, done| {
        seeds += 1;
        events += done.events;
        micros += done.virtual_us;
        coverage.add(&done.coverage);
        if options.json {
            let (hash, millis) = (done.hash, done.virtual_us / 1_000);
            let line = serde_json::json!({
                "seed": seed, "trace": format!("{hash:016x}"), "virtual_ms": millis,
            });
            writeln!(out, "{line}")?;
        }
        if let Some(violation) = done.violation {
            violations += 1;
            writeln!(out, "seed {seed}: {}: {}", violation.invariant, violation.what)?;
            failing.get_or_insert((seed, violation.invariant));
        }
        Ok(true)
    })?;
    if let Some((seed, invariant)) = failing {
        story(&mut out, &subject, seed, invariant)?;
    }
    let missing = coverage.missing(seeds);
    for what in &missing {
        writeln!(out, "never reached: {what}")?;
    }
    if options.coverage {
        for (what, count) in coverage.all() {
            writeln!(out, "{count:>10}  {what}")?;
        }
        writeln!(out, "\n| while | {} |\n|---{}|", MET.join(" | "), "|---:".repeat(MET.len()))?;
        for (fault, met) in coverage.met() {
            writeln!(out, "| {fault} | {} |", met.map(|count| count.to_string()).join(" | "))?;
        }
        writeln!(out)?;
    }
    // In hundredths of an hour, which is what is shown.
    let (hours, rest) = (micros / 36_000_000 / 100, micros / 36_000_000 % 100);
    writeln!(
        out,
        "{seeds} seeds, {hours}.{rest:02} virtual hours, {events} events, {violations} violations"
    )?;
    Ok(violations + missing.len() as u64)
}

/// Prints one run.
fn trace(out: &mut impl Write, subject: &Subject, seed: u64) -> Result<u64, Failed> {
    let mut server = Server::new(Kind::Redis70)?;
    let done = subject.run(&mut server, Plan::new(seed), true)?;
    for line in &done.lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "seed {seed}: trace {:016x}, {} events", done.hash, done.events)?;
    Ok(u64::from(done.violation.is_some()))
}

/// Prints how a rule came to be broken, with as little as that takes.
fn story(
    out: &mut impl Write,
    subject: &Subject,
    seed: u64,
    invariant: &'static str,
) -> Result<(), Failed> {
    const LINES_MAX: usize = 60;
    let mut server = Server::new(Kind::Redis70)?;
    let mut failed = None;
    let small =
        shrink(Plan::new(seed), |plan| match subject.run(&mut server, plan.clone(), false) {
            Ok(done) => done.violation.is_some_and(|violation| violation.invariant == invariant),
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let done = subject.run(&mut server, small.clone(), true)?;
    let Some(violation) = done.violation else { return Ok(()) };
    writeln!(out, "\nThe story of seed {seed}, made as short as it goes:")?;
    writeln!(
        out,
        "  {:?}, clocks {:+} ppm at the server and {:?} at the clients",
        small.kind, small.server_ppm, small.client_ppm
    )?;
    // What is about another key or posting explains nothing.
    let subject = violation.what.split(": ").next().unwrap_or_default().to_owned();
    let is_about = |line: &&String| {
        let detail = line.contains("   - ");
        let other = ["hot-", "job_"].iter().any(|name| line.contains(name));
        !detail && (!other || line.contains(&subject))
    };
    let lines: Vec<&String> = done.lines.iter().filter(is_about).collect();
    let skipped = lines.len().saturating_sub(LINES_MAX);
    if skipped > 0 {
        writeln!(out, "  … {skipped} lines before these …")?;
    }
    for line in &lines[skipped..] {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hashes(server: &mut Server, from: u64) -> Vec<u64> {
        let run = |seed| Subject::sound().run(server, Plan::new(seed), false).unwrap();
        (from..from + 4).map(run).map(|done| done.hash).collect()
    }

    #[test]
    fn a_seed_runs_the_same_way_whenever_and_wherever_it_runs() {
        let first = hashes(&mut Server::new(Kind::Redis70).unwrap(), 11);
        let second = thread::spawn(|| {
            let mut server = Server::new(Kind::Valkey9).unwrap();
            hashes(&mut server, 400);
            hashes(&mut server, 11)
        });
        assert_eq!(first, second.join().unwrap());
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len(), "seeds differ");
    }

    #[test]
    fn a_fault_is_noticed_and_told_as_a_story() {
        let subject = Subject::named(Some("release-without-compare")).unwrap();
        let mut found = None;
        run_all(&subject, 1, 50, None, |seed, done| {
            found = done.violation.map(|violation| (seed, violation.invariant));
            Ok(found.is_none())
        })
        .unwrap();
        let (seed, invariant) = found.unwrap();
        let mut text = Vec::new();
        story(&mut text, &subject, seed, invariant).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("VIOLATED") && text.lines().count() < 70, "{text}");
    }

    #[test]
    fn seeds_end_when_the_time_is_up_and_at_the_last_one() {
        let mut seen = 0;
        let mut count = |_, _| {
            seen += 1;
            Ok(true)
        };
        run_all(&Subject::sound(), 1, u64::MAX, Some(0), &mut count).unwrap();
        run_all(&Subject::sound(), LAST - 1, 5, None, &mut count).unwrap();
        assert!(seen > 0);
    }
}
