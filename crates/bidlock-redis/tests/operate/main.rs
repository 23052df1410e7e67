//! What operators see and do: the doctor, the least rights, cleaning up; each on real servers.

mod cleanup;
mod doctor;
mod rights;
mod settings;
mod tls;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use bidlock_core::{Diagnose as _, Finding, Platform, Prefix, Severity, Ttl};
use bidlock_redis::{Config, Doctor, Redis};
use bidlock_testkit::block_on;
use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};

/// The password of every server here; it may be seen nowhere.
const CANARY: &str = "c4n4ry-passw0rd";

fn platform() -> Platform {
    bidlock::platform::system().expect("threads start")
}

fn options() -> ServerOptions {
    ServerOptions::new().password(CANARY).append_only(true)
}

/// Starts one server of each kind in turn.
fn on_each(options: impl Fn() -> ServerOptions, test: impl Fn(&Server)) {
    for kind in ServerKind::ALL {
        test(&Server::start_with(kind, options()));
    }
}

fn look_with(url: &str, ttl: Duration) -> Vec<Finding> {
    let config = Config::from_url(url).expect("a URL");
    let doctor = Doctor::new(&config, &Prefix::default(), &platform());
    let findings = block_on(doctor.diagnose(Ttl::new(ttl).expect("a TTL")));
    assert!(!format!("{doctor:?} {config:?} {findings:?}").contains(CANARY), "a password is shown");
    for finding in &findings {
        let good = finding.severity == Severity::Good;
        assert_eq!(finding.why.is_empty(), good, "{finding:?}");
        assert_eq!(finding.mend.is_empty(), good, "{finding:?}");
    }
    findings
}

fn look(url: &str) -> Vec<Finding> {
    look_with(url, Duration::from_mins(5))
}

fn find<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("nothing about {check}: {findings:#?}"))
}

/// The finding about a check, with what it has to be and to name.
fn expect(server: &Server, url: &str, check: &str, severity: Severity, words: &[&str]) -> Finding {
    let findings = look(url);
    let finding = find(&findings, check);
    let text = format!("{} {} {}", finding.found, finding.why, finding.mend);
    assert_eq!(finding.severity, severity, "{}: {findings:#?}", server.kind());
    for word in words {
        assert!(text.contains(word), "{}: no {word:?} in {finding:#?}", server.kind());
    }
    finding.clone()
}

fn open(url: &str) -> Result<Redis, String> {
    let config = Config::from_url(url).expect("a URL");
    let opened = block_on(Redis::connect(&config, &Prefix::default(), &platform()));
    opened.map_err(|error| {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(CANARY), "{text}");
        text
    })
}

/// Runs a line as whoever pastes it into a shell does, as the administrator.
fn paste(line: &str) -> String {
    let mut shell = Command::new("sh");
    let ran = shell.args(["-c", line]).env("REDISCLI_AUTH", CANARY).output().expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{line}: {}", text(&ran.stderr));
    text(&ran.stdout)
}

/// What `redis-cli` needs to reach a server.
fn cli(server: &Server) -> String {
    format!("redis-cli -h 127.0.0.1 -p {} ", server.port())
}

/// A connection of another program, on which commands are lines.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn to(server: &Server) -> Self {
        Self(BufReader::new(TcpStream::connect(server.address()).expect("it listens")))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it is there");
    }

    /// The first line of the answer; nothing when the server has closed.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }
}
