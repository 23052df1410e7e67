use std::fs;
use std::future::{pending, ready};
use std::path::Path;
use std::time::Duration;

use bidlock::Platform;
use tempfile::TempDir;

use super::*;

/// Runs what a test awaits, on a thread of its own with everything that signals need.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn platform() -> Platform {
    bidlock::platform::system().unwrap()
}

fn shell(script: &str) -> Spec {
    Spec {
        program: "/bin/sh".into(),
        words: ["sh", "-c", script].map(OsString::from).to_vec(),
        environment: vec![],
        talk: Talk::Through,
        grace: Duration::from_mins(1),
    }
}

fn until_it_ends(spec: &Spec) -> Ended {
    let platform = platform();
    run(async {
        let mut signals = Signals::listen().unwrap();
        let child = Child::start(spec, platform.clock).unwrap();
        child.wait(&mut signals, pending(), pending()).await.unwrap()
    })
}

/// Runs a script that writes `ready` once it is set up, and then stops it.
fn stopped(spec: &Spec, folder: &TempDir, why: Why) -> (Ended, Duration) {
    let platform = platform();
    run(async {
        let mut signals = Signals::listen().unwrap();
        let clock = &*platform.clock;
        let child = Child::start(spec, Arc::clone(&platform.clock)).unwrap();
        let began = std::cell::Cell::new(clock.now());
        let stop = async {
            appears(clock, &folder.path().join("ready")).await;
            began.set(clock.now());
            why
        };
        let ended = child.wait(&mut signals, stop, pending()).await.unwrap();
        (ended, clock.now().since(began.get()))
    })
}

async fn appears(clock: &dyn Clock, file: &Path) {
    let limit = clock.now() + Duration::from_secs(20);
    while fs::read(file).map_or(true, |bytes| !bytes.ends_with(b"\n")) {
        assert!(clock.now() < limit, "{} does not appear", file.display());
        clock.sleep_until(clock.now() + Duration::from_millis(5)).await;
    }
}

/// Whether the process whose number a script left in a file still runs.
fn runs(file: &Path) -> bool {
    let pid = fs::read_to_string(file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

#[test]
fn the_exit_of_the_command_is_told() {
    let ended = until_it_ends(&shell("exit 9"));
    assert_eq!((ended.exit, ended.stopped), (Exit::Code(9), None));
    assert_eq!(ended.exit.code(), 9);
    let ended = until_it_ends(&shell("kill -KILL $$"));
    assert_eq!((ended.exit, ended.stopped), (Exit::Signal(Signal::SIGKILL), None));
    assert_eq!(ended.exit.code(), 137);
}

#[test]
fn the_command_sees_its_name_and_its_environment_in_a_group_of_its_own() {
    let mut spec = shell("test \"$BIDLOCK_TOKEN\" = 7 && ps -o pgid= -p $$ | grep -qw $$");
    spec.environment = vec![("BIDLOCK_TOKEN", "7".to_owned())];
    assert_eq!(until_it_ends(&spec).exit, Exit::Code(0));
}

#[test]
fn the_last_line_of_output_is_kept() {
    let mut spec = shell("echo sending; printf 'ref-1\\r\\n\\n'");
    assert_eq!(until_it_ends(&spec).kept, None);
    spec.talk = Talk::LastLine;
    assert_eq!(until_it_ends(&spec).kept.as_deref(), Some("ref-1"));
}

#[test]
fn a_command_is_asked_to_stop_and_may_take_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let script = format!(
        "trap 'sleep 0.3; echo > {at}/done; exit 3' TERM; echo > {at}/ready; sleep 60 & wait"
    );
    let (ended, _) = stopped(&shell(&script), &folder, Why::Deadline);
    assert_eq!((ended.exit, ended.stopped), (Exit::Code(3), Some(Why::Deadline)));
    assert!(folder.path().join("done").exists());
}

#[test]
fn the_signal_that_bidlock_got_is_the_one_the_command_gets() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let script = format!("trap 'exit 4' HUP; echo > {at}/ready; sleep 60 & wait");
    let why = Why::Signal(Signal::SIGHUP);
    let (ended, _) = stopped(&shell(&script), &folder, why);
    assert_eq!((ended.exit, ended.stopped), (Exit::Code(4), Some(why)));
}

#[test]
fn a_stubborn_command_is_killed_after_the_grace_with_all_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let script = format!(
        "trap '' TERM; sh -c 'echo $$ > {at}/grandchild; echo > {at}/ready; sleep 60; sleep 60'; :"
    );
    let mut spec = shell(&script);
    spec.grace = Duration::from_millis(400);
    let (ended, took) = stopped(&spec, &folder, Why::Lease);
    assert_eq!(ended.exit, Exit::Signal(Signal::SIGKILL));
    assert_eq!(ended.stopped, Some(Why::Lease));
    assert!(took >= spec.grace, "killed too early: {took:?}");
    assert!(!runs(&folder.path().join("grandchild")));
}

#[test]
fn what_the_command_leaves_behind_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    for trap in ["", "trap \"\" TERM;"] {
        let script = format!(
            "sh -c '{trap} echo $$ > {at}/left; sleep 60; sleep 60' & \
             while ! test -s {at}/left; do sleep 0.01; done; exit 5"
        );
        let ended = until_it_ends(&shell(&script));
        assert_eq!((ended.exit, ended.stopped), (Exit::Code(5), None));
        assert!(!runs(&folder.path().join("left")), "{trap}");
        fs::remove_file(folder.path().join("left")).unwrap();
    }
}

#[test]
fn a_command_that_stands_still_hears_that_it_shall_stop() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let script = format!("trap 'exit 6' TERM; echo > {at}/ready; kill -STOP $$; sleep 60 & wait");
    let (ended, _) = stopped(&shell(&script), &folder, Why::Deadline);
    assert_eq!(ended.exit, Exit::Code(6));
}

#[test]
fn a_kill_leaves_no_grace() {
    let platform = platform();
    let spec = shell("trap '' TERM; sleep 60; sleep 60");
    let ended = run(async {
        let mut signals = Signals::listen().unwrap();
        let child = Child::start(&spec, platform.clock).unwrap();
        child.wait(&mut signals, pending(), ready(Why::Lease)).await.unwrap()
    });
    assert_eq!(ended.exit, Exit::Signal(Signal::SIGKILL));
    assert_eq!(ended.stopped, Some(Why::Lease));
}

#[test]
fn a_command_that_ended_by_itself_was_not_stopped_by_us() {
    let platform = platform();
    let ended = run(async {
        let mut signals = Signals::listen().unwrap();
        let child = Child::start(&shell("exit 75"), Arc::clone(&platform.clock)).unwrap();
        let zombie = format!("/proc/{}/stat", child.pid);
        while !fs::read_to_string(&zombie).unwrap().contains(") Z ") {
            platform.clock.sleep_until(platform.clock.now() + Duration::from_millis(5)).await;
        }
        child.wait(&mut signals, ready(Why::Deadline), ready(Why::Lease)).await.unwrap()
    });
    assert_eq!((ended.exit, ended.stopped), (Exit::Code(75), None));
}

#[test]
fn what_cannot_be_started_is_told_apart() {
    let platform = platform();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    for (program, code) in [(script, 126), ("/no/such/command".into(), 127)] {
        let mut spec = shell("");
        spec.program = program;
        let refused = Child::start(&spec, Arc::clone(&platform.clock)).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}
