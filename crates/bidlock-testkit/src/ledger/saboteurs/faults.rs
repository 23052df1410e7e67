macro_rules! faults {
    ($($(#[$doc:meta])+ $name:ident: [$($rule:literal),+],)+) => {
        /// What a saboteur does wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LedgerFault {
            $($(#[$doc])+ $name,)+
        }

        /// Every fault, and the rules that catch it.
        pub const LEDGER_FAULTS: &[(LedgerFault, &[&str])] = &[
            $((LedgerFault::$name, &[$($rule),+]),)+
        ];
    };
}

faults! {
    /// Lets a submission begin whoever asks.
    StartsTwice: [
        "start_is_answered_yes_once", "the_payload_is_fixed_at_the_start",
        "a_higher_token_takes_over_what_is_only_reserved"
    ],
    /// Says yes to every racer that comes second.
    ReservesTwice: ["racing_bidders_start_once", "a_free_posting_is_reserved_once"],
    /// Has another attempt for the same call.
    ForgetsRepeats: ["a_repeat_of_reserve_is_recognised"],
    /// Lets one id serve two postings.
    SharesIds: ["an_attempt_id_serves_once"],
    /// Takes the prefix for a part of the posting.
    SplitsByPrefix: ["a_posting_is_one_under_every_prefix"],
    /// Reserves for a token that is too low.
    ReserveIgnoresToken: [
        "a_lower_token_is_refused_and_changes_nothing",
        "a_lower_token_that_meets_a_start_changes_nothing"
    ],
    /// Starts for a token that is too low.
    StartIgnoresToken: ["a_start_with_a_lower_token_is_refused"],
    /// Starts what it does not know.
    StartsStrangers: ["an_unknown_attempt_never_starts"],
    /// Takes a started attempt over, for a higher token.
    TakesOverStarted: ["a_started_attempt_is_never_taken_over", "doubt_never_ends_by_age"],
    /// Closes a doubt an hour after its send-by.
    TakesOverByAge: ["doubt_never_ends_by_age"],
    /// Leaves started what nobody will send any more.
    StartedForEver: [
        "started_past_its_send_by_reads_as_unknown",
        "bids_are_filtered_as_everybody_reads_them", "counts_tell_what_everybody_reads"
    ],
    /// Takes the payload of the latest call.
    ReplacesPayload: ["the_payload_is_fixed_at_the_start"],
    /// Opens a decided posting again by itself.
    ReopensByItself: ["a_decision_stands_for_ever"],
    /// Keeps a posting closed of which nothing was sent.
    NeverReleases: ["not_sent_lets_another_try"],
    /// Wants the highest token for an outcome.
    RecordNeedsToken: ["record_needs_no_token"],
    /// Lets a doubt stand against the submitter's own word.
    DoubtsTheSubmitter: ["a_doubt_ends_by_the_submitters_word"],
    /// Takes a repeated outcome for news.
    RecordsTwice: ["a_repeated_outcome_changes_nothing"],
    /// Loses an outcome that comes late.
    SwallowsLate: ["a_late_outcome_is_kept_and_reported"],
    /// Has an outcome for what never started.
    RecordsUnstarted: ["what_never_started_has_no_outcome"],
    /// Takes a guess of the library for the submitter's word.
    TakesGuessesForWords: [
        "the_submitters_own_doubt_replaces_a_guess", "resolve_waits_for_the_sender_to_end"
    ],
    /// Keeps a guess where the submitter has spoken.
    KeepsTheGuess: [
        "the_submitters_own_doubt_replaces_a_guess", "a_sender_that_cannot_tell_has_stopped"
    ],
    /// Lets a doubt be ended while it may still be sent.
    ResolvesEarly: ["resolve_waits_for_send_by_and_lag", "resolve_needs_a_doubt"],
    /// Has a bid that was found wait like any other finding.
    FindersWait: ["a_bid_that_was_found_waits_for_nothing"],
    /// Loses the sender's process.
    LosesProcess: [
        "resolve_waits_for_the_sender_to_end",
        "a_bid_that_was_found_waits_for_nothing",
        "a_start_whose_process_is_gone_reads_as_unknown"
    ],
    /// Takes it for granted that a sender which cannot be seen has ended.
    ForgetsUnseenSenders: [
        "an_unseen_sender_needs_a_word", "word_of_the_second_sender_is_none_of_the_first"
    ],
    /// Ends the doubt about whatever attempt is open, whichever one was named.
    ResolvesWhateverIsOpen: ["the_same_word_twice_ends_one_doubt"],
    /// Fills in the attempt that the operator did not name.
    GuessesTheAttempt: ["the_same_word_twice_ends_one_doubt"],
    /// Believes of every attempt what was seen of one.
    SwapsSenders: ["a_sender_that_was_seen_vouches_for_its_own_attempt"],
    /// Says that a posting was never tried whose attempts are all abandoned.
    HidesTheAbandoned: ["without_an_open_attempt_nothing_is_done_by_hand"],
    /// Says that it has resolved what was no doubt.
    ResolvesAnything: ["resolve_needs_a_doubt", "acts_by_hand_are_audited"],
    /// Ends every doubt as not sent.
    ResolvesOneWay: ["each_finding_leads_to_its_state"],
    /// Opens a placed bid again.
    ReopensPlaced: ["a_placed_bid_is_not_reopened"],
    /// Says that a posting is open again, and leaves it closed.
    ReopensNothing: ["reopen_lets_another_try"],
    /// Says that it has withdrawn what was never placed.
    WithdrawsAnything: ["only_a_placed_bid_is_withdrawn"],
    /// Keeps no audit.
    SkipsAudit: ["acts_by_hand_are_audited"],
    /// Keeps the newest entry of a history only.
    RewritesHistory: ["history_tells_every_step_in_order"],
    /// Begins every page anew.
    RepeatsPages: ["bids_are_paged_newest_first", "dossiers_come_in_pages_by_name"],
    /// Is somewhere else for each process that opens it.
    LosesItsPlace: ["a_ledger_that_was_made_anew_gives_nothing_out"],
    /// Forgets what was acknowledged when it is closed.
    Forgets: ["a_ledger_opened_again_has_forgotten_nothing"],
    /// Sees no attempt that stands against a bid.
    SeesNothing: ["should_bid_gives_the_reason"],
    /// Removes what is over, however lately.
    PrunesTooMuch: [
        "a_prune_takes_only_what_is_over_for_long", "the_horizon_never_goes_back"
    ],
    /// Removes what is still open.
    PrunesWhatIsOpen: [
        "an_open_attempt_is_never_pruned", "a_prune_takes_only_what_is_over_for_long"
    ],
    /// Keeps no horizon.
    ForgetsTheHorizon: [
        "what_was_seen_before_the_horizon_is_stale", "the_horizon_never_goes_back",
        "what_was_pruned_is_not_missed"
    ],
    /// Tells nobody of a prune.
    PrunesInSilence: ["a_prune_is_audited_and_never_of_the_audit"],
    /// Says that a prune is done when it is not.
    StopsPruningEarly: ["a_prune_goes_on_in_steps"],
    /// Says yes to whoever asks to send again.
    ResendsTwice: [
        "a_doubt_is_sent_again_once_for_a_token", "of_racing_callers_one_sends_again"
    ],
    /// Sends again for a token that was seen.
    ResendsForOldTokens: ["sending_again_needs_a_token_that_nobody_has_seen"],
    /// Sends again what may still be on its way.
    ResendsEarly: ["sending_again_waits_for_the_send_by"],
    /// Sends something else again.
    ResendsAnyPayload: ["only_the_same_payload_is_sent_again"],
    /// Sends again when the marketplace has forgotten the id.
    ResendsForEver: ["sending_again_ends_with_the_retention"],
    /// Sends again what has an outcome.
    ResendsWhatIsKnown: ["only_a_doubt_is_sent_again"],
    /// Looks at the first sender only.
    KeepsTheFirstSender: [
        "what_was_sent_again_waits_for_its_new_sender", "a_doubt_is_sent_again_once_for_a_token"
    ],
    /// Believes the sender of one sending about both.
    BelievesOneOfTwo: ["not_sent_of_one_sending_ends_no_doubt"],
    /// Is another ledger each time it is opened.
    ChangesIdentity: ["a_ledger_keeps_its_identity"],
    /// Does not keep that it was accepted.
    ForgetsAcceptances: [
        "an_acceptance_is_kept", "a_ledger_that_forgot_a_start_gives_nothing_out"
    ],
    /// Takes attempts along without the tokens that they have seen.
    LeavesSeenTokensBehind: [
        "all_that_is_known_of_a_posting_is_taken_along", "what_was_taken_in_is_like_any_other"
    ],
    /// Takes for news what it knows.
    TakesInTwice: ["taking_in_the_same_again_changes_nothing"],
    /// Says of a longer story that it knows it.
    LeavesBeginnings: ["what_is_here_may_be_the_beginning"],
    /// Says that it knows what contradicts it.
    SwallowsContradictions: [
        "a_contradiction_is_refused_and_changes_nothing", "what_is_here_may_be_the_beginning"
    ],
    /// Loses the audit of another ledger.
    LosesForeignAudit: ["the_audit_is_taken_along"],
}
