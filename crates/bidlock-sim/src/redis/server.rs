//! The server: connections, their commands, scripts.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::commands::wrong_count;
use super::db::Db;
use super::engine::{Connection, Engine, Kind, Refusing, unknown};
use super::lua::Interpreter;
use super::reply::{self, Reply};

/// A Redis or Valkey primary in this process, without sockets: bytes in, bytes out.
///
/// It keeps one Lua interpreter, so it is made once and emptied between uses.
pub struct Server {
    engine: Rc<RefCell<Engine>>,
    lua: Interpreter,
    scripts: BTreeSet<String>,
    clients: BTreeMap<Connection, Client>,
    /// Lets clients in that speak the newer protocol.
    pub(crate) resp3: bool,
    /// How many scripts have run.
    pub(crate) ran: u64,
}

/// Who sees every command, with the server as it is then.
pub(crate) trait Watcher {
    /// A command is about to run.
    fn before(&mut self, server: &Server, words: &[Vec<u8>]);
    /// A command has run.
    fn after(&mut self, server: &Server, words: &[Vec<u8>], reply: &Reply);
}

#[derive(Debug, Default)]
struct Client {
    resp3: bool,
    unread: Vec<u8>,
    out: Vec<u8>,
    broken: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts an empty server.
    ///
    /// # Errors
    /// Lua's, when there is no memory for it.
    pub fn new(kind: Kind) -> mlua::Result<Self> {
        let engine = Rc::new(RefCell::new(Engine::new(kind)));
        let lua = Interpreter::new(Rc::clone(&engine))?;
        let (scripts, clients) = (BTreeSet::new(), BTreeMap::new());
        Ok(Self { engine, lua, scripts, clients, resp3: true, ran: 0 })
    }

    /// Makes another, empty server of it.
    pub fn reset(&mut self, kind: Kind) {
        *self.engine.borrow_mut() = Engine::new(kind);
        self.scripts.clear();
        self.clients.clear();
        self.resp3 = true;
        self.ran = 0;
    }

    /// The keyspace.
    #[must_use]
    pub fn db(&self) -> Ref<'_, Db> {
        Ref::map(self.engine.borrow(), |engine| &engine.db)
    }

    /// Whether anybody listens on a channel.
    pub(crate) fn listeners(&self, channel: &[u8]) -> usize {
        self.engine.borrow().listeners.get(channel).map_or(0, BTreeSet::len)
    }

    /// Who listens, by channel.
    pub(crate) fn channels(&self) -> BTreeMap<Vec<u8>, BTreeSet<Connection>> {
        self.engine.borrow().listeners.clone()
    }

    /// Sets the clock to so many microseconds since 1970.
    pub fn at(&self, micros: u64) {
        self.engine.borrow_mut().at(micros);
    }

    /// Puts another keyspace in the place of this one.
    pub(crate) fn replace(&mut self, db: Db) {
        let mut engine = self.engine.borrow_mut();
        let now_ms = engine.db.now_ms;
        engine.db = db;
        engine.db.now_ms = now_ms;
    }

    pub(crate) fn clear(&mut self) {
        self.engine.borrow_mut().db.clear();
    }

    pub(crate) fn refuse(&mut self, what: Refusing) {
        self.engine.borrow_mut().refusing = what;
    }

    pub(crate) fn forget_scripts(&mut self) {
        self.scripts.clear();
    }

    /// Ends all connections, and forgets the scripts: what a restart does.
    pub(crate) fn forget_everybody(&mut self) {
        self.clients.clear();
        self.scripts.clear();
        self.engine.borrow_mut().listeners.clear();
    }

    /// Lets a client in.
    pub fn open(&mut self, connection: Connection) {
        self.clients.insert(connection, Client::default());
    }

    /// Forgets a client.
    pub fn close(&mut self, connection: Connection) {
        self.clients.remove(&connection);
        let mut engine = self.engine.borrow_mut();
        for listeners in engine.listeners.values_mut() {
            listeners.remove(&connection);
        }
        engine.listeners.retain(|_, listeners| !listeners.is_empty());
    }

    /// Takes what a client has sent; returns the clients that there is something to send to.
    pub(crate) fn feed(
        &mut self,
        connection: Connection,
        bytes: &[u8],
        watcher: &mut dyn Watcher,
    ) -> Vec<Connection> {
        let Some(client) = self.clients.get_mut(&connection) else { return Vec::new() };
        client.unread.extend_from_slice(bytes);
        let Ok(commands) = reply::commands(&mut client.unread) else {
            client.broken = true;
            return Vec::new();
        };
        let mut spoken = BTreeSet::new();
        for words in commands {
            watcher.before(self, &words);
            let reply = self.command(connection, &words);
            watcher.after(self, &words, &reply);
            let messages = std::mem::take(&mut self.engine.borrow_mut().messages);
            for (listener, message) in messages {
                self.say(listener, &message, &mut spoken);
            }
            self.say(connection, &reply, &mut spoken);
        }
        spoken.into_iter().collect()
    }

    fn say(&mut self, to: Connection, reply: &Reply, spoken: &mut BTreeSet<Connection>) {
        if let Some(client) = self.clients.get_mut(&to) {
            reply.encode(&mut client.out, client.resp3);
            spoken.insert(to);
        }
    }

    /// How many messages of the command that has just run begin so.
    pub(crate) fn published(&self, begin: &[u8]) -> usize {
        let is_one = |reply: &Reply| match reply {
            Reply::Push(parts) => {
                matches!(parts.last(), Some(Reply::Bulk(text)) if text.starts_with(begin))
            }
            _ => false,
        };
        self.engine.borrow().messages.iter().filter(|(_, message)| is_one(message)).count()
    }

    /// Takes the messages that commands have published, and to whom.
    pub fn messages(&mut self) -> Vec<(Connection, Reply)> {
        std::mem::take(&mut self.engine.borrow_mut().messages)
    }

    /// What is to be sent to a client.
    pub(crate) fn take(&mut self, connection: Connection) -> Vec<u8> {
        self.clients.get_mut(&connection).map(|c| std::mem::take(&mut c.out)).unwrap_or_default()
    }

    /// Runs one command of a client.
    pub fn command(&mut self, connection: Connection, words: &[Vec<u8>]) -> Reply {
        let Some(name) = words.first() else { return Reply::error("ERR empty command") };
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let loading = self.engine.borrow().refusing == Refusing::Everything;
        if loading && !matches!(name.as_str(), "HELLO" | "SUBSCRIBE" | "TIME" | "INFO" | "ROLE") {
            let what = if self.engine.borrow().kind == Kind::Valkey9 { "Valkey" } else { "Redis" };
            return Reply::error(format!("LOADING {what} is loading the dataset in memory"));
        }
        match (name.as_str(), &words[1..]) {
            ("PING", []) => Reply::Status("PONG".to_owned()),
            ("HELLO", version) => self.hello(connection, version),
            ("CLIENT" | "SELECT" | "AUTH", [_, ..]) => Reply::ok(),
            ("SUBSCRIBE", [channel]) => self.subscribe(connection, channel),
            ("EVAL", [text, rest @ ..]) => self.eval(text, rest),
            ("EVALSHA", [sha, rest @ ..]) => self.evalsha(sha, rest),
            ("SCRIPT", [what, ..]) if what.eq_ignore_ascii_case(b"FLUSH") => {
                self.forget_scripts();
                Reply::ok()
            }
            ("SCRIPT", [what, text]) if what.eq_ignore_ascii_case(b"LOAD") => self.load(text),
            ("FLUSHALL", _) => {
                self.clear();
                Reply::ok()
            }
            ("INFO", _) => Reply::bulk(format!("redis_version:{}\r\n", self.version())),
            ("ROLE", _) => Reply::Array(vec![Reply::bulk(self.role())]),
            _ => self.engine.borrow_mut().call(words),
        }
    }

    fn version(&self) -> &'static str {
        match self.engine.borrow().kind {
            Kind::Redis62 => "6.2.19",
            Kind::Redis70 => "7.0.15",
            Kind::Valkey9 => "9.1.2",
        }
    }

    fn role(&self) -> &'static str {
        if self.engine.borrow().refusing == Refusing::Writes { "slave" } else { "master" }
    }

    fn hello(&mut self, connection: Connection, words: &[Vec<u8>]) -> Reply {
        if !self.resp3 {
            return unknown(&[b"HELLO".to_vec()], false);
        }
        let resp3 = words.first().is_some_and(|version| version == b"3");
        if let Some(client) = self.clients.get_mut(&connection) {
            client.resp3 = resp3;
        }
        let valkey = self.engine.borrow().kind == Kind::Valkey9;
        let role = if self.role() == "slave" { "replica" } else { "master" };
        let text = |name: &str, value: &str| (Reply::bulk(name), Reply::bulk(value));
        Reply::Map(vec![
            text("server", if valkey { "valkey" } else { "redis" }),
            text("version", self.version()),
            (Reply::bulk("proto"), Reply::Int(if resp3 { 3 } else { 2 })),
            (Reply::bulk("id"), Reply::Int(i64::try_from(connection).unwrap_or(0))),
            text("mode", "standalone"),
            text("role", role),
            (Reply::bulk("modules"), Reply::Array(Vec::new())),
        ])
    }

    fn subscribe(&mut self, connection: Connection, channel: &[u8]) -> Reply {
        let mut engine = self.engine.borrow_mut();
        engine.listeners.entry(channel.to_vec()).or_default().insert(connection);
        Reply::Push(vec![Reply::bulk("subscribe"), Reply::bulk(channel), Reply::Int(1)])
    }

    fn load(&mut self, text: &[u8]) -> Reply {
        let sha = sha1_smol::Sha1::from(text).hexdigest();
        match self.lua.compile(&sha, text) {
            Ok(()) => {
                self.scripts.insert(sha.clone());
                Reply::bulk(sha)
            }
            Err(error) => Reply::Error(error),
        }
    }

    fn eval(&mut self, text: &[u8], rest: &[Vec<u8>]) -> Reply {
        match self.load(text) {
            Reply::Bulk(sha) => self.run(&String::from_utf8_lossy(&sha), rest),
            error => error,
        }
    }

    fn evalsha(&mut self, sha: &[u8], rest: &[Vec<u8>]) -> Reply {
        let sha = String::from_utf8_lossy(sha).to_ascii_lowercase();
        if !self.scripts.contains(&sha) {
            return Reply::error("NOSCRIPT No matching script. Please use EVAL.");
        }
        self.run(&sha, rest)
    }

    fn run(&mut self, sha: &str, rest: &[Vec<u8>]) -> Reply {
        let Some((count, words)) = rest.split_first() else { return wrong_count("eval") };
        let count = std::str::from_utf8(count).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(count) = count else {
            return Reply::error("ERR value is not an integer or out of range");
        };
        if count > words.len() {
            return Reply::error("ERR Number of keys can't be greater than number of args");
        }
        self.ran += 1;
        self.lua.run(sha, &words[..count], &words[count..])
    }
}
