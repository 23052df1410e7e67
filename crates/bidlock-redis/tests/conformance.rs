//! The whole suite over every server of the matrix, and over the connections that differ: a
//! second connection for messages where there is no RESP3, and a user with the least rights.

use std::sync::Arc;

use bidlock_core::{Backend, BoxFuture, Platform, Prefix};
use bidlock_redis::{Config, Redis, acl};
use bidlock_testkit::servers::{ServerFixture, ServerKind, ServerOptions};

const PASSWORD: &str = "s3cret pass/word";

fn fixture(kind: ServerKind) -> ServerFixture {
    let options = ServerOptions::new().password(PASSWORD).append_only(true);
    ServerFixture::new(kind, options, |server, platform| connect(server.url(), platform))
}

/// As a user who may do what `bidlock doctor --acl` prints, and nothing else (R23).
fn least(kind: ServerKind) -> ServerFixture {
    let prefixes = ["bid_lock", "other_lock", "bid_lock2"];
    let prefixes = prefixes.map(|prefix| Prefix::new(prefix).expect("a prefix"));
    let prefixes: Vec<&Prefix> = prefixes.iter().collect();
    let words = acl("bots", "least", &prefixes, 0);
    // Over a restart a server keeps those users alone that its settings name.
    let user = ["--user".to_owned()].into_iter().chain(words[2..].iter().cloned());
    let options = ServerOptions::new().password(PASSWORD).append_only(true).args(user);
    ServerFixture::new(kind, options, |server, platform| {
        connect(format!("redis://bots:least@{}", server.address()), platform)
    })
}

fn connect(url: String, platform: &Platform) -> BoxFuture<'static, Arc<dyn Backend>> {
    let platform = platform.clone();
    Box::pin(async move {
        let config = Config::from_url(&url).expect("the server's own URL");
        let store = Redis::connect(&config, &Prefix::default(), &platform).await;
        Arc::new(store.expect("the server answers")) as Arc<dyn Backend>
    })
}

fn on_redis62() -> ServerFixture {
    fixture(ServerKind::Redis62)
}

fn on_redis70() -> ServerFixture {
    fixture(ServerKind::Redis70)
}

fn on_valkey9() -> ServerFixture {
    fixture(ServerKind::Valkey9)
}

fn least_on_redis62() -> ServerFixture {
    least(ServerKind::Redis62)
}

fn least_on_redis70() -> ServerFixture {
    least(ServerKind::Redis70)
}

fn least_on_valkey9() -> ServerFixture {
    least(ServerKind::Valkey9)
}

bidlock_testkit::conformance!(redis62, on_redis62());
bidlock_testkit::conformance!(redis70, on_redis70());
bidlock_testkit::conformance!(valkey9, on_valkey9());
bidlock_testkit::conformance!(redis62_acl, least_on_redis62());
bidlock_testkit::conformance!(redis70_acl, least_on_redis70());
bidlock_testkit::conformance!(valkey9_acl, least_on_valkey9());
