//! One run: the world from its beginning to its end, one event after the other.

mod faults;
mod watching;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bidlock_core::{Endpoint, Platform};
use bidlock_redis::Scripts;

use crate::bidder;
use crate::client::{self, Env, SimProcesses};
use crate::coverage::Coverage;
use crate::exec::{Executor, ProcessId, SimSpawn};
use crate::facts::{Happened, Watch};
use crate::faulty::Switches;
use crate::invariants::{self, Invariant, Violation};
use crate::ledger::{File, Trouble, WORLD, Way};
use crate::look;
use crate::market::Market;
use crate::net::{Arrived, Net};
use crate::plan::{CLIENTS, DONE, FAULTS_END, Plan};
use crate::rand::{Rand, SimRng};
use crate::redis::{Db, Server};
use crate::time::{HostClock, Micros, Time};
use crate::trace::{Trace, note};
use crate::witness::Witness;

/// How often what only time brings about is looked at.
const TICK: Micros = 50_000;
/// After everything is done, places in queues and revocations end by themselves.
const AFTERLIFE: Micros = 95_000_000;

/// What a run came to.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) virtual_us: Micros,
    pub(crate) violation: Option<Violation>,
    pub(crate) coverage: Coverage,
    pub(crate) lines: Vec<String>,
}

/// What the run of a client's machine has now.
struct Slot {
    env: Option<Env>,
    clock: HostClock,
    /// After so many steps of the process it ends.
    doomed: Option<(u64, u64)>,
    frozen_until: Micros,
    frozen_at: Micros,
    reachable_since: Micros,
}

/// The world.
pub(crate) struct World<'a> {
    plan: Plan,
    server: &'a mut Server,
    exec: Executor,
    time: Time,
    net: Net,
    clock: HostClock,
    watch: Watch,
    trace: Trace,
    slots: Vec<Slot>,
    next_process: ProcessId,
    /// What happens at a moment, besides what tasks and the network do.
    agenda: BTreeMap<(Micros, u64), Due>,
    numbers: u64,
    /// The server's data as it was.
    history: VecDeque<(Micros, Db)>,
    rand: Rand,
    invariants: Vec<Box<dyn Invariant>>,
    scripts: Scripts,
    answers_since: Micros,
    mutants: Switches,
    way: Way,
    market: Market,
    /// Gone with the world.
    _file: File,
}

impl Slot {
    /// It is not called well before a while after this; what disturbs it may overlap.
    fn disturbed_until(&mut self, at: Micros) {
        self.reachable_since = self.reachable_since.max(at);
    }
}

/// The machines of the clients.
fn slots(plan: &Plan, net: &Net, time: &Time, mutants: Switches) -> Vec<Slot> {
    let slot = |client: usize| {
        net.set_delay(client, plan.delays[client]);
        let boot = 3_600 + client as u64 * 1_000;
        let (ppm, wall) = (plan.client_ppm[client], plan.client_wall[client]);
        let clock = HostClock::new(time, boot, ppm, wall);
        let clock = if mutants.wall { clock.read_from_wall() } else { clock };
        Slot { env: None, clock, doomed: None, frozen_until: 0, frozen_at: 0, reachable_since: 0 }
    };
    (0..CLIENTS).map(slot).collect()
}

/// What the operators' desk has for a machine.
fn desk_platform(seed: u64, time: &Time, exec: &Executor) -> Platform {
    Platform {
        clock: Arc::new(HostClock::new(time, 0, 0, 0)),
        rng: Arc::new(SimRng::new(Rand::new(seed, "desk's platform"))),
        spawn: Arc::new(SimSpawn { process: WORLD, queue: exec.queue.clone() }),
        processes: Arc::new(SimProcesses { host: "desk".to_owned(), pid: WORLD }),
    }
}

/// What is due at a moment.
#[derive(Debug, Clone)]
enum Due {
    Tick,
    Fault(usize),
    Start(usize),
    Thaw(usize),
    ServerWell,
    Delay(usize, (u64, u64)),
}

impl<'a> World<'a> {
    /// Makes the world of a plan; what is not sound in it says `mutants`.
    pub(crate) fn new(
        plan: Plan,
        server: &'a mut Server,
        scripts: Scripts,
        mutants: Switches,
        keeps: bool,
    ) -> std::io::Result<Self> {
        let time = Time::default();
        let seed = plan.seed;
        server.reset(plan.kind);
        server.resp3 = plan.resp3;
        let net = Net::new(seed, &time);
        let exec = Executor::new(seed);
        let watch = Watch::default();
        let clock = HostClock::new(&time, 1_000, plan.server_ppm, 0);
        let platform = desk_platform(seed, &time, &exec);
        let file = File::new(&format!("{:?}", std::thread::current().id()), &platform)?;
        let way = Way {
            site: file.site.clone(),
            process: WORLD,
            time: time.clone(),
            queue: exec.queue.clone(),
            rand: Arc::new(Mutex::new(Rand::new(seed, "ledger"))),
            trouble: Arc::new(Mutex::new(Trouble::default())),
            watch: watch.clone(),
            faults: mutants.ledger,
            endpoint: Endpoint::new("ledger"),
        };
        let mut world = Self {
            server,
            trace: Trace::new(&time, keeps),
            market: Market::new(seed, &time, &exec.queue, &watch),
            slots: slots(&plan, &net, &time, mutants),
            exec,
            watch,
            net,
            clock,
            next_process: WORLD + 1,
            agenda: BTreeMap::new(),
            numbers: 0,
            history: VecDeque::new(),
            rand: Rand::new(seed, "world"),
            invariants: invariants::all(),
            scripts,
            answers_since: 0,
            time,
            plan,
            mutants,
            way,
            _file: file,
        };
        world.begin(platform);
        Ok(world)
    }

    fn begin(&mut self, platform: Platform) {
        self.at(TICK, Due::Tick);
        for (n, (at, _)) in self.plan.faults.clone().into_iter().enumerate() {
            self.at(at, Due::Fault(n));
        }
        for client in 0..CLIENTS {
            let at = self.rand.below(200_000);
            self.at(at, Due::Start(client));
        }
        let clock = HostClock::new(&self.time, 0, 0, 0);
        let env = self.env(CLIENTS, WORLD, "desk".to_owned(), clock);
        self.exec.queue.spawn(WORLD, Box::pin(bidder::desk(env, platform)));
    }

    fn at(&mut self, at: Micros, due: Due) {
        self.numbers += 1;
        self.agenda.insert((at, self.numbers), due);
    }

    /// Runs to the end, or to the first broken rule.
    pub(crate) fn run(mut self) -> Outcome {
        let violation = self.until_done().err();
        let virtual_us = self.time.now();
        if let Some(Violation { invariant, what }) = &violation {
            note!(self.trace, "VIOLATED", "{invariant}: {what}");
        }
        // What is dropped here belongs to no run any more.
        for client in 0..CLIENTS {
            if let Some(env) = self.slots[client].env.take() {
                self.exec.kill(env.process);
            }
        }
        let coverage = std::mem::take(&mut self.watch.facts().coverage);
        Outcome {
            hash: self.trace.hash(),
            events: self.trace.events(),
            virtual_us,
            violation,
            coverage,
            lines: self.trace.lines(),
        }
    }

    fn until_done(&mut self) -> Result<(), Violation> {
        while self.time.now() < FAULTS_END || !self.exec.is_idle() {
            if self.time.now() > DONE {
                // Whoever is at work now should have been served or told long ago.
                self.watch.facts().happened.push(Happened::End);
                self.judge()?;
                break;
            }
            self.step()?;
        }
        // Nobody is left: what is in the server now ends by itself.
        let until = self.time.now() + AFTERLIFE;
        self.time.advance_to(until);
        self.server.at(self.clock.micros());
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let left = {
            let db = self.server.db();
            let left = db.live().filter(|(key, _)| *key != look::TOKENS);
            left.map(|(key, _)| text(key)).collect()
        };
        {
            let mut facts = self.watch.facts();
            facts.now = self.time.now();
            facts.left = left;
            facts.happened.push(Happened::End);
        }
        self.judge()
    }

    /// Does the next thing: what is due, what has arrived, or a step of some task.
    fn step(&mut self) -> Result<(), Violation> {
        let now = self.time.now();
        let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let arrival = self.net.next_arrival();
        if due.is_some_and(|at| at <= now) {
            if let Some((_, due)) = self.agenda.pop_first() {
                self.due(&due);
            }
        } else if arrival.is_some_and(|at| at <= now) {
            self.arrive();
        } else if let Some(ran) = self.exec.step() {
            self.trace.step(b't', ran.task);
            // Work takes time.
            let spent = self.rand.range(1, 20);
            self.time.advance_to(now + spent);
            self.doom(ran.process);
            self.ended_with_the_ledger();
        } else {
            let next = [due, arrival, self.time.next_timer()].into_iter().flatten().min();
            self.time.advance_to(next.unwrap_or(now + TICK));
            return Ok(());
        }
        self.refresh();
        self.watch.facts().happened.push(Happened::Step);
        self.judge()
    }

    /// Brings what is known of the server's locks up to now: they end without a command.
    fn refresh(&mut self) {
        let now = self.time.now();
        let micros = self.clock.micros();
        self.server.at(micros);
        let millis = i64::try_from(micros / 1_000).unwrap_or(i64::MAX);
        let mut facts = self.watch.facts();
        facts.now = now;
        for view in facts.keys.values_mut() {
            if view.lock.as_ref().is_some_and(|l| l.ends.is_some_and(|ends| ends < millis)) {
                view.lock = None;
            }
        }
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let mut facts = self.watch.facts();
        if let Some(what) = facts.wrong.take() {
            return Err(Violation { invariant: "what clients see", what });
        }
        invariants::judge(&mut self.invariants, &mut facts)
    }

    /// Takes what has reached the server.
    fn arrive(&mut self) {
        let now = self.time.now();
        match self.net.arrive() {
            Some(Arrived::Opened(connection)) => {
                self.trace.step(b'o', connection);
                self.server.open(connection);
            }
            Some(Arrived::Closed(connection)) => {
                self.trace.step(b'c', connection);
                self.server.close(connection);
            }
            Some(Arrived::Bytes(connection, bytes)) => {
                self.trace.step(b's', connection);
                let micros = self.clock.micros();
                self.server.at(micros);
                let mut facts = self.watch.facts();
                facts.now = now;
                if self.net.is_overtaken(connection) {
                    facts
                        .coverage
                        .count("network: requests over an old connection after a newer one");
                }
                let trace = &self.trace;
                let mut witness = Witness { facts: &mut facts, trace, clock: micros, before: None };
                let spoken = self.server.feed(connection, &bytes, &mut witness);
                drop(facts);
                for listener in spoken {
                    let said = self.server.take(listener);
                    self.net.send(listener, &said);
                }
            }
            Some(Arrived::Elsewhere(connection)) => self.trace.step(b'p', connection),
            None => {}
        }
    }

    fn due(&mut self, due: &Due) {
        match *due {
            Due::Tick => self.tick(),
            Due::Fault(n) => {
                let (_, fault) = self.plan.faults[n];
                note!(self.trace, "fault", "{fault}");
                self.fault(fault);
            }
            Due::Start(client) => self.start(client),
            Due::Thaw(client) => self.thaw(client),
            Due::ServerWell => self.server_well(),
            Due::Delay(client, delay) => self.net.set_delay(client, delay),
        }
    }

    /// Starts a client's process.
    fn start(&mut self, client: usize) {
        if self.slots[client].env.is_some() {
            return;
        }
        let process = self.next_process;
        self.next_process += 1;
        let clock = self.slots[client].clock.clone();
        let env = self.env(client, process, format!("client {client}"), clock);
        note!(self.trace, &env.name, "starts as process {process}");
        let now = self.time.now();
        self.slots[client].disturbed_until(now);
        self.exec.queue.spawn(process, Box::pin(client::process(env.clone())));
        self.slots[client].env = Some(env);
    }

    /// What a process has for its surroundings.
    fn env(&self, host: usize, process: ProcessId, name: String, clock: HostClock) -> Env {
        Env {
            seed: self.plan.seed,
            host,
            process,
            name,
            clock,
            time: self.time.clone(),
            net: self.net.clone(),
            queue: self.exec.queue.clone(),
            watch: self.watch.clone(),
            trace: self.trace.clone(),
            processes: Arc::new(SimProcesses { host: format!("host-{host}"), pid: process }),
            scripts: self.scripts.clone(),
            way: Way { process, ..self.way.clone() },
            market: self.market.clone(),
            mutants: self.mutants,
            locks: self.plan.locks && !self.plan.idle.contains(&host),
            bids: self.plan.bids && !self.plan.idle.contains(&host),
        }
    }
}
