//! Puts this process and all that it starts on one core: then what takes less of the processor is
//! faster, and no result depends on how the kernel spreads server, client and their wake-ups.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Where this thread could run before; it can again when this is dropped.
#[derive(Debug)]
#[must_use = "what is dropped pins nothing"]
pub(crate) struct Pinned(CpuSet);

/// Pins this thread, and with it every thread and process that it starts from here on, to the
/// last core that it may use.
pub(crate) fn to_one_core() -> Result<Pinned> {
    let myself = Pid::from_raw(0);
    let before = sched_getaffinity(myself).context("asking for the cores")?;
    let last = (0..CpuSet::count()).rev().find(|core| before.is_set(*core).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("there is no core")?)?;
    sched_setaffinity(myself, &one).context("pinning to one core")?;
    Ok(Pinned(before))
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // At the end of the process nobody cares.
        sched_setaffinity(Pid::from_raw(0), &self.0).unwrap_or_default();
    }
}
