//! Keeps one connection: dials, says hello, runs it until it breaks, and dials again.

use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Backoff, Clock, Moment, Refusal, Rng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::config::{Config, Secret};
use crate::dial::Connector;
use crate::failure;
use crate::resp::{self, Value};
use crate::wire::{Cause, Ears, Failed, KEPT, Link, Stream, Wakeup, Wire};

/// How long dialling and saying hello may take together.
const HELLO_MAX: Duration = Duration::from_secs(3);
/// A connection that broke sooner is no sign that the next one will hold.
const STEADY: Duration = Duration::from_secs(1);
/// For so long calls wait for a connection: pauses between attempts are short meanwhile.
const BRIDGED: Duration = Duration::from_secs(1);
const PAUSE_BRIDGED: Duration = Duration::from_millis(100);

/// What the server said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) role: String,
}

/// One reading of the server's clock, in microseconds, between two local moments.
pub(crate) type Reading = (Moment, Moment, i64);

/// Who hears what comes in; called by the driver, one thing at a time.
pub(crate) trait Hears: Send + Sync + 'static {
    /// A new connection is there. What was pushed before may have been lost.
    fn connected(&self, server: Server, time: Reading);
    /// The connection is up: calls go through.
    fn ready(&self);
    /// There has been none for so long that calls fail at once now.
    fn away(&self);
    /// A message of a channel.
    fn message(&self, text: &str, received: Moment);
}

/// Who this client is.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    user: Option<String>,
    password: Option<Secret>,
    database: u32,
    /// The client's name, for people who list clients.
    pub(crate) name: String,
    /// Where it hears messages.
    pub(crate) channel: String,
}

impl Account {
    pub(crate) fn new(config: &Config, name: String, channel: String) -> Self {
        let (user, password) = (config.user.clone(), config.password.clone());
        Self { user, password, database: config.database, name, channel }
    }
}

pub(crate) struct Driver {
    pub(crate) wire: Arc<Wire>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) account: Account,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

impl Drop for Driver {
    /// Whoever still calls is told that nobody drives the connection any more.
    fn drop(&mut self) {
        self.wire.down(&Failed::NotSent("the background thread ended".into()));
        self.wire.close();
    }
}

impl Driver {
    /// Runs until the wire is closed, or nobody hears any more.
    pub(crate) async fn run(self, hears: std::sync::Weak<dyn Hears>) {
        let (mut backoff, mut broke) = (Backoff::store(), self.clock.now());
        let mut told = false;
        let mut scratch = vec![0; KEPT].into_boxed_slice();
        while !self.wire.is_closed() {
            match self.dial().await {
                Ok((link, server, time)) => {
                    let Some(hearer) = hears.upgrade() else { return };
                    tracing::debug!(server = %server.name, version = %server.version, "connected");
                    hearer.connected(server, time);
                    self.wire.up(link);
                    hearer.ready();
                    drop(hearer);
                    told = false;
                    let up = self.clock.now();
                    let cause = self.serve(&hears, &mut scratch).await;
                    tracing::debug!(%cause, "disconnected");
                    self.wire.down(&Failed::NotSent(cause));
                    if self.clock.now().since(up) >= STEADY {
                        // At once: most often the server has only dropped this connection.
                        (backoff, broke) = (Backoff::store(), self.clock.now());
                        continue;
                    }
                }
                Err(why) => self.wire.down(&why),
            }
            let mut status = self.wire.status();
            let (now, pause) = (self.clock.now(), backoff.pause(&*self.rng));
            let bridged = now.since(broke) < BRIDGED;
            if !bridged && !std::mem::replace(&mut told, true) {
                hears.upgrade().into_iter().for_each(|hearer| hearer.away());
            }
            let until = now + if bridged { pause.min(PAUSE_BRIDGED) } else { pause };
            tokio::select! {
                biased;
                () = self.clock.sleep_until(until) => {}
                _ = status.wait_for(|_| self.wire.is_closed()) => {}
            }
        }
    }

    /// Serves a connection until it breaks.
    async fn serve(&self, hears: &std::sync::Weak<dyn Hears>, scratch: &mut [u8]) -> Cause {
        loop {
            let timer = self.clock.sleep_until(self.wire.next_timer());
            tokio::pin!(timer);
            loop {
                let wakeup = tokio::select! {
                    biased;
                    wakeup = self.wire.drive(scratch) => wakeup,
                    () = &mut timer => Wakeup::Timer,
                };
                match wakeup {
                    Wakeup::Pushes(pushes, received) => {
                        let Some(hearer) = hears.upgrade() else {
                            return "the store was dropped".into();
                        };
                        for push in pushes {
                            if let Some(text) = message(&push) {
                                hearer.message(text, received);
                            }
                        }
                    }
                    Wakeup::Timer => match self.wire.expire() {
                        Ok(()) => break,
                        Err(cause) => return cause,
                    },
                    Wakeup::Broken(cause) => return cause,
                    Wakeup::Closed => return "the store was closed".into(),
                }
            }
        }
    }

    /// Opens a connection and says hello.
    pub(crate) async fn dial(&self) -> Result<(Link, Server, Reading), Failed> {
        let end = self.clock.now() + HELLO_MAX;
        tokio::select! {
            biased;
            done = self.open() => done,
            () = self.clock.sleep_until(end) => {
                let what = "with TLS, perhaps a port that does not speak it";
                Err(Failed::NotSent(format!("no answer within {HELLO_MAX:?} ({what})").into()))
            }
        }
    }

    async fn open(&self) -> Result<(Link, Server, Reading), Failed> {
        let mut talk = Talk::new(self.stream().await?);
        let version3 = self.hello(&mut talk).await?;
        let mut ears = None;
        if version3.is_none() {
            self.authenticate(&mut talk).await?;
            let mut second = Talk::new(self.stream().await?);
            self.authenticate(&mut second).await?;
            second.send(&[&[b"SUBSCRIBE", self.account.channel.as_bytes()]]).await?;
            accepted(second.value().await?)?;
            let heard = self.clock.now();
            ears = Some(Ears { stream: second.stream, unread: second.unread, heard, asked: None });
        }
        if self.account.database > 0 {
            let number = self.account.database.to_string();
            talk.send(&[&[b"SELECT", number.as_bytes()]]).await?;
            accepted(talk.value().await?)?;
        }
        let channel = self.account.channel.as_bytes();
        let sent = self.clock.now();
        if ears.is_none() {
            talk.send(&[&[b"SUBSCRIBE", channel], &[b"TIME"]]).await?;
        } else {
            talk.send(&[&[b"TIME"]]).await?;
        }
        let time = loop {
            match accepted(talk.value().await?)? {
                Value::Push(_) => {}
                value => break time_of(&value).ok_or_else(|| odd("TIME", &value))?,
            }
        };
        let reading = (sent, self.clock.now(), time);
        let server = if let Some(server) = version3 {
            server
        } else {
            let (name, version) = name_and_version(&mut talk).await?;
            Server { name, version, role: role(&mut talk).await? }
        };
        if server.role != "primary" {
            let why = format!("the server is a {}: name the primary", server.role);
            return Err(Failed::Refused(Refusal::ReadOnly(why)));
        }
        Ok((Link { stream: talk.stream, unread: talk.unread, ears }, server, reading))
    }

    async fn stream(&self) -> Result<Box<dyn Stream>, Failed> {
        self.connector.connect().await.map_err(|error| Failed::NotSent(error.to_string().into()))
    }

    /// Asks for RESP3; nothing where the server, or a proxy before it, does not have it.
    async fn hello(&self, talk: &mut Talk) -> Result<Option<Server>, Failed> {
        let Account { user, password, name, .. } = &self.account;
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = password {
            let user = user.as_deref().unwrap_or("default");
            hello.extend([b"AUTH".as_slice(), user.as_bytes(), password.expose().as_bytes()]);
        }
        hello.extend([b"SETNAME".as_slice(), name.as_bytes()]);
        talk.send(&[&hello]).await?;
        match talk.value().await? {
            Value::Error(text) if is_unknown(&text) => Ok(None),
            // Without HELLO, a server that lets nobody in yet says no more than that.
            Value::Error(text) if password.is_some() && text.starts_with("NOAUTH") => Ok(None),
            Value::Error(text) => Err(Failed::Refused(failure::refusal(&text))),
            Value::List(pairs) => Ok(Some(server_of(&pairs))),
            value => Err(odd("HELLO", &value)),
        }
    }

    /// As old servers want it: `AUTH` with a user only where one is named.
    async fn authenticate(&self, talk: &mut Talk) -> Result<(), Failed> {
        let Some(password) = &self.account.password else { return Ok(()) };
        let user = self.account.user.as_ref().map(String::as_bytes);
        let args: Vec<&[u8]> = [Some(b"AUTH".as_slice()), user, Some(password.expose().as_bytes())]
            .into_iter()
            .flatten()
            .collect();
        talk.send(&[&args]).await?;
        accepted(talk.value().await?)?;
        Ok(())
    }
}

/// A connection before it is shared.
struct Talk {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Talk {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, unread: Vec::new() }
    }

    async fn send(&mut self, commands: &[&[&[u8]]]) -> Result<(), Failed> {
        let mut out = Vec::new();
        for command in commands {
            resp::encode(&mut out, command);
        }
        self.stream.write_all(&out).await.map_err(|error| broken(&error))?;
        self.stream.flush().await.map_err(|error| broken(&error))
    }

    async fn value(&mut self) -> Result<Value, Failed> {
        loop {
            let read = resp::decode(&self.unread);
            let read = read.map_err(|malformed| Failed::NotSent(malformed.to_string().into()))?;
            if let Some((value, length)) = read {
                self.unread.drain(..length);
                return Ok(value);
            }
            let more = self.stream.read_buf(&mut self.unread).await;
            if more.map_err(|error| broken(&error))? == 0 {
                let what = "the server closed the connection while it was set up (a TLS port, a \
                            limit of clients, or a certificate that is missing)";
                return Err(Failed::NotSent(what.into()));
            }
        }
    }
}

/// As INFO says it; Valkey says a version of Redis as well.
async fn name_and_version(talk: &mut Talk) -> Result<(String, String), Failed> {
    talk.send(&[&[b"INFO", b"server"]]).await?;
    let answer = talk.value().await?;
    let lines = answer.text().unwrap_or_default().lines();
    let mut found = ("redis".to_owned(), "unknown".to_owned());
    for (field, version) in lines.filter_map(|line| line.split_once("_version:")) {
        if field == "valkey" || (field == "redis" && found.0 != "valkey") {
            found = (field.to_owned(), version.trim().to_owned());
        }
    }
    Ok(found)
}

async fn role(talk: &mut Talk) -> Result<String, Failed> {
    talk.send(&[&[b"ROLE"]]).await?;
    Ok(match talk.value().await? {
        Value::List(parts) => {
            part_of(parts.first().and_then(Value::text).unwrap_or("master")).to_owned()
        }
        // Without the right to ask, writes will tell.
        _ => "primary".to_owned(),
    })
}

fn part_of(role: &str) -> &str {
    match role {
        "master" => "primary",
        "slave" => "replica",
        other => other,
    }
}

fn server_of(pairs: &[Value]) -> Server {
    let field = |name: &str| {
        let found = pairs.chunks(2).find(|pair| pair[0].text() == Some(name));
        found.and_then(|pair| pair.get(1)?.text()).unwrap_or("unknown").to_owned()
    };
    Server {
        name: field("server"),
        version: field("version"),
        role: part_of(&field("role")).to_owned(),
    }
}

/// The text of a channel's message, in either version.
fn message(push: &[Value]) -> Option<&str> {
    match push {
        [kind, _channel, text] if kind.text() == Some("message") => text.text(),
        _ => None,
    }
}

fn is_unknown(text: &str) -> bool {
    // Redis before 6, or a proxy; also a server that has RESP3 switched off.
    text.contains("unknown command") || text.starts_with("NOPROTO")
}

fn accepted(value: Value) -> Result<Value, Failed> {
    match value {
        Value::Error(text) => Err(Failed::Refused(failure::refusal(&text))),
        value => Ok(value),
    }
}

/// Microseconds since 1970, as `TIME` says it.
pub(crate) fn time_of(value: &Value) -> Option<i64> {
    let [seconds, micros] = value.list()? else { return None };
    seconds.int()?.checked_mul(1_000_000)?.checked_add(micros.int()?)
}

fn odd(command: &str, value: &Value) -> Failed {
    let shown: String = format!("{value:?}").chars().take(100).collect();
    Failed::NotSent(format!("{command} was answered with {shown}").into())
}

fn broken(error: &std::io::Error) -> Failed {
    Failed::NotSent(error.to_string().into())
}
