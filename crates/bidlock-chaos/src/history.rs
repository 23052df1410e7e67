//! All that is known of one part of a run, for the checks.

use std::collections::{BTreeMap, HashMap};

use bidlock_history::Call;
use serde::Serialize;

use crate::event::Event;
use crate::faults::Fault;
use crate::fleet::Told;
use crate::market::Arrival;
use crate::scenario::{Design, Scenario};

/// One attempt as the ledger has it at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Kept {
    pub(crate) posting: String,
    pub(crate) attempt: String,
    /// As everybody reads it.
    pub(crate) state: String,
    /// `HOST:PID:…` of who reserved it.
    pub(crate) holder: String,
    /// What happened to it, in order.
    pub(crate) events: Vec<String>,
}

/// All that is known of one part of a run.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) design: Design,
    pub(crate) scenario: Scenario,
    pub(crate) told: Vec<Told>,
    /// What bidders saw of the lock store, by posting.
    pub(crate) calls: BTreeMap<String, Vec<Call>>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) ledger: Vec<Kept>,
    /// When the last posting was published.
    pub(crate) end: u64,
    /// Whether a reconciler has asked about every unknown attempt at the end.
    pub(crate) reconciled: bool,
}

/// Who made an attempt, and when it came how far the first time that it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Trail {
    pub(crate) bidder: Option<usize>,
    /// The first sign of it.
    pub(crate) first: Option<u64>,
    pub(crate) started: Option<u64>,
    pub(crate) recorded: Option<u64>,
}

impl History {
    /// What the process told of each attempt that made it.
    pub(crate) fn trails(&self) -> HashMap<&str, Trail> {
        let mut makers = HashMap::<&str, &Told>::new();
        for told in &self.told {
            let Some(attempt) = told.line.event.attempt() else { continue };
            let maker = makers.entry(attempt).or_insert(told);
            if told.line.at < maker.line.at {
                *maker = told;
            }
        }
        let mut trails = HashMap::<&str, Trail>::new();
        for told in &self.told {
            let Some(attempt) = told.line.event.attempt() else { continue };
            let is_maker = |maker: &&Told| (maker.bidder, maker.life) == (told.bidder, told.life);
            if !makers.get(attempt).is_some_and(is_maker) {
                continue;
            }
            let at = told.line.at;
            let trail = trails.entry(attempt).or_default();
            trail.bidder = Some(told.bidder);
            trail.first = Some(trail.first.map_or(at, |first| first.min(at)));
            match &told.line.event {
                Event::Started { .. } => trail.started = Some(at),
                Event::Recorded { .. } | Event::Late { .. } => trail.recorded = Some(at),
                _ => {}
            }
        }
        trails
    }

    /// The bidder of each process, by its number, and when it came up.
    pub(crate) fn births(&self) -> HashMap<u32, (usize, u64)> {
        let born = self.told.iter().filter_map(|told| match told.line.event {
            Event::Ready { pid } => Some((pid, (told.bidder, told.line.at))),
            _ => None,
        });
        born.collect()
    }
}

impl Kept {
    /// The process that reserved it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.holder.split(':').nth(1)?.parse().ok()
    }

    /// Whether nobody could tell at some time how it had gone.
    pub(crate) fn was_unknown(&self) -> bool {
        let doubts = ["doubted", "unknown", "given_up"];
        let resolved = |event: &String| event.starts_with("resolved_");
        self.state == "unknown"
            || self.events.iter().any(|event| doubts.contains(&event.as_str()) || resolved(event))
    }

    /// How often it was sent again.
    pub(crate) fn resent(&self) -> usize {
        self.events.iter().filter(|event| *event == "resent").count()
    }

    /// Whether somebody with a higher token has met it while it was started.
    pub(crate) fn was_doubted(&self) -> bool {
        self.events.iter().any(|event| event == "doubted")
    }
}
