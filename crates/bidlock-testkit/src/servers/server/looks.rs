//! What tests ask a server beside the code under test.

use std::collections::HashMap;

use redis::Value;

use super::Server;

impl Server {
    /// Runs one command on a connection of its own.
    ///
    /// # Panics
    /// When the server does not answer, or answers by an error.
    pub fn command(&self, words: &[&str]) -> Value {
        let (name, arguments) = words.split_first().unwrap_or((&"PING", &[]));
        let mut command = redis::cmd(name);
        command.arg(arguments);
        let answer = command.query(&mut self.client());
        answer.unwrap_or_else(|error| panic!("{}: {words:?}: {error}", self.kind))
    }

    /// Runs one command; its answer as text. Nothing is the empty text, and the parts of a list
    /// are lines.
    ///
    /// # Panics
    /// When the server does not answer, or answers by an error.
    #[must_use]
    pub fn text(&self, words: &[&str]) -> String {
        show(&self.command(words))
    }

    /// How often each command was called since the start or [`Server::reset_stats`], by names
    /// such as `get` and `client|id`. What scripts call is counted as well, and so is what this
    /// kit itself has asked.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn command_stats(&self) -> HashMap<String, u64> {
        let stats = self.text(&["INFO", "commandstats"]);
        let calls = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(calls).collect()
    }

    /// Counts commands from zero again.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn reset_stats(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// How many bytes it has allocated.
    ///
    /// # Panics
    /// When the server does not answer.
    #[must_use]
    pub fn used_memory(&self) -> u64 {
        self.info("memory", "used_memory").parse().unwrap_or_default()
    }

    /// One value of INFO, such as `redis_version` of the section `server`.
    ///
    /// # Panics
    /// When the server does not answer, or has no such value.
    #[must_use]
    pub fn info(&self, section: &str, name: &str) -> String {
        let all = self.text(&["INFO", section]);
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO {section} of {} has no {name}", self.kind)).to_owned()
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::Array(parts) | Value::Set(parts) => {
            parts.iter().map(show).collect::<Vec<_>>().join("\n")
        }
        other => format!("{other:?}"),
    }
}
