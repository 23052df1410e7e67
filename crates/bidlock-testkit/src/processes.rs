use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bidlock_core::{Liveness, ProcessMark, Processes};

/// A process table that a test writes: processes are born by [`ManualProcesses::another`] and
/// end by [`ManualProcesses::end`].
#[derive(Debug, Clone)]
pub struct ManualProcesses {
    table: Arc<Mutex<HashMap<ProcessMark, Liveness>>>,
    current: ProcessMark,
    boot_id: Arc<str>,
    host: Arc<str>,
}

impl ManualProcesses {
    /// Makes a table with one process, this one.
    #[must_use]
    pub fn new() -> Self {
        let table = Arc::new(Mutex::new(HashMap::new()));
        Self::born(table, "boot-1".into(), "test-host".into())
    }

    /// The same machine as another process sees it: it shares the table, and has its own mark.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::born(Arc::clone(&self.table), Arc::clone(&self.boot_id), Arc::clone(&self.host))
    }

    /// The machine after a restart: another boot id, and all earlier processes are gone.
    #[must_use]
    pub fn rebooted(&self) -> Self {
        self.lock().values_mut().for_each(|liveness| *liveness = Liveness::Gone);
        Self::born(Arc::clone(&self.table), format!("{}+", self.boot_id).into(), self.host.clone())
    }

    /// From now on, everybody is told that this process has ended.
    pub fn end(&self) {
        self.declare(&self.current, Liveness::Gone);
    }

    /// Sets what is known of a process.
    pub fn declare(&self, process: &ProcessMark, liveness: Liveness) {
        self.lock().insert(process.clone(), liveness);
    }

    fn born(
        table: Arc<Mutex<HashMap<ProcessMark, Liveness>>>,
        boot_id: Arc<str>,
        host: Arc<str>,
    ) -> Self {
        let current = {
            let mut processes = table.lock().unwrap_or_else(PoisonError::into_inner);
            // The shape that Linux's marks have: boot, namespace, process, start time.
            let number = processes.len() + 1;
            let mark = ProcessMark::new(format!("{boot_id}/pid:[test]/{number}/{number}"));
            processes.insert(mark.clone(), Liveness::Alive);
            mark
        };
        Self { table, current, boot_id, host }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProcessMark, Liveness>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualProcesses {
    fn default() -> Self {
        Self::new()
    }
}

impl Processes for ManualProcesses {
    fn current(&self) -> ProcessMark {
        self.current.clone()
    }

    fn liveness(&self, process: &ProcessMark) -> Liveness {
        self.lock().get(process).copied().unwrap_or(Liveness::Unknown)
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn host(&self) -> &str {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_ends_and_the_others_see_it() {
        let first = ManualProcesses::new();
        let second = first.another();
        assert_ne!(first.current(), second.current());
        assert_eq!(first.liveness(&second.current()), Liveness::Alive);
        second.end();
        assert_eq!(first.liveness(&second.current()), Liveness::Gone);
        assert_eq!(second.liveness(&first.current()), Liveness::Alive, "the other lives on");
        assert_eq!(first.liveness(&ProcessMark::new("elsewhere")), Liveness::Unknown);
    }

    #[test]
    fn nothing_outlives_a_reboot() {
        let before = ManualProcesses::new();
        let after = before.rebooted();
        assert_eq!(after.liveness(&before.current()), Liveness::Gone);
        assert_eq!(after.liveness(&after.current()), Liveness::Alive);
        assert_ne!(after.boot_id(), before.boot_id());
    }
}
