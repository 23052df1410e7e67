//! What is forgotten on purpose (L10).

use super::{import, made, postings};
use crate::main_job::ago;
use crate::{User, objects, text};

#[test]
fn only_what_was_over_long_ago_is_forgotten() {
    let user = User::new();
    made::export(&user, "all.jsonl", 1_200);
    let ledger = format!("sqlite://{}", user.database().display());
    assert_eq!(import(&user, "all.jsonl", &ledger).code, 0);
    assert_eq!(user.run(&["bid", "upwork", "fresh", "true"]).code, 0);
    let status = |field: &str| user.json(&["ledger", "status"])[0][field].clone();
    let before = status("counts");
    for more in [&[][..], &["--dry-run"]] {
        let dry = user.run(&[&["ledger", "prune", "--json"][..], more].concat());
        assert_eq!(dry.code, 0, "{dry:?}");
        let told = &objects(&dry.stdout)[0];
        assert_eq!(
            (told["attempts"].as_u64(), told["removed"].as_bool()),
            (Some(800), Some(false))
        );
        assert_eq!(status("counts"), before, "nothing is removed without --yes");
    }
    let done = user.run(&["ledger", "prune", "--older-than", "90d", "--yes", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let told = &objects(&done.stdout)[0];
    assert_eq!((told["attempts"].as_u64(), told["removed"].as_bool()), (Some(800), Some(true)));
    let after = status("counts");
    for (state, count) in [
        ("reserved", 100),
        ("unknown", 400),
        ("placed", 1),
        ("refused", 0),
        ("withdrawn", 0),
        ("abandoned", 0),
    ] {
        assert_eq!(after[state], count, "{state}: {after}");
    }
    // The history of what is left is whole, and the audit is never pruned.
    assert_eq!(user.run(&["ledger", "export", "left.jsonl"]).code, 0);
    assert_eq!(postings(&user, "left.jsonl").len(), 501);
    let audit = user.json(&["audit", "--limit", "1000"]);
    assert_eq!(audit.iter().filter(|entry| text(entry, "act") == "withdraw").count(), 12);
    assert!(audit.iter().any(|entry| text(entry, "because") == "older than 90d"));
    // What was seen before the horizon is stale, also where its posting is forgotten.
    let bid = |posting: &str, seen_at: &str| {
        let words = ["bid", "upwork", posting, "--max-age", "366d", "--seen-at", seen_at, "true"];
        user.run(&words).code
    };
    assert!(status("pruned_before").is_string());
    assert_eq!(bid("job_0000000", "2026-01-01T00:00:00Z"), 14);
    let again = user.run(&["ledger", "prune", "--yes", "--json"]);
    assert_eq!(objects(&again.stdout)[0]["attempts"], 0, "{again:?}");
    // A copy forgets the same.
    assert_eq!(import(&user, "left.jsonl", "sqlite:copy.db").code, 0);
    let copy = &user.json(&["ledger", "status", "--ledger-url", "sqlite:copy.db"])[0];
    assert_eq!(copy["counts"], after);
    assert!(copy["pruned_before"].is_string(), "{copy}");
}

#[test]
fn what_is_young_is_forgotten_only_with_a_reason_that_is_kept() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    let words = ["ledger", "prune", "--older-than", "1s", "--yes"];
    let refused = user.run(&words);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--because"), "{refused:?}");
    assert_eq!(user.states("j"), ["placed"]);
    crate::pause(1_100_000);
    let done = user.run(&[&words[..], &["--because", "a test market is gone"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(user.bids("j").is_empty());
    let audit = user.json(&["audit"]);
    assert!(audit.iter().any(|entry| text(entry, "because") == "a test market is gone"));
}

#[test]
fn what_was_seen_before_the_horizon_is_told_so_and_no_greater_age_is_advised() {
    // L10
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    crate::pause(1_100_000);
    let words = ["ledger", "prune", "--older-than", "1s", "--yes", "--because", "a test market"];
    assert_eq!(user.run(&words).code, 0);
    let horizon = text(&user.json(&["ledger", "status"])[0], "pruned_before");
    for age in ["366d", "1ms"] {
        let seen = ["--seen-at", "2026-01-01T00:00:00Z", "--max-age", age];
        let stale = user.run(&[&["bid", "upwork", "j"], &seen[..], &["touch", "ran"]].concat());
        assert_eq!(stale.code, 14, "{stale:?}");
        let said = format!("before the horizon of the last prune ({horizon})");
        assert!(stale.stderr.contains(&said), "{stale:?}");
        assert!(!stale.stderr.contains("--max-age"), "it cannot help: {stale:?}");
        assert!(stale.stderr.contains("bidlock bids upwork j"), "{stale:?}");
        let words = [&["bid", "upwork", "j", "--json"], &seen[..], &["touch", "ran"]].concat();
        let object = &objects(&user.run(&words).stderr)[0];
        assert_eq!(
            (text(object, "result"), text(object, "pruned_before")),
            ("stale".into(), horizon.clone())
        );
    }
    assert!(!user.path("ran").exists());
    // One that is seen later is taken.
    let seen_at = ago(0);
    let later = ["bid", "upwork", "j", "--seen-at", &seen_at, "true"];
    assert_eq!(user.run(&later).code, 0);
}

#[test]
fn ten_years_may_be_kept_and_no_more() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    let kept = user.run(&["ledger", "prune", "--older-than", "3653d", "--yes"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    assert_eq!(user.states("j"), ["placed"]);
    let refused = user.run(&["ledger", "prune", "--older-than", "3654d", "--yes"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("between 1s and 3653d"), "{refused:?}");
}
