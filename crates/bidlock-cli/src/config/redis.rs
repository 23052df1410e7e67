//! A Redis server that is named by its parts, as deployments of the old system have them.

use std::fmt::Write as _;

use bidlock::StoreUrl;

use super::sources::{Found, Sources};
use super::{ConfigError, Origin, Setting, why};

/// The variables, each of which alone means a server.
pub(super) const PARTS: [&str; 4] = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"];

/// The names that the user goes by, beside those.
pub(super) const USERS: [&str; 2] = ["REDIS_USERNAME", "REDIS_USER"];

/// Builds the store that the variables mean; `None` when none is set.
pub(super) fn from_parts(sources: &Sources) -> Result<Option<Setting<StoreUrl>>, ConfigError> {
    let parts = PARTS.map(|name| sources.variable(name));
    let Some(first) = parts.iter().flatten().next() else { return Ok(None) };
    no_tls_is_asked_for(sources)?;
    let user = USERS.into_iter().find_map(|name| sources.variable(name));
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
    let store = match (store, &user) {
        (Ok(_), Some(user)) => {
            let Some(password) = password else {
                return Err(user.refuse("a user is named without REDIS_PASSWORD".to_owned()));
            };
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let (open, close) = if name.contains(':') { ("[", "]") } else { ("", "") };
            let (user, password) = (encoded(&user.text), encoded(password));
            let url = format!("redis://{user}:{password}@{open}{name}{close}:{port}/{database}");
            StoreUrl::lock(&url).map_err(why)
        }
        (store, _) => store,
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

/// Refuses what asks for TLS where only a URL can: nothing is sent in plain text against a wish.
pub(super) fn no_tls_is_asked_for(sources: &Sources) -> Result<(), ConfigError> {
    for name in ["REDIS_TLS", "REDIS_SSL"] {
        let Some(found) = sources.variable(name) else { continue };
        if !matches!(found.text.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off") {
            let why = "TLS is asked for by a URL: use REDIS_URL=rediss://USER:PASSWORD@HOST:PORT";
            return Err(found.refuse(why.to_owned()));
        }
    }
    Ok(())
}

/// A text of any kind, as a URL has it.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() {
            url.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            write!(url, "%{byte:02X}").unwrap_or_default();
        }
        url
    })
}

fn number(found: Option<&Found>, least: u16, standard: u16) -> Result<u16, ConfigError> {
    let Some(found) = found else { return Ok(standard) };
    let read = found.text.parse().ok().filter(|number| *number >= least);
    read.ok_or_else(|| found.refuse(format!("not a number from {least} to {}", u16::MAX)))
}
