//! The whole suite over every server of the matrix, and over the connections that differ: a
//! second connection for messages where there is no RESP3, and a user with the least rights.

use std::sync::Arc;

use bidlock_core::{Backend, Prefix};
use bidlock_redis::{Config, Redis};
use bidlock_testkit::servers::{ServerFixture, ServerKind, ServerOptions};

fn fixture(kind: ServerKind) -> ServerFixture {
    let options = ServerOptions::new().password("s3cret pass/word").append_only(true);
    ServerFixture::new(kind, options, |server, platform| {
        let (url, platform) = (server.url(), platform.clone());
        Box::pin(async move {
            let config = Config::from_url(&url).expect("the server's own URL");
            let store = Redis::connect(&config, &Prefix::default(), &platform).await;
            Arc::new(store.expect("the server answers")) as Arc<dyn Backend>
        })
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

bidlock_testkit::conformance!(redis62, on_redis62());
bidlock_testkit::conformance!(redis70, on_redis70());
bidlock_testkit::conformance!(valkey9, on_valkey9());
