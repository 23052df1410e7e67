//! What `bidlock help` says, word for word. `BIDLOCK_UPDATE=1` writes it anew.

use std::path::Path;

use crate::User;

#[test]
fn every_command_explains_itself() {
    let user = User::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help");
    let update = std::env::var_os("BIDLOCK_UPDATE").is_some_and(|value| value == "1");
    for topic in [
        "",
        "bid",
        "bids",
        "reconcile",
        "ledger",
        "ledger migrate",
        "ledger status",
        "ledger export",
        "ledger import",
        "ledger prune",
        "ledger accept",
        "doctor",
        "exit-codes",
    ] {
        let mut words = vec!["help"];
        words.extend(topic.split_whitespace());
        let said = user.run(&words);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{topic}: {said:?}");
        let name = if topic.is_empty() { "bidlock".to_owned() } else { topic.replace(' ', "-") };
        let file = folder.join(format!("{name}.txt"));
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &said.stdout).unwrap();
        }
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(said.stdout == known, "{topic}: not as in {}:\n{}", file.display(), said.stdout);
        if !matches!(topic, "" | "exit-codes") {
            let mut words: Vec<&str> = topic.split_whitespace().collect();
            words.push("--help");
            assert_eq!(user.run(&words).stdout, said.stdout, "{topic}: --help says the same");
        }
    }
}
