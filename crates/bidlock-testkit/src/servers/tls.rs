use std::fs;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority made for one server, and what it has certified; all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority's certificate, which both sides trust.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost` and `127.0.0.1`.
    pub cert: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// A certificate for clients.
    pub client_cert: PathBuf,
    /// The key of that certificate.
    pub client_key: PathBuf,
}

impl TlsFiles {
    /// Makes an authority and its certificates, as files in a folder that exists.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make(folder: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bidlock test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let ca = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let files = Self {
            ca: folder.join("ca.pem"),
            cert: folder.join("server.pem"),
            key: folder.join("server.key"),
            client_cert: folder.join("client.pem"),
            client_key: folder.join("client.key"),
        };
        fs::write(&files.ca, ca.pem())?;
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        certify(&ca, "localhost", server, &files.cert, &files.key)?;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        certify(&ca, "client", client, &files.client_cert, &files.client_key)?;
        Ok(files)
    }

    /// How a server behaves that shows these certificates.
    fn server_config(&self, client_certificates: bool) -> io::Result<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = if client_certificates {
            let mut roots = RootCertStore::empty();
            for root in certificates(&self.ca)? {
                roots.add(root).map_err(io::Error::other)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(io::Error::other)?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(io::Error::other)?;
        builder.with_single_cert(certificates(&self.cert)?, key).map_err(io::Error::other)
    }
}

fn certify(
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    cert: &Path,
    key: &Path,
) -> io::Result<()> {
    let names = [name.to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let pair = KeyPair::generate().map_err(io::Error::other)?;
    let made = params.signed_by(&pair, ca).map_err(io::Error::other)?;
    fs::write(cert, made.pem())?;
    fs::write(key, pair.serialize_pem())
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let reader = BufReader::new(fs::File::open(path)?);
    CertificateDer::pem_reader_iter(reader).collect::<Result<_, _>>().map_err(io::Error::other)
}

/// Speaks TLS on a port of its own for a server that cannot; dropping it closes the port.
#[derive(Debug)]
pub(super) struct TlsFront {
    port: u16,
    stop: Arc<Notify>,
}

impl TlsFront {
    /// Opens a port before the server at `inner`, which may be restarted meanwhile.
    pub(super) fn open(
        inner: SocketAddr,
        files: &TlsFiles,
        client_certificates: bool,
    ) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(files.server_config(client_certificates)?));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let runtime = Builder::new_current_thread().enable_io().build()?;
        thread::Builder::new().name("tls".to_owned()).spawn(move || {
            drop(runtime.spawn(serve(listener, acceptor, inner)));
            runtime.block_on(stopped.notified());
        })?;
        Ok(Self { port, stop })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, inner: SocketAddr) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        drop(tokio::spawn(async move {
            // Who breaks off, or shows no good certificate, is told so by TLS itself.
            let _ended = pass_on(client, &acceptor, inner).await;
        }));
    }
}

async fn pass_on(client: TcpStream, acceptor: &TlsAcceptor, inner: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut outside = acceptor.accept(client).await?;
    let mut inside = TcpStream::connect(inner).await?;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}
