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
