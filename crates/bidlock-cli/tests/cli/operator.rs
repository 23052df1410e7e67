use crate::User;

#[test]
fn doubt_is_ended_by_an_operator_after_the_send_by() {
    let user = User::new();
    let words = ["bid", "upwork", "j", "--submit-timeout", "200ms", "--", "sh", "-c", "exit 3"];
    assert_eq!(user.run(&words).code, 11);
    let resolve = ["resolve", "upwork", "j", "--placed", "R-1", "--because", "seen on the site"];
    // Each try is a process of its own, so this is no busy loop; the send-by is near.
    let mut done = user.run(&resolve);
    while done.code == 11 && done.stderr.contains("allowed from") {
        done = user.run(&resolve);
    }
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(user.run(&resolve).code, 10, "it is decided now");
    assert_eq!(user.run(&["bid", "upwork", "j", "touch", "ran"]).code, 10);
    assert!(!user.path("ran").exists());
    let history = user.run(&["bids", "upwork", "j", "--history"]).stdout;
    assert!(history.contains("resolved_placed") && history.contains("seen on"), "{history}");
    assert!(user.run(&["bids"]).stdout.contains("R-1"));
    let audit = user.run(&["audit", "--json"]).stdout;
    assert!(audit.contains("seen on the site") && audit.contains("\"actor\""), "{audit}");
}

#[test]
fn only_an_operator_reopens_a_posting() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    let reopen = ["reopen", "upwork", "j", "--because", "again"];
    assert_eq!(user.run(&reopen).code, 10, "a placed bid is withdrawn first");
    assert_eq!(user.run(&["withdraw", "upwork", "j"]).code, 0);
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 10);
    assert_eq!(user.run(&reopen).code, 0);
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    let states = user.run(&["bids"]).stdout;
    assert!(states.contains("\tplaced\t") && states.contains("\tabandoned\t"), "{states}");
    let placed = user.run(&["bids", "upwork", "--state", "placed"]).stdout;
    assert_eq!(placed.lines().count(), 1, "{placed}");
    assert_eq!(user.run(&["reopen", "upwork", "never", "--because", "x"]).code, 2);
}

#[test]
fn health_completions_and_manual_are_there() {
    let user = User::new();
    let health = user.run(&["health", "--json"]);
    assert_eq!((health.code, health.stdout.lines().count()), (0, 2), "{health:?}");
    assert!(user.run(&["completions", "bash"]).stdout.contains("bidlock"));
    assert!(user.run(&["man"]).stdout.contains("already decided"));
    assert_eq!(user.run(&["man", "--out", "pages"]).code, 0);
    assert!(user.path("pages/bidlock-bid.1").exists());
    assert!(user.run(&["help", "exit-codes"]).stdout.contains("  76  "));
    assert!(user.run(&["help", "bid"]).stdout.contains("--submit-timeout"));
    assert_eq!(user.run(&["help", "nonsense"]).code, 2);
}
