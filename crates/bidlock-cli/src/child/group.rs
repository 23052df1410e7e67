use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bidlock::{Clock, Moment};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getsid};

/// How long what a command left behind has to end by itself once asked to.
pub(super) const LEFT_BEHIND_GRACE: Duration = Duration::from_secs(1);
/// How long to wait for killed processes to be gone: one in the kernel's hands may take long.
const KILLED_PATIENCE: Duration = Duration::from_secs(2);
/// How often to look whether the group is gone: nothing tells when a grandchild ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A command's process group.
#[derive(Debug)]
pub(super) struct Group {
    id: Pid,
}

impl Group {
    /// The group that `leader` was started in.
    pub(super) const fn new(leader: Pid) -> Self {
        Self { id: leader }
    }

    /// Sends a signal to every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        // ESRCH: the group has ended meanwhile. EPERM: what changed its user is not ours to end.
        if let Err(e) = killpg(self.id, signal)
            && e != Errno::ESRCH
        {
            tracing::warn!(%signal, group = self.id.as_raw(), error = %e, "cannot signal");
        }
    }

    /// Ends what is left of the group after its leader ended: asks, waits, kills.
    ///
    /// When `kill` resolves there is no more to wait for. It is not asked where `killed` is set
    /// from the start.
    pub(super) async fn end<T>(
        &self,
        clock: &dyn Clock,
        mut until: Moment,
        mut killed: bool,
        mut kill: Pin<&mut impl Future<Output = T>>,
    ) {
        if !self.has_members() {
            return;
        }
        // What was asked in another way, such as by SIGHUP under nohup, may not have listened.
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
        loop {
            if clock.now() >= until {
                if killed && clock.now().since(until) >= KILLED_PATIENCE {
                    tracing::warn!(group = self.id.as_raw(), "killed processes do not end");
                    return;
                }
                if !killed {
                    until = clock.now();
                    killed = true;
                }
                self.signal(Signal::SIGKILL);
            }
            tokio::select! {
                biased;
                _ = &mut kill, if !killed => until = clock.now(),
                () = clock.sleep_until(clock.now() + LOOK_INTERVAL) => {}
            }
            if !self.has_members() {
                return;
            }
        }
    }

    /// Whether processes of the group are left that still run or may run again.
    fn has_members(&self) -> bool {
        // The cheap question first; it counts zombies, which nobody may ever collect.
        match killpg(self.id, None) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return false,
            Err(_) => return true,
        }
        let Ok(entries) = fs::read_dir("/proc") else { return true };
        let session = getsid(None).map_or(0, Pid::as_raw);
        entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
            .filter_map(|e| fs::read_to_string(e.path().join("stat")).ok())
            .any(|stat| is_member(&stat, self.id.as_raw(), session))
    }
}

/// Whether a process, by its line of `/proc/PID/stat`, runs in that group of that session.
/// Source: `proc_pid_stat(5)`, fields 3, 5 and 6.
fn is_member(stat: &str, group: i32, session: i32) -> bool {
    // The command's name may hold spaces and brackets: fields count from its last bracket.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_ascii_whitespace();
    let (state, numbers) = (fields.next(), fields.nth(1).zip(fields.next()));
    let lives = !matches!(state, Some("Z" | "X") | None);
    let same = numbers.is_some_and(|(g, s)| g.parse() == Ok(group) && s.parse() == Ok(session));
    lives && same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_by_group_session_and_state() {
        let line = "77 (a) b) S 1 42 7 34816 77 4194304";
        assert!(is_member(line, 42, 7));
        assert!(!is_member(line, 43, 7));
        assert!(!is_member(line, 42, 8));
        assert!(!is_member(&line.replace(" S ", " Z "), 42, 7));
        assert!(!is_member("", 42, 7));
    }
}
