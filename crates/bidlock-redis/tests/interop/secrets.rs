//! Passwords and lease ids are told to nobody.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use bidlock::{Locker, Wait};
use bidlock_redis::Config;
use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::kit::{key, millis, run, sleep, ttl};

const CANARY: &str = "canary-pa55w0rd";
const WRONG: &str = "canary-wr0ng";

/// Keeps every word of every event and span.
struct Everything;

fn words() -> &'static Mutex<String> {
    static WORDS: OnceLock<Mutex<String>> = OnceLock::new();
    WORDS.get_or_init(Mutex::default)
}

fn note(word: &str) {
    let mut words = words().lock().unwrap_or_else(PoisonError::into_inner);
    words.push_str(word);
    words.push('\n');
}

struct Words;

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        note(&format!("{field}={value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        note(&format!("{field}={value}"));
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Words);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Words);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// All errors of a chain, as people and as programmers see them.
fn shown(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut next = error.source();
    while let Some(source) = next {
        writeln!(text, "{source}\n{source:?}").expect("memory for a line");
        next = source.source();
    }
    text
}

/// Errors of a wrong password, of a URL that is wrong, and of a server that is away.
async fn errors(server: &Server) -> String {
    let mut text = String::new();
    let right = server.url();
    for url in [
        right.replace(CANARY, WRONG),
        right.replace("127.0.0.1:", "127.0.0.1:x"),
        right.replace("127.0.0.1", "127.0.0.1@here"),
        right.replace("redis://", "rediss://"),
        format!("{right}?what={CANARY}"),
        right.replace(CANARY, &format!("{CANARY}@more")),
        right.replace(CANARY, &format!("{CANARY}/more")),
        right.replace(CANARY, &format!("{CANARY}?more")),
        right.replace(CANARY, &format!("{CANARY}#more")),
        right.replace(CANARY, &format!("{CANARY}:more")),
        right.replace("redis://", "redis:/"),
        right.replace("redis://", ""),
        right.replace(&format!(":{}", server.port()), ":1"),
    ] {
        let failed = Locker::connect(&url).await.expect_err("it is wrong");
        text.push_str(&shown(&failed));
        match Config::from_url(&url) {
            Ok(config) => write!(text, "{config} {config:?} {:?}", config.endpoint()),
            Err(bad) => write!(text, "{bad} {bad:?}"),
        }
        .expect("memory for a line");
    }
    text
}

#[test]
fn passwords_and_lease_ids_are_in_no_output() {
    tracing::subscriber::set_global_default(Everything).expect("it is the only one");
    let mut text = String::new();
    let mut secrets = vec![CANARY.to_owned(), WRONG.to_owned()];
    for kind in ServerKind::ALL {
        let server = Server::start_with(kind, ServerOptions::new().password(CANARY));
        run(async {
            text.push_str(&errors(&server).await);
            let locker = Locker::connect(&server.url()).await.expect("the server answers");
            write!(text, "{locker:?} {:#?} {}", locker.endpoint(), locker.endpoint()).unwrap();
            let lease = locker.acquire(&key(1)).ttl(ttl(millis(900))).await.expect("it is free");
            let id = lease.id().expose();
            secrets.push(id.rsplit_once(':').expect("three parts").1.to_owned());
            write!(text, "{lease:?} {:#?} {:?} {}", lease, lease.id(), lease.id()).unwrap();
            let waits = locker.acquire(&key(1));
            write!(text, "{waits:?}").unwrap();
            let held = waits.wait(Wait::For(millis(50))).await.expect_err("it is held");
            text.push_str(&shown(&held));
            let locks = locker.browse().expect("it can").inspect(lease.key()).await.unwrap();
            write!(text, "{locks:?} {:?}", locker.ping().await.unwrap()).unwrap();
            // Renewed, cut, renewed again, and lost.
            sleep(&locker, millis(400)).await;
            server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            sleep(&locker, millis(400)).await;
            server.kill();
            text.push_str(lease.lost().await.as_str());
            text.push_str(&shown(&lease.check().expect_err("it is lost")));
            text.push_str(&shown(&lease.release().await.expect_err("it is lost")));
            text.push_str(&shown(&locker.ping().await.expect_err("the server is away")));
        });
    }
    let traced = words().lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(traced.contains("acquired") && traced.contains("lease lost"), "{traced}");
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{secret} in {line:?}");
        let line = traced.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{secret} in {line:?}");
    }
}
