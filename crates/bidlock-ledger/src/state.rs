//! The state machine of an attempt, without I/O: which states there are, and which may follow.

use std::fmt::{self, Display};

use bidlock_core::WallTime;

use crate::requests::{Outcome, Resolution};

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Made; nothing was sent, and nothing may be sent yet.
    Reserved,
    /// Its submission may have begun.
    Started,
    /// The marketplace has the bid.
    Placed,
    /// The marketplace has refused the bid.
    Refused,
    /// Nobody can tell whether the marketplace has the bid.
    Unknown,
    /// The bid was placed, and taken back.
    Withdrawn,
    /// Closed, with nothing at the marketplace; the posting may be tried again.
    Abandoned,
}

impl State {
    /// Every state, in the order of a bid's life.
    pub const ALL: [Self; 7] = [
        Self::Reserved,
        Self::Started,
        Self::Placed,
        Self::Refused,
        Self::Unknown,
        Self::Withdrawn,
        Self::Abandoned,
    ];

    /// The state's name, as stores, JSON and filters say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Started => "started",
            Self::Placed => "placed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Withdrawn => "withdrawn",
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads a state's name; `None` when there is no such state.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether an attempt in this state may go to `next` (L4: nothing leads back to reserved).
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Reserved => matches!(next, Self::Started | Self::Abandoned),
            Self::Started => {
                matches!(next, Self::Placed | Self::Refused | Self::Unknown | Self::Abandoned)
            }
            Self::Unknown => matches!(next, Self::Placed | Self::Refused | Self::Abandoned),
            Self::Placed => matches!(next, Self::Withdrawn),
            Self::Refused | Self::Withdrawn => matches!(next, Self::Abandoned),
            Self::Abandoned => false,
        }
    }

    /// Whether an attempt in this state may come to `later` by one step or several.
    #[must_use]
    pub(crate) const fn may_lead_to(self, later: Self) -> bool {
        match self {
            Self::Reserved => !matches!(later, Self::Reserved),
            Self::Started => !matches!(later, Self::Reserved | Self::Started),
            Self::Unknown => !matches!(later, Self::Reserved | Self::Started | Self::Unknown),
            Self::Placed => matches!(later, Self::Withdrawn | Self::Abandoned),
            Self::Refused | Self::Withdrawn => matches!(later, Self::Abandoned),
            Self::Abandoned => false,
        }
    }

    /// The state as everybody reads it: started past its send-by is unknown (L5).
    #[must_use]
    pub fn read_at(self, now: WallTime, send_by: Option<WallTime>) -> Self {
        match (self, send_by) {
            (Self::Started, Some(send_by)) if send_by <= now => Self::Unknown,
            _ => self,
        }
    }

    /// Whether the attempt's outcome is known and kept.
    #[must_use]
    pub const fn is_decided(self) -> bool {
        matches!(self, Self::Placed | Self::Refused | Self::Withdrawn)
    }
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! events {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// What a history entry tells of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])+ $name,)+
        }

        impl Event {
            /// Every event.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The event's name, as stores and JSON say it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

events! {
    /// The attempt was made.
    Reserved = "reserved",
    /// A higher token closed the attempt before it had started.
    TakenOver = "taken_over",
    /// Its submission may begin.
    Started = "started",
    /// A higher token met it while it was started: nobody can tell how it went.
    Doubted = "doubted",
    /// It may be sent again under its own id: nobody can tell how it went before (L11).
    Resent = "resent",
    /// The submitter says that it was placed.
    Placed = "placed",
    /// The submitter says that the marketplace refused it.
    Refused = "refused",
    /// The submitter says that nothing was sent.
    NotSent = "not_sent",
    /// The submitter cannot tell how it went, and has stopped.
    Unknown = "unknown",
    /// The submitter was left alone, and has said nothing.
    GivenUp = "given_up",
    /// The submitter said «placed» after the attempt was closed.
    LatePlaced = "late_placed",
    /// The submitter said «refused» after the attempt was closed.
    LateRefused = "late_refused",
    /// The submitter said «not sent» after the attempt was closed.
    LateNotSent = "late_not_sent",
    /// The submitter said «unknown» after the attempt was closed.
    LateUnknown = "late_unknown",
    /// The submitter was left alone after the attempt was closed.
    LateGivenUp = "late_given_up",
    /// An operator has found it placed.
    ResolvedPlaced = "resolved_placed",
    /// An operator has found it refused.
    ResolvedRefused = "resolved_refused",
    /// An operator has found that nothing was sent.
    ResolvedNotSent = "resolved_not_sent",
    /// An operator has found that nothing was sent, and vouches that its sender has ended.
    ResolvedSenderGone = "resolved_not_sent_sender_is_gone",
    /// An operator says that the bid was taken back.
    Withdrawn = "withdrawn",
    /// An operator lets the posting be tried again.
    Reopened = "reopened",
}

impl Event {
    /// Reads an event's name; `None` when this version knows no such event.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }

    /// The event that an outcome is, where the attempt is still open for it.
    #[must_use]
    pub const fn of_outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Placed { .. } => Self::Placed,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::NotSent { .. } => Self::NotSent,
            Outcome::Unknown { .. } => Self::Unknown,
            Outcome::GivenUp { .. } => Self::GivenUp,
        }
    }

    /// The event that an outcome is, where the attempt was closed before (L8).
    #[must_use]
    pub const fn of_late(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Placed { .. } => Self::LatePlaced,
            Outcome::Refused { .. } => Self::LateRefused,
            Outcome::NotSent { .. } => Self::LateNotSent,
            Outcome::Unknown { .. } => Self::LateUnknown,
            Outcome::GivenUp { .. } => Self::LateGivenUp,
        }
    }

    /// The event that an operator's finding is.
    #[must_use]
    pub const fn of_resolution(resolution: &Resolution) -> Self {
        match resolution {
            Resolution::Placed { .. } => Self::ResolvedPlaced,
            Resolution::Refused => Self::ResolvedRefused,
            Resolution::NotSent { sender_is_gone: false } => Self::ResolvedNotSent,
            Resolution::NotSent { sender_is_gone: true } => Self::ResolvedSenderGone,
        }
    }

    /// The state that an attempt is in after the event; `None` for what came too late to move it.
    #[must_use]
    pub const fn leads_to(self) -> Option<State> {
        Some(match self {
            Self::Reserved => State::Reserved,
            Self::Started => State::Started,
            Self::Placed | Self::ResolvedPlaced => State::Placed,
            Self::Refused | Self::ResolvedRefused => State::Refused,
            Self::Doubted | Self::Unknown | Self::GivenUp | Self::Resent => State::Unknown,
            Self::Withdrawn => State::Withdrawn,
            Self::TakenOver
            | Self::NotSent
            | Self::ResolvedNotSent
            | Self::ResolvedSenderGone
            | Self::Reopened => State::Abandoned,
            _ => return None,
        })
    }

    /// Whether an outcome came after its attempt was closed.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(
            self,
            Self::LatePlaced
                | Self::LateRefused
                | Self::LateNotSent
                | Self::LateUnknown
                | Self::LateGivenUp
        )
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an outcome does to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStep {
    /// It moves the attempt on.
    Become(State),
    /// It leaves the attempt unknown, by this event: the submitter's own word that it has
    /// stopped, and no longer a guess.
    Restate(Event),
    /// It was recorded before.
    Already,
    /// The attempt was closed before, in another way.
    Late,
    /// The attempt has not started, so it can have no such outcome.
    NotStarted,
}

/// What is known of an attempt when an outcome comes.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Its state, as stored.
    pub state: State,
    /// The event that brought it there.
    pub event: Event,
    /// Its marketplace's reference.
    pub reference: Option<&'a str>,
    /// The reason of its last step.
    pub reason: Option<&'a str>,
    /// Whether its history has [`Event::Resent`]; looked up where the state is unknown.
    pub resent: bool,
}

/// Decides what an outcome does, by the attempt alone (L8).
#[must_use]
pub fn record_step(standing: Standing<'_>, outcome: &Outcome) -> RecordStep {
    let next = outcome.state();
    match standing.state {
        State::Reserved if next == State::Abandoned => RecordStep::Become(next),
        State::Reserved => RecordStep::NotStarted,
        State::Started => RecordStep::Become(next),
        // L11: it was sent twice, and a submitter speaks for one of the two.
        State::Unknown if next == State::Abandoned && standing.resent => match standing.event {
            Event::Unknown => RecordStep::Already,
            _ => RecordStep::Restate(Event::Unknown),
        },
        State::Unknown if next != State::Unknown => RecordStep::Become(next),
        State::Unknown
            if matches!(outcome, Outcome::Unknown { .. }) && standing.event != Event::Unknown =>
        {
            RecordStep::Restate(Event::Unknown)
        }
        _ if is_repeat(standing, outcome) => RecordStep::Already,
        _ => RecordStep::Late,
    }
}

/// Whether an outcome says nothing that is not known already.
fn is_repeat(standing: Standing<'_>, outcome: &Outcome) -> bool {
    fn adds_nothing(said: Option<&str>, known: Option<&str>) -> bool {
        said.is_none() || said == known
    }
    match (outcome, standing.state) {
        (Outcome::Placed { reference }, State::Placed | State::Withdrawn) => {
            adds_nothing(reference.as_deref(), standing.reference)
        }
        (Outcome::Refused { reason }, State::Refused) => {
            adds_nothing(reason.as_deref(), standing.reason)
        }
        (Outcome::NotSent { .. }, State::Abandoned) => standing.event != Event::Reopened,
        (Outcome::Unknown { .. } | Outcome::GivenUp { .. }, State::Unknown) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_leads_somewhere_unless_it_came_too_late() {
        for event in Event::ALL {
            assert_eq!(event.leads_to().is_none(), event.is_late(), "{event}");
        }
    }

    #[test]
    fn nothing_leads_back_and_nothing_leaves_abandoned() {
        // L4
        for state in State::ALL {
            assert!(!state.may_become(State::Reserved), "{state}");
            assert!(!State::Abandoned.may_become(state), "{state}");
            assert!(!state.may_become(state), "{state}");
        }
        assert!(!State::Unknown.may_become(State::Started));
        assert!(!State::Placed.may_become(State::Abandoned), "a placed bid is never forgotten");
        assert!(!State::Reserved.may_become(State::Placed));
    }

    #[test]
    fn names_are_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.as_str()), Some(state));
        }
        for event in Event::ALL {
            assert_eq!(Event::from_name(event.as_str()), Some(*event));
        }
        assert_eq!(State::from_name("Placed"), None);
    }

    #[test]
    fn started_reads_as_unknown_from_its_send_by_on() {
        // L5
        let at = WallTime::from_micros;
        assert_eq!(State::Started.read_at(at(9), Some(at(10))), State::Started);
        assert_eq!(State::Started.read_at(at(10), Some(at(10))), State::Unknown);
        assert_eq!(State::Placed.read_at(at(11), Some(at(10))), State::Placed);
    }

    #[test]
    fn a_step_of_record_is_always_one_that_the_machine_has() {
        let texts = [None, Some("x".to_owned())];
        for (state, event, text) in State::ALL
            .iter()
            .flat_map(|s| Event::ALL.iter().map(move |e| (*s, *e)))
            .flat_map(|(s, e)| texts.iter().map(move |t| (s, e, t.clone())))
        {
            let resent = event == Event::Resent;
            let standing = Standing { state, event, reference: None, reason: None, resent };
            for outcome in [
                Outcome::Placed { reference: text.clone() },
                Outcome::Refused { reason: text.clone() },
                Outcome::NotSent { reason: text.clone() },
                Outcome::Unknown { reason: text.clone() },
                Outcome::GivenUp { reason: text.clone() },
            ] {
                match record_step(standing, &outcome) {
                    RecordStep::Become(next) => assert!(state.may_become(next)),
                    RecordStep::NotStarted => assert_eq!(state, State::Reserved),
                    RecordStep::Restate(_) => assert_eq!(state, State::Unknown),
                    RecordStep::Already | RecordStep::Late => {
                        assert!(!matches!(state, State::Reserved | State::Started));
                    }
                }
            }
        }
    }
}
