//! What a process remembers of the ledger that it bids with (L12), without asking the ledger.

mod kept;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bidlock_core::{Endpoint, Rng, WallTime};

use self::kept::Kept;
use crate::archive::Standing;
use crate::types::AttemptInfo;
use crate::values::{AttemptId, LedgerId};

/// The last attempt that was seen started: a ledger that does not know it has forgotten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) attempt: AttemptId,
    pub(crate) started: WallTime,
}

impl Mark {
    fn line(self) -> String {
        format!("{} {}\n", self.attempt, self.started.as_micros())
    }

    fn read(text: &str) -> Option<Self> {
        let (attempt, started) = text.trim_end_matches('\n').split_once(' ')?;
        let started = WallTime::from_micros(started.parse().ok()?);
        Some(Self { attempt: attempt.parse().ok()?, started })
    }

    /// Why a ledger that has `found` of this attempt is not the one that it was started in;
    /// `None` when it is, or need not know it any more.
    pub(crate) fn missed(
        self,
        found: Option<&AttemptInfo>,
        standing: &Standing,
        now: WallTime,
    ) -> Option<String> {
        let known = found.is_some_and(|info| info.started_at.is_some());
        let after = |at: Option<WallTime>| at.is_some_and(|at| at > self.started);
        if known || after(standing.pruned_before) || after(standing.accepted_at) {
            return None;
        }
        let (attempt, ago) = (self.attempt, ago(now.since(self.started)));
        let what = if found.is_some() { "has not started here" } else { "is not in it" };
        Some(format!(
            "attempt {attempt}, which this machine saw started {ago} ago, {what}: the ledger was \
             restored from an older copy, or it is another one"
        ))
    }
}

/// A length of time in its largest unit, for people.
pub(crate) fn ago(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(unit, _)| seconds >= *unit);
    unit.map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// The marks of one process, and whether the ledger was held against them.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    kept: Option<Kept>,
    ledger: Mutex<Option<LedgerId>>,
    last: Mutex<Option<Mark>>,
    /// Why a mark could not be read, when the ledger was to be held against it.
    unread: Mutex<Option<String>>,
    /// How often the store has failed.
    faults: AtomicU64,
    /// How many of those had happened, and one more, when the ledger was last found sound.
    sound: AtomicU64,
}

impl Marks {
    /// Marks that are also kept in a folder, for the processes to come.
    pub(crate) fn kept_in(folder: PathBuf, endpoint: &Endpoint) -> Self {
        Self { kept: Some(Kept::new(folder, endpoint)), ..Self::default() }
    }

    /// The store has failed: whatever answers next may be another ledger.
    pub(crate) fn doubt(&self) {
        self.faults.fetch_add(1, Ordering::SeqCst);
    }

    /// How many failures there were, where the ledger has not been looked at since the last one.
    pub(crate) fn unseen(&self) -> Option<u64> {
        let faults = self.faults.load(Ordering::SeqCst);
        (self.sound.load(Ordering::SeqCst) != faults + 1).then_some(faults)
    }

    /// The ledger was found sound after so many failures.
    pub(crate) fn found_sound(&self, faults: u64, ledger: LedgerId) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
        self.sound.fetch_max(faults + 1, Ordering::SeqCst);
    }

    /// What a ledger has to know: the marks of this process, and of those before it.
    pub(crate) fn of(&self, ledger: LedgerId) -> Vec<Mark> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut marks: Vec<Mark> = last.into_iter().collect();
        for kept in self.kept.iter().flat_map(|kept| kept.marks(ledger)) {
            match kept {
                Ok(mark) => marks.extend(mark.filter(|mark| !marks.contains(mark))),
                Err(why) => {
                    tracing::warn!("{why}: a restored ledger may go unnoticed");
                    let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
                    unread.get_or_insert(why);
                }
            }
        }
        marks
    }

    /// Why a mark could not be read so far; `None` when none was in the way.
    pub(crate) fn unread(&self) -> Option<String> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why what earlier processes left for this ledger cannot be read; `None` when it can.
    pub(crate) fn unreadable(&self, ledger: LedgerId) -> Option<String> {
        self.kept.as_ref()?.marks(ledger).into_iter().find_map(Result::err)
    }

    /// Remembers an attempt that was seen started, unless a later one is remembered.
    pub(crate) fn remember_later(&self, mark: Mark, rng: &dyn Rng) {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.started < mark.started) {
            self.remember(mark, rng);
        }
    }

    /// Remembers an attempt that was seen started.
    pub(crate) fn remember(&self, mark: Mark, rng: &dyn Rng) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark);
        let ledger = *self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(kept), Some(ledger)) = (&self.kept, ledger) else { return };
        if let Err(error) = kept.put(ledger, mark, rng) {
            let folder = kept.folder.display();
            tracing::warn!(
                %folder, %error,
                "cannot remember the last bid there: a restored ledger may go unnoticed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let attempt = "ffffffff-ffff-4fff-bfff-ffffffffffff".parse().unwrap();
        Mark { attempt, started: WallTime::from_micros(7_000_000) }
    }

    #[test]
    fn a_mark_is_one_line_and_is_read_back() {
        let line = mark().line();
        assert_eq!(line, "ffffffff-ffff-4fff-bfff-ffffffffffff 7000000\n");
        assert_eq!(Mark::read(&line), Some(mark()));
        for bad in ["", "x 1", "ffffffff-ffff-4fff-bfff-ffffffffffff", &line.replace('7', "x")] {
            assert_eq!(Mark::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_was_pruned_or_accepted_need_not_be_known() {
        // L12
        let at = |seconds: u64| Some(WallTime::from_micros(seconds * 1_000_000));
        let now = WallTime::from_micros(7_000_000 + 3 * 3_600_000_000);
        let id = "00000000-0000-4000-8000-000000000000".parse().unwrap();
        for (pruned_before, accepted_at, passes) in
            [(None, None, false), (at(7), at(7), false), (at(8), None, true), (None, at(8), true)]
        {
            let standing = Standing { id, schema: 2, pruned_before, accepted_at, changed: None };
            let why = mark().missed(None, &standing, now);
            assert_eq!(why.is_none(), passes, "{standing:?}");
            if let Some(why) = why {
                assert!(why.contains("started 3 h ago, is not in it"), "{why}");
            }
        }
    }

    #[test]
    fn a_failure_while_the_ledger_is_looked_at_has_it_looked_at_again() {
        let marks = Marks::default();
        let ledger = "00000000-0000-4000-8000-000000000000".parse().unwrap();
        assert_eq!(marks.unseen(), Some(0), "nothing is believed unseen");
        marks.doubt();
        marks.found_sound(0, ledger);
        assert_eq!(marks.unseen(), Some(1));
        marks.found_sound(1, ledger);
        assert_eq!(marks.unseen(), None);
        marks.doubt();
        assert_eq!(marks.unseen(), Some(2));
    }
}
