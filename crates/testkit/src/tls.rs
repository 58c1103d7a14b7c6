//! A certificate authority of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Signs certificates for the names a test needs, and knows the file to give to `ca_files`.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    directory: tempfile::TempDir,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Makes one, with its certificate in a file of its own.
    ///
    /// # Panics
    /// When the temporary directory cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("ring can generate a P-256 key");
        let certificate = params.self_signed(&key).expect("the key signs");
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("the temporary directory is writable");
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key), directory }
    }

    /// The file with its certificate (PEM).
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Accepts TLS for `names` (DNS names or IP addresses), offering `alpn`.
    ///
    /// # Panics
    /// When a name is no name.
    #[must_use]
    pub fn acceptor(&self, names: &[&str], alpn: &[&str]) -> TlsAcceptor {
        let (certificate, key) = self.sign(names);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key fits the certificate");
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// As [`acceptor`](Self::acceptor), for clients only that show a certificate of this authority.
    ///
    /// # Panics
    /// When a name is no name.
    #[must_use]
    pub fn acceptor_for_known(&self, names: &[&str], alpn: &[&str]) -> TlsAcceptor {
        let (certificate, key) = self.sign(names);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("the authority's certificate is valid");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_client_cert_verifier(verifier.build().expect("there is a root"))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key fits the certificate");
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Connects by TLS, trusting this authority only, offering `alpn`.
    ///
    /// # Panics
    /// Never: the authority's own certificate is valid.
    #[must_use]
    pub fn connector(&self, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("the authority's certificate is valid");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// Writes a certificate and a key for `names` into `directory`, as `cert.pem` and `key.pem`, and gives both paths.
    ///
    /// # Panics
    /// When the directory cannot be written.
    #[must_use]
    pub fn files(&self, names: &[&str], directory: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(names);
        let (cert_path, key_path) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert_path, certificate.pem()).expect("the test's directory is writable");
        fs::write(&key_path, key.serialize_pem()).expect("the test's directory is writable");
        (cert_path, key_path)
    }

    fn sign(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("the test gives valid names");
        let key = KeyPair::generate().expect("ring can generate a P-256 key");
        (params.signed_by(&key, &self.issuer).expect("the authority signs"), key)
    }
}
