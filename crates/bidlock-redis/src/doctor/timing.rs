//! Clocks, and how long answers take.

use std::time::Duration;

use bidlock_core::{Finding, Ttl, WallTime};

use super::Doctor;
use super::cli::Cli;
use super::line::Line;
use crate::driver::time_of;

const ROUND_TRIPS: usize = 20;
const READINGS: usize = 5;
/// People who compare logs are misled by more.
const APART: Duration = Duration::from_secs(1);
/// Setting the server's clock right ends leases that are shorter.
const FAR_APART: Duration = Duration::from_mins(1);

/// The server's clock against the one here; nothing where this user may not ask.
pub(super) async fn clock(doctor: &Doctor, line: &mut Line) -> Result<Option<Finding>, Finding> {
    let clock = &doctor.platform.clock;
    let mut best: Option<(Duration, i128)> = None;
    for _ in 0..READINGS {
        let (sent, wall) = (clock.now(), clock.wall());
        let answer = line.ask(&[b"TIME"]).await;
        let answer = answer.map_err(|trouble| doctor.broken_off("clock", &trouble))?;
        let took = clock.now().since(sent);
        let Some(server) = time_of(&answer) else { return Ok(None) };
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, ahead(server, wall, took)));
        }
    }
    Ok(best.map(|(took, ahead)| apart(ahead, took / 2)))
}

/// How far the server's clock is ahead of the one here, which was read before the question.
fn ahead(server: i64, wall: WallTime, took: Duration) -> i128 {
    // Read half-way between the send and the receipt, for all that is known.
    i128::from(server) - i128::from(wall.as_micros()) - micros(took) / 2
}

fn micros(length: Duration) -> i128 {
    i128::try_from(length.as_micros()).unwrap_or(i128::MAX)
}

/// Judges how far the server's clock is ahead, in microseconds, give or take `unsure`.
fn apart(ahead: i128, unsure: Duration) -> Finding {
    const CHECK: &str = "clock";
    let size = u64::try_from(ahead.unsigned_abs()).unwrap_or(u64::MAX);
    let size = Duration::from_micros(size);
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let found =
        format!("the server's clock is {} {way} the one here (± {})", span(size), span(unsure));
    let certain = size.saturating_sub(unsure);
    let mend = "chronyc tracking, or timedatectl timesync-status, shows on both machines which \
                clock is wrong; let a time server keep both";
    if certain >= FAR_APART {
        let why = "setting the server's clock right moves every lease by as much: those that are \
                   shorter end at once, with their holders still at work";
        Finding::failure(CHECK, found, why, mend)
    } else if certain >= APART {
        let why = "leases end by the server's clock alone and stay right, but what people compare, \
                   such as the ages of locks with logs, does not; a clock that runs free will be \
                   set one day, and every lease moves with it";
        Finding::warning(CHECK, found, why, mend)
    } else {
        Finding::good(CHECK, found)
    }
}

/// How long answers take, against what a renewal has.
pub(super) async fn round_trips(
    doctor: &Doctor,
    line: &mut Line,
    ttl: Ttl,
) -> Result<Finding, Finding> {
    let clock = &doctor.platform.clock;
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let sent = clock.now();
        // That it may not ask takes as long to say.
        let answer = line.ask(&[b"PING"]).await;
        answer.map_err(|trouble| doctor.broken_off("round trip", &trouble))?;
        trips.push(clock.now().since(sent));
    }
    Ok(judged(trips, ttl, &doctor.cli(None)))
}

/// One request may take a third of the TTL, from 0.25 s to 5 s; three have to fit into that.
fn judged(mut trips: Vec<Duration>, ttl: Ttl, cli: &Cli) -> Finding {
    const CHECK: &str = "round trip";
    trips.sort_unstable();
    let (Some(least), Some(most)) = (trips.first(), trips.last()) else {
        return Finding::good(CHECK, "not measured");
    };
    let median = trips[trips.len() / 2];
    let limit = (ttl.get() / 3).clamp(Duration::from_millis(250), Duration::from_secs(5));
    let found = format!(
        "median {}, most {}, jitter {} in {} requests; a TTL of {} allows {}",
        span(median),
        span(*most),
        span(most.saturating_sub(*least)),
        trips.len(),
        span(ttl.get()),
        span(limit)
    );
    let why = "a renewal that comes late loses the lease";
    // Nine of the slowest; a request may never take longer than 5 s, however long the TTL.
    let mend = if *most * 3 > Duration::from_secs(5) {
        format!(
            "bring the server nearer, or find out what slows it: {}, and {}",
            cli.run(&["--latency"]),
            cli.run(&["SLOWLOG", "GET"])
        )
    } else {
        format!("use a longer TTL: --ttl {}s", (most.as_secs() + 1) * 9)
    };
    if *most >= limit {
        Finding::failure(CHECK, found, why, mend)
    } else if *most * 3 >= limit {
        Finding::warning(CHECK, found, why, mend)
    } else {
        Finding::good(CHECK, found)
    }
}

/// A length of time, in a unit that fits.
fn span(length: Duration) -> String {
    match length.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        micros @ 1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
        micros => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use bidlock_core::Severity;

    use super::*;
    use crate::config::Config;

    #[test]
    fn half_of_the_way_is_no_difference() {
        let wall = WallTime::from_micros(5_000_000);
        assert_eq!(ahead(7_500_000, wall, Duration::from_secs(5)), 0);
        assert_eq!(ahead(5_000_000, wall, Duration::from_secs(5)), -2_500_000);
    }

    #[test]
    fn clocks_are_judged_by_what_is_certain() {
        let judge = |ahead: i128, unsure: u64| apart(ahead, Duration::from_millis(unsure)).severity;
        assert_eq!(judge(900_000, 0), Severity::Good);
        assert_eq!(judge(1_400_000, 500), Severity::Good);
        assert_eq!(judge(-1_000_000, 0), Severity::Warning);
        assert_eq!(judge(-61_000_000, 500), Severity::Failure);
        let behind = apart(-3_600_000_000, Duration::from_millis(2)).found;
        assert!(behind.contains("3600.0 s behind") && behind.contains("± 2.0 ms"), "{behind}");
    }

    #[test]
    fn round_trips_are_judged_by_the_slowest() {
        let judge = |most: u64, ttl: u64| {
            let trips = vec![Duration::from_millis(1), Duration::from_millis(most)];
            let cli = Cli::to(&Config::from_url("redis://h").unwrap());
            judged(trips, Ttl::new(Duration::from_secs(ttl)).unwrap(), &cli)
        };
        assert_eq!(judge(300, 3).severity, Severity::Good);
        let slow = judge(334, 3);
        assert_eq!(slow.severity, Severity::Warning);
        assert!(slow.mend.contains("--ttl 9s") && slow.found.contains("allows 1.0 s"), "{slow:?}");
        assert_eq!(judge(1_000, 3).severity, Severity::Failure);
        assert_eq!(judge(1_000, 300).severity, Severity::Good);
        let hopeless = judge(4_999, 300);
        assert_eq!(hopeless.severity, Severity::Warning);
        assert!(hopeless.mend.contains("redis-cli -h h -p 6379 --latency"), "{hopeless:?}");
    }
}
