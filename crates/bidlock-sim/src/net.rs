//! The network: streams between processes and the server, with delay and every kind of loss that
//! TCP lets through.

mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::exec::ProcessId;
use crate::rand::Rand;
use crate::redis::Connection;
use crate::time::{Micros, Time};
pub(crate) use stream::SimConnector;

/// After so long a server finds out by itself that a client's machine is gone.
const SILENT_END: Micros = 30_000_000;

/// The number of a host.
pub(crate) type Host = usize;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What travels.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// Nothing more comes.
    End,
}

/// What has reached the server.
#[derive(Debug)]
pub(crate) enum Arrived {
    Opened(Connection),
    Bytes(Connection, Vec<u8>),
    Closed(Connection),
    /// Something has reached a client, or waits on.
    Elsewhere(Connection),
}

/// The way between one host and the server.
#[derive(Debug, Clone, Default)]
struct Link {
    delay: (u64, u64),
    /// Until when nothing passes, each way.
    blocked: [Micros; 2],
    refused: Micros,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is the state of another end")]
struct Conn {
    host: Host,
    process: ProcessId,
    ways: [VecDeque<(Micros, Piece)>; 2],
    latest: [Micros; 2],
    inbox: VecDeque<u8>,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    /// Its client reads and writes no more.
    gone: bool,
    known: bool,
}

#[derive(Debug)]
struct Inner {
    conns: BTreeMap<Connection, Conn>,
    links: BTreeMap<Host, Link>,
    due: BTreeSet<(Micros, Connection, Way)>,
    next: Connection,
    rand: Rand,
    /// Until when the server takes no connections.
    down: Micros,
    /// Until when the server reads nothing.
    frozen: Micros,
}

/// All streams.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    inner: Arc<Mutex<Inner>>,
    time: Time,
}

impl Net {
    pub(crate) fn new(seed: u64, time: &Time) -> Self {
        let inner = Inner {
            conns: BTreeMap::new(),
            links: BTreeMap::new(),
            due: BTreeSet::new(),
            next: 1,
            rand: Rand::new(seed, "net"),
            down: 0,
            frozen: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), time: time.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how long a byte takes between a host and the server, at least and at most.
    pub(crate) fn set_delay(&self, host: Host, delay: (u64, u64)) {
        self.lock().links.entry(host).or_default().delay = delay;
    }

    /// Lets nothing pass one way until a moment.
    pub(crate) fn block(&self, host: Host, way: Way, until: Micros) {
        let mut inner = self.lock();
        let link = inner.links.entry(host).or_default();
        link.blocked[way as usize] = link.blocked[way as usize].max(until);
    }

    /// Refuses new connections of a host until a moment.
    pub(crate) fn refuse(&self, host: Host, until: Micros) {
        self.lock().links.entry(host).or_default().refused = until;
    }

    /// Refuses all new connections until a moment.
    pub(crate) fn server_down(&self, until: Micros) {
        self.lock().down = until;
    }

    /// Lets the server read nothing until a moment.
    pub(crate) fn server_frozen(&self, until: Micros) {
        self.lock().frozen = until;
    }

    /// Whether a host reaches the server, both ways.
    pub(crate) fn reaches(&self, host: Host) -> bool {
        let (inner, now) = (self.lock(), self.time.now());
        let link = inner.links.get(&host);
        now >= inner.down.max(inner.frozen)
            && link.is_none_or(|link| {
                link.blocked.iter().all(|until| *until <= now) && link.refused <= now
            })
    }

    /// Whose a connection is.
    pub(crate) fn process(&self, connection: Connection) -> Option<ProcessId> {
        self.lock().conns.get(&connection).filter(|c| !c.gone && !c.broken).map(|c| c.process)
    }

    /// Whether what comes over a connection was overtaken: its client has left it, and the server
    /// knows a later one of the same process.
    pub(crate) fn is_overtaken(&self, connection: Connection) -> bool {
        let inner = self.lock();
        let left = inner.conns.get(&connection).filter(|conn| conn.broken || conn.gone);
        let later = |conn: &Conn| {
            let mut later = inner.conns.range(connection + 1..);
            later.any(|(_, other)| other.process == conn.process && other.known)
        };
        left.is_some_and(later)
    }

    /// Breaks connections; what their clients have sent may still arrive. Returns which.
    pub(crate) fn cut(&self, host: Option<Host>, deliver: bool) -> Vec<Connection> {
        let mut inner = self.lock();
        let Inner { conns, due, .. } = &mut *inner;
        let mut cut = Vec::new();
        let mut wakers = Vec::new();
        for (id, conn) in conns.iter_mut() {
            if conn.broken || host.is_some_and(|host| host != conn.host) {
                continue;
            }
            conn.broken = true;
            conn.ways[Way::ToClient as usize].clear();
            if !deliver {
                conn.ways[Way::ToServer as usize].clear();
            }
            let at = conn.latest[Way::ToServer as usize].max(self.time.now());
            conn.ways[Way::ToServer as usize].push_back((at, Piece::End));
            due.insert((at, *id, Way::ToServer));
            wakers.extend(conn.reader.take());
            cut.push(*id);
        }
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        cut
    }

    /// Forgets all connections: the server has ended.
    pub(crate) fn server_ended(&self) -> Vec<Connection> {
        let cut = self.cut(None, false);
        let mut inner = self.lock();
        for id in &cut {
            if let Some(conn) = inner.conns.get_mut(id) {
                conn.ways[Way::ToServer as usize].clear();
            }
        }
        cut
    }

    /// A process has ended: what it sent still arrives, or with its host is lost.
    pub(crate) fn abandon(&self, process: ProcessId, deliver: bool) {
        let mut inner = self.lock();
        let ids: Vec<Connection> =
            inner.conns.iter().filter(|(_, c)| c.process == process).map(|(id, _)| *id).collect();
        for id in ids {
            let now = self.time.now();
            if deliver {
                inner.leave(id, now);
            } else if let Some(conn) = inner.conns.get_mut(&id) {
                conn.ways[Way::ToServer as usize].clear();
                conn.gone = true;
                inner.put(id, Way::ToServer, Piece::End, now + SILENT_END);
            }
        }
    }

    /// Sends to a client.
    pub(crate) fn send(&self, connection: Connection, bytes: &[u8]) {
        let now = self.time.now();
        self.lock().push(connection, Way::ToClient, bytes, now);
    }

    /// When the next piece arrives somewhere.
    pub(crate) fn next_arrival(&self) -> Option<Micros> {
        self.lock().due.first().map(|(at, ..)| *at)
    }

    /// Takes the next piece that is due.
    pub(crate) fn arrive(&self) -> Option<Arrived> {
        let now = self.time.now();
        let mut inner = self.lock();
        let (at, id, way) = inner.due.first().copied().filter(|(at, ..)| *at <= now)?;
        inner.due.remove(&(at, id, way));
        let until = inner.passable(id, way);
        if until > now {
            inner.due.insert((until, id, way));
            return Some(Arrived::Elsewhere(id));
        }
        let Inner { conns, due: all_due, .. } = &mut *inner;
        let Some(conn) = conns.get_mut(&id) else { return Some(Arrived::Elsewhere(id)) };
        if way == Way::ToServer && !conn.known {
            conn.known = true;
            all_due.insert((at, id, way));
            return Some(Arrived::Opened(id));
        }
        let is_due = conn.ways[way as usize].front().is_some_and(|(due, _)| *due <= now);
        let Some((_, piece)) = is_due.then(|| conn.ways[way as usize].pop_front()).flatten() else {
            return Some(Arrived::Elsewhere(id));
        };
        if let Some((next, _)) = conn.ways[way as usize].front() {
            all_due.insert((*next, id, way));
        }
        match (way, piece) {
            (Way::ToServer, Piece::Bytes(bytes)) => Some(Arrived::Bytes(id, bytes)),
            (Way::ToServer, Piece::End) => {
                conns.remove_if_done(id);
                Some(Arrived::Closed(id))
            }
            (Way::ToClient, piece) => {
                match piece {
                    Piece::Bytes(bytes) => conn.inbox.extend(bytes),
                    Piece::End => conn.ended = true,
                }
                let reader = conn.reader.take();
                drop(inner);
                reader.into_iter().for_each(Waker::wake);
                Some(Arrived::Elsewhere(id))
            }
        }
    }

    fn open(&self, host: Host, process: ProcessId) -> Result<Connection, Option<Micros>> {
        let now = self.time.now();
        let mut inner = self.lock();
        let link = inner.links.get(&host).cloned().unwrap_or_default();
        let until = link.blocked[0].max(link.blocked[1]);
        if until > now {
            return Err(Some(until));
        }
        if inner.down > now || link.refused > now {
            return Err(None);
        }
        let id = inner.next;
        inner.next += 1;
        let conn = Conn {
            host,
            process,
            ways: [VecDeque::new(), VecDeque::new()],
            latest: [now; 2],
            inbox: VecDeque::new(),
            ended: false,
            broken: false,
            reader: None,
            gone: false,
            known: false,
        };
        inner.conns.insert(id, conn);
        inner.due.insert((now, id, Way::ToServer));
        Ok(id)
    }
}

trait RemoveIfDone {
    fn remove_if_done(&mut self, id: Connection);
}

impl RemoveIfDone for BTreeMap<Connection, Conn> {
    fn remove_if_done(&mut self, id: Connection) {
        if self.get(&id).is_some_and(|conn| conn.gone) {
            self.remove(&id);
        }
    }
}

impl Inner {
    /// From when on a piece may pass.
    fn passable(&self, id: Connection, way: Way) -> Micros {
        let Some(conn) = self.conns.get(&id) else { return 0 };
        let blocked = self.links.get(&conn.host).map_or(0, |link| link.blocked[way as usize]);
        if way == Way::ToServer { blocked.max(self.frozen) } else { blocked }
    }

    fn delay(&mut self, host: Host) -> u64 {
        let (least, most) = self.links.get(&host).map_or((50, 500), |link| link.delay);
        if self.rand.chance(2) {
            // A packet was lost, and sent again.
            return most + self.rand.range(200_000, 400_000);
        }
        self.rand.range(least, most)
    }

    /// Sends bytes on their way, in one piece or several.
    fn push(&mut self, id: Connection, way: Way, bytes: &[u8], now: Micros) {
        let Some(host) = self.conns.get(&id).filter(|c| !c.broken).map(|conn| conn.host) else {
            return;
        };
        if way == Way::ToClient && self.conns.get(&id).is_some_and(|conn| conn.gone) {
            return;
        }
        let cut = if bytes.len() > 1 && self.rand.chance(100) {
            1 + self.rand.index(bytes.len() - 1)
        } else {
            bytes.len()
        };
        let (head, tail) = bytes.split_at(cut);
        for part in [head, tail] {
            if !part.is_empty() {
                let at = now + self.delay(host);
                self.put(id, way, Piece::Bytes(part.to_vec()), at);
            }
        }
    }

    fn put(&mut self, id: Connection, way: Way, piece: Piece, at: Micros) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // One stream keeps its order; streams overtake one another.
        let at = at.max(conn.latest[way as usize]);
        conn.latest[way as usize] = at;
        conn.ways[way as usize].push_back((at, piece));
        self.due.insert((at, id, way));
    }

    /// The client's end is closed; what it has sent goes on.
    fn leave(&mut self, id: Connection, now: Micros) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if std::mem::replace(&mut conn.gone, true) {
            return;
        }
        conn.ways[Way::ToClient as usize].clear();
        conn.inbox.clear();
        conn.reader = None;
        if conn.broken {
            if conn.ways[Way::ToServer as usize].is_empty() {
                self.conns.remove(&id);
            }
            return;
        }
        let host = conn.host;
        let at = now + self.delay(host);
        self.put(id, Way::ToServer, Piece::End, at);
    }
}
