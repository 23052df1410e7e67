//! When an operator may end a doubt (L6), without I/O: the same for every store.

use bidlock_core::{Liveness, WallTime};

use crate::error::Obstacle;
use crate::requests::{Resolution, ResolveRequest, SeenSender};
use crate::state::{Event, State};
use crate::types::AttemptInfo;

/// What is known of a posting inside the transaction that is to end a doubt.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The open attempt, with its state as stored.
    pub open: &'a AttemptInfo,
    /// Whether the posting has had no other one.
    pub only: bool,
    /// Whether it was ever sent again. The process that it names is then not the only one that may
    /// send: the one before may still stand before its first byte (L11).
    pub resent: bool,
    /// What was seen of a sender before the transaction.
    pub seen: Option<SeenSender>,
    /// The caller's wall clock.
    pub now: WallTime,
}

/// What stands against it, and until when where time alone does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindered {
    /// What.
    pub why: Obstacle,
    /// From when on it does not, where only time stands against it.
    pub until: Option<WallTime>,
}

impl From<Obstacle> for Hindered {
    fn from(why: Obstacle) -> Self {
        Self { why, until: None }
    }
}

impl Case<'_> {
    /// Whether the doubt may be ended like this.
    ///
    /// # Errors
    /// What stands against it.
    pub fn may_resolve(&self, request: &ResolveRequest) -> Result<(), Hindered> {
        let open = self.open.id;
        if request.attempt.is_some_and(|named| named != open) {
            return Err(Obstacle::OtherAttempt { open }.into());
        }
        let state = self.open.state.read_at(self.now, self.open.send_by);
        match state {
            State::Started | State::Unknown => {}
            State::Reserved => return Err(Obstacle::OnlyReserved.into()),
            _ => return Err(Obstacle::Known.into()),
        }
        let not_sent = matches!(request.resolution, Resolution::NotSent { .. });
        if not_sent && !self.only && request.attempt.is_none() {
            return Err(Obstacle::AttemptNotNamed { open }.into());
        }
        // Nobody has looked at the sender of an attempt that came in between.
        let seen = self.seen.filter(|seen| seen.attempt == open);
        let Some(SeenSender { liveness, .. }) = seen else {
            return Err(Obstacle::OtherAttempt { open }.into());
        };
        let sender = || sender(&self.open.holder);
        if let Resolution::Placed { .. } = request.resolution {
            // Finding the bid is proof; a live sender under way speaks for itself.
            let speaks = state == State::Started && liveness == Liveness::Alive;
            return if speaks { Err(Obstacle::UnderWay.into()) } else { Ok(()) };
        }
        // A sender that said «unknown» itself has stopped sending; it may well live on.
        let may_send = self.open.event != Event::Unknown;
        if may_send && state == State::Unknown && liveness == Liveness::Alive {
            return Err(Obstacle::SenderAlive { sender: sender() }.into());
        }
        let due = self.open.send_by.map(|send_by| send_by + request.visibility_lag);
        if let Some(until) = due.filter(|due| *due > self.now) {
            let under_way = state == State::Started;
            let why = if under_way { Obstacle::UnderWay } else { Obstacle::TooEarly };
            return Err(Hindered { why, until: Some(until) });
        }
        let vouched = matches!(request.resolution, Resolution::NotSent { sender_is_gone: true });
        let unseen = may_send && liveness == Liveness::Unknown || self.resent;
        if not_sent && unseen && !vouched {
            return Err(Obstacle::SenderUnseen { sender: sender() }.into());
        }
        Ok(())
    }
}

/// The `host:pid` that a holder's display text begins with.
fn sender(holder: &str) -> String {
    let end = holder.match_indices(':').nth(1).map_or(holder.len(), |(at, _)| at);
    holder[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_named_by_host_and_process() {
        for (holder, named) in [
            ("web-1:4711:a1b2c3d4", "web-1:4711"),
            ("web-1:4711:a1b2c3d4 (night run: 2)", "web-1:4711"),
            ("somebody", "somebody"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(sender(holder), named);
        }
    }
}
