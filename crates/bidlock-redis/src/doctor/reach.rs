//! Why there is no connection.

use std::io;

use bidlock_core::Finding;

use super::Doctor;
use super::cli::Cli;
use super::line::{Line, PATIENCE, Trouble};
use crate::config::{Config, Place, TlsFiles};
use crate::dial::{Connector as _, Dialer};
use crate::resp::Value;

const REACH: &str = "connection";
const TLS: &str = "tls";
const WHY: &str = "no lock can be taken, renewed or released";

/// Opens a connection; why it cannot is a finding.
pub(super) async fn open(doctor: &Doctor) -> Result<Line, Finding> {
    let config = &doctor.config;
    match connect(doctor, config).await {
        Ok(line) => Ok(line),
        Err(Attempt::Files(error)) => Err(Finding::failure(
            TLS,
            format!("cannot reach {config}: {error}"),
            WHY,
            "openssl x509 -noout -text -in FILE shows a certificate, openssl pkey -noout -in FILE \
             whether a key is sound; name files that are PEM, and that this user may read",
        )),
        Err(Attempt::Late) if config.tls.is_some() && answers_plainly(doctor).await => {
            Err(no_tls(config))
        }
        Err(Attempt::Late) => Err(late(doctor).await),
        Err(Attempt::Failed(error)) => {
            let insecure = config.tls.is_some()
                && error.kind() != io::ErrorKind::ConnectionRefused
                && !error.to_string().contains("certificate")
                && answers_plainly(doctor).await;
            Err(if insecure { no_tls(config) } else { explained(config, &error) })
        }
    }
}

/// Whether it was the name, or the server, that took so long.
async fn late(doctor: &Doctor) -> Finding {
    let (config, clock) = (&doctor.config, &doctor.platform.clock);
    if let Place::Tcp(host, port) = &config.place {
        let end = clock.sleep_until(clock.now() + PATIENCE);
        let resolved = tokio::select! {
            biased;
            found = tokio::net::lookup_host((host.as_str(), *port)) => found.map(drop),
            () = end => Err(io::Error::other(format!("no answer within {PATIENCE:?}"))),
        };
        if let Err(error) = resolved {
            return unresolved(config, host, &error);
        }
    }
    Finding::failure(
        REACH,
        format!("cannot reach {config}: no answer within {PATIENCE:?}"),
        WHY,
        format!("{}; a firewall may drop it, or the address be another's", knock(config)),
    )
}

fn unresolved(config: &Config, host: &str, error: &io::Error) -> Finding {
    let found = format!("cannot reach {config}: the name {host} has no address: {error}");
    let mend = format!("getent hosts {host} has to show an address: correct the name");
    Finding::failure(REACH, found, WHY, mend)
}

/// Why nothing came back on a connection that was there.
pub(super) async fn silent(doctor: &Doctor, trouble: &Trouble) -> Finding {
    let config = &doctor.config;
    let found = format!("cannot reach {config}: {trouble}");
    match trouble {
        Trouble::Failed(text) if config.tls.is_some() => {
            explained(config, &io::Error::other(text.clone()))
        }
        Trouble::Closed | Trouble::Foreign(_)
            if config.tls.is_none() && answers_by_tls(doctor).await =>
        {
            let mut secure = config.clone();
            secure.tls = Some(TlsFiles::default());
            Finding::failure(
                TLS,
                format!("cannot reach {config}: the server speaks TLS on this port"),
                WHY,
                format!("--url '{secure}' (with ?ca=FILE where its CA is your own)"),
            )
        }
        Trouble::Late => Finding::failure(
            REACH,
            found,
            WHY,
            format!("{}; the server stands still, or is another program", knock(config)),
        ),
        _ => Finding::failure(REACH, found, WHY, knock(config)),
    }
}

/// Why a server answers by an error before it lets anybody in.
pub(super) fn turned_away(config: &Config, text: &str) -> Option<Finding> {
    let mend = if text.starts_with("DENIED") {
        // It lets in nobody from elsewhere, `redis-cli` neither.
        let place = match &config.place {
            Place::Tcp(_, port) => Place::Tcp("127.0.0.1".to_owned(), *port),
            socket @ Place::Unix(_) => socket.clone(),
        };
        let there = Cli::to(&Config { place, ..config.clone() });
        let set = there.set(&[("requirepass", "PASSWORD")]);
        format!("set a password, and name it here with --url; on the server's machine: {set}")
    } else if text.contains("max number of clients") {
        let cli = Cli::to(config);
        let list = cli.run(&["CLIENT", "LIST"]);
        format!("{list} && {}", cli.set(&[("maxclients", "20000")]))
    } else {
        return None;
    };
    let found = format!("cannot reach {config}: the server turns this client away: {text}");
    Some(Finding::failure(REACH, found, WHY, mend))
}

enum Attempt {
    Files(io::Error),
    Late,
    Failed(io::Error),
}

async fn connect(doctor: &Doctor, config: &Config) -> Result<Line, Attempt> {
    let clock = &doctor.platform.clock;
    let dialer = Dialer::new(config).map_err(Attempt::Files)?;
    let late = clock.sleep_until(clock.now() + PATIENCE);
    tokio::select! {
        biased;
        stream = dialer.connect() => match stream {
            Ok(stream) => Ok(Line::new(stream, std::sync::Arc::clone(clock))),
            Err(error) => Err(Attempt::Failed(error)),
        },
        () = late => Err(Attempt::Late),
    }
}

/// Whether a server answers on this port without TLS. No password is sent.
async fn answers_plainly(doctor: &Doctor) -> bool {
    let plain = Config { tls: None, ..doctor.config.clone() };
    let Ok(mut line) = connect(doctor, &plain).await else { return false };
    matches!(line.ask(&[b"PING"]).await, Ok(Value::Text(_) | Value::Error(_)))
}

/// Whether what is on this port speaks TLS, whatever its certificate.
async fn answers_by_tls(doctor: &Doctor) -> bool {
    let secure = Config { tls: Some(TlsFiles::default()), ..doctor.config.clone() };
    match connect(doctor, &secure).await {
        Ok(_) => matches!(secure.place, Place::Tcp(..)),
        Err(Attempt::Failed(error)) => {
            let text = error.to_string();
            text.contains("peer certificate") || text.contains("fatal alert")
        }
        Err(_) => false,
    }
}

fn no_tls(config: &Config) -> Finding {
    let plain = Config { tls: None, ..config.clone() };
    Finding::failure(
        TLS,
        format!("cannot reach {config}: the server does not speak TLS on this port"),
        WHY,
        format!("--url '{plain}', or the server's tls-port"),
    )
}

fn explained(config: &Config, error: &io::Error) -> Finding {
    let text = error.to_string();
    let found = format!("cannot reach {config}: {text}");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let own_ca = config.tls.as_ref().is_some_and(|files| files.ca.is_some());
    let (check, mend) = if has(&["UnknownIssuer", "signed by nobody"]) {
        let mend = if own_ca {
            "the file of ?ca=FILE is not the CA that signed the server's certificate: name that one"
                .to_owned()
        } else {
            format!("--url '{config}?ca=FILE', where FILE is the CA's certificate in PEM")
        };
        (TLS, mend)
    } else if has(&["not valid for name", "for another name"]) {
        let mend = "name the server by a name of its certificate, or give it one with this name: \
                    openssl x509 -noout -ext subjectAltName -in FILE shows them";
        (TLS, mend.to_owned())
    } else if has(&["expired", "not valid yet"]) {
        (TLS, "give the server a certificate that is valid now, and look at both clocks".to_owned())
    } else if has(&["CertificateRequired", "certificate required"]) {
        let mend = "the server demands a certificate of its clients: add &cert=FILE&key=FILE to \
                    the URL (?cert= where it is the first option)";
        (TLS, mend.to_owned())
    } else if has(&["fatal alert"]) {
        let mend = "the server refuses the certificate of ?cert=FILE: name one that its CA signed";
        (TLS, mend.to_owned())
    } else if let Place::Tcp(host, _) = &config.place
        && has(&["lookup address"])
    {
        return unresolved(config, host, error);
    } else {
        return elsewhere(config, found);
    };
    Finding::failure(check, found, WHY, mend)
}

fn elsewhere(config: &Config, found: String) -> Finding {
    let mend = format!("{}; start the server there, or name another", knock(config));
    Finding::failure(REACH, found, WHY, mend)
}

/// The command that shows whether a server answers there at all.
fn knock(config: &Config) -> String {
    Cli::to(config).run(&["PING"])
}
