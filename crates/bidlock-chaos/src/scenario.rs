//! What kinds of trouble there are to choose from.

use std::fmt::{self, Display};

/// Who is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Design {
    Bidlock,
    /// Control a: plain `SET NX EX`, compared and deleted in two commands, no memory.
    SetNx,
    /// Control b: compared and deleted in one script, and a table of bids that is asked before.
    SetNxQuery,
    /// Control c: a lock row in an SQLite file of its own on each host.
    SqliteRow,
}

impl Design {
    pub(crate) const ALL: [Self; 4] =
        [Self::Bidlock, Self::SetNx, Self::SetNxQuery, Self::SqliteRow];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bidlock => "bidlock",
            Self::SetNx => "set-nx",
            Self::SetNxQuery => "set-nx-query",
            Self::SqliteRow => "sqlite-row",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|design| design.name() == name)
    }
}

impl Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! scenarios {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// A kind of trouble.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Scenario {
            $($(#[$doc])+ $name,)+
        }

        impl Scenario {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

scenarios! {
    /// Bidders die, at any step and between steps.
    Crash = "crash",
    /// Bidders stand still for longer than their leases last.
    Pause = "pause",
    /// Hosts cannot reach Redis, the ledger or the marketplace; the replica not its primary.
    Partition = "partition",
    /// Bytes come late, replies not at all.
    Delay = "delay",
    /// Redis is killed and comes back with its data.
    RedisRestart = "redis-restart",
    /// Redis is killed and comes back empty.
    RedisEmpty = "redis-empty",
    /// Somebody deletes all keys.
    Flushall = "flushall",
    /// Redis is killed, and a replica takes its place that had missed its last writes.
    Failover = "failover",
    /// Redis comes back with the data of some time ago.
    Snapshot = "snapshot",
    /// PostgreSQL is restarted.
    PostgresRestart = "postgres-restart",
    /// PostgreSQL is killed.
    PostgresKill = "postgres-kill",
    /// The wall clock of Redis steps.
    ClockServer = "clock-server",
    /// The wall clocks of hosts step.
    ClockClient = "clock-client",
    /// The disk of a ledger in a file is full.
    DiskFull = "disk-full",
    /// PostgreSQL's disk is full.
    PostgresFull = "postgres-full",
    /// Many connections at once.
    Storm = "storm",
    /// The marketplace cuts replies, answers late and shows bids late.
    Market = "market",
    /// All of them.
    Mixed = "mixed",
}

impl Scenario {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name() == name)
    }

    /// Whether two leases of one key may be valid at once: Redis forgets grants in it, or its
    /// clock steps forward (P2's own condition).
    pub(crate) const fn may_overlap(self) -> bool {
        matches!(
            self,
            Self::RedisEmpty
                | Self::Flushall
                | Self::Failover
                | Self::Snapshot
                | Self::ClockServer
                | Self::Mixed
        )
    }

    /// Whether the ledger has to be a file.
    pub(crate) const fn wants_file(self) -> bool {
        matches!(self, Self::DiskFull)
    }

    /// Whether the marketplace misbehaves.
    pub(crate) const fn market_misbehaves(self) -> bool {
        matches!(self, Self::Market | Self::Mixed)
    }
}

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
