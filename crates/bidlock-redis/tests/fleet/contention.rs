//! Many processes want one posting: one at a time, in the order of their coming.

use bidlock_testkit::servers::ServerKind;
use bidlock_testkit::{Process, wait_until};

use crate::kit::{
    Fleet, SOON, all_end, figure, key, locker, millis, now, queue, queued, run, size, waiters,
};
use crate::servers;

const PROCESSES: u64 = 10;

servers!(all_are_served_one_at_a_time_in_order, one_of_all_succeeds_without_a_wait);

fn crowd(fleet: &Fleet, tasks: u64, ttl_ms: u64, hold_ms: u64) -> Process {
    fleet.play("crowd", &[1, tasks, 120_000, ttl_ms, hold_ms])
}

fn all_are_served_one_at_a_time_in_order(kind: ServerKind) {
    let full = if kind == ServerKind::Redis70 { 1_000 } else { 100 };
    let sizes = size(if full == 1_000 { vec![100, 1_000] } else { vec![100] }, vec![100, 1_000]);
    for tasks in sizes {
        let fleet = Fleet::new(kind);
        let locker = run(locker(&fleet.server.url()));
        let first = run(locker.acquire(&key(1)).into_future()).expect("it is free");
        let play = |_| crowd(&fleet, tasks / PROCESSES, 60_000, 0);
        let mut processes: Vec<_> = (0..PROCESSES).map(play).collect();
        let number = usize::try_from(tasks).expect("few");
        queued(&fleet.server, &key(1), number);
        let order = queue(&fleet.server, &key(1));
        let released = now(&locker);
        run(first.release()).expect("it is released");
        fleet.wait_for_cycles(number, &mut processes);
        let took = now(&locker).since(released);
        all_end(&mut processes);
        let served = fleet.checked();
        let served: Vec<_> = served.into_iter().map(|interval| interval.lease).collect();
        // I6
        assert!(served == order, "{kind}: served in another order than they came");
        let each = took / u32::try_from(tasks).expect("few");
        figure("contention", format!("{kind}: {tasks} in order, {took:?}, {each:?} each"));
    }
}

fn one_of_all_succeeds_without_a_wait(kind: ServerKind) {
    let full = if kind == ServerKind::Redis70 { 1_000 } else { 100 };
    let tasks = size(full, 1_000);
    let fleet = Fleet::new(kind);
    let play = |_| fleet.play("triers", &[1, tasks / PROCESSES]);
    let mut processes: Vec<_> = (0..PROCESSES).map(play).collect();
    for word in ["ready", "done"] {
        wait_until(word, SOON, || processes.iter().all(|p| p.stdout().contains(word)));
        fleet.sign("go");
    }
    let (mut granted, mut held) = (0, 0);
    for process in &processes {
        let output = process.stdout();
        let words: Vec<_> = output.split_whitespace().skip_while(|w| *w != "granted").collect();
        let ["granted", yes, "held", no, ..] = words[..] else { panic!("{output}") };
        granted += yes.parse::<u64>().expect("a number");
        held += no.parse::<u64>().expect("a number");
    }
    assert_eq!((granted, held), (1, tasks - 1), "{kind}");
    fleet.sign("end");
    all_end(&mut processes);
    assert_eq!(fleet.server.text(&["DBSIZE"]), "1", "only the counter is left");
}

#[test]
fn killed_waiters_delay_nobody() {
    let fleet = Fleet::new(ServerKind::Redis70);
    let each = 10;
    let locker = run(locker(&fleet.server.url()));
    let first = run(locker.acquire(&key(1)).into_future()).expect("it is free");
    let mut victims = Vec::new();
    for n in 1..=5 {
        victims.push(crowd(&fleet, each, 60_000, 0));
        queued(&fleet.server, &key(1), n * 10);
    }
    let mut others: Vec<_> = (0..5).map(|_| crowd(&fleet, each, 60_000, 0)).collect();
    queued(&fleet.server, &key(1), 100);
    let order = queue(&fleet.server, &key(1)).split_off(50);
    for victim in &mut victims {
        victim.kill().expect("it can be killed");
    }
    let released = now(&locker);
    run(first.release()).expect("it is released");
    fleet.wait_for_cycles(50, &mut others);
    all_end(&mut others);
    let served = fleet.checked();
    let took = served[0].entered.saturating_sub(released.since_boot());
    // R24: at once, or within a grant window of 3 s, when the server has not yet seen them die.
    assert!(took < millis(4_000), "{took:?}");
    assert!(served.into_iter().map(|interval| interval.lease).eq(order));
    // Their places stay, in case that they are only cut off, and end by themselves.
    let left: i64 = fleet.server.text(&["PTTL", &waiters(&key(1))]).parse().expect("a number");
    assert!((-2..=90_000).contains(&left) && left != -1, "{left}");
    figure("killed waiters", format!("50 of 100 killed: the next one after {took:?}"));
}

#[test]
fn a_stopped_process_costs_one_window_however_many_wait_in_it() {
    let fleet = Fleet::new(ServerKind::Valkey9);
    let locker = run(locker(&fleet.server.url()));
    let first = run(locker.acquire(&key(1)).into_future()).expect("it is free");
    // Their windows are as long as their TTL.
    let mut stopped = Vec::new();
    for n in 1..=2 {
        stopped.push(crowd(&fleet, 10, 1_000, 0));
        queued(&fleet.server, &key(1), n * 10);
    }
    let mut others: Vec<_> = (0..5).map(|_| crowd(&fleet, 10, 1_000, 0)).collect();
    queued(&fleet.server, &key(1), 70);
    for process in &stopped {
        process.stop().expect("it can be stopped");
    }
    let released = now(&locker);
    run(first.release()).expect("it is released");
    fleet.wait_for_cycles(50, &mut others);
    let served = fleet.checked();
    let took = served[0].entered.saturating_sub(released.since_boot());
    // I7
    assert!(took >= millis(1_900), "a stopped process was not given its window: {took:?}");
    assert!(took < millis(3_000), "{took:?}");
    // Whoever goes on joins the queue again, and nobody believes in what was passed on.
    let went_on = now(&locker);
    for process in &stopped {
        process.go_on().expect("it can go on");
    }
    fleet.wait_for_cycles(70, &mut stopped);
    // All of them at once, and not each at the look that it would have had anyway.
    let all = now(&locker).since(went_on);
    assert!(all < millis(15_000), "{all:?}");
    all_end(&mut stopped);
    all_end(&mut others);
    assert_eq!(fleet.checked().len(), 70);
    figure("stopped waiters", format!("2 processes of 10: the next one after {took:?}"));
}
