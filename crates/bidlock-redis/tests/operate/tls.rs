//! Each mistake that is made with TLS, told from the others.

use bidlock_core::{Finding, Severity};
use bidlock_testkit::servers::Server;

use super::{expect, find, look, on_each, open, options, paste};

/// The finding about TLS, which is the only one.
fn mistake(server: &Server, url: &str, words: &[&str]) -> Finding {
    let findings = look(url);
    assert_eq!(findings.len(), 1, "{}: {findings:#?}", server.kind());
    expect(server, url, "tls", Severity::Failure, words)
}

fn secure(server: &Server) -> String {
    format!("{}?ca={}", server.tls_url(), server.tls_files().ca.display())
}

#[test]
fn a_server_with_tls_is_well() {
    on_each(
        || options().tls(true),
        |server| {
            for finding in look(&secure(server)) {
                assert_eq!(finding.severity, Severity::Good, "{}: {finding:#?}", server.kind());
            }
        },
    );
}

#[test]
fn what_mends_goes_by_tls_too() {
    on_each(
        || options().tls(true).args(["--tcp-keepalive", "0"]),
        |server| {
            let findings = look(&secure(server));
            let mend = &find(&findings, "tcp-keepalive").mend;
            let (port, ca) = (server.tls_port(), server.tls_files().ca.display());
            let cli = format!("redis-cli -h 127.0.0.1 -p {port} --tls --cacert {ca} CONFIG SET ");
            assert!(mend.starts_with(&cli), "{mend}");
            assert_eq!(paste(mend), "OK", "{}", server.kind());
            assert_eq!(find(&look(&secure(server)), "tcp-keepalive").severity, Severity::Good);
        },
    );
}

#[test]
fn the_wrong_port_is_told_either_way() {
    on_each(
        || options().tls(true),
        |server| {
            let plain = server.port().to_string();
            let tls = server.tls_port().to_string();
            let to_plain = secure(server).replace(&tls, &plain);
            let words = ["does not speak TLS", "--url 'redis://:***@127.0.0.1:"];
            mistake(server, &to_plain, &words);
            let to_tls = server.url().replace(&plain, &tls);
            let words = ["speaks TLS on this port", "--url 'rediss://:***@127.0.0.1:"];
            mistake(server, &to_tls, &words);
        },
    );
}

#[test]
fn certificates_that_do_not_fit_are_told_apart() {
    on_each(
        || options().tls(true),
        |server| {
            mistake(server, &server.tls_url(), &["UnknownIssuer", "?ca=FILE", "in PEM"]);
            // The server's own certificate signed nothing.
            let files = server.tls_files();
            let own = format!("{}?ca={}", server.tls_url(), files.cert.display());
            mistake(server, &own, &["?ca=FILE"]);
            // The same machine by an address that is not in the certificate.
            let other = secure(server).replace("127.0.0.1", "[::ffff:127.0.0.1]");
            mistake(server, &other, &["another name", "subjectAltName"]);
            let none = format!("{}?ca=/no/such/file.pem", server.tls_url());
            mistake(server, &none, &["/no/such/file.pem", "openssl"]);
            let odd = format!("{}?ca={}", server.tls_url(), files.key.display());
            mistake(server, &odd, &["no certificate in it"]);
        },
    );
}

#[test]
fn a_certificate_that_is_demanded_is_asked_for() {
    on_each(
        || options().tls(true).client_certificates(true),
        |server| {
            let words = ["demands a certificate", "cert=FILE&key=FILE"];
            mistake(server, &secure(server), &words);
            let files = server.tls_files();
            let (cert, key) = (files.client_cert.display(), files.client_key.display());
            let with = format!("{}&cert={cert}&key={key}", secure(server));
            assert!(open(&with).is_ok(), "{}", server.kind());
            for finding in look(&with) {
                assert_eq!(finding.severity, Severity::Good, "{}: {finding:#?}", server.kind());
            }
            let unfit = format!("{}&cert={cert}&key={}", secure(server), files.key.display());
            mistake(server, &unfit, &["openssl"]);
        },
    );
}
