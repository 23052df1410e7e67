use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use rusqlite::Connection;

use super::fault::{Fault, is_busy};
use super::file::Identity;
use super::patience::Patience;
use super::worker::{Answer, Job};
use crate::values::limits;

/// The one connection that writes. Calls that wait at the same time share one commit.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) patience: Patience,
}

impl Writer {
    /// Serves jobs until nobody can send one.
    pub(super) fn serve(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            if let Err(fault) = self.begin(&mut batch, jobs) {
                for job in batch {
                    job.fail(fault.clone());
                }
                continue;
            }
            self.commit(batch);
        }
    }

    /// Takes the write lock. Meanwhile the batch grows by what is asked, and shrinks by what
    /// has waited too long.
    fn begin(&self, batch: &mut Vec<Job>, jobs: &Receiver<Job>) -> Result<(), Fault> {
        for tries in 0.. {
            let room = limits::BATCH_MAX.saturating_sub(batch.len());
            batch.extend(jobs.try_iter().take(room));
            self.identity.check(&self.path)?;
            match self.connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => break,
                Err(error) if is_busy(&error) => {
                    let late = |job: &mut Job| self.patience.is_over(job.deadline);
                    for job in batch.extract_if(.., late) {
                        job.fail(Fault::Busy);
                    }
                    if batch.is_empty() {
                        return Err(Fault::Busy);
                    }
                    self.patience.pause(tries);
                }
                Err(error) => return Err(Fault::before_commit(error)),
            }
        }
        Ok(())
    }

    /// Does the batch's work, each job whole or not at all, and answers after the commit (L2).
    fn commit(&self, batch: Vec<Job>) {
        let mut answers = Vec::with_capacity(batch.len());
        let mut lost = None;
        for job in batch {
            match &lost {
                Some(fault) => job.fail(Fault::clone(fault)),
                None => lost = self.attempt(job, &mut answers).err(),
            }
        }
        let committed = match lost {
            Some(fault) => Err(fault),
            None => self.connection.execute_batch("COMMIT").map_err(Fault::at_commit),
        };
        if !self.connection.is_autocommit() {
            // What cannot be rolled back either is rolled back by the next process that opens
            // the file; until then BEGIN fails, and nothing is answered well.
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                tracing::error!(%error, path = %self.path.display(), "rollback failed");
            }
        }
        for answer in answers {
            answer.give(committed.clone());
        }
    }

    /// Does one job inside a savepoint. Fails when the transaction is gone from under it.
    fn attempt(&self, job: Job, answers: &mut Vec<Answer>) -> Result<(), Fault> {
        let step = |sql: &str| self.connection.prepare_cached(sql)?.execute([]).map(drop);
        if let Err(error) = step("SAVEPOINT job") {
            let fault = Fault::before_commit(error);
            job.fail(fault.clone());
            return Err(fault);
        }
        let Some(answer) = job.run(&self.connection) else {
            return step("RELEASE job").map_err(Fault::before_commit);
        };
        let stays = answer.good;
        answers.push(answer);
        if self.connection.is_autocommit() {
            let gone = std::io::Error::other("the transaction was taken back");
            return Err(Fault::Unreachable(std::sync::Arc::new(gone)));
        }
        if !stays {
            step("ROLLBACK TO job").map_err(Fault::before_commit)?;
        }
        step("RELEASE job").map_err(Fault::before_commit)
    }
}
