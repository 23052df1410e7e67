//! I10, I11: everything has an end, queue and places agree, and in the end nothing is left.

use super::Invariant;
use crate::facts::{Facts, Happened};

/// The longest queue.
const QUEUE_MAX: usize = 10_000;

pub(super) struct EverythingEnds;

impl Invariant for EverythingEnds {
    fn name(&self) -> &'static str {
        "everything ends"
    }

    fn cites(&self) -> &'static str {
        "I10 I11"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Changed(change) => {
                facts.coverage.count("checked: everything ends");
                if let Some(odd) = &change.after.odd {
                    return Err(format!("{}: {odd}", change.key));
                }
                if change.after.queue.len() > QUEUE_MAX {
                    return Err(format!("{}: the queue is too long", change.key));
                }
                Ok(())
            }
            Happened::End => match facts.left.first() {
                Some(left) => Err(format!("{left} is left when all is over")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
