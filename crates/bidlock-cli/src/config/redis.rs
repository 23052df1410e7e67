//! A Redis server that is named by its parts, as deployments of the old system have them.

use bidlock::StoreUrl;

use super::sources::{Found, Sources};
use super::{ConfigError, Origin, Setting, why};

/// The variables.
pub(super) const PARTS: [&str; 4] = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"];

/// Builds the store that the variables mean; `None` when none is set.
pub(super) fn from_parts(sources: &Sources) -> Result<Option<Setting<StoreUrl>>, ConfigError> {
    let parts = PARTS.map(|name| sources.variable(name));
    let Some(first) = parts.iter().flatten().next() else { return Ok(None) };
    let [host, port, database, password] = &parts;
    let port = number(port.as_ref(), 1, 6379)?;
    let database = number(database.as_ref(), 0, 0)?;
    let host = host.as_ref();
    let name = host.map_or("localhost", |found| found.text.as_str());
    // Any text, and not encoded.
    let password = password.as_ref().map(|found| found.text.as_str());
    // An IPv6 address has several colons.
    let store = if name.matches(':').count() == 1 || name.contains(['/', '@']) {
        Err("a host alone is expected; REDIS_PORT names the port, and REDIS_URL takes a URL".into())
    } else {
        StoreUrl::redis(name, port, database, password).map_err(why)
    };
    let refused = |why| ConfigError::Value {
        name: "REDIS_HOST",
        // Who put a URL there may have put a password into it.
        value: bidlock::masked(name),
        origin: host.map_or(Origin::Default, |found| found.origin.clone()),
        why,
    };
    let value = store.map_err(refused)?;
    Ok(Some(Setting { value, name: first.name, origin: first.origin.clone() }))
}

fn number(found: Option<&Found>, least: u16, standard: u16) -> Result<u16, ConfigError> {
    let Some(found) = found else { return Ok(standard) };
    let read = found.text.parse().ok().filter(|number| *number >= least);
    read.ok_or_else(|| found.refuse(format!("not a number from {least} to {}", u16::MAX)))
}
