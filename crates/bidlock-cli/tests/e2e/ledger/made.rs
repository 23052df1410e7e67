//! Exports of any size, as a ledger would have written them.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use serde_json::{Value, json};

use crate::User;

/// When the first of the made postings was reserved.
const BEGAN_US: u64 = 1_700_000_000_000_000;

/// An id that is nobody else's.
fn id(posting: usize, attempt: usize) -> String {
    format!("{posting:08x}-{attempt:04x}-4000-8000-000000000000")
}

/// One attempt, with what its steps have left in the history.
struct Made {
    posting: usize,
    number: usize,
    history: Vec<Value>,
}

impl Made {
    fn at(&self) -> u64 {
        let steps = self.number * 100 + self.history.len();
        BEGAN_US + (self.posting * 1_000 + steps) as u64
    }

    fn token(&self) -> u64 {
        BEGAN_US + (self.posting * 1_000 + self.number * 100) as u64
    }

    fn holder(&self) -> String {
        format!("web-1:{}:a1b2c3d4", self.posting + 1)
    }

    fn step(&mut self, event: &str, detail: Option<&str>) -> u64 {
        let at = self.at();
        let token = matches!(event, "reserved" | "started").then(|| self.token());
        self.history.push(json!({
            "at_us": at, "attempt": id(self.posting, self.number), "event": event,
            "token": token, "by": self.holder(), "detail": detail,
        }));
        at
    }
}

/// Makes an attempt that has gone through these events, and ended in this state.
fn attempt(posting: usize, number: usize, state: &str, events: &[&str]) -> (Value, Vec<Value>) {
    let mut made = Made { posting, number, history: vec![] };
    let (mut reserved, mut started, mut decided) = (0, None, None);
    let (mut reference, mut reason) = (None, None);
    let mut last = "";
    for event in events {
        let detail = match *event {
            "placed" | "resolved_placed" => Some("R-1"),
            "reserved" | "started" | "doubted" | "taken_over" => None,
            _ => Some("because"),
        };
        let at = made.step(event, detail);
        match *event {
            "reserved" => reserved = at,
            "started" => started = Some(at),
            late if late.starts_with("late_") => continue,
            _ => decided = Some(at),
        }
        match *event {
            "placed" | "resolved_placed" => reference = detail,
            _ => reason = detail,
        }
        last = event;
    }
    let value = json!({
        "attempt": id(posting, number),
        "state": state,
        "event": last,
        "token": made.token(),
        "token_seen": made.token(),
        "holder": made.holder(),
        "process": format!("boot/pid:[1]/{}/1", posting + 1),
        "seen_at_us": posting.is_multiple_of(2).then_some(BEGAN_US),
        "reserved_at_us": reserved,
        "started_at_us": started,
        "send_by_us": started.map(|at| at + 60_000_000),
        "decided_at_us": decided,
        "reference": reference,
        "payload": started.map(|_| format!("sha256:{posting:064x}")),
        "reason": reason,
    });
    (value, made.history)
}

/// A posting in the way of all others: in each state, by each way there.
fn posting(number: usize) -> Value {
    let ways: [(&str, &[&str]); 12] = [
        ("placed", &["reserved", "started", "placed"]),
        ("refused", &["reserved", "started", "refused"]),
        ("unknown", &["reserved", "started", "unknown"]),
        ("unknown", &["reserved", "started", "doubted"]),
        ("unknown", &["reserved", "started", "given_up"]),
        ("withdrawn", &["reserved", "started", "placed", "withdrawn"]),
        ("abandoned", &["reserved", "not_sent"]),
        ("started", &["reserved", "started"]),
        ("reserved", &["reserved"]),
        ("placed", &["reserved", "started", "unknown", "resolved_placed", "late_refused"]),
        ("abandoned", &["reserved", "started", "unknown", "resolved_not_sent", "late_placed"]),
        ("placed", &["reserved", "started", "placed"]),
    ];
    let (state, events) = ways[number % ways.len()];
    let (mut attempts, mut history) = (vec![], vec![]);
    let mut last = 0;
    if number % ways.len() == 11 {
        let events = ["reserved", "started", "refused", "reopened"];
        let (value, steps) = attempt(number, 0, "abandoned", &events);
        attempts.push(value);
        history.extend(steps);
        last = 1;
    }
    let (value, steps) = attempt(number, last, state, events);
    attempts.push(value);
    history.extend(steps);
    json!({ "posting": {
        "marketplace": "upwork", "posting": format!("job_{number:07}"),
        "attempts": attempts, "history": history,
    }})
}

/// Writes an export with so many postings, and a line of audit for every hundredth.
pub(crate) fn export(user: &User, file: &str, postings: usize) {
    let mut out = BufWriter::new(File::create(user.path(file)).unwrap());
    let head = json!({
        "bidlock_ledger": 1, "id": "00000000-0000-4000-8000-000000000001",
        "exported_at": "2026-11-23T08:00:00.000Z", "pruned_before_us": null,
    });
    writeln!(out, "{head}").unwrap();
    for number in 0..postings {
        writeln!(out, "{}", posting(number)).unwrap();
    }
    let audit = postings / 100;
    for number in 0..audit {
        let entry = json!({ "audit": {
            "at_us": BEGAN_US + number as u64, "actor": "ann@web-1", "act": "withdraw",
            "marketplace": "upwork", "posting": format!("job_{number:07}"),
            "attempt": id(number, 0), "token": null, "because": format!("reason {number}"),
        }});
        writeln!(out, "{entry}").unwrap();
    }
    writeln!(out, "{}", json!({ "end": { "postings": postings, "audit": audit } })).unwrap();
    out.flush().unwrap();
}
