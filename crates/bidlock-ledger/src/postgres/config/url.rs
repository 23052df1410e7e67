use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{BadPostgresUrl, Place, PostgresConfig, SchemaName, Secret, TlsMode};

const FORM: &str = "write postgres://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?OPTIONS]";
const ESCAPES: &str = "in a password, write % as %25, @ as %40, : as %3A, / as %2F, ? as %3F and # \
                       as %23";
const OPTIONS: &str = "options are host, port, user, password, dbname, sslmode, sslrootcert, \
                       connect_timeout, schema, pool and failover";
const MODES: &str = "sslmode is disable, prefer, require or verify-full";
const PORT: u16 = 5432;
const POOL: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

fn bad(what: &str, form: &str) -> BadPostgresUrl {
    BadPostgresUrl(format!("{what}; {form}"))
}

pub(super) fn read(url: &str) -> Result<PostgresConfig, BadPostgresUrl> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("not a URL", FORM))?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "postgres" | "postgresql") {
        return Err(bad(&format!("unknown scheme {scheme:?}"), FORM));
    }
    if rest.contains('#') {
        return Err(bad(&format!("a # has no meaning here ({ESCAPES})"), FORM));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (account, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(Secret(decoded(password, "password")?))),
        None => (account, None),
    };
    let mut config = PostgresConfig {
        places: places(hosts)?,
        user: some(decoded(user, "user")?),
        password,
        database: some(decoded(database, "database")?),
        tls: TlsMode::Prefer,
        connect_timeout: CONNECT_TIMEOUT,
        schema: SchemaName::default(),
        pool: POOL,
        trusts_failover: false,
    };
    let (mut port, mut roots) = (None, None);
    for (name, value) in options(query)? {
        match name {
            "port" => port = Some(number(&value, "port", 1, u16::MAX)?),
            "sslrootcert" => roots = Some(PathBuf::from(value)),
            _ => set(&mut config, name, value, query)?,
        }
    }
    match (port, config.places.as_mut_slice()) {
        (None, _) => {}
        (Some(port), [place]) => place.port = port,
        (Some(_), _) => return Err(bad("port names the port of one host", FORM)),
    }
    match (&mut config.tls, roots) {
        (_, None) => {}
        (TlsMode::VerifyFull(file), roots) => *file = roots,
        _ => return Err(bad("sslrootcert goes with sslmode=verify-full", MODES)),
    }
    if config.places.is_empty() {
        return Err(bad("no host is named", "write postgres://HOST/… or ?host=/run/postgresql"));
    }
    let is_socket = |place: &Place| place.host.starts_with('/');
    if matches!(config.tls, TlsMode::Require | TlsMode::VerifyFull(_))
        && config.places.iter().any(is_socket)
    {
        return Err(bad("no TLS is spoken over a socket", MODES));
    }
    Ok(config)
}

fn set(
    config: &mut PostgresConfig,
    name: &str,
    value: String,
    query: &str,
) -> Result<(), BadPostgresUrl> {
    match name {
        "host" if config.places.is_empty() => {
            config.places = vec![Place { host: check_host(&value)?, port: PORT }];
        }
        "host" => return Err(bad("the host is named twice", FORM)),
        "user" => config.user = Some(value),
        "password" => config.password = Some(Secret(value)),
        "dbname" => config.database = Some(value),
        "sslmode" => {
            config.tls = match value.as_str() {
                "disable" => TlsMode::Disable,
                "prefer" => TlsMode::Prefer,
                "require" => TlsMode::Require,
                "verify-full" => TlsMode::VerifyFull(None),
                other => {
                    let what = format!("there is no sslmode{} here", shown(other, query));
                    return Err(bad(&what, MODES));
                }
            }
        }
        "connect_timeout" => {
            let seconds = option_number(&value, "connect_timeout", 300, query)?;
            config.connect_timeout = Duration::from_secs(seconds.into());
        }
        "schema" => {
            let why = "a schema is 1 to 63 of a-z, 0-9 and _, and begins with no digit";
            config.schema = SchemaName::new(&value).ok_or_else(|| {
                bad(&format!("the schema{} has no such name", shown(&value, query)), why)
            })?;
        }
        "pool" => config.pool = option_number(&value, "pool", 100, query)?.into(),
        "failover" if value == "trusted" => config.trusts_failover = true,
        "failover" => {
            let what = format!("failover is trusted or not named, not{}", shown(&value, query));
            return Err(bad(&what, OPTIONS));
        }
        _ => return Err(unknown(name, query)),
    }
    Ok(())
}

/// A value as messages repeat it, unless it may be a part of a password with an unencoded ?.
fn shown(value: &str, query: &str) -> String {
    if query.contains('@') { String::new() } else { format!(" {value:?}") }
}

fn option_number(text: &str, what: &str, most: u16, query: &str) -> Result<u16, BadPostgresUrl> {
    let read = text.parse().ok().filter(|number| (1..=most).contains(number));
    read.ok_or_else(|| {
        let (value, hint) = (shown(text, query), if query.contains('@') { ESCAPES } else { FORM });
        bad(&format!("{what}{value} is not a number from 1 to {most}"), hint)
    })
}

/// Says that an option is none. Its name is shown, but no part of a password with an unencoded ?.
fn unknown(name: &str, query: &str) -> BadPostgresUrl {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !plain || query.contains('@') {
        return bad(&format!("an option is unknown ({ESCAPES})"), OPTIONS);
    }
    bad(&format!("there is no option {name:?}"), OPTIONS)
}

fn places(hosts: &str) -> Result<Vec<Place>, BadPostgresUrl> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    hosts.split(',').map(place).collect()
}

fn place(text: &str) -> Result<Place, BadPostgresUrl> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(|| bad("a [ is not closed", FORM))?;
        (host.to_owned(), port.strip_prefix(':').unwrap_or(port))
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        (decoded(host, "host")?, port)
    };
    let port = if port.is_empty() { PORT } else { number(port, "port", 1, u16::MAX)? };
    Ok(Place { host: check_host(&host)?, port })
}

fn check_host(host: &str) -> Result<String, BadPostgresUrl> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() {
        return Err(bad("no host is named", FORM));
    }
    if !host.starts_with('/') && !host.chars().all(fits) {
        // A password with an unencoded @ or / shows up here: say nothing of what it was.
        return Err(bad(&format!("the host has characters that no host has ({ESCAPES})"), FORM));
    }
    Ok(host.to_owned())
}

fn number(text: &str, what: &str, least: u16, most: u16) -> Result<u16, BadPostgresUrl> {
    let read = text.parse().ok().filter(|number| (least..=most).contains(number));
    // The rest of a password with an unencoded ? or / is taken for one of these.
    read.ok_or_else(|| {
        bad(&format!("the {what} is not a number from {least} to {most} ({ESCAPES})"), FORM)
    })
}

fn decoded(text: &str, what: &str) -> Result<String, BadPostgresUrl> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.ok().filter(|text| !text.contains('\0'));
    decoded.map(Into::into).ok_or_else(|| bad(&format!("the {what} is not UTF-8"), FORM))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn options(query: &str) -> Result<Vec<(&str, String)>, BadPostgresUrl> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(unknown_or_empty(name, query));
        }
        if found.iter().any(|(known, _)| *known == name) {
            return Err(twice(name, query));
        }
        found.push((name, decoded(value, "option")?));
    }
    Ok(found)
}

/// Says that an option is given twice; one that is none is said to be that.
fn twice(name: &str, query: &str) -> BadPostgresUrl {
    if !is_option(name) || query.contains('@') {
        return unknown(name, query);
    }
    bad(&format!("the option {name} is given twice"), OPTIONS)
}

/// Whether the text for people names it.
fn is_option(name: &str) -> bool {
    OPTIONS.split([' ', ',']).any(|word| word == name)
}

fn unknown_or_empty(name: &str, query: &str) -> BadPostgresUrl {
    if is_option(name) { bad("an option has no value", OPTIONS) } else { unknown(name, query) }
}
