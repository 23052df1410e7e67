//! Does what the plan says, at the planned times.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::{Fault, FaultLog, Target};
use crate::fleet::{Fleet, NO_LIMIT};
use crate::plan::{Deed, Lane, Place, Planned};
use crate::time;
use crate::world::World;

/// How many connections a storm is made of.
const STORM: usize = 150;
/// Beyond this no file of the ledger grows while its disk is full.
const FULL: u64 = 16_384;

/// Performs the lanes of a plan on a world and a fleet.
#[derive(Debug)]
pub(crate) struct Performer {
    pub(crate) world: Arc<World>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) log: Arc<FaultLog>,
    /// No fault begins any more.
    pub(crate) over: AtomicBool,
}

impl Performer {
    /// Performs one lane from a moment on. What takes longer than planned, such as the start of a
    /// server, moves all that follows: between two faults the fleet has time to recover.
    pub(crate) fn run(&self, lane: &Lane, begin: u64, length: u64) -> Result<()> {
        let mut behind = 0;
        for planned in lane {
            let at = begin + planned.at + behind;
            if at + planned.lasts > begin + length || !self.wait_until(at) {
                break;
            }
            self.perform(planned)?;
            let planned_end = begin + planned.at + planned.lasts;
            behind = behind.max(time::boot().saturating_sub(planned_end));
        }
        Ok(())
    }

    /// Waits, in pieces; false when it is all over before.
    fn wait_until(&self, at: u64) -> bool {
        while !self.over.load(Ordering::SeqCst) {
            let left = at.saturating_sub(time::boot());
            if left == 0 {
                return true;
            }
            time::pause(Duration::from_micros(left.min(20_000)));
        }
        false
    }

    fn perform(&self, planned: &Planned) -> Result<()> {
        let lasts = Duration::from_micros(planned.lasts);
        let begin = time::boot();
        let (target, step) = Self::target(planned.deed);
        let done = match planned.deed {
            Deed::Kill { bidder } => {
                // The fleet notes it when the bidder is there again.
                self.fleet.kill(bidder);
                false
            }
            Deed::Stop { bidder } => self.stop(bidder, lasts),
            Deed::Partition { .. } | Deed::Delay { .. } | Deed::LoseReplies { .. } => {
                self.spoil(planned.deed, lasts)
            }
            Deed::Storm { host, place } => self.storm(host, place, lasts),
            Deed::StepHost { host, by } => {
                self.world.hosts[host].step_clock(by * 1_000)?;
                time::pause(lasts);
                self.world.hosts[host].step_clock(0)?;
                true
            }
            Deed::FillDisk => {
                self.fill_disk(lasts)?;
                true
            }
            Deed::RestartLedger | Deed::KillLedger => self.ledger(planned.deed, lasts),
            _ => self.redis(planned.deed, lasts)?,
        };
        if done {
            let (kind, end) = (planned.deed.name(), time::boot());
            self.log.note(Fault { kind, target, begin, end, step });
        }
        Ok(())
    }

    /// Whom a deed hits, and by how much a clock steps.
    const fn target(deed: Deed) -> (Target, i64) {
        match deed {
            Deed::Kill { bidder } | Deed::Stop { bidder } => (Target::Bidder(bidder), 0),
            Deed::Partition { host, place, .. }
            | Deed::Delay { host, place, .. }
            | Deed::Storm { host, place } => (Target::Way(host, Some(place)), 0),
            Deed::LoseReplies { host } => (Target::Way(host, Some(Place::Redis)), 0),
            Deed::StepHost { host, by } => (Target::Host(host), by * 1_000),
            Deed::StepServer { by } => (Target::Redis, by * 1_000),
            Deed::RestartLedger | Deed::KillLedger | Deed::FillDisk => (Target::Ledger, 0),
            _ => (Target::Redis, 0),
        }
    }

    fn stop(&self, bidder: usize, lasts: Duration) -> bool {
        let stopped = self.fleet.stop(bidder);
        if stopped {
            time::pause(lasts);
            self.fleet.go_on(bidder);
        }
        stopped
    }

    fn spoil(&self, deed: Deed, lasts: Duration) -> bool {
        match deed {
            Deed::Partition { host, place, blocked } => {
                let host = &self.world.hosts[host];
                host.block(place, blocked);
                time::pause(lasts);
                host.heal(place);
                host.way(place).is_some()
            }
            Deed::Delay { host, place, by } => {
                let host = &self.world.hosts[host];
                let Some(way) = host.way(place) else { return false };
                let by = Duration::from_millis(by);
                way.delay(by, by);
                way.jitter(by / 2);
                time::pause(lasts);
                host.heal(place);
                true
            }
            Deed::LoseReplies { host } => {
                let Some(way) = self.world.hosts[host].way(Place::Redis) else { return false };
                let end = time::boot() + time::micros(lasts);
                while time::boot() < end {
                    way.lose_next_reply();
                    time::pause(Duration::from_millis(150));
                }
                true
            }
            _ => false,
        }
    }

    /// Opens many connections, says something on each, and lets them hang.
    fn storm(&self, host: usize, place: Place, lasts: Duration) -> bool {
        let Some(way) = self.world.hosts[host].way(place) else { return false };
        let address = way.address();
        let end = time::boot() + time::micros(lasts);
        while time::boot() < end {
            let open = |_| {
                let mut stream = TcpStream::connect(address).ok()?;
                // Whether anybody listens is of no interest here.
                let _written = std::io::Write::write_all(&mut stream, b"*1\r\n$4\r\nPING\r\n");
                Some(stream)
            };
            let open: Vec<_> = (0..STORM).filter_map(open).collect();
            time::pause(Duration::from_millis(250));
            drop(open);
        }
        true
    }

    /// Leaves the ledger no room, be it a file of every bidder or a server's disk.
    fn fill_disk(&self, lasts: Duration) -> Result<()> {
        let Some(server) = self.world.ledger.server() else {
            self.fleet.limit_files(FULL)?;
            time::pause(lasts);
            return self.fleet.limit_files(NO_LIMIT);
        };
        server.fill_disk(true);
        time::pause(lasts);
        server.fill_disk(false);
        // Where there is no room for its log, it ends.
        if server.has_died() {
            server.restart();
        }
        Ok(())
    }

    /// Ends the ledger's server, and starts it again; false where there is none.
    fn ledger(&self, deed: Deed, lasts: Duration) -> bool {
        let Some(server) = self.world.ledger.server() else { return false };
        if deed == Deed::KillLedger {
            server.kill();
        } else {
            server.shut_down();
        }
        time::pause(lasts);
        server.restart();
        true
    }

    fn redis(&self, deed: Deed, lasts: Duration) -> Result<bool> {
        let redis = &self.world.redis;
        match deed {
            Deed::RestartRedis => {
                redis.kill();
                time::pause(lasts);
                redis.restart();
            }
            Deed::EmptyRedis => {
                redis.kill();
                time::pause(lasts);
                redis.restart_empty()?;
            }
            Deed::RestoreRedis => {
                redis.snapshot()?;
                time::pause(lasts);
                redis.kill();
                redis.restart_from_snapshot()?;
            }
            Deed::Flushall => redis.flush(),
            Deed::Failover => {
                redis.cut_replica(true);
                time::pause(lasts);
                redis.promote();
                self.world.follow_primary();
                redis.rejoin()?;
            }
            Deed::CutReplica => {
                redis.cut_replica(true);
                time::pause(lasts);
                redis.cut_replica(false);
            }
            Deed::StepServer { by } => {
                redis.step(by * 1_000);
                time::pause(lasts);
                redis.step(-by * 1_000);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
