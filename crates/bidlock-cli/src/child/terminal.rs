use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal on standard input, where it controls this session's jobs.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Bidlock's own group, which a shell started as one job.
    ours: Pid,
}

impl Terminal {
    /// Finds it; there is none in a pipe, under a service manager, or in another session.
    pub(super) fn find() -> Option<Self> {
        let input = io::stdin();
        (input.is_terminal() && tcgetpgrp(input.as_fd()).is_ok()).then(|| Self { ours: getpgrp() })
    }

    /// Whether bidlock's job is in the foreground.
    pub(super) fn in_front(&self) -> bool {
        tcgetpgrp(io::stdin().as_fd()) == Ok(self.ours)
    }

    /// Whether the command shall have the terminal from its start.
    ///
    /// Not where standard output is a pipe: then another program of the same job, such as a pager,
    /// is the one that talks to the terminal. A command that reads it all the same gets it then.
    pub(super) fn is_for_the_child(&self) -> bool {
        let piped = fstat(io::stdout().as_fd()).is_ok_and(|status| {
            SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFIFO
        });
        self.in_front() && !piped
    }

    /// Puts a group in the foreground.
    #[expect(clippy::unused_self, reason = "only who has a terminal may give it")]
    pub(super) fn give(&self, group: Pid) {
        // A background job that moves the foreground is stopped for it, unless it blocks SIGTTOU.
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        if let Err(e) = tcsetpgrp(io::stdin().as_fd(), group) {
            tracing::debug!(group = group.as_raw(), error = %e, "cannot give the terminal");
        }
        if let Ok(before) = before {
            // Setting back a mask that was just read cannot fail.
            before.thread_set_mask().unwrap_or_default();
        }
    }

    /// Puts bidlock's own job in the foreground again, if the command's group is there.
    pub(super) fn take_back(&self, from: Pid) {
        if tcgetpgrp(io::stdin().as_fd()) == Ok(from) {
            self.give(self.ours);
        }
    }

    /// Stops bidlock's job, as the key that stopped the command would have done: its group may
    /// hold the script that called bidlock. In an orphaned group, which nobody could continue,
    /// the system drops the signal.
    #[expect(clippy::unused_self, reason = "only a job at a terminal may be stopped")]
    pub(super) fn stop_ourselves(&self) {
        if let Err(e) = kill(Pid::from_raw(0), Signal::SIGTSTP) {
            tracing::debug!(error = %e, "cannot stop");
        }
    }
}
