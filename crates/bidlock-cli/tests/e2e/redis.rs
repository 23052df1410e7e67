//! Locks on real Redis and Valkey servers, as users and operators meet them.

mod doctor;
mod looking;
mod working;

use std::process::Command;

use bidlock_testkit::Process;
use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};

use crate::{Ran, User, end};

/// The password of every server here. No part of it is ever shown.
const SECRET: &str = "c4n4ry:p@ss/w?rd#%";
/// The same, as a URL has it.
const ESCAPED: &str = "c4n4ry%3Ap%40ss%2Fw%3Frd%23%25";
/// What would show it, in whatever form.
const PARTS: [&str; 5] = ["c4n4ry", "p@ss", "p%40ss", "w?rd", "w%3Frd"];

/// A user, and the server that the user's locks are on.
struct Fleet {
    user: User,
    server: Server,
}

impl Fleet {
    /// On a server that is as it should be.
    fn new(kind: ServerKind) -> Self {
        Self::with(kind, ServerOptions::new().append_only(true))
    }

    fn with(kind: ServerKind, options: ServerOptions) -> Self {
        let server = Server::start_with(kind, options.password(SECRET));
        Self { user: User::new(), server }
    }

    /// `bidlock` with these words, and the server named by its parts.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.user.command(words);
        command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", self.server.port().to_string());
        command.env("REDIS_PASSWORD", SECRET);
        command
    }

    fn start(&self, words: &[&str]) -> Process {
        Process::spawn(&mut self.command(words)).unwrap()
    }

    fn run(&self, words: &[&str]) -> Ran {
        unsaid(end(self.start(words)))
    }

    /// Runs `bidlock` against another URL.
    fn run_at(&self, url: &str, words: &[&str]) -> Ran {
        unsaid(end(Process::spawn(self.user.command(words).env("BIDLOCK_URL", url)).unwrap()))
    }

    /// Runs `bidlock`, which must succeed, and reads one JSON object per line of its output.
    fn json(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let ran = self.run(&[words, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        crate::objects(&ran.stdout)
    }

    /// How often somebody has connected to the server; to look counts too.
    fn connections(&self) -> u64 {
        self.server.info("stats", "total_connections_received").parse().unwrap()
    }
}

/// Makes sure that the password was not shown.
fn unsaid(ran: Ran) -> Ran {
    for part in PARTS {
        assert!(!ran.stdout.contains(part) && !ran.stderr.contains(part), "{part}: {ran:?}");
    }
    ran
}
