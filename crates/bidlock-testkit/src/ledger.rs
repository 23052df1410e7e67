//! What every store of a ledger must do, as rules that run against any
//! [`bidlock_ledger::Store`], and [`saboteurs`] that break one rule each.
//!
//! A store passes by one line: `ledger_conformance!(sqlite, fixture())` makes one test per rule.
//! Rules cite the invariants (L1, L2 …) that they check.

mod listing;
mod operating;
mod recording;
mod reserving;
mod resolving;
pub mod saboteurs;
mod scene;
mod starting;

use std::future::Future;
use std::pin::Pin;

pub use scene::LedgerFixture;
use scene::Scene;

/// One rule of the suite.
#[derive(Clone, Copy)]
pub struct LedgerRule {
    /// Its name, which says what holds.
    pub name: &'static str,
    /// The invariants that it checks, such as `L1 L3`.
    pub cites: &'static str,
    run: for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl LedgerRule {
    /// Runs the rule over a fresh ledger.
    ///
    /// # Panics
    /// When the store breaks the rule.
    pub fn check(&self, fixture: LedgerFixture) {
        let scene = Scene::new(fixture);
        crate::block_on((self.run)(&scene));
    }

    /// The rule of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        LEDGER_RULES.iter().find(|rule| rule.name == name)
    }
}

impl std::fmt::Debug for LedgerRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.cites)
    }
}

/// Makes a module with one test per rule of the ledger's suite; the fixture is made anew for
/// each by a function that stands beside the call.
#[macro_export]
macro_rules! ledger_conformance {
    ($name:ident, $fixture:ident($($argument:expr),*)) => {
        mod $name {
            $crate::__every_ledger_rule!(__one_ledger_test (super::$fixture($($argument),*)));
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __one_ledger_test {
    (($fixture:expr) $($module:ident :: $rule:ident: $cites:literal,)*) => {
        $(
            #[test]
            fn $rule() {
                let rule = $crate::ledger::LedgerRule::named(stringify!($rule));
                rule.expect("the rule is in the table").check($fixture);
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __ledger_rule_table {
    (() $($module:ident :: $rule:ident: $cites:literal,)*) => {
        /// All rules of the ledger's suite.
        pub const LEDGER_RULES: &[LedgerRule] = &[
            $(LedgerRule {
                name: stringify!($rule),
                cites: $cites,
                run: |scene| Box::pin($module::$rule(scene)),
            },)*
        ];
    };
}

/// The one list of rules, from which the table and the tests are made.
#[doc(hidden)]
#[macro_export]
macro_rules! __every_ledger_rule {
    ($then:ident $arguments:tt) => {
        $crate::$then! { $arguments
            reserving::a_free_posting_is_reserved_once: "L1",
            reserving::a_repeat_of_reserve_is_recognised: "L1",
            reserving::an_attempt_id_serves_once: "L1",
            reserving::a_posting_is_one_under_every_prefix: "L1",
            reserving::a_lower_token_is_refused_and_changes_nothing: "L3",
            reserving::a_higher_token_takes_over_what_is_only_reserved: "L1 L2 L3",
            reserving::racing_bidders_start_once: "L1 L2",
            starting::start_is_answered_yes_once: "L2",
            starting::a_start_with_a_lower_token_is_refused: "L3",
            starting::an_unknown_attempt_never_starts: "L2",
            starting::a_started_attempt_is_never_taken_over: "L4 L5",
            starting::a_lower_token_that_meets_a_start_changes_nothing: "L3",
            starting::started_past_its_send_by_reads_as_unknown: "L5",
            starting::a_start_whose_process_is_gone_reads_as_unknown: "L5 L6",
            starting::doubt_never_ends_by_age: "L6",
            starting::the_payload_is_fixed_at_the_start: "L9",
            recording::a_decision_stands_for_ever: "L1",
            recording::not_sent_lets_another_try: "L4",
            recording::record_needs_no_token: "L3 L8",
            recording::a_doubt_ends_by_the_submitters_word: "L6 L8",
            recording::a_repeated_outcome_changes_nothing: "L8",
            recording::a_late_outcome_is_kept_and_reported: "L8",
            recording::what_never_started_has_no_outcome: "L4",
            recording::the_submitters_own_doubt_replaces_a_guess: "L6 L7",
            resolving::resolve_waits_for_send_by_and_lag: "L6",
            resolving::a_bid_that_was_found_waits_for_nothing: "L6",
            resolving::resolve_waits_for_the_sender_to_end: "L6",
            resolving::a_sender_that_cannot_tell_has_stopped: "L6",
            resolving::an_unseen_sender_needs_a_word: "L6 L7",
            resolving::the_same_word_twice_ends_one_doubt: "L6",
            resolving::a_sender_that_was_seen_vouches_for_its_own_attempt: "L6",
            resolving::resolve_needs_a_doubt: "L6",
            resolving::each_finding_leads_to_its_state: "L6",
            operating::without_an_open_attempt_nothing_is_done_by_hand: "L6 L7",
            operating::a_placed_bid_is_not_reopened: "L1",
            operating::reopen_lets_another_try: "L1 L8",
            operating::only_a_placed_bid_is_withdrawn: "L4",
            operating::acts_by_hand_are_audited: "L7",
            listing::history_tells_every_step_in_order: "L7",
            listing::bids_are_filtered_as_everybody_reads_them: "L5",
            listing::bids_are_paged_newest_first: "L1",
            listing::a_ledger_opened_again_has_forgotten_nothing: "L2",
            listing::should_bid_gives_the_reason: "L1",
        }
    };
}

__every_ledger_rule!(__ledger_rule_table());
