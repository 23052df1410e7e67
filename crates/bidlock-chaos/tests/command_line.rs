//! The program as it is started. Its run is tried by `cargo xtask test`, with the binary that is
//! built for this test.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

fn chaos(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bidlock-chaos")).args(words).output().unwrap()
}

#[test]
fn a_wrong_option_is_named_on_stderr_and_starts_nothing() {
    let ended = chaos(&["run", "--json", "--minutes", "soon"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(2), &b""[..]), "{said}");
    assert!(said.contains("'soon' for '--minutes <M>': give a number from 0.25 to 1440"), "{said}");
}

#[test]
fn help_tells_of_every_option() {
    let ended = chaos(&["--help"]);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0));
    for option in ["--seed", "--minutes", "--scenario", "--design", "--pace", "--json", "--keep"] {
        assert!(said.contains(option), "{option}: {said}");
    }
}
