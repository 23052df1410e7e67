//! The bidders' processes: started, killed, stopped, and started again when they have died.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bidlock_history::Call;
use nix::sys::resource::rlim_t;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bidder::Setup;
use crate::draw::{below, draw};
use crate::event::{Event, Line};
use crate::faults::{Fault, FaultLog, Target};
use crate::plan::HOSTS;
use crate::time;

/// A line, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) bidder: usize,
    pub(crate) life: u64,
    pub(crate) line: Line,
}

/// What is known of the calls to the lock store, by posting and by whose they are: too many to
/// keep each word.
#[derive(Debug, Default)]
pub(crate) struct Calls(HashMap<String, BTreeMap<(usize, u64, u64), Call>>);

impl Calls {
    /// Takes the latest word on a call.
    fn take(&mut self, posting: String, by: (usize, u64, u64), call: Option<Call>) {
        let calls = self.0.entry(posting).or_default();
        match call {
            Some(call) => drop(calls.insert(by, call)),
            None => drop(calls.remove(&by)),
        }
    }

    /// The calls of each posting.
    fn into_histories(self) -> BTreeMap<String, Vec<Call>> {
        let calls = |calls: BTreeMap<_, Call>| calls.into_values().collect();
        self.0.into_iter().map(|(posting, of)| (posting, calls(of))).collect()
    }
}

/// All bidders of a part of a run.
#[derive(Debug)]
pub(crate) struct Fleet {
    slots: Vec<Mutex<Slot>>,
    shared: Arc<Gathered>,
    faults: Arc<FaultLog>,
    ending: AtomicBool,
    folder: PathBuf,
}

#[derive(Debug, Default)]
struct Gathered {
    told: Mutex<Vec<Told>>,
    calls: Mutex<Calls>,
    broken: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Slot {
    setup: Setup,
    child: Option<Child>,
    reader: Option<JoinHandle<()>>,
    died: u64,
    stopped: bool,
}

/// Which host a bidder lives on.
pub(crate) const fn host_of(bidder: usize) -> usize {
    bidder % HOSTS
}

impl Fleet {
    /// Makes a fleet that has not started; what its bidders say on stderr goes below `folder`.
    pub(crate) fn new(setups: Vec<Setup>, faults: &Arc<FaultLog>, folder: &Path) -> Self {
        let slot =
            |setup| Mutex::new(Slot { setup, child: None, reader: None, died: 0, stopped: false });
        Self {
            slots: setups.into_iter().map(slot).collect(),
            shared: Arc::default(),
            faults: Arc::clone(faults),
            ending: AtomicBool::new(false),
            folder: folder.to_owned(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, bidder: usize) -> MutexGuard<'_, Slot> {
        self.slots[bidder].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts everybody.
    pub(crate) fn start(&self) -> Result<()> {
        (0..self.len()).try_for_each(|bidder| self.launch(&mut self.slot(bidder)))
    }

    fn launch(&self, slot: &mut Slot) -> Result<()> {
        let setup = serde_json::to_string(&slot.setup)?;
        let stderr = self.folder.join(format!("bidder-{}.stderr", slot.setup.bidder));
        let stderr = File::options().create(true).append(true).open(stderr)?;
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = Command::new(program);
        command.args(["bidder", &setup]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(stderr).spawn().context("starting a bidder")?;
        let lines = child.stdout.take().context("the bidder's lines")?;
        let shared = Arc::clone(&self.shared);
        let (bidder, life) = (slot.setup.bidder, slot.setup.life);
        let path = self.folder.join(format!("bidder-{bidder}.jsonl"));
        let copy = File::options().create(true).append(true).open(path)?;
        slot.reader = Some(thread::spawn(move || gather(lines, &copy, &shared, bidder, life)));
        slot.child = Some(child);
        slot.stopped = false;
        Ok(())
    }

    /// Starts again whoever has died; called again and again while the run lasts.
    pub(crate) fn look_after(&self) -> Result<()> {
        for bidder in 0..self.len() {
            let mut slot = self.slot(bidder);
            if let Some(child) = &mut slot.child {
                let Some(status) = child.try_wait()? else { continue };
                if status.signal() != Some(Signal::SIGKILL as i32) {
                    self.broke(format!("bidder {bidder} ended by itself: {status}"));
                }
                slot.died = time::boot();
                slot.child = None;
            }
            let rest = 30 + below(draw(slot.setup.seed, &[21, bidder as u64, slot.died]), 250);
            if time::boot() >= slot.died + rest * 1_000 && !self.ending.load(Ordering::SeqCst) {
                self.again(bidder, &mut slot)?;
            }
        }
        Ok(())
    }

    fn again(&self, bidder: usize, slot: &mut Slot) -> Result<()> {
        finish(slot);
        let crashed = self.crashed(bidder, slot.setup.life);
        let kind = if crashed { "crash" } else { "kill" };
        let (begin, end) = (slot.died, time::boot());
        self.faults.note(Fault { kind, target: Target::Bidder(bidder), begin, end, step: 0 });
        slot.setup.life += 1;
        self.launch(slot)
    }

    /// Whether a bidder's last word was that it kills itself.
    fn crashed(&self, bidder: usize, life: u64) -> bool {
        let told = self.told();
        let last = told.iter().rev().find(|told| told.bidder == bidder && told.life == life);
        last.is_some_and(|told| matches!(told.line.event, Event::Crash { .. }))
    }

    fn told(&self) -> MutexGuard<'_, Vec<Told>> {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broke(&self, what: String) {
        self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn signal(&self, bidder: usize, signal: Signal) -> bool {
        let mut slot = self.slot(bidder);
        let Some(child) = &slot.child else { return false };
        let sent = kill(Pid::from_raw(child.id().cast_signed()), signal).is_ok();
        match signal {
            Signal::SIGSTOP => slot.stopped = sent,
            Signal::SIGCONT => slot.stopped = false,
            _ => {}
        }
        sent
    }

    /// Kills a bidder; it is started again soon.
    pub(crate) fn kill(&self, bidder: usize) {
        self.signal(bidder, Signal::SIGKILL);
    }

    /// Stops a bidder where it is; false when it does not run.
    pub(crate) fn stop(&self, bidder: usize) -> bool {
        self.signal(bidder, Signal::SIGSTOP)
    }

    pub(crate) fn go_on(&self, bidder: usize) {
        self.signal(bidder, Signal::SIGCONT);
    }

    /// Forbids files of the bidders to grow beyond a size, or allows them again.
    pub(crate) fn limit_files(&self, bytes: rlim_t) -> Result<()> {
        for bidder in 0..self.len() {
            let slot = self.slot(bidder);
            let Some(child) = &slot.child else { continue };
            let limit = if bytes == rlim_t::MAX { "unlimited".into() } else { bytes.to_string() };
            let mut prlimit = Command::new("prlimit");
            prlimit.arg(format!("--pid={}", child.id())).arg(format!("--fsize={limit}:"));
            // It may have died meanwhile.
            let _gone = prlimit.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        }
        Ok(())
    }

    /// Tells all to end, and waits for it; returns those that did not, which are killed then.
    pub(crate) fn end(&self, within: Duration) -> Result<Vec<usize>> {
        self.ending.store(true, Ordering::SeqCst);
        for bidder in 0..self.len() {
            self.go_on(bidder);
            self.signal(bidder, Signal::SIGTERM);
        }
        let until = time::boot() + time::micros(within);
        let mut hang = Vec::new();
        for bidder in 0..self.len() {
            let mut slot = self.slot(bidder);
            let Some(child) = &mut slot.child else { continue };
            let mut status = child.try_wait()?;
            while status.is_none() && time::boot() < until {
                time::pause(Duration::from_millis(10));
                status = child.try_wait()?;
            }
            match status {
                None => {
                    hang.push(bidder);
                    child.kill()?;
                    child.wait()?;
                }
                Some(status) if status.success() => {}
                // It died at its own hand while it finished its work.
                Some(status) if status.signal() == Some(Signal::SIGKILL as i32) => {
                    let (begin, target) = (time::boot(), Target::Bidder(bidder));
                    let kind = "crash";
                    self.faults.note(Fault { kind, target, begin, end: begin, step: 0 });
                }
                Some(status) => self.broke(format!("bidder {bidder} ended badly: {status}")),
            }
            slot.child = None;
            finish(&mut slot);
        }
        Ok(hang)
    }

    /// Hands out the calls to the lock store, by posting.
    pub(crate) fn take_calls(&self) -> BTreeMap<String, Vec<Call>> {
        let mut calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *calls).into_histories()
    }

    /// Hands out what was told, and what was wrong with the processes themselves.
    pub(crate) fn into_told(self) -> (Vec<Told>, Vec<String>) {
        let told = std::mem::take(&mut *self.told());
        let broken = &self.shared.broken;
        let broken = std::mem::take(&mut *broken.lock().unwrap_or_else(PoisonError::into_inner));
        (told, broken)
    }

    /// How many bids were placed so far.
    pub(crate) fn placed(&self) -> usize {
        self.told().iter().filter(|told| told.line.event.is_placed()).count()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let slot = slot.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(mut child) = slot.child.take() {
                let _gone = child.kill();
                let _waited = child.wait();
            }
        }
    }
}

/// Waits until everything that a dead bidder wrote is read.
fn finish(slot: &mut Slot) {
    if let Some(reader) = slot.reader.take() {
        drop(reader.join());
    }
}

fn gather(out: ChildStdout, mut copy: &File, shared: &Gathered, bidder: usize, life: u64) {
    for text in BufReader::new(out).lines().map_while(Result::ok) {
        let read = serde_json::from_str(&text);
        if let Ok(Line { event: Event::Called { posting, number, call }, .. }) = read {
            let mut calls = shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.take(posting, (bidder, life, number), call);
            continue;
        }
        let _full = writeln!(copy, "{text}");
        match read {
            Ok(read) => {
                let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
                told.push(Told { bidder, life, line: read });
            }
            Err(error) => {
                let mut broken = shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.push(format!("bidder {bidder} wrote {text:?}: {error}"));
            }
        }
    }
}

/// The limit that bidders have when no fault is on.
pub(crate) const NO_LIMIT: rlim_t = rlim_t::MAX;
