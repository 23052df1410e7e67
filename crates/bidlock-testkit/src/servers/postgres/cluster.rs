//! Making data for a server: once for all, because that takes longer than most tests.

use std::path::Path;

use super::account::Account;
use super::run;
use crate::servers::kind::tools_folder;
use crate::temp_dir;

/// Makes empty data in a folder that does not exist yet.
pub(super) fn init(account: &Account, data: &Path) {
    let mut init = account.command("initdb");
    init.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    init.args(["--no-sync", "--wal-segsize=1", "--pgdata"]).arg(data);
    run(&mut init);
}

/// Copies the empty data that was made by the first test that needed any.
#[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
pub(super) fn copy_template(account: &Account, data: &Path) {
    let version = account.command("postgres").arg("--version").output();
    let version = version.expect("postgres says its version").stdout;
    let version: String = String::from_utf8_lossy(&version)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    let template = tools_folder().join(format!("data-{version}"));
    if !template.is_dir() {
        let folder = temp_dir();
        account.owns(folder.path()).expect("its folder can be given to it");
        let made = folder.path().join("data");
        init(account, &made);
        std::fs::create_dir_all(tools_folder()).expect("there is room for tools");
        let aside = tempfile::tempdir_in(tools_folder()).expect("there is room for tools");
        copy(account, &made, &aside.path().join("data"));
        // In one step; another process that was faster has made the same.
        let _there_already = std::fs::rename(aside.path().join("data"), &template);
    }
    copy(account, &template, data);
}

/// Copies data that no server writes to.
pub(super) fn copy(account: &Account, from: &Path, to: &Path) {
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(from).arg(to);
    run(&mut copy);
    // A server that was killed leaves its number behind, which is no other's.
    let _was_none = std::fs::remove_file(to.join("postmaster.pid"));
    let _same = account.owns(to);
}
