//! Who is let in, to what, and what it may do there.

use bidlock_core::Finding;

use super::cli::Cli;
use super::info::Info;
use super::line::{Line, Trouble};
use super::{Doctor, is_not_ready, reach, refused, settings};
use crate::config::{Config, Place};
use crate::failure;
use crate::names::channels;
use crate::resp::Value;
use crate::rights::{self, Verdict};

const NO_LOCKS: &str = "no lock can be taken, renewed or released";
/// Scripts need `SET … GET`, and users rights to channels: both came with it.
const OLDEST: (u64, u64) = (6, 2);

/// What a server says when it lets somebody in.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// Whether it sends messages on the same connection.
    pub(super) version3: bool,
    name: String,
    version: String,
    role: String,
}

impl Entered {
    pub(super) fn is_primary(&self) -> bool {
        matches!(self.role.as_str(), "master" | "")
    }
}

/// Says hello, logs in and selects the database.
pub(super) async fn enter(
    doctor: &Doctor,
    line: &mut Line,
    findings: &mut Vec<Finding>,
) -> Result<Entered, Finding> {
    let config = &doctor.config;
    let answer = match hello(config, line).await {
        Ok(answer) => answer,
        Err(trouble) => return Err(reach::silent(doctor, &trouble).await),
    };
    findings.push(Finding::good("connection", format!("{config} answers")));
    let entered = match &answer {
        Value::List(pairs) => entered(pairs),
        answer => match refused(answer) {
            Some(text) if is_unknown(config, text) => {
                log_in(doctor, line).await?;
                Entered::default()
            }
            Some(text) => {
                // It was no good connection after all.
                return Err(match reach::turned_away(config, text) {
                    Some(finding) => {
                        findings.clear();
                        finding
                    }
                    None => kept_out(doctor, text),
                });
            }
            None => return Err(doctor.broken_off("authentication", &Trouble::Foreign(vec![]))),
        },
    };
    let who = config.user.as_deref().unwrap_or("default");
    let how = if config.password.is_some() { "by password" } else { "without a password" };
    findings.push(Finding::good("authentication", format!("user {who} is let in {how}")));
    findings.extend(select(doctor, line).await?);
    findings.push(protocol(entered.version3));
    Ok(entered)
}

async fn hello(config: &Config, line: &mut Line) -> Result<Value, Trouble> {
    let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = &config.password {
        let user = config.user.as_deref().unwrap_or("default");
        hello.extend([b"AUTH".as_slice(), user.as_bytes(), password.expose().as_bytes()]);
    }
    line.ask(&hello).await
}

fn entered(pairs: &[Value]) -> Entered {
    let field = |name: &str| {
        let found = pairs.chunks(2).find(|pair| pair[0].text() == Some(name));
        found.and_then(|pair| pair.get(1)?.text()).unwrap_or_default().to_owned()
    };
    Entered {
        version3: true,
        name: field("server"),
        version: field("version"),
        role: field("role"),
    }
}

/// Whether the server has no `HELLO`: one that lets nobody in yet does not say which commands it
/// has.
fn is_unknown(config: &Config, text: &str) -> bool {
    let unheard = config.password.is_some() && text.starts_with("NOAUTH");
    unheard || text.contains("unknown command") || text.starts_with("NOPROTO")
}

/// As servers and proxies without `HELLO` want it.
async fn log_in(doctor: &Doctor, line: &mut Line) -> Result<(), Finding> {
    let Config { user, password, .. } = &doctor.config;
    let args: Vec<&[u8]> = match (user, password) {
        (_, None) => vec![b"PING"],
        (None, Some(password)) => vec![b"AUTH", password.expose().as_bytes()],
        (Some(user), Some(password)) => {
            vec![b"AUTH", user.as_bytes(), password.expose().as_bytes()]
        }
    };
    let answer = line.ask(&args).await;
    let answer = answer.map_err(|trouble| doctor.broken_off("authentication", &trouble))?;
    match refused(&answer) {
        // The right to ask so is judged later.
        Some(text) if password.is_some() || text.starts_with("NOAUTH") => {
            Err(kept_out(doctor, text))
        }
        _ => Ok(()),
    }
}

fn kept_out(doctor: &Doctor, text: &str) -> Finding {
    let config = &doctor.config;
    if is_not_ready(text) {
        return doctor.not_ready("authentication", text);
    }
    let who = config.user.as_deref().unwrap_or("default");
    let (found, mend) = if text.starts_with("NOAUTH") {
        let mend = match &config.place {
            Place::Tcp(host, port) => {
                let scheme = if config.tls.is_some() { "rediss" } else { "redis" };
                let database = config.database;
                format!("--url '{scheme}://USER:PASSWORD@{host}:{port}/{database}'")
            }
            Place::Unix(path) => format!("--url 'unix://{}?password=TEXT'", path.display()),
        };
        ("the server demands a password, and none is given".to_owned(), mend)
    } else {
        let found = format!(
            "user {who} is not let in: the password is wrong, or there is no such user, or it is \
             off; servers do not say which ({text})"
        );
        let cli = doctor.cli(None);
        let mend = format!(
            "as an administrator: {} shows the user; a new password: {}",
            cli.run(&["ACL", "GETUSER", who]),
            cli.run(&["ACL", "SETUSER", who, "on", ">PASSWORD"])
        );
        (found, mend)
    };
    Finding::failure("authentication", found, NO_LOCKS, mend)
}

async fn select(doctor: &Doctor, line: &mut Line) -> Result<Option<Finding>, Finding> {
    let number = doctor.config.database;
    if number == 0 {
        return Ok(None);
    }
    let answer = line.ask(&[b"SELECT", number.to_string().as_bytes()]).await;
    let answer = answer.map_err(|trouble| doctor.broken_off("database", &trouble))?;
    let Some(text) = refused(&answer) else {
        return Ok(Some(Finding::good("database", format!("database {number} is there"))));
    };
    if is_not_ready(text) {
        return Err(doctor.not_ready("database", text));
    }
    let who = doctor.config.user.as_deref().unwrap_or("default");
    let grant = |right: &str| doctor.cli(None).run(&["ACL", "SETUSER", who, right]);
    let (found, mend) = if text.contains("access database") {
        let found = format!("user {who} may not use database {number}");
        (found, grant("alldbs"))
    } else if text.starts_with("NOPERM") {
        let found = format!("user {who} lacks +select, which database {number} takes");
        (found, grant("+select"))
    } else {
        let found = format!("there is no database {number}: {text}");
        let mend = Config { database: 0, ..doctor.config.clone() };
        (found, format!("--url '{mend}', or a larger `databases` in the server's settings"))
    };
    Err(Finding::failure("database", found, NO_LOCKS, mend))
}

fn protocol(version3: bool) -> Finding {
    let found = if version3 {
        "RESP3: messages come on the same connection"
    } else {
        "RESP2: messages come on a second connection"
    };
    Finding::good("protocol", found)
}

/// Whether it takes writes; where it does not, who does.
pub(super) async fn role(
    doctor: &Doctor,
    line: &mut Line,
    entered: &Entered,
) -> Result<Finding, Finding> {
    let answer = line.ask(&[b"ROLE"]).await;
    let answer = answer.map_err(|trouble| doctor.broken_off("role", &trouble))?;
    let parts = answer.list().unwrap_or_default();
    let role = parts.first().and_then(Value::text).unwrap_or(&entered.role);
    if matches!(role, "master" | "") {
        return Ok(Finding::good("role", "primary"));
    }
    let primary = match (role, parts) {
        ("slave" | "replica", [_, host, port, ..]) => {
            host.text().zip(port.int().and_then(|port| u16::try_from(port).ok()))
        }
        _ => None,
    };
    let role = if role == "slave" { "replica" } else { role };
    let (found, mend) = if let Some((host, port)) = primary {
        let place = Place::Tcp(host.to_owned(), port);
        let other = Config { place, ..doctor.config.clone() };
        (format!("a {role} of {host}:{port}"), format!("--url '{other}'"))
    } else {
        let shows = doctor.cli(None).run(&["INFO", "replication"]);
        (format!("a {role}"), format!("{shows} shows its primary: name that one with --url"))
    };
    let why = "a replica takes no writes, and what it shows of locks is old";
    Ok(Finding::failure("role", found, why, mend))
}

/// Whether scripts run at all; nothing else is asked of a server that is not ready.
pub(super) async fn scripts(doctor: &Doctor, line: &mut Line) -> Result<Finding, Finding> {
    const SCRIPT: &[u8] = b"return 1";
    let sha = sha1_smol::Sha1::from(SCRIPT).hexdigest();
    let mut answers = Vec::new();
    for args in [[b"EVAL", SCRIPT, b"0"], [b"EVALSHA", sha.as_bytes(), b"0"]] {
        let answer = line.ask(&args).await;
        answers.push(answer.map_err(|trouble| doctor.broken_off("scripts", &trouble))?);
    }
    match [refused(&answers[0]), refused(&answers[1])] {
        [Some(text), _] if is_not_ready(text) => Err(doctor.not_ready("scripts", text)),
        [Some(text), _] if !text.starts_with("NOPERM") => Err(Finding::failure(
            "scripts",
            format!("scripts do not run: {}", failure::refusal(text)),
            "every change of a lock is one script: no lock can be taken, renewed or released",
            "use a server, or a proxy before it, that has EVAL and EVALSHA",
        )),
        [_, Some(text)] if failure::is_no_script(text) => Ok(Finding::warning(
            "scripts",
            "scripts run, but are forgotten at once",
            "every request sends the whole script again",
            "let one server answer all requests: a proxy spreads them over several",
        )),
        [None, None] => Ok(Finding::good("scripts", "EVAL and EVALSHA run")),
        _ => Ok(Finding::good("scripts", "run as far as rights go")),
    }
}

pub(super) fn server(entered: &Entered, info: Option<&Info>) -> Finding {
    let redis = info.map_or("", |info| info.get("redis_version"));
    let valkey = info.map_or("", |info| info.get("valkey_version"));
    let (name, version) = match (valkey, redis, entered.version.as_str()) {
        ("", "", "") => return Finding::good("server", "does not say what it is"),
        ("", "", version) => (entered.name.as_str(), version),
        ("", version, _) => {
            (if entered.name.is_empty() { "redis" } else { &entered.name }, version)
        }
        (version, _, _) => ("valkey", version),
    };
    let mut numbers = version.split('.').map(|part| part.parse::<u64>().unwrap_or(u64::MAX));
    let numbers = (numbers.next().unwrap_or(u64::MAX), numbers.next().unwrap_or(u64::MAX));
    if numbers < OLDEST {
        return Finding::failure(
            "server",
            format!("{name} {version} is too old: 6.2 is the oldest that works"),
            "the scripts use what came with Redis 6.2: no lock can be taken",
            "move to Redis 6.2 or later, or to Valkey",
        );
    }
    let alias = if !valkey.is_empty() && valkey != redis && !redis.is_empty() {
        format!(" (it calls itself redis_version {redis} too, for old clients)")
    } else {
        String::new()
    };
    Finding::good("server", format!("{name} {version}{alias}"))
}

/// Adds the right to hear messages, which takes a connection of its own, and judges all.
pub(super) async fn rights(
    doctor: &Doctor,
    client: &str,
    verdict: &mut Verdict,
) -> Result<Finding, Finding> {
    let mut ears = reach::open(doctor).await?;
    let broken = |trouble| doctor.broken_off("rights", &trouble);
    if refused(&hello(&doctor.config, &mut ears).await.map_err(broken)?).is_some() {
        log_in(doctor, &mut ears).await?;
    }
    let channel = format!("{}{client}", channels(&doctor.prefix));
    let answer = ears.ask(&[b"SUBSCRIBE", channel.as_bytes()]).await.map_err(broken)?;
    if let Some(right) = refused(&answer).and_then(|text| rights::lacked(&doctor.prefix, text))
        && !verdict.missing.contains(&right)
    {
        verdict.missing.push(right);
    }
    if verdict.missing.is_empty() {
        return Ok(Finding::good("rights", "all that locks and operators need"));
    }
    let who = doctor.config.user.as_deref().unwrap_or("default");
    let missing = verdict.missing.join(" ");
    let mut words = vec!["ACL", "SETUSER", who];
    words.extend(verdict.missing.iter().map(String::as_str));
    let found = format!("user {who} lacks {missing}");
    let mend = doctor.cli(None).run(&words);
    Ok(if verdict.missing.iter().all(|right| rights::is_operators(right)) {
        let why = "locks work, but listing, cleaning up or this look does not";
        Finding::warning("rights", found, why, mend)
    } else {
        Finding::failure("rights", found, NO_LOCKS, mend)
    })
}

/// Whether a script that may write can.
pub(super) fn writes(cli: &Cli, verdict: &Verdict) -> Option<Finding> {
    if !verdict.missing.is_empty() {
        return None;
    }
    let Some(text) = verdict.refused.as_ref().or(verdict.unwritten.as_ref()) else {
        return Some(Finding::good("writes", "a script wrote a key of its own and took it back"));
    };
    let has = |word: &str| text.contains(word);
    let mend = if has("OOM") {
        let used = cli.run(&["INFO", "memory"]);
        let set = cli.set(&[("maxmemory", "BYTES")]);
        format!("with more BYTES than {used} shows as used: {set}")
    } else if has("MISCONF") {
        settings::saving(cli)
    } else if has("NOREPLICAS") {
        let shows = cli.run(&["INFO", "replication"]);
        format!("bring the replicas back: {shows} shows which are connected")
    } else if has("READONLY") {
        "name the primary with --url".to_owned()
    } else if has("CLUSTER") || has("CROSSSLOT") || has("MOVED") {
        "name a server that is no cluster with --url".to_owned()
    } else {
        "the server's own words say what to do".to_owned()
    };
    let found = format!("the server refuses writes: {}", failure::refusal(text));
    let why = "no key can be acquired; what is held is renewed and released only where no memory \
               is taken";
    Some(Finding::failure("writes", found, why, mend))
}

#[cfg(test)]
mod tests {
    use bidlock_core::Severity;

    use super::*;

    #[test]
    fn versions_are_judged_by_the_server_s_own_number() {
        let judge = |info: &str, name: &str, version: &str| {
            let entered = Entered {
                name: name.to_owned(),
                version: version.to_owned(),
                ..Entered::default()
            };
            let finding = server(&entered, Some(&Info::read(info)));
            (finding.severity, finding.found)
        };
        let (severity, found) = judge("redis_version:6.0.16", "redis", "6.0.16");
        assert_eq!(severity, Severity::Failure, "{found}");
        let (severity, found) =
            judge("redis_version:7.2.4\nvalkey_version:9.1.2", "valkey", "9.1.2");
        assert_eq!(severity, Severity::Good);
        assert!(found.contains("valkey 9.1.2") && found.contains("redis_version 7.2.4"), "{found}");
        for version in ["6.2.5", "7.0.15", "8.4.0", "255.255.255"] {
            let (severity, found) = judge(&format!("redis_version:{version}"), "redis", version);
            assert_eq!((severity, found), (Severity::Good, format!("redis {version}")));
        }
        assert_eq!(judge("", "", "").0, Severity::Good);
        assert_eq!(judge("redis_version:5.0.7", "", "").0, Severity::Failure);
    }
}
