//! What belongs to one process, and is not to be touched in a child that was forked from it.

use std::mem;
use std::process;

use crate::errors::Failure;

/// A value and the process that made it. In another process it can neither be reached nor
/// dropped: its locks may be held by threads that a fork did not take along (R21).
#[derive(Debug)]
pub(crate) struct Owned<T> {
    value: Option<T>,
    process: u32,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), process: process::id() }
    }

    /// The value.
    ///
    /// # Errors
    /// [`Failure::Forked`] in another process than the one that made it.
    pub(crate) fn get(&self) -> Result<&T, Failure> {
        let ours = self.value.as_ref().filter(|_| self.process == process::id());
        ours.ok_or(Failure::Forked { process: self.process })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            mem::forget(self.value.take());
        }
    }
}
