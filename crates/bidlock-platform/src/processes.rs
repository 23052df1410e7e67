use std::fs;
use std::io;

use bidlock_core::{Liveness, ProcessMark, Processes};

/// Linux's process table, as far as /proc shows it.
///
/// A mark reads `boot-id/pid-namespace/pid/start-time`: a number that was given again belongs to
/// another start time, and a process of another container is not judged.
#[derive(Debug, Clone)]
pub struct LinuxProcesses {
    boot_id: String,
    namespace: String,
    host: String,
}

impl LinuxProcesses {
    /// Reads what does not change while this process runs.
    ///
    /// # Errors
    /// The operating system's error where /proc is not there.
    pub fn read() -> io::Result<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned();
        let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        Ok(Self { boot_id, namespace, host })
    }
}

impl Processes for LinuxProcesses {
    fn current(&self) -> ProcessMark {
        let pid = std::process::id();
        let start = start_time(pid).unwrap_or_default();
        ProcessMark::new(format!("{}/{}/{pid}/{start}", self.boot_id, self.namespace))
    }

    fn liveness(&self, process: &ProcessMark) -> Liveness {
        let parts: Vec<&str> = process.as_str().split('/').collect();
        let [boot_id, namespace, pid, start] = parts[..] else { return Liveness::Unknown };
        let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else {
            return Liveness::Unknown;
        };
        if namespace != self.namespace {
            return Liveness::Unknown;
        }
        if boot_id != self.boot_id {
            // Two machines may share a file and a namespace number, but never a boot id: only
            // the same host name could tell a reboot from another machine, and it may lie.
            return Liveness::Unknown;
        }
        if start_time(pid) == Some(start) { Liveness::Alive } else { Liveness::Gone }
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn host(&self) -> &str {
        &self.host
    }
}

/// When a process started, in clock ticks since boot; `None` when it has ended.
///
/// A zombie has ended: it runs no more, whoever has yet to ask for its exit code.
/// Source: `proc_pid_stat(5)`, fields 3 and 22.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and brackets: fields count from its last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_is_alive_and_an_ended_one_is_gone() {
        let processes = LinuxProcesses::read().unwrap();
        let me = processes.current();
        assert_eq!(processes.liveness(&me), Liveness::Alive);

        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        let mark = me.as_str().replace(&format!("/{}/", std::process::id()), &format!("/{pid}/"));
        child.wait().unwrap();
        assert_eq!(processes.liveness(&ProcessMark::new(mark)), Liveness::Gone);
    }

    #[test]
    fn a_number_that_was_given_again_is_another_process() {
        let processes = LinuxProcesses::read().unwrap();
        let me = processes.current();
        let (rest, _start) = me.as_str().rsplit_once('/').unwrap();
        let other = ProcessMark::new(format!("{rest}/1"));
        assert_eq!(processes.liveness(&other), Liveness::Gone);
    }

    #[test]
    fn what_belongs_elsewhere_is_not_judged() {
        let processes = LinuxProcesses::read().unwrap();
        for other in ["", "a/b/c", "boot/pid:[1]/1/1", "x/pid:[1]/not-a-pid/1"] {
            assert_eq!(processes.liveness(&ProcessMark::new(other)), Liveness::Unknown, "{other}");
        }
    }
}
