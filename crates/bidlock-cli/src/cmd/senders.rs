use std::fs;

/// The variable that a command has which only asks about an attempt, and sends nothing.
pub(crate) const ASKS: &str = "BIDLOCK_ASKS";

/// Finds a process of this machine that was started to send an attempt: `bidlock bid` puts the
/// attempt's id into the environment of its command. Processes of other users cannot be seen.
pub(crate) fn find(attempt: &str) -> Option<u32> {
    let wanted = format!("BIDLOCK_ATTEMPT_ID={attempt}");
    let asks = format!("{ASKS}=1");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        // A zombie runs no more, and its environment reads as empty.
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| {
            let has = |wanted: &str| all.split(|b| *b == 0).any(|one| one == wanted.as_bytes());
            has(&wanted) && !has(&asks)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_is_found_by_its_attempt_while_it_runs() {
        let attempt = format!("0b5e7b9c-{}", std::process::id());
        assert_eq!(find(&attempt), None);
        let mut child =
            Command::new("sleep").arg("60").env("BIDLOCK_ATTEMPT_ID", &attempt).spawn().unwrap();
        assert_eq!(find(&attempt), Some(child.id()));
        assert_eq!(find(&attempt[..10]), None, "a part of an id is no id");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(find(&attempt), None);
        let mut asks = Command::new("sleep");
        let mut asks =
            asks.arg("60").env("BIDLOCK_ATTEMPT_ID", &attempt).env(ASKS, "1").spawn().unwrap();
        assert_eq!(find(&attempt), None, "it only asks");
        asks.kill().unwrap();
        asks.wait().unwrap();
    }
}
