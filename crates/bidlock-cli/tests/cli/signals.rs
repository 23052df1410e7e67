use std::fs;

use nix::sys::signal::Signal;

use crate::{User, runs};

#[test]
fn term_stops_the_command_and_its_group_and_leaves_the_bid_in_doubt() {
    let user = User::new();
    let script = "trap 'exit 75' TERM; echo $$ > pid; sleep 60 & echo $! > sleeper; \
                  echo ready; wait";
    let bid = user.until_ready(&["bid", "upwork", "j", "--", "sh", "-c", script]);
    bid.signal(Signal::SIGTERM);
    let ended = bid.end();
    // L4: whoever was signalled cannot vouch for nothing having been sent.
    assert_eq!(ended.code, 11, "{ended:?}");
    assert!(ended.stderr.contains("SIGTERM"), "{ended:?}");
    assert!(!runs(&user.path("pid")) && !runs(&user.path("sleeper")));
    assert!(user.run(&["bids", "--json"]).stdout.contains("\"state\":\"unknown\""));
    assert_eq!(user.run(&["locks", "--json"]).stdout, "", "the lock is released");
}

#[test]
fn a_signal_during_the_wait_leaves_nothing_behind() {
    let user = User::new();
    let holder = user.until_ready(&["lock", "upwork", "j", "sh", "-c", "echo ready; sleep 60"]);
    let mut waiting = user.command(&["bid", "upwork", "j", "--wait", "forever", "touch", "ran"]);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let child = until_queued(&user, &mut waiting);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal)
            .unwrap();
        let ended = crate::Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, code, "{ended:?}");
    }
    assert!(!user.path("ran").exists());
    assert_eq!(user.run(&["bids", "--json"]).stdout, "", "nothing was reserved");
    holder.signal(Signal::SIGTERM);
    holder.end();
}

/// Starts a bid that has to wait, and returns once it stands in the queue.
fn until_queued(user: &User, bid: &mut std::process::Command) -> std::process::Child {
    let child = bid.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Each look is a process of its own, so this is no busy loop.
    while !user.run(&["locks", "--json"]).stdout.contains("\"waiters\":1") {}
    child
}

#[test]
fn the_command_of_a_killed_bidlock_stands_against_a_resolution() {
    let user = User::new();
    let script = "echo $$ > pid; echo ready; exec sleep 60 > /dev/null 2>&1";
    let bid = user.until_ready(&["bid", "upwork", "j", "--", "sh", "-c", script]);
    bid.signal(Signal::SIGKILL);
    assert_eq!(bid.end().code, 1009);
    let pid = fs::read_to_string(user.path("pid")).unwrap();
    let words = ["resolve", "upwork", "j", "--not-sent", "--because", "x"];
    let refused = user.run(&words);
    assert_eq!(refused.code, 11, "{refused:?}");
    assert!(refused.stderr.contains(&format!("process {}", pid.trim())), "{refused:?}");
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
}

#[test]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let user = User::new();
    let bidlock = env!("CARGO_BIN_EXE_bidlock");
    let script =
        format!("trap '' HUP; exec {bidlock} -q lock --key n sh -c 'kill -HUP $PPID; exit 3'");
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &script]).current_dir(user.path("")).env("HOME", user.path(""));
    shell.env_remove("XDG_STATE_HOME");
    assert_eq!(shell.status().unwrap().code(), Some(3));
}
