//! What a proxy does to what passes through it, decided in one place.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frames::Piece;
use super::{Direction, Step};
use crate::process::now;

type Action = Arc<Mutex<dyn FnMut(&Step) + Send>>;

/// One way through a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

/// Whether bytes go each way, or are delayed, counted and so on.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Both<T> {
    pub(super) to_server: T,
    pub(super) to_client: T,
}

impl<T> Both<T> {
    pub(super) const fn of(&self, way: Way) -> &T {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }

    const fn of_mut(&mut self, way: Way) -> &mut T {
        match way {
            Way::ToServer => &mut self.to_server,
            Way::ToClient => &mut self.to_client,
        }
    }
}

impl Both<bool> {
    const fn add(&mut self, direction: Direction) {
        match direction {
            Direction::ToServer => self.to_server = true,
            Direction::ToClient => self.to_client = true,
            Direction::Both => *self = Self { to_server: true, to_client: true },
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) target: SocketAddr,
    pub(super) delay: Both<Duration>,
    pub(super) jitter: Duration,
    pub(super) swallows: Both<bool>,
    pub(super) drops_pushes: bool,
    pub(super) loses_reply: bool,
    pub(super) without_resp3: bool,
    pub(super) bytes: Both<u64>,
    pub(super) connections: Vec<Connection>,
    pub(super) hooks: Vec<(Vec<u8>, Action)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("connections", &self.connections).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Both its streams, until it is closed.
    streams: Option<[TcpStream; 2]>,
    pub(super) held: bool,
    swallows: Both<bool>,
    /// Bytes are missing in it, so that none may follow.
    torn: bool,
    ended: Both<bool>,
    requests: u64,
    replies: u64,
    /// The reply, counted from the first, that does not arrive.
    loses: Option<u64>,
}

/// What becomes of a piece.
enum Fate {
    Pass,
    Swallow,
    Close,
}

impl Shared {
    pub(super) fn new(target: SocketAddr) -> Self {
        Self { state: Mutex::new(State::new(target)), changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells everybody who waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.notify_all();
        done
    }

    /// Counts a connection; returns its number.
    pub(super) fn enter(&self, streams: Option<[TcpStream; 2]>) -> usize {
        self.change(|state| {
            state.connections.push(Connection { streams, ..Connection::default() });
            state.connections.len() - 1
        })
    }

    /// Waits until what arrived at that instant is due; returns false when the connection ends
    /// first. `luck` of 256 parts of the jitter are added.
    pub(super) fn wait_due(&self, number: usize, way: Way, arrived: Instant, luck: u8) -> bool {
        let mut state = self.state();
        loop {
            let due = arrived + *state.delay.of(way) + state.jitter * u32::from(luck) / 256;
            let left = due.saturating_duration_since(now());
            if state.connections[number].streams.is_none() {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the connection is not held; decides; returns the bytes to pass on, or `None`
    /// when the connection is to be closed.
    pub(super) fn decide(&self, number: usize, way: Way, piece: &mut Piece) -> Option<Vec<u8>> {
        let mut state = self.wait_while(|state| state.connections[number].held);
        match state.fate(number, way, piece) {
            Fate::Pass => {
                let bytes = piece.bytes().to_vec();
                *state.bytes.of_mut(way) += bytes.len() as u64;
                Some(bytes)
            }
            Fate::Swallow => Some(Vec::new()),
            Fate::Close => None,
        }
    }

    /// Calls what the test has put before this request. It may change anything.
    pub(super) fn call_hooks(self: &Arc<Self>, number: usize, piece: &Piece) {
        let due: Vec<Action> = {
            let state = self.state();
            let hooks = state.hooks.iter().filter(|(pattern, _)| piece.contains(pattern));
            hooks.map(|(_, action)| Arc::clone(action)).collect()
        };
        for action in due {
            let mut action = action.lock().unwrap_or_else(PoisonError::into_inner);
            action(&Step { shared: Arc::clone(self), connection: number });
        }
    }

    /// Whether a hook waits for this request.
    pub(super) fn is_awaited(&self, piece: &Piece) -> bool {
        self.state().hooks.iter().any(|(pattern, _)| piece.contains(pattern))
    }

    /// One side closed its stream: the other is told, unless nothing gets there.
    pub(super) fn end(&self, number: usize, way: Way, to: &TcpStream) {
        let mut state = self.wait_while(|state| {
            let connection = &state.connections[number];
            let open = connection.streams.is_some();
            open && (connection.held || *state.swallows.of(way) || *connection.swallows.of(way))
        });
        let _gone_already = to.shutdown(Shutdown::Write);
        let connection = &mut state.connections[number];
        *connection.ended.of_mut(way) = true;
        if connection.torn || (connection.ended.to_server && connection.ended.to_client) {
            state.close(number);
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn close(&self, number: usize) {
        self.change(|state| state.close(number));
    }

    fn wait_while(&self, waits: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let guard = self.changed.wait_while(self.state(), |state| waits(state));
        guard.unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(target: SocketAddr) -> Self {
        Self {
            target,
            delay: Both::default(),
            jitter: Duration::ZERO,
            swallows: Both::default(),
            drops_pushes: false,
            loses_reply: false,
            without_resp3: false,
            bytes: Both::default(),
            connections: Vec::new(),
            hooks: Vec::new(),
        }
    }

    /// Closes a connection towards both sides; whoever waits on it has to be told.
    pub(super) fn close(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        connection.held = false;
        for stream in connection.streams.take().into_iter().flatten() {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn close_all(&mut self) {
        (0..self.connections.len()).for_each(|number| self.close(number));
    }

    pub(super) fn swallow(&mut self, number: usize, direction: Direction) {
        self.connections[number].swallows.add(direction);
    }

    pub(super) fn swallow_all(&mut self, direction: Direction) {
        self.swallows.add(direction);
    }

    /// Lets new bytes pass everywhere.
    pub(super) fn heal(&mut self) {
        self.swallows = Both::default();
        for connection in &mut self.connections {
            connection.swallows = Both::default();
        }
    }

    pub(super) fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.streams.is_some()).count()
    }

    /// The reply to the request that is about to pass does not arrive.
    pub(super) fn lose_reply_to_next(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        connection.loses = Some(connection.requests);
    }

    fn fate(&mut self, number: usize, way: Way, piece: &mut Piece) -> Fate {
        let connection = &mut self.connections[number];
        if connection.streams.is_none() {
            return Fate::Close;
        }
        if *self.swallows.of(way) || *connection.swallows.of(way) {
            connection.torn = true;
            return Fate::Swallow;
        }
        if connection.torn {
            return Fate::Close;
        }
        if way == Way::ToServer {
            connection.requests += 1;
            if self.without_resp3 {
                piece.without_hello();
            }
            return Fate::Pass;
        }
        if piece.is_news() {
            return if self.drops_pushes { Fate::Swallow } else { Fate::Pass };
        }
        if piece.is_reply() {
            let number = connection.replies;
            connection.replies += 1;
            if connection.loses == Some(number) || std::mem::take(&mut self.loses_reply) {
                return Fate::Close;
            }
        }
        Fate::Pass
    }
}
