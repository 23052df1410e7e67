//! What waiting and handing over cost: calls of clients, as the server counts them.

use std::time::Duration;

use bidlock::{Label, Lease, Locker, Wait};
use bidlock_testkit::Process;
use bidlock_testkit::servers::{OffsetClock, ServerKind, ServerOptions};
use tokio::task::JoinSet;

use crate::kit::{
    Fleet, all_end, calls, figure, key, leap, leaping, locker, millis, now, queue, queued, rest,
    run, size, sleep, teach, ttl,
};
use crate::servers;

servers!(a_hand_over_takes_two_calls, waiters_send_nothing_while_nothing_changes);

fn crowd(fleet: &Fleet, processes: u64, tasks: u64, hold_ms: u64) -> Vec<Process> {
    let play = |_| fleet.play("crowd", &[1, tasks / processes, 300_000, 60_000, hold_ms]);
    (0..processes).map(play).collect()
}

fn waiting(fleet: &Fleet, processes: u64, tasks: u64, hold_ms: u64) -> Vec<Process> {
    let all = crowd(fleet, processes, tasks, hold_ms);
    queued(&fleet.server, &key(1), usize::try_from(tasks).expect("few"));
    all
}

fn a_hand_over_takes_two_calls(kind: ServerKind) {
    for (processes, tasks) in [(1, 1), (1, 10), (5, 10), (10, 100)] {
        let fleet = Fleet::new(kind);
        teach(&fleet.server);
        let locker = run(locker(&fleet.server.url()));
        let first = run(locker.acquire(&key(1)).into_future()).expect("it is free");
        // Long enough for every grant to be confirmed.
        let mut all = waiting(&fleet, processes, tasks, 5);
        fleet.server.reset_stats();
        run(first.release()).expect("it is released");
        let number = usize::try_from(tasks).expect("few");
        fleet.wait_for_cycles(number, &mut all);
        all_end(&mut all);
        // A release and a confirmation for each, and the last release, which hands nothing over.
        let calls = calls(&fleet.server);
        assert!(calls <= 2 * tasks + 1, "{kind}: {calls} calls for {tasks} hand-overs");
        assert!(calls > tasks, "{kind}: {calls} calls are not all of them");
        assert_eq!(fleet.checked().len(), number);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let each = (calls - 1) as f64 / tasks as f64;
        figure("hand-over", format!("{kind}: {tasks} waiters in {processes}: {each:.2} calls"));
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Seconds that a process has had a processor.
fn cpu(process: &Process) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it lives");
    let fields = stat.rsplit_once(')').expect("a name").1.split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
    millis(ticks * 10)
}

fn waiters_send_nothing_while_nothing_changes(kind: ServerKind) {
    let held = size(5, if kind == ServerKind::Redis70 { 60 } else { 5 });
    let few = if kind == ServerKind::Redis70 { vec![1, 10] } else { vec![10] };
    for processes in size(few, vec![1, 10]) {
        let fleet = Fleet::new(kind);
        let connecting = teach(&fleet.server);
        let locker = run(locker(&fleet.server.url()));
        let first = run(locker.acquire(&key(1)).into_future()).expect("it is free");
        fleet.server.reset_stats();
        let mut all = waiting(&fleet, processes, 100, 0);
        let connections = || number(&fleet.server.info("stats", "total_connections_received"));
        let connected = connections();
        let before: Duration = all.iter().map(cpu).sum();
        rest(Duration::from_secs(held));
        // One for each waiter; then one look of each process in 30 s.
        let most = 100 + processes * (connecting + held / 30);
        let calls = calls(&fleet.server);
        let least = 100 + processes * connecting;
        assert!((least..=most).contains(&calls), "{kind}, {processes} processes: {calls} calls");
        let pings = fleet.server.command_stats().get("ping").copied().unwrap_or_default();
        // Silence is tested after 2 s, and the test takes none.
        let most = processes * (held / 2 + 1);
        assert!((1..=most).contains(&pings), "{kind}: {pings} pings of {processes} processes");
        let busy = all.iter().map(cpu).sum::<Duration>().saturating_sub(before);
        let share = busy.as_secs_f64() / Duration::from_secs(held * processes).as_secs_f64();
        // R3
        assert!(share < 0.05, "{kind}: each of {processes} used {share:.3} of a processor");
        // The looks of this test come by connections too.
        assert!(connections() - connected < 10, "{kind}: somebody came anew");
        figure(
            "waiting",
            format!(
                "{kind}: 100 in {processes} for {held} s: {pings} pings, \
            {share:.4} of a processor each"
            ),
        );
        run(first.release()).expect("it is released");
        fleet.wait_for_cycles(100, &mut all);
        all_end(&mut all);
    }
}

/// A locker on a clock of leaps, and so many tasks of it that wait for a key.
async fn patient(
    fleet: &Fleet,
    clock: &OffsetClock,
    number: usize,
    wait: Wait,
) -> (Locker, JoinSet<usize>) {
    let builder = Locker::builder().platform(leaping(clock));
    let locker = builder.connect(&fleet.server.url()).await.expect("the server answers");
    let mut all = JoinSet::new();
    for n in 0..number {
        let asked = locker.acquire(&key(1)).wait(wait).holder_label(label(n));
        all.spawn(async move {
            let lease = asked.await.expect("it is granted");
            lease.release().await.expect("it is released");
            n
        });
        // One after the other, so that their order is known.
        while queue(&fleet.server, &key(1)).len() <= n {
            sleep(&locker, millis(5)).await;
        }
    }
    (locker, all)
}

fn label(number: usize) -> Label {
    Label::new(&format!("number {number}")).expect("a sound label")
}

/// Holds the key for a day, without a word.
async fn hold_for_a_day(fleet: &Fleet) -> Lease {
    let holder = locker(&fleet.server.url()).await;
    let day = ttl(Duration::from_hours(24));
    holder.acquire(&key(1)).ttl(day).renew(false).await.expect("it is free")
}

#[test]
fn a_waiting_process_looks_once_in_half_a_minute_and_everybody_keeps_his_place() {
    for wait in [Wait::For(Duration::from_hours(12)), Wait::Forever] {
        let fleet = Fleet::with(ServerKind::Redis70, ServerOptions::new().clock(true));
        teach(&fleet.server);
        run(async {
            let clock = OffsetClock::start().expect("a thread starts");
            let held = hold_for_a_day(&fleet).await;
            let (locker, mut all) = patient(&fleet, &clock, 10, wait).await;
            let order = queue(&fleet.server, &key(1));
            for minute in 1..=size(3, 30) {
                fleet.server.reset_stats();
                for _ in 0..60 {
                    leap(&fleet.server, &clock, Duration::from_secs(1)).await;
                }
                let calls = calls(&fleet.server);
                // P4: once in 30 s.
                assert!(calls <= 3, "{wait:?}: {calls} calls in minute {minute}");
                assert_eq!(queue(&fleet.server, &key(1)), order, "{wait:?}, minute {minute}");
            }
            let released = now(&locker);
            held.release().await.expect("it is released");
            for n in 0..10 {
                let served = all.join_next().await.expect("ten wait").expect("it is served");
                // I6
                assert_eq!(served, n, "{wait:?}: out of turn");
            }
            let took = now(&locker).since(released);
            assert!(took < Duration::from_secs(2), "{wait:?}: {took:?}");
        });
    }
}
