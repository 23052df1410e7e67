//! What every store of a ledger must do, as rules that run against any
//! [`bidlock_ledger::Store`], and [`saboteurs`] that break one rule each.
//!
//! A store passes by one line: `ledger_conformance!(sqlite, fixture())` makes one test per rule.
//! Rules cite the invariants (L1, L2 …) that they check.

mod admitting;
mod archiving;
mod listing;
mod lossy;
mod operating;
mod pruning;
mod recording;
mod resending;
mod reserving;
mod resolving;
mod restoring;
pub mod saboteurs;
mod scene;
mod starting;

use std::future::Future;
use std::pin::Pin;

pub use lossy::{Fate, LossyLedger};
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
            pruning::a_prune_takes_only_what_is_over_for_long: "L10",
            pruning::an_open_attempt_is_never_pruned: "L1 L10",
            pruning::what_was_seen_before_the_horizon_is_stale: "L10",
            pruning::the_horizon_never_goes_back: "L10",
            pruning::a_prune_is_audited_and_never_of_the_audit: "L7 L10",
            pruning::a_prune_goes_on_in_steps: "L10",
            resending::a_doubt_is_sent_again_once_for_a_token: "L9 L11",
            resending::sending_again_needs_a_token_that_nobody_has_seen: "L3 L11",
            resending::sending_again_waits_for_the_send_by: "L5 L11",
            resending::only_the_same_payload_is_sent_again: "L9 L11",
            resending::sending_again_ends_with_the_retention: "L11",
            resending::only_a_doubt_is_sent_again: "L4 L11",
            resending::of_racing_callers_one_sends_again: "L11",
            resending::what_was_sent_again_waits_for_its_new_sender: "L6 L11",
            resending::not_sent_of_one_sending_ends_no_doubt: "L4 L11",
            resending::word_of_the_second_sender_is_none_of_the_first: "L6 L11",
            restoring::a_ledger_keeps_its_identity: "L12",
            restoring::an_acceptance_is_kept: "L7 L12",
            restoring::a_ledger_that_forgot_a_start_gives_nothing_out: "L12",
            restoring::a_ledger_that_was_made_anew_gives_nothing_out: "L12",
            restoring::what_was_pruned_is_not_missed: "L10 L12",
            admitting::all_that_is_known_of_a_posting_is_taken_along: "L7 L8",
            admitting::taking_in_the_same_again_changes_nothing: "L7",
            admitting::what_is_here_may_be_the_beginning: "L7",
            admitting::a_contradiction_is_refused_and_changes_nothing: "L1 L7",
            admitting::what_was_taken_in_is_like_any_other: "L2 L3 L8",
            archiving::dossiers_come_in_pages_by_name: "L7",
            archiving::counts_tell_what_everybody_reads: "L5",
            archiving::the_audit_is_taken_along: "L7",
        }
    };
}

__every_ledger_rule!(__ledger_rule_table());
