//! One design under the faults of a scenario, from the start of its servers to its verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::bidder::{SUBMIT, Setup, TTL, VISIBLE_AFTER};
use crate::event::Event;
use crate::faults::{FaultLog, Performer};
use crate::feed::SPREAD;
use crate::fleet::{Fleet, Told, host_of};
use crate::history::History;
use crate::market;
use crate::options::Options;
use crate::plan::{self, Lane};
use crate::report::say;
use crate::scenario::{Design, Scenario};
use crate::time;
use crate::verdict::{self, About, Verdict};
use crate::world::World;

use super::kept;

/// How many bidders there are.
const BIDDERS: usize = 9;
/// How many processes ask about bids whose outcome nobody knows.
const RECONCILERS: usize = 2;
/// From one posting to the next.
const EVERY: u64 = 38_000;
/// Before the first posting.
const WARM_UP: u64 = 700_000;
/// The last postings, after the last fault.
const TAIL: u64 = 1_500_000;
/// All bidders end within this long, whatever they were doing.
const END: Duration = Duration::from_secs(40);

/// One design's turn.
pub(super) struct Part<'a> {
    options: &'a Options,
    design: Design,
    left: Duration,
    world: &'a Arc<World>,
    began: u64,
}

impl<'a> Part<'a> {
    pub(super) fn new(
        options: &'a Options,
        design: Design,
        left: Duration,
        world: &'a Arc<World>,
    ) -> Self {
        Self { options, design, left, world, began: time::boot() }
    }

    fn scenario(&self) -> Scenario {
        self.options.scenario
    }

    /// How many processes there are.
    fn processes(&self) -> usize {
        BIDDERS + if self.design == Design::Bidlock { RECONCILERS } else { 0 }
    }

    /// The time after the last posting: to finish, to wait for outcomes, to check.
    fn after(&self) -> u64 {
        match self.design {
            Design::Bidlock => time::micros(SUBMIT + VISIBLE_AFTER) + 2_500_000,
            _ => 1_700_000,
        }
    }

    pub(super) fn run(self) -> Result<Verdict> {
        let (seed, design) = (self.options.seed, self.design);
        let scenario = self.scenario();
        let world = self.world;
        world.renew()?;
        let begin = time::boot() + WARM_UP;
        let until = self.began + time::micros(self.left);
        let length = until.saturating_sub(self.after() + begin).max(TAIL + 1_000_000);
        let plan = plan::plan(seed, scenario, length - TAIL, self.processes(), self.options.pace);
        let log = Arc::new(FaultLog::default());
        let folder = self.folder(world)?;
        let setups = (0..self.processes()).map(|bidder| self.setup(world, bidder, begin, length));
        let fleet = Arc::new(Fleet::new(setups.collect(), &log, &folder));
        fleet.start()?;
        let performer = Performer {
            world: Arc::clone(world),
            fleet: Arc::clone(&fleet),
            log: Arc::clone(&log),
            over: AtomicBool::new(false),
        };
        self.perform(&Arc::new(performer), plan, begin, length)?;
        world.heal()?;
        let mut broken: Vec<String> = Vec::new();
        for hanging in fleet.end(END)? {
            broken.push(format!("bidder {hanging} does not end"));
        }
        let ended = time::boot();
        let fleet = Arc::into_inner(fleet).context("nobody uses the fleet any more")?;
        let calls = fleet.take_calls();
        let (told, bad) = fleet.into_told();
        broken.extend(bad);
        broken.extend(self.left_behind(world, &told, ended));
        let ledger = self.ledger(world, ended)?;
        let (arrivals, faults) = market::arrivals(&world.market.take_visits(), now());
        let faults = [log.all(), faults].concat();
        let end = begin + length;
        write(&folder, "faults", &faults)?;
        write(&folder, "arrivals", &arrivals)?;
        write(&folder, "ledger", &ledger)?;
        if self.options.keep.is_some() {
            write(&folder, "calls", &calls.iter().collect::<Vec<_>>())?;
        }
        let history = History {
            design,
            scenario,
            told,
            calls,
            faults,
            arrivals,
            ledger,
            end,
            reconciled: design == Design::Bidlock,
        };
        let about = About {
            seed,
            server: world.redis.name(),
            ledger: world.ledger.name(),
            postings: length / self.every(),
            #[expect(clippy::cast_precision_loss, reason = "a run is no longer than a day")]
            seconds: (time::boot() - self.began) as f64 / 1e6,
        };
        Ok(verdict::judge(&history, &about, broken))
    }

    fn setup(&self, world: &World, bidder: usize, begin: u64, length: u64) -> Setup {
        let host = &world.hosts[host_of(bidder)];
        let crashes = matches!(self.scenario(), Scenario::Crash | Scenario::Mixed);
        Setup {
            seed: self.options.seed,
            design: self.design.name().to_owned(),
            reconciles: bidder >= BIDDERS,
            bidder,
            host: host_of(bidder),
            life: 0,
            redis: host.redis_url(),
            ledger: host.ledger_url(&world.ledger, self.design),
            market: host.market().to_string(),
            clock: host.clock.clone(),
            folder: host.folder.clone(),
            feed_begin: begin,
            feed_every: self.every(),
            feed_count: length / self.every(),
            crash_one_of: if crashes { 60 } else { 0 },
        }
    }

    /// Microseconds from one posting to the next.
    fn every(&self) -> u64 {
        EVERY * 100 / self.options.pace
    }

    /// Where the words of the bidders go.
    fn folder(&self, world: &World) -> Result<PathBuf> {
        let base = self.options.keep.clone().unwrap_or_else(|| world.folder().to_owned());
        let folder = base.join(format!("{}-{}", self.scenario(), self.design));
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Performs the plan, and looks after the bidders until everything is published and seen.
    fn perform(
        &self,
        performer: &Arc<Performer>,
        plan: Vec<Lane>,
        begin: u64,
        length: u64,
    ) -> Result<()> {
        let lanes: Vec<_> = plan
            .into_iter()
            .map(|lane| {
                let performer = Arc::clone(performer);
                thread::spawn(move || performer.run(&lane, begin, length - TAIL))
            })
            .collect();
        let end = begin + length + SPREAD.min(length / 8);
        let mut progress = begin + 10_000_000;
        while time::boot() < end {
            performer.fleet.look_after()?;
            time::pause(Duration::from_millis(15));
            if time::boot() >= progress {
                progress += 10_000_000;
                self.progress(performer, begin);
            }
        }
        for lane in lanes {
            match lane.join() {
                Ok(done) => done?,
                Err(_) => bail!("a server did not do what the plan says; see above"),
            }
        }
        Ok(())
    }

    fn progress(&self, performer: &Performer, begin: u64) {
        let seconds = (time::boot() - begin) / 1_000_000;
        let (placed, faults) = (performer.fleet.placed(), performer.log.all().len());
        let design = self.design;
        say(self.options.json, &format!("{design}: {seconds} s, {placed} placed, {faults} faults"));
    }

    /// Locks that outlive everybody and their own TTL.
    fn left_behind(&self, world: &World, told: &[Told], ended: u64) -> Vec<String> {
        if self.design != Design::Bidlock {
            return Vec::new();
        }
        time::pause_until(ended + time::micros(TTL) + 500_000);
        let mut locks = world.redis.locks();
        // A process that was killed may have left one that has not ended yet.
        let now = time::boot();
        for told in told {
            if let Event::Granted { posting, until, .. } = &told.line.event
                && *until > now
            {
                let own = format!(":{posting}");
                locks.retain(|key| !key.ends_with(&own));
            }
        }
        locks.into_iter().map(|key| format!("{key} is still held after the end")).collect()
    }

    fn ledger(&self, world: &World, ended: u64) -> Result<Vec<crate::history::Kept>> {
        if self.design != Design::Bidlock {
            return Ok(Vec::new());
        }
        // From then on nothing is under way, and all bids show.
        time::pause_until(ended + time::micros(SUBMIT + VISIBLE_AFTER) + 200_000);
        // Nobody is left who could hold a lock; a reconciler that was killed may have left one.
        world.redis.flush();
        kept::settle_and_read(world, self.design)
    }
}

/// The same moment by the marketplace's clock and by the run's.
#[expect(clippy::disallowed_methods, reason = "the marketplace's moments are read here")]
fn now() -> (Instant, u64) {
    (Instant::now(), time::boot())
}

/// Leaves a list in a file of its own, an object in each line.
fn write<T: Serialize>(folder: &Path, name: &str, list: &[T]) -> Result<()> {
    let lines = list.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(std::fs::write(folder.join(format!("{name}.jsonl")), lines.join("\n"))?)
}
