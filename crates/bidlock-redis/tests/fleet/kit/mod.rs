//! What the tests of fleets share: processes that play a part, a log of who held what when, and
//! what the server counts.

mod log;
mod part;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bidlock::platform::{LinuxProcesses, OsRng};
use bidlock::{Clock, Key, Locker, Moment, Platform, Ttl};
use bidlock_testkit::servers::{OffsetClock, Server};
use bidlock_testkit::{ThreadSpawn, wait_until};

pub(crate) use log::Log;
pub(crate) use part::{Fleet, Part, all_end};

/// Nothing here takes longer, unless it never comes.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// The size of a test: scaled down, or full.
pub(crate) fn size<T>(scaled: T, full: T) -> T {
    if std::env::var_os("BIDLOCK_SOAK").is_some() { full } else { scaled }
}

/// Says a figure that is recorded by hand.
#[expect(clippy::print_stdout, reason = "figures are read by people")]
pub(crate) fn figure(test: &str, what: impl Display) {
    println!("{test}: {what}");
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime starts").block_on(future)
}

pub(crate) async fn locker(url: &str) -> Locker {
    Locker::connect(url).await.expect("the server answers")
}

pub(crate) fn key(number: usize) -> Key {
    Key::new("upwork", &format!("job_{number:06}")).expect("a sound key")
}

pub(crate) fn ttl(length: Duration) -> Ttl {
    Ttl::new(length).expect("a sound TTL")
}

pub(crate) const fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

pub(crate) fn now(locker: &Locker) -> Moment {
    locker.platform().clock.now()
}

/// Lets real time pass for tasks.
pub(crate) async fn sleep(locker: &Locker, time: Duration) {
    let clock = &locker.platform().clock;
    clock.sleep_until(clock.now() + time).await;
}

/// Lets real time pass for a test that runs nothing else on its thread.
#[expect(clippy::disallowed_methods, reason = "real servers run in real time")]
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// A process's own platform, whose time passes by leaps as well.
pub(crate) fn leaping(clock: &OffsetClock) -> Platform {
    Platform {
        clock: Arc::new(clock.clone()),
        rng: Arc::new(OsRng),
        spawn: Arc::new(ThreadSpawn::start().expect("a thread starts")),
        processes: Arc::new(LinuxProcesses::read().expect("there is /proc")),
    }
}

/// Takes the server and all clients of a clock a leap ahead; the server goes first.
pub(crate) async fn leap(server: &Server, clock: &OffsetClock, time: Duration) {
    server.step_clock(i64::try_from(time.as_micros()).expect("a short leap"));
    clock.advance(time);
    clock.sleep_until(clock.now() + millis(20)).await;
}

/// How many calls the server had of clients for locks: what scripts call themselves is counted
/// by other names.
pub(crate) fn calls(server: &Server) -> u64 {
    let stats = server.command_stats();
    ["eval", "evalsha"].into_iter().filter_map(|name| stats.get(name)).sum()
}

/// Teaches a server all scripts, so that nothing is sent twice; returns how many calls a process
/// makes when it connects.
pub(crate) fn teach(server: &Server) -> u64 {
    run(async {
        server.reset_stats();
        let locker = locker(&server.url()).await;
        let connecting = calls(server);
        let lease = locker.acquire(&key(0)).await.expect("it is free");
        lease.renew().await.expect("it is renewed");
        lease.release().await.expect("it is released");
        connecting
    })
}

pub(crate) fn waiters(key: &Key) -> String {
    format!("{{{}}}:waiters", key.as_str())
}

/// Who waits for a key, in the order of the server's queue.
pub(crate) fn queue(server: &Server, key: &Key) -> Vec<String> {
    let all = server.text(&["ZRANGE", &waiters(key), "0", "-1"]);
    all.lines().map(str::to_owned).collect()
}

pub(crate) fn queued(server: &Server, key: &Key, number: usize) {
    wait_until(&format!("{number} wait"), SOON, || queue(server, key).len() == number);
}

/// The value below which so many of a hundred lie.
pub(crate) fn percentile(sorted: &[Duration], part: usize) -> Duration {
    let at = (sorted.len() * part).div_ceil(100).clamp(1, sorted.len()) - 1;
    sorted[at]
}

/// Short, as figures are read.
pub(crate) fn spread(lengths: &mut [Duration]) -> String {
    lengths.sort();
    format!(
        "n {}, p50 {:?}, p99 {:?}, most {:?}",
        lengths.len(),
        percentile(lengths, 50),
        percentile(lengths, 99),
        percentile(lengths, 100)
    )
}

/// Runs a test on each server.
#[macro_export]
macro_rules! servers {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use bidlock_testkit::servers::ServerKind;

            #[test]
            fn redis62() {
                super::$test(ServerKind::Redis62);
            }

            #[test]
            fn redis70() {
                super::$test(ServerKind::Redis70);
            }

            #[test]
            fn valkey9() {
                super::$test(ServerKind::Valkey9);
            }
        }
    )+};
}
