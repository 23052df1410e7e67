//! What goes wrong in a run, and when: drawn once from the seed, so that a run can be repeated
//! with less of it.

use std::fmt;

use crate::rand::Rand;
use crate::redis::Kind;
use crate::time::Micros;

/// How far the wall clock of a client is off at most, in microseconds. An operator's visibility
/// lag has to be longer than clocks differ: L6 counts it from the send-by of the sender's clock.
pub(crate) const WALL_OFF: i64 = 1_200_000;
/// How many clients there are.
pub(crate) const CLIENTS: usize = 5;
/// Until when faults begin.
pub(crate) const FAULTS_END: Micros = 8_000_000;
/// Until when new work begins.
pub(crate) const WORK_END: Micros = 9_500_000;
/// Until when all work has to be done: the longest hold of everybody who may queue, one after
/// the other, and the longest TTL.
pub(crate) const DONE: Micros = 45_000_000;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Connections of a client break; what was sent may still arrive.
    Cut { client: usize, delivers: bool },
    /// All connections break.
    CutAll { delivers: bool },
    /// Nothing passes to the server.
    Mute { client: usize, length: u64 },
    /// Nothing passes from the server.
    Deaf { client: usize, length: u64 },
    /// Nothing passes at all.
    Gone { client: usize, length: u64 },
    /// New connections are refused.
    Refused { client: usize, length: u64 },
    /// A process ends after so many of its steps, and is started again.
    Crash { client: usize, steps: u64, after: u64 },
    /// A machine loses its power: what it sent is lost, and nobody is told.
    PowerLoss { client: usize, after: u64 },
    /// A process, or its machine, stands still.
    Pause { client: usize, length: u64 },
    /// The wall clock of a client is set to so many microseconds off.
    WallStep { client: usize, micros: i64 },
    /// The server stands still.
    ServerPause { length: u64 },
    /// The server ends and comes back with its data.
    Restart { length: u64 },
    /// The server ends and comes back with nothing.
    RestartEmpty { length: u64 },
    /// The server ends and comes back with what it had so long ago.
    RestartStale { length: u64, ago: u64 },
    /// A replica takes over that was so far behind, with another clock.
    Failover { ago: u64, step: i64 },
    /// Somebody empties the server.
    FlushAll,
    /// The server forgets its scripts.
    ScriptFlush,
    /// The server's clock is stepped.
    ServerStep { micros: i64 },
    /// The server has no memory left.
    Memory { length: u64 },
    /// The server takes no writes.
    ReadOnly { length: u64 },
    /// The server reads its data.
    Loading { length: u64 },
    /// The ledger cannot be reached.
    LedgerDown { length: u64 },
    /// Requests to the ledger, and its answers, get lost.
    LedgerLoses { length: u64 },
    /// The process that has the ledger open ends after so many steps of transactions: rows that
    /// are changed, commits, answers. The caller's may be the same.
    LedgerEnds { steps: u64, length: u64, takes_caller: bool },
    /// Everything takes long between a client and the server.
    Slow { client: usize, delay: u64, length: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A run's circumstances.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) resp3: bool,
    /// What the clocks of the server and the clients gain, in microseconds a second.
    pub(crate) server_ppm: i64,
    pub(crate) client_ppm: Vec<i64>,
    pub(crate) client_wall: Vec<i64>,
    /// How long a byte takes, at least and at most.
    pub(crate) delays: Vec<(u64, u64)>,
    pub(crate) faults: Vec<(Micros, Fault)>,
    /// Clients that do nothing: less to read.
    pub(crate) idle: Vec<usize>,
    pub(crate) locks: bool,
    pub(crate) bids: bool,
}

impl Plan {
    /// Draws the circumstances of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rand = Rand::new(seed, "plan");
        let kinds = [Kind::Redis62, Kind::Redis70, Kind::Valkey9];
        // Two rates differ by less than one hundredth.
        let mut ppm = || i64::try_from(rand.below(9_800)).unwrap_or(0) - 4_900;
        let server_ppm = ppm();
        let client_ppm = (0..CLIENTS).map(|_| ppm()).collect();
        let client_wall = (0..CLIENTS).map(|_| step(&mut rand) * WALL_OFF / 5_000_000).collect();
        let delays = (0..CLIENTS)
            .map(|_| match rand.below(10) {
                0 => (20_000, 80_000),
                1 => (5_000, 10_000),
                _ => (50, 500),
            })
            .collect();
        let kind = kinds[rand.index(kinds.len())];
        let resp3 = rand.chance(900);
        let mut faults = faults(&mut rand);
        if !faults.is_empty() {
            faults.extend(ends_of_the_ledger(&mut Rand::new(seed, "ends of the ledger")));
            faults.sort_by_key(|(at, _)| *at);
        }
        Self {
            seed,
            kind,
            resp3,
            server_ppm,
            client_ppm,
            client_wall,
            delays,
            faults,
            idle: Vec::new(),
            locks: true,
            bids: true,
        }
    }
}

/// How bad a run is.
fn faults(rand: &mut Rand) -> Vec<(Micros, Fault)> {
    let (count, kind): (u64, fn(&mut Rand) -> Fault) = match rand.below(10) {
        0 => (0, of_network),
        1..=3 => (rand.range(2, 10), of_network),
        4..=6 => (rand.range(3, 14), of_clients),
        _ => (rand.range(3, 14), of_all),
    };
    let mut faults: Vec<(Micros, Fault)> = (0..count)
        .map(|_| {
            let at = rand.range(300_000, FAULTS_END);
            (at, kind(rand))
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// In one run of four, the process that has the ledger open ends once or twice.
fn ends_of_the_ledger(rand: &mut Rand) -> Vec<(Micros, Fault)> {
    let count = if rand.chance(250) { rand.range(1, 3) } else { 0 };
    let one = |_| {
        let length = if rand.chance(500) { 0 } else { length(rand) };
        let (steps, takes_caller) = (rand.below(6), rand.chance(500));
        (rand.range(300_000, FAULTS_END), Fault::LedgerEnds { steps, length, takes_caller })
    };
    (0..count).map(one).collect()
}

fn client(rand: &mut Rand) -> usize {
    rand.index(CLIENTS)
}

/// A length from a few milliseconds to a few seconds, short ones more often.
fn length(rand: &mut Rand) -> u64 {
    match rand.below(4) {
        0 => rand.range(5_000, 100_000),
        1 => rand.range(100_000, 600_000),
        2 => rand.range(600_000, 2_000_000),
        _ => rand.range(2_000_000, 5_000_000),
    }
}

fn of_network(rand: &mut Rand) -> Fault {
    let (client, length) = (client(rand), length(rand));
    match rand.below(8) {
        0 => Fault::CutAll { delivers: rand.chance(500) },
        1 | 2 => Fault::Cut { client, delivers: rand.chance(500) },
        3 => Fault::Mute { client, length },
        4 => Fault::Deaf { client, length },
        5 => Fault::Gone { client, length },
        6 => Fault::Slow { client, delay: rand.range(20_000, 400_000), length },
        _ => Fault::Refused { client, length },
    }
}

fn of_clients(rand: &mut Rand) -> Fault {
    let (client, length) = (client(rand), length(rand));
    let after = rand.range(50_000, 2_000_000);
    match rand.below(10) {
        8 => Fault::LedgerDown { length },
        9 => Fault::LedgerLoses { length },
        0 | 1 => Fault::Crash { client, steps: rand.below(30), after },
        2 => Fault::PowerLoss { client, after },
        3 | 4 => Fault::Pause { client, length },
        5 => Fault::WallStep { client, micros: step(rand) * WALL_OFF / 5_000_000 },
        _ => of_network(rand),
    }
}

fn step(rand: &mut Rand) -> i64 {
    i64::try_from(rand.below(10_000_000)).unwrap_or(0) - 5_000_000
}

fn of_all(rand: &mut Rand) -> Fault {
    let length = length(rand).min(3_000_000);
    let ago = rand.range(0, 1_500_000);
    match rand.below(18) {
        0 => Fault::ServerPause { length },
        1 | 2 => Fault::Restart { length },
        3 => Fault::RestartEmpty { length },
        4 => Fault::RestartStale { length, ago },
        5 => Fault::Failover { ago, step: step(rand) / 10 },
        6 => Fault::FlushAll,
        7 => Fault::ScriptFlush,
        8 => Fault::ServerStep { micros: step(rand) },
        9 => Fault::Memory { length },
        10 => Fault::ReadOnly { length },
        11 => Fault::Loading { length },
        12..=14 => of_network(rand),
        _ => of_clients(rand),
    }
}
