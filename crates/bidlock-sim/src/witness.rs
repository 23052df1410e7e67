//! Sees every command at the server, and tells what it changed.

use crate::facts::{Change, Facts, Happened, KeyView, Lock, Script};
use crate::look;
use crate::redis::{Reply, Server, Watcher};
use crate::trace::{Trace, note};

/// Watches one piece of what came in.
pub(crate) struct Witness<'a> {
    pub(crate) facts: &'a mut Facts,
    pub(crate) trace: &'a Trace,
    pub(crate) clock: u64,
    pub(crate) before: Option<(String, KeyView)>,
}

/// The lock that a script is about, and the rest of what it was given.
fn subject(words: &[Vec<u8>]) -> Option<(String, &[Vec<u8>])> {
    let name = words.first()?;
    if !name.eq_ignore_ascii_case(b"EVALSHA") && !name.eq_ignore_ascii_case(b"EVAL") {
        return None;
    }
    let count: usize = std::str::from_utf8(words.get(2)?).ok()?.parse().ok()?;
    let key = String::from_utf8(words.get(3)?.clone()).ok()?;
    let is_lock = key.starts_with("bid_lock:") && !key.contains('#');
    is_lock.then_some((key, words.get(3 + count..)?))
}

/// Which script it is, and the deadline that it carries.
fn kind(words: &[Vec<u8>], argv: &[Vec<u8>]) -> (Script, Option<u64>) {
    let script = match (words.get(2).map(Vec::as_slice), argv.len()) {
        (Some(b"4"), 4..) => Script::Acquire,
        (Some(b"5"), 3) => Script::Renew,
        (Some(b"4"), 1) => Script::Release,
        _ => return (Script::Other, None),
    };
    let text = if script == Script::Release { None } else { argv.get(2) };
    (script, text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()))
}

/// A command and its reply in one line.
fn shown(words: &[Vec<u8>], reply: &Reply) -> String {
    let mut texts = words.iter().map(|word| {
        let text = String::from_utf8_lossy(word);
        if text.len() > 90 { "…".to_owned() } else { text.into_owned() }
    });
    let name = texts.next().unwrap_or_default();
    let skipped = if name.starts_with("EVAL") { 2 } else { 0 };
    let rest: Vec<String> = texts.skip(skipped).filter(|text| !text.starts_with('{')).collect();
    format!("{name} {} -> {}", rest.join(" "), brief(reply))
}

fn brief(reply: &Reply) -> String {
    match reply {
        Reply::Status(text) | Reply::Error(text) => text.clone(),
        Reply::Int(number) => number.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Nil => "nil".to_owned(),
        Reply::Array(values) | Reply::Push(values) => {
            let parts: Vec<String> = values.iter().map(brief).collect();
            format!("[{}]", parts.join(" "))
        }
        Reply::Map(_) => "a map".to_owned(),
    }
}

fn lease_of(argv: &[Vec<u8>]) -> String {
    let first = argv.first().map(|word| String::from_utf8_lossy(word)).unwrap_or_default();
    first.strip_suffix("#b1;").unwrap_or_default().to_owned()
}

/// Whether an acquire was told who has the key.
fn says_held(reply: &Reply) -> bool {
    matches!(reply, Reply::Array(values) if matches!(values.first(), Some(Reply::Int(0))))
}

impl Watcher for Witness<'_> {
    fn before(&mut self, server: &Server, words: &[Vec<u8>]) {
        self.before = subject(words).map(|(key, _)| {
            let view = look::key(server, &key);
            (key, view)
        });
    }

    fn after(&mut self, server: &Server, words: &[Vec<u8>], reply: &Reply) {
        for word in words.iter().skip(3) {
            self.trace.bytes(word);
        }
        self.trace.detail(|| shown(words, reply));
        let Some((key, before)) = self.before.take() else { return };
        let after = look::key(server, &key);
        let argv = subject(words).map(|(_, argv)| argv).unwrap_or_default();
        let (script, deadline) = kind(words, argv);
        let change = Change {
            before,
            after: after.clone(),
            deadline,
            script,
            lease: lease_of(argv),
            ends_told: server.published(format!("e {key} ").as_bytes()),
            told_held: script == Script::Acquire && says_held(reply),
            server: self.clock,
            counter: look::counter(&server.db()),
            key: key.clone(),
        };
        self.tell(&change, reply);
        self.cover(&change);
        self.facts.keys.insert(key, after);
        self.facts.happened.push(Happened::Changed(Box::new(change)));
    }
}

impl Witness<'_> {
    fn tell(&self, change: &Change, reply: &Reply) {
        let key = &change.key;
        if let Reply::Error(text) = reply {
            if !text.starts_with("NOSCRIPT") {
                note!(self.trace, "server", "{key}: {text}");
            }
            return;
        }
        if let Some(lock) = change.granted() {
            let how = if lock.state == b'g' { "handed over to" } else { "granted to" };
            let (lease, token) = (&lock.lease, lock.token);
            note!(self.trace, "server", "{key}: {how} {lease}, token {token}");
        } else if change.before.lock.is_some() && change.after.lock.is_none() {
            note!(self.trace, "server", "{key}: freed by {}", change.lease);
        } else if change.after.queue.len() > change.before.queue.len() {
            let length = change.after.queue.len();
            note!(self.trace, "server", "{key}: {} waits, queue of {length}", change.lease);
        }
    }

    fn cover(&mut self, change: &Change) {
        let Facts { coverage, hears, .. } = &mut *self.facts;
        if let Some(lock) = change.handed_over() {
            coverage.count("step: hand-over");
            if hears.get(&lock.client) == Some(&false) {
                coverage.count("hand-over to a process that is dead, stopped or cut off");
            }
            if change.before.queue.first().is_some_and(|first| first.lease != lock.lease) {
                coverage.count("hand-over past waiters that are dead or do not hear");
            }
        }
        let is = |lock: Option<&Lock>, state| lock.is_some_and(|l| l.state == state);
        let (held, after) = (change.held_before(), change.after.lock.as_ref());
        let same = held.zip(after).is_some_and(|(a, b)| a.lease == b.lease);
        if is(held, b'g') && same && !is(after, b'g') {
            coverage.count("step: confirmation of a window");
        }
        if held.is_none() && is(change.before.lock.as_ref(), b'g') {
            coverage.count("step: a window ended unused");
        }
        if held.is_none() && change.before.window.is_some() {
            coverage.count("grant-window expiry, and a queue without its silent client");
        }
        if is(held, b'g') && !same && change.lease == held.map_or("", |lock| &lock.lease) {
            coverage.count("crossed cancel: a grant given back unconfirmed");
        }
        let waited = change.before.queue.iter().any(|waiter| waiter.lease == change.lease);
        let waits = change.after.queue.iter().any(|waiter| waiter.lease == change.lease);
        if waited && !waits && after.is_none_or(|lock| lock.lease != change.lease) {
            coverage.count("step: a waiter left the queue");
        }
        if change.deadline.is_some_and(|deadline| deadline < change.server) {
            coverage.count("step: a request came too late");
        }
        if is(after, b'r') && !is(held, b'r') {
            coverage.count("step: a lease marked as revoked");
        }
        if change.granted().is_some() && held.is_none() && after.is_some_and(|l| l.state != b'g') {
            coverage.count("step: grant of a free key");
        }
        if held.is_some() && same && change.deadline.is_some() && !is(held, b'g') {
            coverage.count("step: renewal or repeat of a held lease");
            if change.script == Script::Acquire {
                coverage.count("step: repeat of an acquire that was granted");
            }
        }
    }
}
