use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use super::{Answer, Question, Reconcile};
use crate::lease::Lease;

/// Asks, for as long as the lock is held and no longer than until the deadline.
pub(super) async fn ask(
    asker: &dyn Reconcile,
    question: &Question,
    lease: &Lease,
    deadline: impl Future<Output = ()>,
) -> Answer {
    let cannot_tell = |why: String| Answer::CannotTell { why: Some(why) };
    let (mut deadline, mut lost) = (pin!(deadline), pin!(lease.lost()));
    // What asks is the caller's own code: its panic is one bad answer, and no end of the round.
    let Ok(mut asking) = catch_unwind(AssertUnwindSafe(|| asker.ask(question))) else {
        return cannot_tell("it panicked".to_owned());
    };
    poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| asking.as_mut().poll(context))) {
            Ok(Poll::Ready(answer)) => return Poll::Ready(answer),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(cannot_tell("it panicked".to_owned())),
        }
        if let Poll::Ready(reason) = lost.as_mut().poll(context) {
            return Poll::Ready(cannot_tell(format!("the lock was lost meanwhile: {reason}")));
        }
        let late = deadline.as_mut().poll(context);
        late.map(|()| cannot_tell("no answer in time".to_owned()))
    })
    .await
}
