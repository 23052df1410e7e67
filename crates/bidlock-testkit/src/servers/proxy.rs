mod flow;
mod frames;
mod state;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use self::state::{Both, Shared};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Replies and pushes.
    ToClient,
    /// All.
    Both,
}

/// A place between clients and a server where a test spoils their connections.
///
/// It passes whole frames of RESP, so that no fault tears one; what is not RESP passes as it
/// comes. It works on threads of its own, from any kind of test. A new connection is accepted
/// also when the server cannot be reached: it is closed then. Connections are numbered from 0 as
/// they are accepted. Dropping it closes all of them.
///
/// # Examples
/// ```
/// use bidlock_testkit::servers::{Proxy, Server, ServerKind};
///
/// let server = Server::start(ServerKind::Redis70);
/// let proxy = Proxy::to(server.address());
/// let client = redis::Client::open(format!("redis://{}", proxy.address()))?;
/// let mut connection = client.get_connection()?;
/// redis::cmd("PING").exec(&mut connection)?;
/// proxy.lose_next_reply();
/// assert!(redis::cmd("INCR").arg("count").exec(&mut connection).is_err());
/// assert_eq!(server.text(&["GET", "count"]), "1", "it took effect all the same");
/// # Ok::<(), redis::RedisError>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    door: Mutex<Door>,
}

/// The place where clients knock.
#[derive(Debug)]
enum Door {
    Open {
        leaves: Arc<AtomicBool>,
        porter: JoinHandle<()>,
    },
    /// Nobody listens; the port is kept, so that none who asks for a free one gets it.
    Shut(Socket),
    Moving,
}

/// The moment before one request is passed on, as [`Proxy::on_request`] shows it.
#[derive(Debug, Clone)]
pub struct Step {
    shared: Arc<Shared>,
    connection: usize,
}

impl Step {
    /// The number of the connection that the request came by.
    #[must_use]
    pub const fn connection(&self) -> usize {
        self.connection
    }

    /// Closes the connection; the request does not reach the server.
    pub fn cut(&self) {
        self.shared.close(self.connection);
    }

    /// Passes the request, swallows its reply, and closes the connection then.
    pub fn lose_reply(&self) {
        self.shared.change(|state| state.lose_reply_to_next(self.connection));
    }

    /// Swallows all bytes of the connection, beginning with the request.
    pub fn black_hole(&self, direction: Direction) {
        self.shared.change(|state| state.swallow(self.connection, direction));
    }
}

impl Proxy {
    /// Opens a proxy on a free port before the server at `target`, which need not run yet.
    ///
    /// # Panics
    /// When there is no port to be had.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test cannot go on without its port")]
    pub fn to(target: SocketAddr) -> Self {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared::new(target));
        let door = Mutex::new(open_door(listener, &shared));
        Self { address, shared, door }
    }

    /// The port for clients.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address for clients.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to the server at `target` from now on, and closes those that are
    /// open: what a changed address does to clients.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.change(|state| {
            state.target = target;
            state.close_all();
        });
    }

    /// Delays all bytes by so much each way, from now on and those already on their way.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        self.shared.change(|state| state.delay = Both { to_server, to_client });
    }

    /// Adds up to so much to each delay, differently for each piece; their order stays.
    pub fn jitter(&self, up_to: Duration) {
        self.shared.change(|state| state.jitter = up_to);
    }

    /// Swallows all bytes of all connections, also of new ones, and leaves them open.
    pub fn black_hole(&self, direction: Direction) {
        self.shared.change(|state| state.swallow_all(direction));
    }

    /// Swallows all bytes of one connection, and leaves it open.
    ///
    /// # Panics
    /// When there was no such connection.
    pub fn black_hole_one(&self, connection: usize, direction: Direction) {
        self.shared.change(|state| state.swallow(connection, direction));
    }

    /// Ends all black holes. A connection that lost bytes is closed as soon as more come: it
    /// is of no use to anybody, and its other end no longer knows it.
    pub fn heal(&self) {
        self.shared.change(state::State::heal);
    }

    /// Closes all connections at once; new ones are welcome.
    pub fn cut(&self) {
        self.shared.change(state::State::close_all);
    }

    /// While on, refuses new connections, as a machine does on which no server runs; those that
    /// are open stay so.
    ///
    /// # Panics
    /// When somebody else took the port in the instant in which it changed hands.
    pub fn refuse(&self, on: bool) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        *door = match (std::mem::replace(&mut *door, Door::Moving), on) {
            (Door::Open { leaves, porter }, true) => {
                // Before the listener goes, so that the port is nobody else's at any moment.
                let place = keep_place(self.address);
                close_door(self.address, &leaves, porter);
                Door::Shut(place)
            }
            (Door::Shut(place), false) => {
                let listener = listen(self.address);
                drop(place);
                listener.map_or(Door::Moving, |listener| open_door(listener, &self.shared))
            }
            (unchanged, _) => unchanged,
        };
    }

    /// While on, drops pushes of RESP3 and messages of RESP2's subscriptions, and nothing else:
    /// confirmations of subscriptions arrive.
    pub fn drop_pushes(&self, on: bool) {
        self.shared.change(|state| state.drops_pushes = on);
    }

    /// Swallows the next reply on any connection, whose request thus took effect, and closes
    /// that connection then.
    pub fn lose_next_reply(&self) {
        self.shared.change(|state| state.loses_reply = true);
    }

    /// Whether the reply of [`Proxy::lose_next_reply`] is still to come.
    #[must_use]
    pub fn is_losing(&self) -> bool {
        self.shared.state().loses_reply
    }

    /// Makes the bytes of one connection wait, both ways, while those of others pass.
    ///
    /// # Panics
    /// When there was no such connection.
    pub fn hold(&self, connection: usize) {
        self.shared.change(|state| state.connections[connection].held = true);
    }

    /// Lets pass what [`Proxy::hold`] made wait.
    ///
    /// # Panics
    /// When there was no such connection.
    pub fn let_go(&self, connection: usize) {
        self.shared.change(|state| state.connections[connection].held = false);
    }

    /// While on, the server does not know the command HELLO, as one without RESP3.
    pub fn without_resp3(&self, on: bool) {
        self.shared.change(|state| state.without_resp3 = on);
    }

    /// How many connections were ever accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.state().open()
    }

    /// How many bytes were passed to the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.state().bytes.to_server
    }

    /// How many bytes were passed to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.state().bytes.to_client
    }

    /// Calls `action` before each request that contains these bytes is passed on; what it
    /// changes, here or at the server, is so when the request is. Requests that came before on
    /// the same connection have been passed by then, and those on other connections pass
    /// meanwhile. An action that panics closes the connection; the test has to notice by that.
    pub fn on_request(&self, pattern: &[u8], action: impl FnMut(&Step) + Send + 'static) {
        let hook = (pattern.to_vec(), Arc::new(Mutex::new(action)) as _);
        self.shared.change(|state| state.hooks.push(hook));
    }

    /// Forgets all actions of [`Proxy::on_request`].
    pub fn forget_actions(&self) {
        // They may own what ends by calling this proxy, so they are dropped outside.
        drop(self.shared.change(|state| std::mem::take(&mut state.hooks)));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let door = self.door.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Door::Open { leaves, porter } = std::mem::replace(door, Door::Moving) {
            close_door(self.address, &leaves, porter);
        }
        self.cut();
        self.forget_actions();
    }
}

fn open_door(listener: TcpListener, shared: &Arc<Shared>) -> Door {
    let leaves = Arc::new(AtomicBool::new(false));
    let (left, shared) = (Arc::clone(&leaves), Arc::clone(shared));
    let porter = thread::spawn(move || {
        for client in listener.incoming() {
            if left.load(Ordering::Acquire) {
                return;
            }
            if let Ok(client) = client {
                flow::start(client, &shared);
            }
        }
    });
    Door::Open { leaves, porter }
}

/// Returns when nobody listens on the port any more.
fn close_door(address: SocketAddr, leaves: &AtomicBool, porter: JoinHandle<()>) {
    leaves.store(true, Ordering::Release);
    // The porter looks up when somebody knocks.
    drop(TcpStream::connect(address));
    drop(porter.join());
}

/// Listens; several sockets of this proxy may have its port.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[expect(clippy::expect_used, reason = "a test cannot go on when its port is another's")]
fn keep_place(address: SocketAddr) -> Socket {
    bound(address).expect("the port is this proxy's")
}
