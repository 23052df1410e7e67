//! What scripts and clients share: the keyspace, the clock, who listens, what is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::commands::{self, Words};
use super::db::Db;
use super::reply::Reply;

/// The number of a connection.
pub type Connection = u64;

/// Which server is played, where servers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis 6.2: the clock moves while a script runs.
    Redis62,
    /// Redis 7.0: the clock moves while a script runs.
    Redis70,
    /// Valkey 9: the clock stands still while a script runs.
    Valkey9,
}

/// Why a server refuses what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Refusing {
    #[default]
    Nothing,
    /// Memory is short.
    Memory,
    /// It is a replica.
    Writes,
    /// It reads its data from disk.
    Everything,
}

/// The state behind all connections.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) db: Db,
    pub(crate) kind: Kind,
    /// The server's wall clock, in microseconds.
    pub(crate) clock: u64,
    pub(crate) refusing: Refusing,
    pub(crate) listeners: BTreeMap<Vec<u8>, BTreeSet<Connection>>,
    /// Messages that are to go out.
    pub(crate) messages: Vec<(Connection, Reply)>,
    /// While a script runs: whether it has written.
    pub(crate) script: Option<bool>,
}

impl Engine {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            db: Db::default(),
            kind,
            clock: 0,
            refusing: Refusing::Nothing,
            listeners: BTreeMap::new(),
            messages: Vec::new(),
            script: None,
        }
    }

    /// Sets the clock by which the next command runs.
    pub(crate) fn at(&mut self, micros: u64) {
        self.clock = micros;
        self.db.now_ms = i64::try_from(micros / 1_000).unwrap_or(i64::MAX);
    }

    /// Runs a command that is the same from a client and from a script.
    pub(crate) fn call(&mut self, words: &Words) -> Reply {
        let name = words.first().map(Vec::as_slice).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"TIME") {
            return self.time();
        }
        if name.eq_ignore_ascii_case(b"PUBLISH") {
            return match words {
                [_, channel, text] => self.publish(channel, text),
                _ => commands::wrong_count("publish"),
            };
        }
        let Some(command) = commands::find(name) else {
            return unknown(words, self.script.is_some());
        };
        if command.writes {
            let first = self.script != Some(true);
            match self.refusing {
                Refusing::Writes => {
                    let text = "READONLY You can't write against a read only replica.";
                    return Reply::error(text);
                }
                Refusing::Memory if command.grows && first => {
                    return Reply::error("OOM command not allowed when used memory > 'maxmemory'.");
                }
                _ => {}
            }
            if self.script.is_some() {
                self.script = Some(true);
            }
        }
        command.run(&mut self.db, words)
    }

    fn time(&mut self) -> Reply {
        if self.script.is_some() && self.kind != Kind::Valkey9 {
            // It goes on while the script runs.
            self.clock += 1;
        }
        let (seconds, micros) = (self.clock / 1_000_000, self.clock % 1_000_000);
        Reply::Array(vec![Reply::bulk(seconds.to_string()), Reply::bulk(micros.to_string())])
    }

    fn publish(&mut self, channel: &[u8], text: &[u8]) -> Reply {
        let heard = self.listeners.get(channel).cloned().unwrap_or_default();
        for connection in &heard {
            let parts = vec![Reply::bulk("message"), Reply::bulk(channel), Reply::bulk(text)];
            self.messages.push((*connection, Reply::Push(parts)));
        }
        Reply::Int(i64::try_from(heard.len()).unwrap_or(i64::MAX))
    }
}

/// What is said of a command that the server does not have.
pub(crate) fn unknown(words: &Words, in_script: bool) -> Reply {
    if in_script {
        return Reply::error("ERR Unknown Redis command called from script");
    }
    let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    let mut said = words.iter().map(text);
    let name = said.next().unwrap_or_default();
    let args: Vec<String> = said.map(|word| format!("'{word}' ")).collect();
    let args = args.concat();
    Reply::error(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}
