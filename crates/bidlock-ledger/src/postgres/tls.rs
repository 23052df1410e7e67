//! TLS by rustls, as the other stores of bidlock speak it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::config::TlsMode;

/// Makes streams secure, or says why it cannot.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    /// The version that was agreed on, once it was.
    spoken: Arc<OnceLock<String>>,
}

impl Tls {
    /// Reads the file of roots; contacts nothing.
    ///
    /// # Errors
    /// Names the file that cannot be read, or is not what it should be.
    pub(super) fn new(mode: &TlsMode) -> io::Result<Self> {
        // Named here, so that no choice of the process's default can fail.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = match mode {
            TlsMode::VerifyFull(file) => builder.with_root_certificates(roots(file.as_deref())?),
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            }
        }
        .with_no_client_auth();
        // PostgreSQL 17 asks for it where TLS begins without being asked first.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), spoken: Arc::default() })
    }

    /// The same for one connection, which tells what was spoken on it.
    pub(super) fn of_one(&self) -> Self {
        Self { connector: self.connector.clone(), spoken: Arc::default() }
    }

    /// The version that was agreed on, such as `TLSv1.3`; none where no TLS is spoken.
    pub(super) fn spoken(&self) -> Option<String> {
        self.spoken.get().cloned()
    }
}

fn roots(file: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let about = |what: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", path.display()))
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| about(&error))?;
    for certificate in read {
        let certificate = certificate.map_err(|error| about(&error))?;
        roots.add(certificate).map_err(|error| about(&error))?;
    }
    if roots.is_empty() {
        return Err(about(&"there is no certificate in it"));
    }
    Ok(roots)
}

/// As libpq's `require`: the line is secret, and whoever answers is believed.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Secured<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        // Asked for also where no TLS is spoken, as over a socket, whose folder is no name.
        let server = ServerName::try_from(domain.to_owned()).map_err(io::Error::other);
        Ok(Handshake { tls: self.clone(), server })
    }
}

/// A handshake that is about to begin.
pub(super) struct Handshake {
    tls: Tls,
    server: io::Result<ServerName<'static>>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Secured<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let Tls { connector, spoken } = self.tls;
            let secured = connector.connect(self.server?, stream).await.map_err(explained)?;
            let version = secured.get_ref().1.protocol_version();
            let version = version.and_then(|version| version.as_str());
            // Another address of the same host may have been tried before.
            spoken.get_or_init(|| version.unwrap_or("TLS").replace('_', "."));
            Ok(Secured(secured))
        })
    }
}

/// Adds to TLS's own words what they usually mean.
fn explained(error: io::Error) -> io::Error {
    let text = error.to_string();
    let meaning = if text.contains("UnknownIssuer") {
        "the server's certificate is signed by nobody that is trusted: name its CA with \
         sslrootcert=FILE"
    } else if text.contains("not valid for name") {
        "the server's certificate is for another name"
    } else if text.contains("expired") {
        "the server's certificate has expired"
    } else if text.contains("CaUsedAsEndEntity") {
        "the server's certificate is one of a CA: give the server one that this CA has signed \
         (with CA:FALSE)"
    } else {
        return error;
    };
    io::Error::new(error.kind(), format!("{meaning} ({text})"))
}

/// A stream that only its two ends can read.
pub(super) struct Secured<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Secured<S> {
    /// None: it would need a second reader of certificates, and `verify-full` says more.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
