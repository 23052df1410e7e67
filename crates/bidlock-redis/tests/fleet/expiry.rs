//! How exactly a dead holder's key goes on, beside many keys that end too.

use std::time::Duration;

use bidlock::{Locker, Moment, Wait};
use bidlock_testkit::servers::{Server, ServerKind};
use tokio::task::JoinSet;

use crate::kit::{
    Fleet, SOON, figure, key, locker, millis, now, percentile, run, size, spread, ttl,
};
use crate::parts::holds;

const FOREIGN: usize = 200_000;
const FILL: &str = "for n = 1, tonumber(ARGV[1]) do redis.call('SET', ARGV[2] .. n, 'value', 'PX', \
                    math.random(200, 60000)) end";

/// Fills a server with keys of others, which end all the time.
fn fill(server: &Server) {
    for part in 0..20 {
        let (number, name) = ((FOREIGN / 20).to_string(), format!("session:{part}:"));
        server.command(&["EVAL", FILL, "0", &number, &name]);
    }
    let keys: usize = server.text(&["DBSIZE"]).parse().expect("a number");
    assert!(keys > FOREIGN * 9 / 10, "{keys}");
}

/// When a key ends, not later than the server will have it.
fn ends(server: &Server, locker: &Locker, number: usize) -> Moment {
    let before = now(locker);
    let left: u64 = server.text(&["PTTL", key(number).as_str()]).parse().expect("it is held");
    before + millis(left)
}

/// One round: a process that holds some keys is killed, and waiters here get them.
async fn round(fleet: &Fleet, locker: &Locker, first: usize, keys: usize) -> Vec<Duration> {
    let mut holder = fleet.play("holder", &[first as u64, 500, keys as u64]);
    holds(&holder);
    let mut waits = JoinSet::new();
    for number in first..first + keys {
        let (locker, wait) = (locker.clone(), Wait::For(SOON));
        waits.spawn(async move {
            let lease = locker.acquire(&key(number)).wait(wait).ttl(ttl(SOON)).await;
            let at = now(&locker);
            lease.expect("it is granted").release().await.expect("it is released");
            (number, at)
        });
    }
    while fleet.server.text(&["KEYS", "{bid_lock*waiters"]).lines().count() < keys {
        crate::kit::sleep(locker, millis(20)).await;
    }
    holder.kill().expect("it can be killed");
    holder.wait(SOON);
    let ends: Vec<_> = (first..first + keys).map(|n| ends(&fleet.server, locker, n)).collect();
    let mut late = Vec::new();
    while let Some(got) = waits.join_next().await {
        let (number, at) = got.expect("it ends");
        let end = ends[number - first];
        // The server rounds what is left of a key, and so does this test.
        assert!(at + millis(3) >= end, "job {number} went on {:?} too early", end.since(at));
        late.push(at.since(end));
    }
    late
}

fn beside_many_others(kind: ServerKind) {
    let fleet = Fleet::new(kind);
    let (rounds, keys) = size((10, 5), (50, 10));
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let mut late = Vec::new();
        for n in 0..rounds {
            if n % 10 == 0 {
                fill(&fleet.server);
            }
            late.extend(round(&fleet, &locker, n * keys, keys).await);
        }
        figure("expiry", format!("{kind}, {FOREIGN} other keys: {}", spread(&mut late)));
        // Made for shared machines; 50 ms is for one that is not.
        assert!(percentile(&late, 90) < millis(size(500, 50)), "{late:?}");
        assert!(late.len() >= 50);
    });
}

#[test]
fn a_dead_holders_key_goes_on_at_its_expiry_beside_200_000_others() {
    for kind in size(vec![ServerKind::Redis70], ServerKind::ALL.to_vec()) {
        beside_many_others(kind);
    }
}
