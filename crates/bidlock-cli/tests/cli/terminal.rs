use std::fs;
use std::process::{Command, Stdio};

use crate::User;

/// Runs a shell with job control on a terminal of its own.
fn on_a_terminal(user: &User, script: &str) -> String {
    let bidlock = env!("CARGO_BIN_EXE_bidlock");
    fs::write(user.path("job.sh"), format!("set -m\nB={bidlock}\n{script}")).unwrap();
    let output = Command::new("timeout")
        .args(["60", "script", "-qec", "bash job.sh", "/dev/null"])
        .current_dir(user.path(""))
        .env("HOME", user.path(""))
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::piped())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

#[test]
fn a_command_that_stops_stops_the_job_and_goes_on_with_it() {
    let user = User::new();
    let shown = on_a_terminal(
        &user,
        "$B -q lock --key k -- bash -c 'kill -TSTP $$; echo resumed; exit 5'\n\
         echo stopped with $?\n\
         fg > /dev/null\n\
         echo ended with $?\n\
         $B -q lock -n --key k true && echo free\n",
    );
    let stopped = shown.find("stopped with 148").unwrap_or_else(|| panic!("{shown}"));
    let resumed = shown.find("resumed").unwrap_or_else(|| panic!("{shown}"));
    assert!(stopped < resumed, "{shown}");
    assert!(shown.contains("ended with 5") && shown.contains("free"), "{shown}");
}

#[test]
fn the_command_has_the_terminal_and_the_shell_gets_it_back() {
    let user = User::new();
    let shown = on_a_terminal(
        &user,
        "$B -q lock --key k -- bash -c 'ps -o stat= -p $$'\n\
         ps -o stat= -p $$ | sed 's/^/shell /'\n\
         $B -q lock --key k -- bash -c 'ps -o stat= -p $$' | sed 's/^/piped /'\n",
    );
    let lines: Vec<&str> = shown.lines().collect();
    // A plus in the state means: in the foreground.
    assert!(lines[0].contains('+'), "{shown}");
    let piped = lines.iter().find(|line| line.starts_with("piped")).unwrap();
    assert!(!piped.contains('+'), "the other program of the pipe keeps the terminal: {shown}");
}

#[test]
fn a_command_that_stood_still_past_its_lease_is_not_continued() {
    let user = User::new();
    // Many to be continued at once, and again and again: one would be quick enough to go on.
    for _ in 0..5 {
        let shown = on_a_terminal(
            &user,
            "worker='kill -TSTP $$; echo x >> resumed'\n\
             $B -q lock --key k --ttl 500ms -n -- bash -c \
             \"for n in 1 2 3 4; do bash -c '$worker' & done; $worker\"\n\
             echo stopped with $?\n\
             until $B -q lock -n --key k true 2> /dev/null; do :; done\n\
             fg > /dev/null\n\
             echo ended with $?\n",
        );
        assert!(shown.contains("stopped with 148") && shown.contains("ended with 76"), "{shown}");
        assert!(!user.path("resumed").exists(), "it went on: {shown}");
    }
}

#[test]
fn a_list_of_bids_fits_a_terminal_and_tells_what_a_doubt_is_about() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "job_123", "true"]).code, 0);
    let words = ["bid", "upwork", "job_124", "--reference-from-stdout", "echo", "bid-987"];
    assert_eq!(user.run(&words).code, 0);
    let shown = on_a_terminal(&user, "$B -q --color never bids\n");
    assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
    assert!(shown.contains("bid-987"), "{shown}");

    let words = ["bid", "upwork", "job_125", "--submit-timeout", "1h", "--", "sh", "-c", "exit 3"];
    assert_eq!(user.run(&words).code, 11);
    let shown = on_a_terminal(&user, "$B bids --state unknown\n");
    let json = user.run(&["bids", "--json", "--state", "unknown"]).stdout;
    let bid: serde_json::Value = serde_json::from_str(&json).unwrap();
    for field in ["send_by", "reason", "attempt", "holder"] {
        assert!(shown.contains(bid[field].as_str().unwrap()), "{field}: {shown}");
    }
    // Programs get what they always got.
    let row = user.run(&["bids", "upwork", "job_124"]).stdout;
    let fields: Vec<&str> = row.trim_end().split('\t').collect();
    assert_eq!(fields.len(), 8, "{row}");
    assert_eq!(fields[..3], ["upwork", "job_124", "placed"]);
    assert!(fields[5] == "bid-987" && fields[6].ends_with('Z'), "{row}");
}

#[test]
fn what_a_doctor_finds_is_wrapped_to_the_terminal() {
    let user = User::new();
    let shown =
        on_a_terminal(&user, "stty rows 30 cols 60\n$B -q --color never doctor --url memory:\n");
    assert!(shown.contains("why: ") && shown.contains("mend: "), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
    let wide =
        on_a_terminal(&user, "stty rows 30 cols 200\n$B -q --color never doctor --url memory:\n");
    assert!(wide.lines().count() < shown.lines().count(), "{wide}");
}
