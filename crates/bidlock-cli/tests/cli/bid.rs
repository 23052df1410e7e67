use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::User;

#[test]
fn a_posting_is_bid_on_once() {
    let user = User::new();
    let words = ["bid", "upwork", "job_123", "--", "sh", "-c", "echo sent; echo x >> sent"];
    let first = user.run(&words);
    assert_eq!((first.code, first.stdout.as_str()), (0, "sent\n"), "{first:?}");
    assert!(first.stderr.starts_with("placed: upwork job_123\n"), "{}", first.stderr);
    assert!(first.stderr.contains("bidlock/bidlock.db"), "{}", first.stderr);
    assert!(first.stderr.lines().count() <= 3);
    let attempt = first.stderr.split("attempt ").nth(1).unwrap().split(',').next().unwrap();

    let second = user.run(&words);
    assert_eq!((second.code, second.stdout.as_str()), (10, ""), "{second:?}");
    assert!(second.stderr.starts_with("already bid: upwork job_123, 20"), "{}", second.stderr);
    assert!(second.stderr.contains(attempt), "{}", second.stderr);
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap(), "x\n");
}

#[test]
fn of_many_at_once_one_runs_the_command() {
    let user = User::new();
    let script = "echo x >> sent";
    let many: Vec<_> = (0..20)
        .map(|_| {
            let words = ["bid", "upwork", "j", "--wait", "60s", "--", "sh", "-c", script];
            user.command(&words).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let mut codes: Vec<_> =
        many.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes[0], 0);
    assert!(codes[1..].iter().all(|code| *code == 10), "{codes:?}");
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap(), "x\n");
}

#[test]
fn the_commands_exit_says_how_it_went() {
    let user = User::new();
    let bid = |posting: &str, script: &str| {
        user.run(&["bid", "upwork", posting, "--", "sh", "-c", script]).code
    };
    assert_eq!(bid("refused", "exit 65"), 12);
    assert_eq!(bid("refused", "exit 0"), 10);
    assert_eq!(bid("not-sent", "exit 75"), 13);
    assert_eq!(bid("not-sent", "exit 0"), 0);
    for (posting, script) in [("code", "exit 3"), ("signal", "kill -KILL $$")] {
        assert_eq!(bid(posting, script), 11);
        assert_eq!(bid(posting, "echo x >> again"), 11);
    }
    assert!(!user.path("again").exists(), "an unknown outcome is never tried again");
}

#[test]
fn the_command_knows_its_attempt() {
    let user = User::new();
    let script = "echo $BIDLOCK_ATTEMPT_ID $BIDLOCK_TOKEN $BIDLOCK_KEY $BIDLOCK_MARKETPLACE; \
                  echo \"$BIDLOCK_POSTING\" $BIDLOCK_SEND_BY";
    let ran = user.run(&["bid", "upwork", "a b", "--prefix", "p", "--", "sh", "-c", script]);
    let words: Vec<_> = ran.stdout.split_whitespace().collect();
    assert_eq!(words[0].len(), 36, "{ran:?}");
    assert!(words[1].parse::<u64>().unwrap() > 0);
    assert_eq!(words[2..6], ["p:upwork:a%20b", "upwork", "a", "b"]);
    assert!(words[6].ends_with('Z') && words[6].contains('T'));
}

#[test]
fn reference_and_payload_are_kept() {
    let user = User::new();
    fs::write(user.path("bid.json"), "abc").unwrap();
    let words = ["bid", "upwork", "j", "--payload", "bid.json", "--reference-from-stdout", "--"];
    let ran = user.run(&[&words[..], &["sh", "-c", "echo sending; echo ref-9"]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "sending\nref-9\n"), "{ran:?}");
    let bids = user.run(&["bids", "--json"]).stdout;
    assert!(bids.contains("\"reference\":\"ref-9\""), "{bids}");
    assert!(bids.contains("\"payload\":\"sha256:ba7816bf"), "{bids}");
    assert!(bids.contains("\"state\":\"placed\""), "{bids}");
}

#[test]
fn a_command_that_takes_too_long_is_stopped_and_in_doubt() {
    let user = User::new();
    let script = "echo $$ > pid; trap '' TERM; sleep 60; sleep 60";
    let ran = user.run(&["bid", "upwork", "j", "--submit-timeout", "1s", "--", "sh", "-c", script]);
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stderr.contains("send-by") && ran.stderr.contains("bidlock resolve upwork j"));
    assert!(!crate::runs(&user.path("pid")));
}

#[test]
fn a_posting_seen_too_long_ago_is_left_alone() {
    let user = User::new();
    let words = ["bid", "upwork", "j", "--seen-at", "2026-01-01T00:00:00Z", "touch", "ran"];
    let ran = user.run(&words);
    assert_eq!(ran.code, 14, "{ran:?}");
    assert!(!user.path("ran").exists());
    assert_eq!(user.run(&["bids", "--json"]).stdout, "");
}

#[test]
fn results_are_objects_for_programs() {
    let user = User::new();
    let ran = user.run(&["--json", "bid", "upwork", "j", "echo", "sent"]);
    assert_eq!(ran.stdout, "sent\n", "stdout is the command's");
    let object: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((object["code"].as_u64(), object["result"].as_str()), (Some(0), Some("placed")));
    let again = user.run(&["--json", "bid", "upwork", "j", "echo", "sent"]);
    let object: serde_json::Value = serde_json::from_str(&again.stderr).unwrap();
    assert_eq!((again.code, object["result"].as_str()), (10, Some("already_placed")));
    assert_eq!(
        (object["kind"].as_str(), object["retryable"].as_bool()),
        (Some("already_placed"), Some(false))
    );
    let broken = user.run(&["--json", "bid", "Upwork", "j", "true"]);
    let object: serde_json::Value = serde_json::from_str(&broken.stderr).unwrap();
    assert_eq!((broken.code, object["kind"].as_str()), (2, Some("invalid")));
    assert_eq!(object["retryable"].as_bool(), Some(false));
}

#[test]
fn what_the_command_leaves_behind_does_not_outlive_the_send_by() {
    let user = User::new();
    let script = "date -d \"$BIDLOCK_SEND_BY\" +%s%N > send_by; \
                  sh -c 'trap \"\" TERM; echo $$ > child; \
                  while :; do date +%s%N > beat; mv beat beats; sleep 0.02; done' & \
                  trap 'exit 0' TERM; wait";
    let ran = user.run(&["bid", "upwork", "j", "--submit-timeout", "2s", "--", "sh", "-c", script]);
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(!crate::runs(&user.path("child")));
    let send_by: u128 = fs::read_to_string(user.path("send_by")).unwrap().trim().parse().unwrap();
    // The kill itself takes its time on a busy machine; what is tried here is seconds.
    let last = crate::lock::last_beat(&user);
    assert!(last < send_by + 500_000_000, "{last} against {send_by}");
}

/// Makes the ledger refuse one kind of history entry from now on.
fn refuse_event(user: &User, event: &str) {
    let file = user.path(".local/state/bidlock/bidlock.db");
    let ledger = rusqlite::Connection::open(file).unwrap();
    let sql = format!(
        "CREATE TRIGGER refused BEFORE INSERT ON ledger_history WHEN NEW.event = '{event}'
         BEGIN SELECT RAISE(ABORT, 'no room'); END"
    );
    ledger.execute_batch(&sql).unwrap();
}

#[test]
fn nothing_sent_that_cannot_be_recorded_is_in_doubt() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "first", "true"]).code, 0);
    refuse_event(&user, "not_sent");
    fs::write(user.path("bad"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(user.path("bad"), PermissionsExt::from_mode(0o755)).unwrap();
    let words = ["bid", "upwork", "j", "--submit-timeout", "1s", "./bad"];
    let ran = user.run(&words);
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stderr.contains("nothing was sent") && ran.stderr.contains("did not take"));
    assert!(ran.stderr.contains("\n  bidlock resolve upwork j --attempt "), "{ran:?}");
    assert!(!ran.stderr.contains("ERROR"), "once is enough: {ran:?}");
    assert_eq!(user.run(&["bid", "upwork", "j", "touch", "ran"]).code, 11);
    assert!(!user.path("ran").exists());
}

#[test]
fn a_doubt_says_from_when_on_and_with_which_words_it_is_ended() {
    let user = User::new();
    let words = ["bid", "upwork", "a b", "--submit-timeout", "1h", "--", "sh", "-c", "exit 3"];
    let own = user.run(&words);
    let met = user.run(&["bid", "upwork", "a b", "touch", "ran"]);
    let bids = user.run(&["bids", "--json"]).stdout;
    let bid: serde_json::Value = serde_json::from_str(&bids).unwrap();
    let [attempt, send_by] = ["attempt", "send_by"].map(|field| bid[field].as_str().unwrap());
    for ran in [own, met] {
        assert_eq!(ran.code, 11, "{ran:?}");
        assert!(ran.stderr.contains(&format!("from {send_by} on")), "{ran:?}");
        let choice = format!("  bidlock resolve upwork 'a b' --attempt {attempt} ");
        let choices: Vec<&str> =
            ran.stderr.lines().filter_map(|line| line.strip_prefix(&choice)).collect();
        let found = ["--placed REF", "--refused", "--not-sent"];
        assert_eq!(choices, found.map(|found| format!("{found} --because TEXT")), "{ran:?}");
        assert!(!ran.stderr.contains('|') && !ran.stderr.contains("sender-is-gone"), "{ran:?}");
    }
    assert!(!user.path("ran").exists());
}

#[test]
fn a_doubt_whose_sender_lives_is_not_resolved_yet() {
    let user = User::new();
    let script = "echo ready; sleep 60";
    let words = ["bid", "upwork", "j", "--ttl", "200ms", "--", "sh", "-c", script];
    let bid = user.until_ready(&words);
    let locks = user.run(&["locks", "--json"]).stdout;
    let lock: serde_json::Value = serde_json::from_str(&locks).unwrap();
    let token = lock["token"].to_string();
    let revoke = ["revoke", "bid_lock:upwork:j", "--token", &token, "--because", "x", "--now"];
    assert_eq!(user.run(&revoke).code, 0);
    let met = user.run(&["bid", "upwork", "j", "touch", "ran"]);
    assert_eq!(met.code, 11, "{met:?}");
    // Its sender lives: the way out is to wait, or to end it, and not to resolve.
    let pid = lock["holder"].as_str().unwrap().split(':').nth(1).unwrap();
    assert!(met.stderr.contains(&format!(":{pid}:")), "{met:?}");
    assert!(met.stderr.contains("is alive and may still send it: end it first"), "{met:?}");
    bid.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(bid.end().code, 11);
    assert!(!user.path("ran").exists());
}

#[test]
fn silence_does_not_hide_what_needs_a_person() {
    let user = User::new();
    let bid = |posting: &str, script: &str| {
        user.run(&["-q", "bid", "upwork", posting, "--", "sh", "-c", script])
    };
    let well = bid("j", "exit 0");
    assert_eq!((well.code, well.stderr.as_str()), (0, ""));
    let again = bid("j", "exit 0");
    assert!(again.code == 10 && again.stderr.contains("already bid"), "{again:?}");
    let doubt = bid("k", "exit 3");
    assert!(doubt.code == 11 && doubt.stderr.contains("bidlock resolve upwork k"), "{doubt:?}");
}

#[test]
fn programs_read_objects_only() {
    let user = User::new();
    let script = "exit 3";
    let ran = user.run(&["-vv", "--json", "bid", "upwork", "j", "--", "sh", "-c", script]);
    let objects: Vec<serde_json::Value> = ran
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let (results, logs): (Vec<_>, Vec<_>) =
        objects.iter().partition(|object| object.get("code").is_some());
    assert_eq!(results.len(), 1, "{ran:?}");
    assert!(!logs.is_empty() && logs.iter().all(|log| log["log"].is_string()), "{ran:?}");
    assert!(results[0]["hint"].as_str().unwrap().contains("\n  bidlock resolve upwork j "));
}

#[test]
fn a_payload_is_a_file_of_bounded_size() {
    let user = User::new();
    nix::unistd::mkfifo(&user.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let long = fs::File::create(user.path("long")).unwrap();
    long.set_len((64 << 20) + 1).unwrap();
    for (payload, why) in [
        ("pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (".", "not a regular file"),
        ("long", "longer than 64 MiB"),
        ("missing", "No such file"),
    ] {
        let ran = user.run(&["bid", "upwork", "j", "--payload", payload, "touch", "ran"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(payload) && ran.stderr.contains(why), "{ran:?}");
    }
    assert!(!user.path("ran").exists());
    long.set_len(64 << 20).unwrap();
    let ran = user.run(&["bid", "upwork", "j", "--payload", "long", "true"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}
