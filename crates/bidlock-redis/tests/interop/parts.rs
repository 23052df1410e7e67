//! The parts that processes play.

use bidlock::Wait;

use crate::kit::{Log, Part, SOON, key, locker, millis, run, sleep, ttl};

/// KEYS ROUNDS HOLD-MS: at a sign, takes random keys so many times.
#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
pub(crate) fn play(part: &Part) {
    assert_eq!(part.name, "crowd");
    let (keys, rounds, hold): (u64, usize, u64) = (part.number(0), part.number(1), part.number(2));
    let log = Log::open(&part.folder);
    run(async {
        let locker = locker(&part.url).await;
        let draw = |below: u64| locker.platform().rng.next_u64() % below;
        println!("ready");
        part.wait_for("go");
        for _ in 0..rounds {
            let key = key(usize::try_from(draw(keys)).expect("few"));
            let asked = locker.acquire(&key).wait(Wait::For(SOON)).ttl(ttl(millis(2_000)));
            let lease = asked.await.expect("it is granted");
            if let Some(until) = log.enter(&locker, &lease) {
                sleep(&locker, millis(draw(hold + 1))).await;
                log.exit(&locker, &lease, until);
            }
            lease.release().await.expect("nobody took it");
            sleep(&locker, millis(draw(hold + 1))).await;
        }
    });
}
