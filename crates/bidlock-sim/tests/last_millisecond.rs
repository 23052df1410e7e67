//! What scripts do to a key in its last millisecond, when the server says that nothing is left of
//! it, and it is there: a time that no test on a real server hits when it wants to.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use bidlock_sim::redis::{Kind, Reply, Server};

const CONNECTION: u64 = 1;
const LOCK: &str = "bid_lock:upwork:job_1";
const START: u64 = 1_800_000_000_000_000;

fn told(server: &mut Server, words: &[&str]) -> Reply {
    let words: Vec<Vec<u8>> = words.iter().map(|word| (*word).into()).collect();
    server.command(CONNECTION, &words)
}

/// Marks the grant of token 5 as an operator.
fn revoke(server: &mut Server) -> Reply {
    let scripts = bidlock_redis::Scripts::default();
    let (_, text) = scripts.texts().find(|(name, _)| *name == "revoke").unwrap();
    let queue = format!("{{{LOCK}}}:waiters");
    let places = format!("{{{LOCK}}}:places");
    let revoked = format!("{{{LOCK}}}:revoked");
    let keys = [LOCK, &queue, &places, "bid_lock:#tokens", &revoked];
    told(server, &[&["EVAL", text, "5"][..], &keys, &["5", "0"]].concat())
}

#[test]
fn who_revokes_again_keeps_no_lease_alive() {
    // I12
    for kind in [Kind::Redis62, Kind::Redis70, Kind::Valkey9] {
        let mut server = Server::new(kind).unwrap();
        server.open(CONNECTION);
        server.at(START);
        let held = "host-1:7:0000000000000001#b1;5;h;000000000001;";
        told(&mut server, &["SET", LOCK, held, "PX", "100"]);
        let marked = |left| Reply::Array(vec![Reply::Int(1), Reply::Int(left)]);
        assert_eq!(revoke(&mut server), marked(100), "{kind:?}");
        server.at(START + 100_000);
        assert_eq!(revoke(&mut server), marked(1), "{kind:?}: it is there for this millisecond");
        server.at(START + 101_000);
        let gone = Reply::Array(vec![Reply::Int(0), Reply::Int(-1)]);
        assert_eq!(revoke(&mut server), gone, "{kind:?}");
    }
}
