//! What bidders, the marketplace and those who look at it do.

use bidlock_core::Liveness;
use bidlock_ledger::{Outcome, Resolution, State as Stored};

use super::store::Reservation;
use super::{Broken, Config, LAG, Market, Mutant, Phase, SEND, Said, State};

impl State {
    fn stands(&mut self, bidder: u8, phase: Phase) {
        self.bidders[bidder as usize].phase = phase;
    }

    /// Is granted the key: the token is higher than all before it (P3).
    pub(crate) fn acquire(&mut self, bidder: u8) {
        self.token += 1;
        let own = &mut self.bidders[bidder as usize];
        own.tries -= 1;
        (own.token, own.phase) = (self.token, Phase::Granted { token: self.token });
    }

    pub(crate) fn reserves(&mut self, config: &Config, bidder: u8, token: u8) {
        let payload = payload(bidder);
        let phase = match self.reserve(config, bidder, token) {
            Reservation::Reserved(row) => Phase::Reserved { token, row },
            Reservation::InDoubt(row)
                if (config.keys || config.is(Mutant::ResentWithoutKeys))
                    && self.resend(config, row, (bidder, token, payload)) =>
            {
                Phase::Cleared { row, left: SEND }
            }
            Reservation::InDoubt(row) if config.is(Mutant::StartedIsSentAgain) => {
                Phase::Cleared { row, left: SEND }
            }
            Reservation::InDoubt(_) | Reservation::Not => Phase::Idle,
        };
        self.stands(bidder, phase);
    }

    pub(crate) fn starts(
        &mut self,
        config: &Config,
        bidder: u8,
        (row, token): (u8, u8),
        lost: bool,
    ) {
        let yes = self.start(config, row, token, payload(bidder));
        // A start whose answer was lost counts as started and is not sent.
        let sends = if lost { config.is(Mutant::LostStartIsSent) } else { yes };
        let phase = if sends { Phase::Cleared { row, left: SEND } } else { Phase::Idle };
        self.stands(bidder, phase);
    }

    /// Looks at the clock, right before it sends.
    pub(crate) fn looks(&mut self, config: &Config, bidder: u8, row: u8, left: i8) {
        if left <= 0 && !config.is(Mutant::SentAfterSendBy) {
            return self.stands(bidder, Phase::Sent { row, said: Said::NotSent });
        }
        self.stands(bidder, Phase::Sending { row });
    }

    /// Sends, and hears what came of it or does not.
    pub(crate) fn sends(&mut self, config: &Config, bidder: u8, row: u8, said: Said) {
        let what = payload(bidder);
        let own = &mut self.rows[row as usize];
        if config.keys && own.sent.is_some_and(|known| known != what) {
            self.break_rule(Broken::OtherPayload); // L9
            return;
        }
        own.sent = Some(what);
        let refuses = said == Said::Refused;
        let shows_in = if config.stalls { 0 } else { LAG };
        own.market = match own.market {
            Market::Nothing if refuses => Market::Refused,
            Market::Nothing => Market::Placed { bids: 1, shows_in },
            // An id that it knows has its answer.
            known if config.keys => known,
            Market::Placed { bids, .. } => Market::Placed { bids: bids + 1, shows_in },
            Market::Refused | Market::Withdrawn if !refuses => Market::Placed { bids: 1, shows_in },
            known => known,
        };
        let said = match (said, self.rows[row as usize].market) {
            (Said::Unknown, _) => Said::Unknown,
            (_, Market::Refused) => Said::Refused,
            _ => Said::Placed,
        };
        self.stands(bidder, Phase::Sent { row, said });
    }

    /// Says how it went.
    pub(crate) fn records(&mut self, config: &Config, bidder: u8, row: u8, said: Said) {
        let reason = None;
        let outcome = match said {
            Said::Placed => Outcome::Placed { reference: None },
            Said::Refused => Outcome::Refused { reason },
            Said::NotSent => Outcome::NotSent { reason },
            Said::Unknown => Outcome::Unknown { reason },
        };
        self.record(config, row, &outcome, self.bidders[bidder as usize].token);
        self.stands(bidder, Phase::Idle);
    }

    /// Its caller leaves the submitter alone, which goes on.
    pub(crate) fn gives_up(&mut self, config: &Config, row: u8) {
        self.record(config, row, &Outcome::GivenUp { reason: None }, self.token);
    }

    /// Looks at the marketplace, and ends the doubt by what it shows. A reconciler ends it only
    /// by what was found.
    pub(crate) fn settles(&mut self, config: &Config, by_person: bool, seen: Liveness) {
        let Some(row) = self.open() else { return };
        let own = self.rows[row as usize];
        if !matches!(own.read(), Stored::Started | Stored::Unknown) {
            return;
        }
        let gone = !self.bidders.iter().any(|bidder| bidder.is_to_send(row));
        let resolution = match own.market {
            Market::Placed { shows_in: 0, .. } => Resolution::Placed { reference: None },
            Market::Refused => Resolution::Refused,
            _ if by_person || config.is(Mutant::NotFoundReopens) => {
                Resolution::NotSent { sender_is_gone: gone || config.rash || !by_person }
            }
            _ => return,
        };
        self.resolve(config, resolution, seen);
    }
}

/// What a bidder sends: two of them would send the same.
pub(crate) const fn payload(bidder: u8) -> u8 {
    bidder % 2
}
