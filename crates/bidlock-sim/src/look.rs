//! Reads the server's keyspace as `docs/protocol.md` describes it.

use crate::facts::{KeyView, Lock, Waiter};
use crate::redis::{Data, Db, Server};

/// The counter of all tokens.
pub(crate) const TOKENS: &[u8] = b"bid_lock:#tokens";

/// Reads one key and its queue.
pub(crate) fn key(server: &Server, key: &str) -> KeyView {
    let db = server.db();
    let (queue_key, places_key) = (format!("{{{key}}}:waiters"), format!("{{{key}}}:places"));
    let mut view = KeyView { lock: lock(&db, key), ..KeyView::default() };
    if db.get(key.as_bytes()).is_some_and(|entry| entry.ends.is_none()) {
        view.odd = Some("the lock has no end".to_owned());
    }
    let places = match db.get(places_key.as_bytes()) {
        Some(entry) => {
            if let (Data::Hash(fields), Some(_)) = (&entry.data, entry.ends) {
                fields.clone()
            } else {
                view.odd = Some("the places are no hash with an end".to_owned());
                Vec::new()
            }
        }
        None => Vec::new(),
    };
    let field = |name: &str| {
        let found = places.iter().find(|(field, _)| field == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    view.window = field("window");
    view.told = field("told").and_then(|text| text.parse().ok()).unwrap_or(0);
    let members = match db.get(queue_key.as_bytes()) {
        Some(entry) => {
            if let (Data::Sorted(members), Some(_)) = (&entry.data, entry.ends) {
                members.clone()
            } else {
                view.odd = Some("the queue is no sorted set with an end".to_owned());
                Vec::new()
            }
        }
        None => Vec::new(),
    };
    for (_, member) in &members {
        let lease = String::from_utf8_lossy(member).into_owned();
        let Some(place) = field(&lease) else {
            view.odd = Some(format!("{lease} has no place"));
            continue;
        };
        let mut words = place.splitn(3, ' ');
        let deadline = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let client = words.nth(1).and_then(|tail| tail.split(';').next()).unwrap_or_default();
        let alive = field(&format!("@{client}")).and_then(|text| text.parse().ok()).unwrap_or(0);
        let heard = server.listeners(format!("bid_lock:#client:{client}").as_bytes()) > 0;
        view.queue.push(Waiter { lease, client: client.to_owned(), deadline, alive, heard });
    }
    let leases = places.iter().filter(|(name, _)| name.contains(&b':')).count();
    if leases != members.len() && view.odd.is_none() {
        view.odd = Some(format!("{leases} places, {} in the queue", members.len()));
    }
    view
}

/// Reads a lock.
pub(crate) fn lock(db: &Db, key: &str) -> Option<Lock> {
    let entry = db.get(key.as_bytes())?;
    let Data::Text(text) = &entry.data else { return None };
    let text = String::from_utf8_lossy(text);
    let (lease, rest) = text.split_once("#b1;")?;
    let mut words = rest.splitn(4, ';');
    let token = words.next()?.parse().ok()?;
    let state = *words.next()?.as_bytes().first()?;
    let client = words.next()?.to_owned();
    Some(Lock { lease: lease.to_owned(), token, state, client, ends: entry.ends })
}

/// Reads the counter.
pub(crate) fn counter(db: &Db) -> Option<u64> {
    match &db.get(TOKENS)?.data {
        Data::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}
