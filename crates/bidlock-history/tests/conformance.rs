//! The conformance suite on real servers is recorded as well: what its clients saw of each key is
//! what one lock would have done.

use std::sync::Arc;

use bidlock_core::{Backend, Prefix};
use bidlock_history::{History, Recorded, Verdict, order, search};
use bidlock_redis::{Config, Redis};
use bidlock_testkit::conformance::{RULES, Rule};
use bidlock_testkit::servers::{ServerFixture, ServerKind, ServerOptions};

/// What a recorder does not see, or one lock would not do: acts of operators, lost data, and
/// clocks that are set. A queue of ten thousand is too long to search.
fn is_judged(rule: &Rule) -> bool {
    const NOT: [&str; 4] = ["data_loss", "wall_clock_steps", "token_bound", "queue_is_bounded"];
    !rule.cites.contains("I12") && !NOT.iter().any(|what| rule.name.contains(what))
}

fn fixture(kind: ServerKind, history: &History) -> ServerFixture {
    let history = history.clone();
    ServerFixture::new(kind, ServerOptions::new().append_only(true), move |server, platform| {
        let (url, platform, history) = (server.url(), platform.clone(), history.clone());
        Box::pin(async move {
            let config = Config::from_url(&url).expect("the server's own URL");
            let store = Redis::connect(&config, &Prefix::default(), &platform).await;
            let store = Arc::new(store.expect("the server answers"));
            let recorded = Recorded::new(store, Arc::clone(&platform.clock), &history);
            Arc::new(recorded) as Arc<dyn Backend>
        })
    })
}

fn judge_all(kind: ServerKind) {
    let mut calls = 0;
    for rule in RULES.iter().filter(|rule| is_judged(rule)) {
        let history = History::default();
        rule.check(&fixture(kind, &history));
        for (key, seen) in history.take() {
            calls += seen.len();
            let name = rule.name;
            assert_eq!(order(&seen), Ok(()), "{kind}, {name}, {key}: {seen:#?}");
            assert_eq!(search(&seen), Verdict::Linearizable, "{kind}, {name}, {key}: {seen:#?}");
        }
    }
    assert!(calls > 100, "{calls}");
}

#[test]
fn on_redis_6_2() {
    judge_all(ServerKind::Redis62);
}

#[test]
fn on_redis_7_0() {
    judge_all(ServerKind::Redis70);
}

#[test]
fn on_valkey_9() {
    judge_all(ServerKind::Valkey9);
}
