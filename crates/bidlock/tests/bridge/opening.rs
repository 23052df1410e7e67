//! An old table that is not what it should be is refused before anything is changed.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bidlock::{BackendError, Error, Locker, OldTable, Refusal, Severity, Ttl};
use bidlock_testkit::{Process, temp_dir};

use crate::kit::{OldFile, SCHEMA, TABLE};

async fn refusal(old: &str) -> String {
    let folder = temp_dir();
    let new = folder.path().join("new.db");
    let url = format!("sqlite://{}", new.display());
    let also = OldTable::parse(old).unwrap();
    let failed = Locker::builder().also(also.clone()).connect(&url).await.unwrap_err();
    assert!(!new.exists(), "nothing new was made");
    let doctor = also.doctor(&bidlock::platform::system().unwrap()).unwrap();
    let findings = doctor.diagnose(Ttl::default()).await;
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.check, finding.severity), ("bridge", Severity::Failure));
    assert!(finding.found.contains(&failed.to_string()) && !finding.mend.is_empty());
    let Error::Store(BackendError::Refused { reason, endpoint, .. }) = &failed else {
        panic!("{failed:?}")
    };
    assert!(endpoint.as_str().contains("?table="), "{endpoint}");
    let kind = match reason {
        Refusal::WrongType(_) => "wrong type",
        Refusal::Permission(_) => "permission",
        Refusal::Corrupt(_) => "corrupt",
        other => panic!("{other:?}"),
    };
    format!("{kind}: {failed}")
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() {
    let folder = temp_dir();
    let path = folder.path().join("old.db");
    let said = refusal(&format!("sqlite://{}?table=t", path.display())).await;
    assert!(said.starts_with("wrong type") && said.contains("is not there"), "{said}");
    assert!(!path.exists());
    let said = refusal(&format!("sqlite://{}?table=t", folder.path().display())).await;
    assert!(said.contains("is a folder"), "{said}");
}

#[tokio::test]
async fn a_table_that_is_not_the_older_systems_is_named_with_what_is_wrong() {
    for (schema, said) in [
        ("CREATE TABLE other (id TEXT)".to_owned(), "no table distributed_locks"),
        ("CREATE VIEW distributed_locks AS SELECT 1 AS id".to_owned(), "no table but a view"),
        (
            "CREATE TABLE distributed_locks (id TEXT PRIMARY KEY, lock_key TEXT UNIQUE)".to_owned(),
            "no column holder_id, acquired_at, expires_at",
        ),
        (SCHEMA.replace(" UNIQUE", ""), "not unique"),
        (SCHEMA.replace("expires_at REAL", "expires_at TEXT"), "keeps texts"),
        (
            SCHEMA.replace("holder_id TEXT NOT NULL,", "holder_id TEXT, node TEXT NOT NULL,"),
            "the column node has to be filled",
        ),
    ] {
        let old = OldFile::with(&schema);
        let form = old.form();
        let refused = refusal(&old.url()).await;
        assert!(refused.starts_with("wrong type") && refused.contains(said), "{refused}");
        assert_eq!(old.form(), form);
    }
}

#[tokio::test]
async fn columns_that_need_nothing_do_no_harm() {
    let schema = SCHEMA.replace("holder_id TEXT NOT NULL,", "holder_id TEXT, note TEXT,");
    let schema = schema.replace(" UNIQUE", "")
        + ";
        CREATE UNIQUE INDEX one_holder ON distributed_locks (lock_key)";
    let old = OldFile::with(&schema);
    let locker = Locker::builder().also(OldTable::parse(&old.url()).unwrap());
    let lease = locker.connect("memory:").await.unwrap();
    let lease = lease.acquire(&bidlock::Key::new("upwork", "a").unwrap()).await.unwrap();
    assert_eq!(old.rows().len(), 1);
    lease.release().await.unwrap();
    assert!(old.rows().is_empty());
}

/// Rights bind root only in another user's shoes: this test starts itself once more as nobody.
#[tokio::test]
async fn rights_that_are_missing_are_permission() {
    const FOLDER: &str = "BIDLOCK_TEST_RIGHTS";
    if let Some(folder) = env::var_os(FOLDER) {
        for (name, said) in
            [("readonly.db", "read and write"), ("locked/old.db", "a journal beside")]
        {
            let path = Path::new(&folder).join(name);
            let refused = refusal(&format!("sqlite://{}?table={TABLE}", path.display())).await;
            assert!(refused.starts_with("permission") && refused.contains(said), "{refused}");
        }
        return println!("denied");
    }
    let old = OldFile::new();
    let folder = old.path.parent().unwrap();
    let (readonly, locked) = (folder.join("readonly.db"), folder.join("locked"));
    fs::create_dir(&locked).unwrap();
    fs::copy(&old.path, &readonly).unwrap();
    fs::copy(&old.path, locked.join("old.db")).unwrap();
    for (path, mode) in [(&readonly, 0o444), (&locked.join("old.db"), 0o666), (&locked, 0o555)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let exe = folder.join("test");
    fs::copy(env::current_exe().unwrap(), &exe).unwrap();
    let mut command = Command::new(exe);
    let name = "opening::rights_that_are_missing_are_permission";
    command.args([name, "--exact", "--nocapture"]).env(FOLDER, folder).env("TMPDIR", "/tmp");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let mut nobody = Process::spawn(&mut command).unwrap();
    let status = nobody.wait(Duration::from_mins(1));
    let said = format!("{}{}", nobody.stdout(), nobody.stderr());
    assert!(status.success() && said.contains("denied"), "{said}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_as_it_is() {
    let old = OldFile::new();
    fs::write(&old.path, "not a database, but long enough to look like one".repeat(50)).unwrap();
    let before = fs::read(&old.path).unwrap();
    assert!(refusal(&old.url()).await.starts_with("corrupt"));
    assert_eq!(fs::read(&old.path).unwrap(), before);
}

#[tokio::test]
async fn the_new_locks_may_not_lie_in_the_old_file() {
    let old = OldFile::new();
    let form = old.form();
    let also = OldTable::parse(&old.url()).unwrap();
    let url = format!("sqlite://{}", old.path.display());
    let failed = Locker::builder().also(also.clone()).connect(&url).await.unwrap_err();
    assert!(matches!(failed, Error::Config(_)) && failed.to_string().contains("same file"));
    let link = old.path.with_file_name("link.db");
    std::os::unix::fs::symlink(&old.path, &link).unwrap();
    let url = format!("sqlite://{}", link.display());
    let failed = Locker::builder().also(also.clone()).connect(&url).await.unwrap_err();
    assert!(failed.to_string().contains("same file"), "{failed}");
    assert_eq!(old.form(), form, "WAL mode would have stayed");
    // A store that is open already gets no bridge, and nothing goes on without one.
    let memory = bidlock::Memory::new(&bidlock::platform::system().unwrap());
    let failed = Locker::builder().also(also).backend(std::sync::Arc::new(memory)).unwrap_err();
    assert!(matches!(failed, Error::Config(_)), "{failed}");
}

#[tokio::test]
async fn doctor_counts_both_sides_and_finds_what_cannot_be_bridged() {
    let old = OldFile::new();
    let also = OldTable::parse(&old.url()).unwrap();
    let locker = Locker::builder().also(also.clone()).connect("memory:").await.unwrap();
    let lease = locker.acquire(&bidlock::Key::new("upwork", "a").unwrap()).await.unwrap();
    let insert = "INSERT INTO distributed_locks VALUES
        ('1', 'bid:lock:Upwork:b', 'one', 1, 9e9), ('2', 'bid:lock:upwork:c', 'two', 1, 'never')";
    old.connection().execute(insert, []).unwrap();
    let doctor = also.doctor(locker.platform()).unwrap();
    let findings = doctor.diagnose(Ttl::default()).await;
    let checks: Vec<_> = findings.iter().map(|it| (it.check, it.severity)).collect();
    let expected = [
        ("bridge", Severity::Good),
        ("bridge-names", Severity::Warning),
        ("bridge-ends", Severity::Warning),
    ];
    assert_eq!(checks, expected, "{findings:?}");
    assert!(findings[0].found.contains("2 of old workers, 1 of bidlock"), "{findings:?}");
    assert!(findings[1].found.contains("Upwork:b"), "{findings:?}");
    assert!(findings[2].mend.contains("two"), "{findings:?}");
    lease.release().await.unwrap();
}
