//! Stores that are wrong on purpose: one small sound store in memory, and one switch per fault.
//!
//! A rule that no fault can fail checks nothing; [`FAULTS`] names for each fault the rules that
//! must catch it.

mod browse;
mod ending;
mod queue;
mod reference;

pub use reference::ReferenceStore;

use crate::conformance::PlatformFixture;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $fault:ident: $($rule:ident),+;)*) => {
        /// One way to be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[doc = $doc])* $fault,)*
        }

        /// Each fault with the names of the rules that must catch it.
        pub const FAULTS: &[(Fault, &[&str])] =
            &[$((Fault::$fault, &[$(stringify!($rule)),+])),*];
    };
}

faults! {
    /// A held key is granted to whoever asks.
    GrantsTwice: a_free_key_is_granted_once;
    /// Looks whether the key is free, and takes it later, unlocked in between.
    LooksBeforeItTakes: concurrent_acquires_grant_one;
    /// The holder's own repeat is told that the key is held.
    RepeatIsHeld: a_repeat_is_recognised;
    /// The holder's own repeat makes a second grant.
    RepeatGetsNewToken: a_repeat_is_recognised, a_look_confirms_the_window;
    /// A repeat with a shorter TTL shortens the lease.
    RepeatShortens: a_repeat_extends_and_never_shortens;
    /// A repeat with a longer TTL changes nothing.
    RepeatDoesNotExtend: a_repeat_extends_and_never_shortens;
    /// Keys of one posting id are one, whatever the marketplace.
    KeysShareState: keys_do_not_disturb_each_other;
    /// The holder is shown with the whole lease id.
    HolderShowsSecret: held_names_the_holder_but_not_its_secret;
    /// What the holder said about itself is not kept.
    LabelIsForgotten: held_names_the_holder_but_not_its_secret;
    /// A request past its own deadline is carried out.
    TooLateIsIgnored: a_request_that_comes_too_late_changes_nothing;
    /// The next token is the last one.
    TokensStandStill: tokens_rise_over_release_and_expiry, tokens_rise_over_a_restart;
    /// A key that is handed over keeps its token.
    HandOverKeepsToken: tokens_rise_over_hand_over, revoke_now_hands_over;
    /// The next token is one more than the last one, whatever the time.
    TokensFromCounterAlone: tokens_rise_over_data_loss;
    /// The next token is the time, whatever the last one.
    TokensFromClockAlone: tokens_rise_when_the_wall_clock_steps_back;
    /// Tokens have no bound.
    TokensAreUnbounded: nothing_is_granted_past_the_token_bound;
    /// A lease holds until it is released.
    NothingExpires: a_lease_ends_by_itself;
    /// A renewal says yes and extends nothing.
    RenewDoesNothing: a_renewal_extends;
    /// A renewal makes an expired lease live again.
    RenewRevives: renew_never_revives;
    /// A renewal of a free key grants it.
    RenewRecreates: renew_never_recreates;
    /// A renewal with a shorter TTL shortens the lease.
    RenewShortens: renew_never_shortens;
    /// A renewal extends the lease, whoever asks.
    RenewDoesNotCompare: renew_by_another_changes_nothing;
    /// A release says yes and frees nothing.
    ReleaseDoesNothing: release_frees_the_key;
    /// A release frees the key, whoever asks.
    ReleaseDoesNotCompare: release_by_another_changes_nothing, a_lease_that_ended_releases_nothing;
    /// A release frees the key of any lease of the same process.
    ReleaseComparesTheProcess: release_by_another_changes_nothing;
    /// The last to come is the first to be served.
    NewestIsServedFirst: hand_over_goes_to_the_longest_waiting;
    /// A released key is free for whoever comes first.
    ReleaseDoesNotHandOver: a_newcomer_never_overtakes, release_of_a_crossed_grant_hands_it_over;
    /// An expired key is free for whoever comes first.
    ExpiryDoesNotHandOver: a_newcomer_never_overtakes_after_expiry,
        expiry_passes_on_without_release;
    /// Whoever confirms a window keeps the window's end.
    ConfirmDoesNotExtend: a_look_confirms_the_window;
    /// A window is over before its waiter can look.
    WindowIsTooShort: a_window_stays_open_as_long_as_promised;
    /// A key is handed over for the full TTL at once.
    WindowIsTheTtl: a_window_stays_open_as_long_as_promised;
    /// A window that nobody confirms stays open.
    WindowNeverEnds: an_unconfirmed_window_passes_on;
    /// A waiter whose window ended is next again.
    WindowKeepsThePlace: a_waiter_that_let_its_window_pass_queues_anew;
    /// Everybody is told that nobody waits before them.
    WaitersAreNotCounted: queue_positions_are_counted;
    /// A look puts the waiter at the end.
    LookLosesThePlace: a_look_keeps_the_place;
    /// A look adds a second place.
    LookAddsAPlace: a_look_keeps_the_place;
    /// A waiter past its deadline is served.
    DeadlineIsIgnored: a_waiter_past_its_deadline_is_skipped;
    /// A waiter that has long ceased to look is served.
    SilenceIsIgnored: a_waiter_that_looks_no_more_is_skipped;
    /// A waiter whose process has ended is served.
    DeathIsIgnored: dead_waiters_are_passed_over;
    /// A waiter that cancels keeps its place.
    CancelKeepsThePlace: a_cancelled_waiter_leaves_nothing;
    /// A waiter that cancels and was just granted the key keeps it.
    CancelForgetsTheCrossedGrant: release_of_a_crossed_grant_hands_it_over;
    /// Whoever asks in passing stands in the queue.
    PassersByAreQueued: no_wait_enters_no_queue;
    /// A queue has no bound.
    QueueIsUnbounded: the_queue_is_bounded;
    /// A revocation takes the key, whatever token it names.
    RevokeIgnoresTheToken: revoke_names_the_token;
    /// A revoked holder's renewals are answered as ever.
    RevokedIsNotTold: a_revoked_holder_is_told_and_frees_by_release;
    /// A marked key is free before its holder has stopped.
    MarkFreesAtOnce: a_revoked_holder_is_told_and_frees_by_release;
    /// A revoked holder gets more time when it asks again.
    RevokedLivesOn: a_revoked_lease_ends_when_promised;
    /// A revocation that shall free at once only marks.
    NowOnlyMarks: revoke_now_frees_at_once;
    /// The holder of a key that was freed at once is told that its lease just ended.
    NowIsNotTold: revoke_now_frees_at_once;
    /// A key that was freed at once is free for whoever comes first.
    NowDoesNotHandOver: revoke_now_hands_over;
    /// Expired locks are listed.
    ListShowsExpired: listing_shows_live_locks_only;
    /// A listing knows no prefixes.
    ListIgnoresThePrefix: listing_goes_by_prefix_and_page;
    /// Every page of a listing is the first.
    ListIgnoresThePage: listing_goes_by_prefix_and_page;
    /// A listing says that nobody waits.
    ListForgetsWaiters: listing_tells_token_holder_and_waiters;
    /// Nobody is ever woken.
    NobodyIsWoken: a_waiter_is_woken_on_hand_over, a_revoked_holder_is_woken;
    /// A wake names a token that was never granted.
    WakeNamesAnotherToken: a_waiter_is_woken_on_hand_over;
    /// All processes hear of each lease.
    EverybodyIsWoken: news_of_a_lease_stays_in_its_process;
}

/// The small store without a fault; it keeps its data over a restart.
#[must_use]
pub fn sound() -> PlatformFixture<ReferenceStore> {
    fixture(None)
}

/// The small store with one fault.
#[must_use]
pub fn sabotaged(fault: Fault) -> PlatformFixture<ReferenceStore> {
    fixture(Some(fault))
}

fn fixture(fault: Option<Fault>) -> PlatformFixture<ReferenceStore> {
    let start = move |_: &_| ReferenceStore::new(fault);
    PlatformFixture::new(start, ReferenceStore::client).keeping()
}
