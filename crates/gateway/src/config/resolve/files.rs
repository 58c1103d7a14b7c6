//! The files that the configuration names: there, readable, and with certificates and keys in them that TLS can use.
//!
//! Read when the configuration is checked, because a file that is found wrong at the start is found wrong by a gateway that
//! somebody has just stopped. The start reads them again: they may have changed since.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};

use super::super::keys::Root;
use super::super::value::{Draft, one_line};
use super::super::{ConfigError, ListenTls};

/// A bundle of all public authorities has a quarter of a MiB; more is a file or device named by mistake.
const PEM_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The listener's TLS, if both of its keys are given.
pub(super) fn tls(root: &Draft<Root>, errors: &mut Vec<ConfigError>) -> Option<ListenTls> {
    let both = "certificate and key come together: set both tls.cert and tls.key, or neither";
    match (&root.values.tls_cert, &root.values.tls_key) {
        (Some(cert), Some(key)) => Some(ListenTls { cert: cert.clone(), key: key.clone() }),
        (Some(_), None) if !root.places.contains_key("tls.key") => {
            errors.push(root.error("tls.cert", "a certificate without a key", both));
            None
        }
        (None, Some(_)) if !root.places.contains_key("tls.cert") => {
            errors.push(root.error("tls.key", "a key without a certificate", both));
            None
        }
        _ => None,
    }
}

/// Every file named can be used for what it is named for.
pub(super) fn check_files(root: &Draft<Root>, errors: &mut Vec<ConfigError>) {
    let values = &root.values;
    let mut refuse = |key, path: &Path, allowed| {
        errors.push(root.error(key, format!("\"{}\"", one_line(&path.to_string_lossy())), allowed));
    };
    for path in &values.ca_files {
        if let Err(allowed) = certificates(path) {
            refuse("ca_files", path, allowed);
        }
    }
    let cert = values.tls_cert.as_deref().map(|path| (path, certificates(path)));
    let key = values.tls_key.as_deref().map(|path| (path, signing_key(path)));
    match (cert, key) {
        (Some((cert, Ok(chain))), Some((path, Ok(key)))) => match CertifiedKey::new(chain, key).keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                refuse(
                    "tls.key",
                    path,
                    "allowed: the private key of the certificate in tls.cert, and this is another".into(),
                );
            }
            Err(error) => {
                refuse("tls.cert", cert, format!("{CERTIFICATES}, but the first one cannot be read: {error}"))
            }
        },
        (cert, key) => {
            if let Some((path, Err(allowed))) = cert {
                refuse("tls.cert", path, allowed);
            }
            if let Some((path, Err(allowed))) = key {
                refuse("tls.key", path, allowed);
            }
        }
    }
}

const CERTIFICATES: &str = "allowed: a PEM file with certificates in it (BEGIN CERTIFICATE)";
const KEY: &str = "allowed: a PEM file with a private key in it (BEGIN PRIVATE KEY)";

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(path)?).collect();
    let found = found.and_then(|all| if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) });
    found.map_err(|error| format!("{CERTIFICATES}, but {}", problem(&error)))
}

fn signing_key(path: &Path) -> Result<Arc<dyn SigningKey>, String> {
    let key = PrivateKeyDer::from_pem_reader(open(path)?);
    let key = key.map_err(|error| format!("{KEY}, but {}", problem(&error)))?;
    let provider = rustls::crypto::ring::default_provider();
    // The reason is left out: it could quote the key.
    provider.key_provider.load_private_key(key).map_err(|_| format!("{KEY}, of RSA, ECDSA P-256 or P-384, or Ed25519"))
}

fn open(path: &Path) -> Result<impl BufRead, String> {
    let file = File::open(path).and_then(|file| {
        let is_directory = file.metadata()?.is_dir();
        if is_directory { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
    });
    let file = file.map_err(|error| format!("allowed: a file that can be read, but: {error}"))?;
    Ok(BufReader::new(file.take(PEM_BYTES_MAX)))
}

/// In our words: those of the library quote what is in the file, which may be a key.
fn problem(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none".into(),
        pem::Error::MissingSectionEnd { .. } => "a section has no END line".into(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is broken".into(),
        pem::Error::Io(error) => format!("it cannot be read: {error}"),
        _ => "a section is not base64".into(),
    }
}
