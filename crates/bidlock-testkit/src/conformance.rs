//! What every store must do, as rules that run against any [`bidlock_core::Backend`].
//!
//! A store passes by a [`Fixture`] and one line: `conformance!(sqlite, fixture())` makes one
//! test per rule. [`RULES`] is the same list as a table. Rules cite the invariants (I1, I2 …)
//! that they check.

mod fixture;
mod grants;
mod leases;
mod listing;
mod queue;
mod revoking;
mod steps;
mod tokens;
mod waiting;
mod wakes;

use std::future::Future;
use std::pin::Pin;

pub use fixture::{Fixture, PlatformFixture};
pub(crate) use steps::{Bidder, Store};

/// One rule of the suite.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name, which says what holds.
    pub name: &'static str,
    /// The invariants that it checks, such as `I2 I8`.
    pub cites: &'static str,
    run: for<'a> fn(Store<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl Rule {
    /// Runs the rule over a fresh store.
    ///
    /// # Panics
    /// When the store breaks the rule.
    pub fn check(&self, fixture: &dyn Fixture) {
        crate::block_on((self.run)(Store::new(fixture)));
    }

    /// The rule of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name == name)
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.cites)
    }
}

/// Makes a module with one test per rule of the suite; the fixture is made anew for each by a
/// function that stands beside the call.
///
/// # Examples
/// ```
/// use bidlock_testkit::saboteurs::sound;
///
/// bidlock_testkit::conformance!(reference, sound());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($name:ident, $fixture:ident($($argument:expr),*)) => {
        mod $name {
            $crate::__every_rule!(__one_test (super::$fixture($($argument),*)));
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __one_test {
    (($fixture:expr) $($module:ident :: $rule:ident: $cites:literal,)*) => {
        $(
            #[test]
            fn $rule() {
                let rule = $crate::conformance::Rule::named(stringify!($rule));
                rule.expect("the rule is in the table").check(&$fixture);
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rule_table {
    (() $($module:ident :: $rule:ident: $cites:literal,)*) => {
        /// All rules of the suite.
        pub const RULES: &[Rule] = &[
            $(Rule {
                name: stringify!($rule),
                cites: $cites,
                run: |store| Box::pin($module::$rule(store)),
            },)*
        ];
    };
}

/// The one list of rules, from which the table and the tests are made.
#[doc(hidden)]
#[macro_export]
macro_rules! __every_rule {
    ($then:ident $arguments:tt) => {
        $crate::$then! { $arguments
            grants::a_free_key_is_granted_once: "I2",
            grants::concurrent_acquires_grant_one: "I2",
            grants::a_repeat_is_recognised: "I8",
            grants::a_repeat_extends_and_never_shortens: "I8",
            grants::keys_do_not_disturb_each_other: "I2",
            grants::held_names_the_holder_but_not_its_secret: "I2",
            grants::a_request_that_comes_too_late_changes_nothing: "I9",
            tokens::tokens_rise_over_release_and_expiry: "I1",
            tokens::tokens_rise_over_hand_over: "I1",
            tokens::tokens_rise_over_a_restart: "I1",
            tokens::tokens_rise_over_data_loss: "I1",
            tokens::tokens_rise_when_the_wall_clock_steps_back: "I1",
            tokens::nothing_is_granted_past_the_token_bound: "I1",
            leases::a_lease_ends_by_itself: "I10",
            leases::a_renewal_extends: "I5",
            leases::renew_never_revives: "I4 I5",
            leases::renew_never_recreates: "I4 I5",
            leases::renew_never_shortens: "I5",
            leases::renew_by_another_changes_nothing: "I2 I5",
            leases::release_frees_the_key: "I2",
            leases::release_by_another_changes_nothing: "I2",
            leases::a_lease_that_ended_releases_nothing: "I2 I4",
            queue::hand_over_goes_to_the_longest_waiting: "I6",
            queue::a_newcomer_never_overtakes: "I6",
            queue::expiry_passes_on_without_release: "I6 I13",
            queue::a_newcomer_never_overtakes_after_expiry: "I6",
            queue::a_look_confirms_the_window: "I6 I8",
            queue::a_window_stays_open_as_long_as_promised: "I6",
            queue::an_unconfirmed_window_passes_on: "I7",
            queue::a_waiter_that_let_its_window_pass_queues_anew: "I7",
            waiting::queue_positions_are_counted: "I6",
            waiting::a_look_keeps_the_place: "I8",
            waiting::a_waiter_past_its_deadline_is_skipped: "I6 I10",
            waiting::a_waiter_that_looks_no_more_is_skipped: "I6 I10",
            waiting::dead_waiters_are_passed_over: "I6 I10",
            waiting::a_cancelled_waiter_leaves_nothing: "I11",
            waiting::release_of_a_crossed_grant_hands_it_over: "I11",
            waiting::no_wait_enters_no_queue: "I6",
            waiting::the_queue_is_bounded: "I10",
            revoking::revoke_names_the_token: "I12",
            revoking::a_revoked_holder_is_told_and_frees_by_release: "I12",
            revoking::a_revoked_lease_ends_when_promised: "I12",
            revoking::revoke_now_frees_at_once: "I12",
            revoking::revoke_now_hands_over: "I12 I6",
            listing::listing_shows_live_locks_only: "I10",
            listing::listing_goes_by_prefix_and_page: "I2",
            listing::listing_tells_token_holder_and_waiters: "I2",
            wakes::a_waiter_is_woken_on_hand_over: "I13 I14",
            wakes::a_revoked_holder_is_woken: "I12 I13",
            wakes::news_of_a_lease_stays_in_its_process: "I13",
        }
    };
}

__every_rule!(__rule_table());
