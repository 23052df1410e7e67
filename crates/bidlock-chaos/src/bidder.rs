//! One bidder: a process that sees postings and bids on them, until it is told to end or dies.

mod crash;
mod ledgered;
mod machine;
mod reconciler;
mod set_nx;
mod sqlite_row;
mod submit;
mod table;
mod trace;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::draw::{below, draw};
use crate::event::{Event, Log};
use crate::feed::Feed;
use crate::scenario::Design;
use crate::time;
use crash::{Point, Task};

pub(crate) use ledgered::MARKET;
pub(crate) use machine::platform;
pub(crate) use reconciler::{VISIBLE_AFTER, reconciler};

/// How long a lease lives without renewal.
pub(crate) const TTL: Duration = Duration::from_secs(1);
/// How long a submission may take.
pub(crate) const SUBMIT: Duration = Duration::from_millis(2_500);
/// How long a bidder waits for a lock.
const WAIT: Duration = Duration::from_millis(800);
/// A posting is given up so long after it was first tried.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many postings one bidder works on at once.
const AT_ONCE: usize = 32;

/// What a bidder is told when it is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) design: String,
    /// It asks about bids instead of placing any.
    pub(crate) reconciles: bool,
    pub(crate) bidder: usize,
    pub(crate) host: usize,
    /// How often this bidder was started before.
    pub(crate) life: u64,
    pub(crate) redis: String,
    pub(crate) ledger: String,
    /// Where the marketplace is, as `HOST:PORT`.
    pub(crate) market: String,
    /// The file with the offset of the host's wall clock.
    pub(crate) clock: PathBuf,
    /// The host's own folder.
    pub(crate) folder: PathBuf,
    pub(crate) feed_begin: u64,
    pub(crate) feed_every: u64,
    pub(crate) feed_count: u64,
    /// One task of so many kills its bidder; none when zero.
    pub(crate) crash_one_of: u64,
}

impl Setup {
    fn feed(&self) -> Feed {
        let Self { seed, feed_begin: begin, feed_every: every, feed_count: count, .. } = *self;
        Feed { seed, begin, every, count }
    }

    fn mixed(&self, about: u64, number: u64) -> u64 {
        draw(self.seed, &[about, self.bidder as u64, self.life, number])
    }

    /// At which point of which task the bidder dies.
    fn crash(&self, number: u64) -> Option<Point> {
        let drawn = self.mixed(11, number);
        (self.crash_one_of > 0 && drawn.is_multiple_of(self.crash_one_of))
            .then(|| Point::drawn(self.mixed(12, number)))
    }
}

/// How one try at a posting went.
enum Tried {
    /// Nothing is left to do.
    Over,
    /// It is worth another try in a while.
    Again,
}

/// What the designs have in common.
struct Shared {
    setup: Setup,
    log: Arc<Log>,
}

impl Shared {
    fn failed(&self, number: u64, why: impl Into<String>) -> Tried {
        self.log.say(Event::Failed { posting: Feed::name(number), why: why.into() });
        Tried::Again
    }
}

enum Bidder {
    Ledgered(ledgered::Ledgered),
    SetNx(Box<set_nx::SetNx>),
    Row(sqlite_row::SqliteRow),
}

impl Bidder {
    async fn open(shared: &Arc<Shared>) -> Result<Self> {
        let design = Design::named(&shared.setup.design).context("a design")?;
        Ok(match design {
            Design::Bidlock => Self::Ledgered(ledgered::Ledgered::open(shared).await?),
            Design::SetNx => Self::SetNx(Box::new(set_nx::SetNx::open(shared, false).await?)),
            Design::SetNxQuery => Self::SetNx(Box::new(set_nx::SetNx::open(shared, true).await?)),
            Design::SqliteRow => Self::Row(sqlite_row::SqliteRow::open(shared)?),
        })
    }

    async fn bid(&self, number: u64) -> Tried {
        match self {
            Self::Ledgered(bidder) => bidder.bid(number).await,
            Self::SetNx(bidder) => bidder.bid(number).await,
            Self::Row(bidder) => bidder.bid(number).await,
        }
    }

    async fn close(&self) {
        if let Self::Ledgered(bidder) = self {
            bidder.close().await;
        }
    }
}

/// Runs a bidder; `setup` is the JSON of [`Setup`].
pub(crate) fn main(setup: &str) -> Result<()> {
    let setup: Setup = serde_json::from_str(setup).context("reading the bidder's setup")?;
    trace::begin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(setup))
}

async fn run(setup: Setup) -> Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    // Without a handler a file that must not grow kills its writer.
    let _too_large = signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?;
    let log = Arc::new(Log::default());
    let shared = Arc::new(Shared { setup, log });
    trace::tell(&shared.log);
    let Some(bidder) = open(&shared, &mut end).await else { return Ok(()) };
    let bidder = Arc::new(bidder);
    shared.log.say(Event::Ready { pid: std::process::id() });
    let mut tasks = JoinSet::new();
    tokio::select! {
        worked = work(&shared, &bidder, &mut tasks) => {
            worked?;
            end.recv().await;
        }
        _ = end.recv() => {}
    }
    while tasks.join_next().await.is_some() {}
    bidder.close().await;
    shared.log.say(Event::Done);
    Ok(())
}

/// Opens the stores, again and again while they are away; `None` when told to end.
async fn open(shared: &Arc<Shared>, end: &mut tokio::signal::unix::Signal) -> Option<Bidder> {
    loop {
        let failed = tokio::select! {
            opened = Bidder::open(shared) => match opened {
                Ok(bidder) => return Some(bidder),
                Err(failed) => failed,
            },
            _ = end.recv() => return None,
        };
        shared.log.say(Event::Failed { posting: String::new(), why: format!("{failed:#}") });
        time::sleep(Duration::from_millis(150)).await;
    }
}

/// Does what this process is for, until there is nothing left of it.
async fn work(shared: &Arc<Shared>, bidder: &Arc<Bidder>, tasks: &mut JoinSet<()>) -> Result<()> {
    match &**bidder {
        Bidder::Ledgered(own) if shared.setup.reconciles => reconciler::work(shared, own).await,
        _ => bids(shared, bidder, tasks).await,
    }
}

/// Starts a task for each posting as it is seen.
async fn bids(shared: &Arc<Shared>, bidder: &Arc<Bidder>, tasks: &mut JoinSet<()>) -> Result<()> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let setup = &shared.setup;
    for (at, number) in setup.feed().seen_from(setup.bidder as u64, time::boot()) {
        time::sleep(Duration::from_micros(at.saturating_sub(time::boot()))).await;
        let place = Arc::clone(&places).acquire_owned().await?;
        let (shared, bidder) = (Arc::clone(shared), Arc::clone(bidder));
        let task = Task { posting: Feed::name(number), crash: setup.crash(number) };
        tasks.spawn(crash::TASK.scope(task, async move {
            pursue(&shared, &bidder, number).await;
            drop(place);
        }));
        while tasks.try_join_next().is_some() {}
    }
    Ok(())
}

/// Tries a posting until it is decided, or its time is up.
async fn pursue(shared: &Shared, bidder: &Bidder, number: u64) {
    let give_up = time::boot() + time::micros(PATIENCE);
    for tries in 0_u64.. {
        match bidder.bid(number).await {
            Tried::Over => return,
            Tried::Again if time::boot() >= give_up => return,
            Tried::Again => {}
        }
        let pause = 100 + below(shared.setup.mixed(13 + tries, number), 300);
        time::sleep(Duration::from_millis(pause)).await;
    }
}
