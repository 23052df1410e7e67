//! Every way to a server: sockets, addresses, accounts, databases, TLS.

use bidlock::{Error, Locker, Wait};
use bidlock_redis::acl;
use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};

use crate::kit::{key, locker, millis, run};
use crate::servers;

servers!(a_unix_socket, odd_passwords, an_account, a_database, ipv6, tls, tls_with_certificates);

/// A round of everything that goes over a connection: a grant, a message, a release.
async fn works(url: &str) {
    let first = Locker::connect(url).await.unwrap_or_else(|error| panic!("{error:?}"));
    let second = Locker::connect(url).await.expect("it connected before");
    let lease = first.acquire(&key(1)).await.expect("it is free");
    let waits = second.acquire(&key(1)).wait(Wait::For(millis(20_000)));
    let begun = crate::kit::now(&first);
    let (next, released) = tokio::join!(waits.into_future(), async {
        crate::kit::sleep(&first, millis(100)).await;
        lease.release().await
    });
    released.expect("it is held");
    let lease = next.expect("it is handed over");
    // By a message, and not by a timer: those are far off.
    assert!(crate::kit::now(&first).since(begun) < millis(2_000));
    lease.confirm().await.expect("it is held");
    lease.release().await.expect("it is held");
    assert_eq!(first.ping().await.expect("it answers").role, "primary");
}

async fn refused(url: &str) -> Error {
    Locker::connect(url).await.expect_err("it is refused")
}

fn a_unix_socket(kind: ServerKind) {
    let server = Server::start_with(kind, ServerOptions::new().password("pass word"));
    let path = server.unix_socket().display().to_string();
    run(async {
        works(&format!("unix://{path}?password=pass%20word")).await;
        works(&format!("unix://{path}?password=pass%20word&db=3")).await;
        refused(&format!("unix://{path}")).await;
        refused(&format!("unix://{path}-away?password=x")).await;
    });
}

fn odd_passwords(kind: ServerKind) {
    for password in ["a b", "p@ss:w/rd?#%&=+", "ünïcode€", "'quoted\" \\back", "%41", "{}[]|<>^`"]
    {
        let server = Server::start_with(kind, ServerOptions::new().password(password));
        run(async {
            works(&server.url()).await;
            let wrong = refused(&format!("redis://:wrong@127.0.0.1:{}", server.port())).await;
            assert!(!wrong.is_retryable(), "{wrong}");
        });
    }
}

fn an_account(kind: ServerKind) {
    let server = Server::start(kind);
    let prefix = bidlock::Prefix::default();
    let words = acl("bots", "s3cret/word", &[&prefix], 0);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.command(&words);
    server.command(&["ACL", "SETUSER", "default", "off"]);
    let port = server.port();
    run(async {
        works(&format!("redis://bots:s3cret%2Fword@127.0.0.1:{port}")).await;
        let path = server.unix_socket().display().to_string();
        works(&format!("unix://{path}?user=bots&password=s3cret%2Fword")).await;
        refused(&format!("redis://127.0.0.1:{port}")).await;
        refused(&format!("redis://other:s3cret%2Fword@127.0.0.1:{port}")).await;
    });
}

fn a_database(kind: ServerKind) {
    let server = Server::start(kind);
    run(async {
        let url = |number: u32| format!("redis://127.0.0.1:{}/{number}", server.port());
        works(&url(5)).await;
        let (five, six) = (locker(&url(5)).await, locker(&url(6)).await);
        let lease = five.acquire(&key(1)).await.expect("it is free");
        let other = six.acquire(&key(1)).wait(Wait::No).await.expect("it is another database");
        assert!(five.try_acquire(&key(1)).await.expect("it answers").is_none());
        let space = server.text(&["INFO", "keyspace"]);
        assert!(space.contains("db5:keys=2,") && space.contains("db6:keys=2,"), "{space}");
        other.release().await.expect("it is held");
        lease.release().await.expect("it is held");
        refused(&url(99)).await;
    });
}

fn ipv6(kind: ServerKind) {
    let options = ServerOptions::new().args(["--bind", "::1", "127.0.0.1"]).password("six");
    let server = Server::start_with(kind, options);
    run(async {
        works(&format!("redis://:six@[::1]:{}", server.port())).await;
        works(&format!("redis://:six@localhost:{}", server.port())).await;
    });
}

fn tls(kind: ServerKind) {
    let server = Server::start_with(kind, ServerOptions::new().password("p/w").tls(true));
    let ca = server.tls_files().ca.display().to_string();
    run(async {
        let url = server.tls_url();
        works(&format!("{url}?ca={ca}")).await;
        works(&format!("{}?ca={ca}", url.replace("127.0.0.1", "localhost"))).await;
        let untrusted = refused(&url).await;
        let text = format!("{untrusted:?}");
        assert!(text.contains("?ca=FILE"), "{text}");
        // The port without TLS, and the one with it, each spoken to in the wrong way.
        let plain = format!("rediss://:p%2Fw@127.0.0.1:{}?ca={ca}", server.port());
        let text = format!("{:?}", refused(&plain).await);
        // A server that is not asked in its own way waits for the end of a line.
        assert!(text.contains("no answer") || text.contains("TLS"), "{text}");
        let port = server.tls_port();
        refused(&format!("redis://:p%2Fw@127.0.0.1:{port}")).await;
        refused(&format!("rediss://:p%2Fw@127.0.0.1:{port}?ca=away.pem")).await;
    });
}

fn tls_with_certificates(kind: ServerKind) {
    let options = ServerOptions::new().tls(true).client_certificates(true);
    let server = Server::start_with(kind, options);
    let files = server.tls_files();
    let show = |path: &std::path::Path| path.display().to_string();
    let (ca, cert, secret) = (show(&files.ca), show(&files.client_cert), show(&files.client_key));
    run(async {
        let url = server.tls_url();
        works(&format!("{url}?ca={ca}&cert={cert}&key={secret}")).await;
        refused(&format!("{url}?ca={ca}")).await;
    });
}
