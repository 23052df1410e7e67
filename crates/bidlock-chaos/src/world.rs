//! The world of a run: servers, simulated hosts, and the ways between them.

mod ledger;
mod redis_site;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bidlock_testkit::servers::{Direction, Proxy, ServerKind};
use bidlock_testkit::{Marketplace, temp_dir};
use tempfile::TempDir;

use crate::plan::{Blocked, HOSTS, Place};
use crate::scenario::{Design, Scenario};

pub(crate) use ledger::LedgerSite;
pub(crate) use redis_site::RedisSite;

/// Everything but the bidders.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) redis: RedisSite,
    pub(crate) ledger: LedgerSite,
    pub(crate) market: Marketplace,
    folder: TempDir,
}

/// A simulated machine: its own ways to everything, its own wall clock, its own disk.
#[derive(Debug)]
pub(crate) struct Host {
    redis: Proxy,
    ledger: Option<Proxy>,
    market: Proxy,
    pub(crate) clock: PathBuf,
    pub(crate) folder: PathBuf,
}

impl World {
    /// Starts all servers.
    pub(crate) fn start(kind: ServerKind, scenario: Scenario) -> Result<Self> {
        let folder = temp_dir();
        let market = Marketplace::open(&folder.path().join("bids"))?;
        let redis = RedisSite::start(kind);
        let ledger = LedgerSite::start(scenario, folder.path());
        let address = market_address(&market)?;
        let host = |number| Host::new(number, folder.path(), &redis, &ledger, address);
        let hosts = (0..HOSTS).map(host).collect::<Result<Vec<_>>>()?;
        Ok(Self { hosts, redis, ledger, market, folder })
    }

    /// A folder that is gone with the world.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Forgets everything, before the next design's turn.
    pub(crate) fn renew(&self) -> Result<()> {
        self.heal()?;
        self.redis.flush();
        self.ledger.renew();
        drop(self.market.take_visits());
        Ok(())
    }

    /// Leads every host to the server that is the primary now.
    pub(crate) fn follow_primary(&self) {
        for host in &self.hosts {
            host.redis.lead_to(self.redis.primary());
        }
    }

    /// Ends everything that spoils a way or a clock.
    pub(crate) fn heal(&self) -> Result<()> {
        for host in &self.hosts {
            for place in Place::ALL {
                host.heal(place);
            }
            host.step_clock(0)?;
        }
        Ok(())
    }
}

fn market_address(market: &Marketplace) -> Result<SocketAddr> {
    let url = market.url();
    let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    address.context("the marketplace's address")?.parse().context("the marketplace's address")
}

impl Host {
    fn new(
        number: usize,
        folder: &Path,
        redis: &RedisSite,
        ledger: &LedgerSite,
        market: SocketAddr,
    ) -> Result<Self> {
        let folder = folder.join(format!("host-{number}"));
        std::fs::create_dir_all(&folder)?;
        let host = Self {
            redis: Proxy::to(redis.primary()),
            ledger: ledger.address().map(Proxy::to),
            market: Proxy::to(market),
            clock: folder.join("clock"),
            folder,
        };
        File::create(&host.clock)?;
        host.step_clock(0)?;
        Ok(host)
    }

    /// The lock store as this host's processes reach it.
    pub(crate) fn redis_url(&self) -> String {
        format!("redis://{}/0", self.redis.address())
    }

    /// The ledger as this host's processes reach it.
    pub(crate) fn ledger_url(&self, site: &LedgerSite, design: Design) -> String {
        site.url(design, self.ledger.as_ref().map(Proxy::address))
    }

    /// The marketplace as this host's processes reach it.
    pub(crate) fn market(&self) -> SocketAddr {
        self.market.address()
    }

    /// The way to a place; `None` where it is a file.
    pub(crate) const fn way(&self, place: Place) -> Option<&Proxy> {
        match place {
            Place::Redis => Some(&self.redis),
            Place::Ledger => self.ledger.as_ref(),
            Place::Market => Some(&self.market),
        }
    }

    pub(crate) fn block(&self, place: Place, blocked: Blocked) {
        let Some(way) = self.way(place) else { return };
        match blocked {
            Blocked::There => way.black_hole(Direction::ToServer),
            Blocked::Back => way.black_hole(Direction::ToClient),
            Blocked::Both => way.black_hole(Direction::Both),
            Blocked::Refused => {
                way.refuse(true);
                way.cut();
            }
        }
    }

    pub(crate) fn heal(&self, place: Place) {
        let Some(way) = self.way(place) else { return };
        way.heal();
        way.refuse(false);
        way.delay(std::time::Duration::ZERO, std::time::Duration::ZERO);
        way.jitter(std::time::Duration::ZERO);
    }

    /// Sets by how many microseconds the wall clock of this host is wrong.
    pub(crate) fn step_clock(&self, offset: i64) -> Result<()> {
        let file = File::options().write(true).open(&self.clock)?;
        // Eight bytes in one page: processes see the old offset or the new one.
        Ok(file.write_all_at(&offset.to_ne_bytes(), 0)?)
    }
}
