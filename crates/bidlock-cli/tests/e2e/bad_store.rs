//! Files that may not be read or written, are no database, are damaged, or stand on a full disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bidlock_testkit::{Process, SubmissionLog, temp_dir};
use nix::unistd::getuid;
use tempfile::TempDir;

use crate::{Ran, User, end};

const BIDLOCK: &str = env!("CARGO_BIN_EXE_bidlock");

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Somebody whom file modes mean something to: root is stopped by none.
struct Nobody {
    /// Where this user finds the program, wherever the tester has built it.
    programs: TempDir,
}

impl Nobody {
    fn new() -> Self {
        let programs = temp_dir();
        set_mode(programs.path(), 0o755);
        fs::copy(BIDLOCK, programs.path().join("bidlock")).unwrap();
        Self { programs }
    }

    /// Runs `bidlock` in a folder.
    fn run(&self, user: &User, folder: &Path, words: &[&str]) -> Ran {
        let program = self.programs.path().join("bidlock");
        let mut command = if getuid().is_root() {
            let mut command = user.program("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
            command
        } else {
            user.program(program)
        };
        end(Process::spawn(command.args(words).current_dir(folder)).unwrap())
    }
}

#[test]
fn a_file_that_may_not_be_read_or_written_is_77() {
    let user = User::new();
    let nobody = Nobody::new();
    set_mode(&user.path(""), 0o777);
    let file = user.path("x.db");
    let url = format!("sqlite://{}", file.display());
    let home = user.path("");
    let bid =
        |ran: &str| nobody.run(&user, &home, &["bid", "--url", &url, "upwork", "j", "touch", ran]);
    assert_eq!(bid("first").code, 0);
    let bytes = fs::read(&file).unwrap();
    let folder = user.path("");
    for (file_mode, folder_mode) in [(0o000, 0o777), (0o444, 0o777), (0o444, 0o555), (0o600, 0o666)]
    {
        set_mode(&file, file_mode);
        set_mode(&folder, folder_mode);
        for words in [
            &["bid", "--url", &url, "upwork", "k", "touch", "/dev/null"][..],
            &["acquire", "--url", &url, "--key", "n"],
            &["health", "--url", &url],
        ] {
            // It is called from elsewhere: into some of these folders nobody may go.
            let ran = nobody.run(&user, Path::new("/"), words);
            let context = format!("{file_mode:o} in {folder_mode:o}, {words:?}: {ran:?}");
            assert_eq!(ran.code, 77, "{context}");
            assert!(ran.stderr.contains("x.db") && ran.stderr.contains("hint:"), "{context}");
        }
        set_mode(&folder, 0o777);
    }
    set_mode(&file, 0o600);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert_eq!(bid("second").code, 10, "it is as it was");
    assert!(!user.path("second").exists());
}

#[test]
fn a_folder_that_may_not_be_written_is_77() {
    let user = User::new();
    let nobody = Nobody::new();
    for (name, mode) in [("closed", 0o555), ("open", 0o777)] {
        fs::create_dir(user.path(name)).unwrap();
        set_mode(&user.path(name), mode);
    }
    let url = format!("sqlite://{}", user.path("closed/x.db").display());
    // The default file would lie in a home that may not be written either.
    set_mode(&user.path(""), 0o555);
    for words in [
        &["bid", "--url", &url, "upwork", "j", "touch", "open/ran"][..],
        &["bid", "upwork", "j", "touch", "open/ran"],
        &["lock", "--key", "n", "touch", "open/ran"],
        &["bids"],
    ] {
        let ran = nobody.run(&user, &user.path(""), words);
        assert_eq!((ran.code, ran.stdout.as_str()), (77, ""), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("hint:") && ran.stderr.contains("ermission"), "{ran:?}");
    }
    set_mode(&user.path(""), 0o755);
    assert!(!user.path("open/ran").exists());
    assert!(!user.path("closed/x.db").exists() && !user.path("state").exists());
}

#[test]
fn a_payload_that_cannot_be_read_is_found_out_before_anything_is_reserved() {
    let user = User::new();
    fs::create_dir(user.path("folder")).unwrap();
    for payload in ["missing.json", "folder"] {
        let ran = user.run(&["bid", "upwork", "j", "--payload", payload, "touch", "ran"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains("--payload") && ran.stderr.contains(payload), "{ran:?}");
    }
    assert!(!user.path("ran").exists() && !user.path("state").exists());
    set_mode(&user.path(""), 0o777);
    fs::write(user.path("bid.json"), "x").unwrap();
    set_mode(&user.path("bid.json"), 0o000);
    let words = ["bid", "upwork", "j", "--payload", "bid.json", "touch", "ran"];
    let ran = Nobody::new().run(&user, &user.path(""), &words);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("bid.json") && ran.stderr.contains("ermission"), "{ran:?}");
    assert!(!user.path("ran").exists() && !user.path("state").exists());
}

#[test]
fn what_is_no_database_is_69_and_stays_as_it_is() {
    let user = User::new();
    let text = "no database at all, though it is long enough for a header. ".repeat(99);
    fs::write(user.path("notes"), &text).unwrap();
    fs::create_dir(user.path("folder")).unwrap();
    for words in [
        &["bid", "--url", "sqlite:notes", "upwork", "j", "touch", "ran"][..],
        &["bid", "--ledger-url", "sqlite:notes", "upwork", "j", "touch", "ran"],
        &["lock", "--url", "sqlite:notes", "--key", "n", "touch", "ran"],
        &["bids", "--url", "sqlite:notes"],
        &["audit", "--url", "sqlite:notes"],
    ] {
        let ran = user.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("notes") && ran.stderr.contains("hint:"), "{ran:?}");
    }
    // One answer, whichever store it was to be.
    let proc = "sqlite:/nonexistent/../proc/x.db";
    for (url, codes, said) in [
        ("sqlite:folder", &[78][..], "folder is a folder; name a file"),
        ("sqlite:notes/x.db", &[78], "notes is a file, not a folder"),
        ("sqlite:///proc/no/x.db", &[69, 77], "/proc/no/x.db"),
        (proc, &[69, 77], "x.db"),
    ] {
        for flag in ["--url", "--ledger-url"] {
            let ran = user.run(&["bid", flag, url, "upwork", "j", "touch", "ran"]);
            assert!(codes.contains(&ran.code), "{url}: {ran:?}");
            assert!(ran.stderr.contains(said) && ran.stderr.contains("hint:"), "{ran:?}");
        }
    }
    assert!(!Path::new("/nonexistent").exists());
    assert_eq!(fs::read_to_string(user.path("notes")).unwrap(), text);
    assert!(!user.path("ran").exists());
}

#[test]
fn a_damaged_file_is_69_and_nothing_is_sent() {
    let user = User::new();
    for n in 0..40 {
        assert_eq!(user.run(&["bid", "upwork", &format!("j{n}"), "true"]).code, 0);
    }
    // All of it in one file, where the test can damage it.
    let file = rusqlite::Connection::open(user.database()).unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(file);
    let whole = fs::read(user.database()).unwrap();
    let write = |bytes: &[u8]| {
        for end in ["-wal", "-shm"] {
            let beside = user.database().with_extension(format!("db{end}"));
            drop(fs::remove_file(beside));
        }
        fs::write(user.database(), bytes).unwrap();
    };
    let pages = whole.len() / 4096;
    assert!(pages > 10);
    let log = SubmissionLog::new(&user.path("sent"));
    let script = log.shell_line();
    let words = ["bid", "upwork", "j0", "--", "sh", "-c", &script];
    for bad in [0..100, 4096..whole.len(), whole.len() / 2..whole.len()] {
        let mut damaged = whole.clone();
        damaged[bad.clone()].fill(0xa5);
        write(&damaged);
        let ran = user.run(&words);
        // A part that is not looked at may be damaged without an effect.
        assert!(matches!(ran.code, 69 | 10), "{bad:?}: {ran:?}");
        if ran.code == 69 {
            assert!(ran.stderr.contains("bidlock.db") && ran.stderr.contains("hint:"), "{ran:?}");
            assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        }
        assert!(log.all().unwrap().is_empty(), "{bad:?}: a second bid was sent");
    }
    write(&whole[..whole.len() / 2]);
    let ran = user.run(&words);
    assert!(matches!(ran.code, 69 | 10) && log.all().unwrap().is_empty(), "{ran:?}");
    // The first page is what every call looks at.
    write(&[&[0xa5; 4096][..], &whole[4096..]].concat());
    assert_eq!(user.run(&words).code, 69);
    write(&whole);
    assert_eq!(user.run(&words).code, 10, "a restored copy is good again");
}

/// Runs a shell script with a small disk of its own mounted at `disk`.
fn on_a_small_disk(user: &User, script: &str) -> Ran {
    fs::create_dir(user.path("disk")).unwrap();
    let script = format!(
        "set -e; mount -t tmpfs -o size=2m none disk; b={BIDLOCK}; u=sqlite:disk/x.db
         bid() {{ p=$1; shift; $b -q --url $u bid upwork $p \"$@\" || echo \"$p $?\"; }}
         fill() {{ cat /dev/zero > disk/filler 2> /dev/null || :; }}
         {script}"
    );
    let mut command = user.program("unshare");
    // A mount of its own, that goes with the process; root needs no user of its own for it.
    command.args(if getuid().is_root() { ["-m", "--"] } else { ["-Urm", "--"] });
    end(Process::spawn(command.args(["sh", "-c", &script])).unwrap())
}

#[test]
fn on_a_full_disk_nothing_is_sent_until_there_is_room() {
    let user = User::new();
    let ran = on_a_small_disk(
        &user,
        "bid first true; fill
         bid full sh -c 'echo full >> sent'
         $b -q --url $u lock --key n touch ran || echo \"lock $?\"
         rm disk/filler
         bid full sh -c 'echo full >> sent'; bid full sh -c 'echo full >> sent'
         bid first touch ran
         fill; mkdir -p disk/none 2> /dev/null || :
         u=sqlite:disk/new.db; bid new sh -c 'echo new >> sent'
         rm disk/filler; bid new sh -c 'echo new >> sent'",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, "full 69\nlock 69\nfull 10\nfirst 10\nnew 69\n", "{ran:?}");
    assert!(ran.stderr.contains("full:") && ran.stderr.contains("make room"), "{ran:?}");
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap(), "full\nnew\n");
    assert!(!user.path("ran").exists());
}

#[test]
fn an_outcome_that_finds_the_disk_full_is_kept_once_there_is_room() {
    let user = User::new();
    let ran = on_a_small_disk(
        &user,
        "bid first true
         (until [ -e sent ]; do sleep 0.02; done; sleep 0.5; rm disk/filler) &
         bid j sh -c 'cat /dev/zero > disk/filler 2> /dev/null; echo j >> sent; exit 0'
         wait
         $b -q --url $u bids upwork j --json
         bid j sh -c 'echo j >> sent'",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let (bids, last) = ran.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(last, "j 10", "{ran:?}");
    assert_eq!(crate::text(&crate::objects(bids)[0], "state"), "placed");
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap(), "j\n");
}

#[test]
fn the_files_belong_to_their_user_alone() {
    let user = User::new();
    // Whatever the umask leaves open.
    let script = format!("umask 0; {BIDLOCK} -q bid upwork j true");
    let ran = end(Process::spawn(user.program("sh").args(["-c", &script])).unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["state/bidlock", "state/bidlock/marks"] {
        assert_eq!(mode(&user.path(folder)), 0o700, "{folder}");
        for entry in fs::read_dir(user.path(folder)).unwrap().flatten() {
            let expected = if entry.path().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&entry.path()), expected, "{entry:?}");
        }
    }
}
