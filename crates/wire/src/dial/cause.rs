//! What an error of the operating system or of TLS means: fault, blame, and one line that a reader can act on.

use std::borrow::Cow;
use std::io;

use handover_core::{Blame, Fault};
use rustix::io::Errno;
use rustls::{CertificateError, Error as TlsError};

use super::targets::Denied;

/// A failure that does not yet know at which node, stage and address it happened.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) fault: Fault,
    pub(super) blame: Option<Blame>,
    pub(super) errno: Option<i32>,
    /// One word for the request log's column `upstream_err_kind`.
    pub(super) kind: &'static str,
    pub(super) message: Box<str>,
    pub(super) denied: Option<Denied>,
}

/// The errors that have a name and a meaning of their own: number, name, fault, kind, message.
type Row = (Errno, &'static str, Fault, &'static str, &'static str);
const NAMED: [Row; 7] = [
    (Errno::CONNREFUSED, "ECONNREFUSED", Fault::Refused, "connection_refused", "connection refused"),
    (Errno::CONNRESET, "ECONNRESET", Fault::Reset, "connection_reset", "connection reset by the peer"),
    (Errno::CONNABORTED, "ECONNABORTED", Fault::Reset, "connection_aborted", "connection aborted"),
    (Errno::PIPE, "EPIPE", Fault::Reset, "broken_pipe", "broken pipe: the peer had closed"),
    (Errno::TIMEDOUT, "ETIMEDOUT", Fault::Timeout, "timeout", "timed out: the peer's machine does not answer"),
    (Errno::NETUNREACH, "ENETUNREACH", Fault::Unreachable, "network_unreachable", "no route to the network"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH", Fault::Unreachable, "host_unreachable", "no route to the host"),
];

/// What the path reports besides (Linux turns several ICMP codes into these), and a protocol family that is switched off.
const NO_PATH: [Errno; 5] = [Errno::HOSTDOWN, Errno::NETDOWN, Errno::NOPROTOOPT, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];

impl Cause {
    pub(super) fn new(fault: Fault, blame: Option<Blame>, kind: &'static str, message: impl Into<Box<str>>) -> Self {
        Self { fault, blame, errno: None, kind, message: one_line(message.into()), denied: None }
    }

    /// The peer spoke something else than it should.
    pub(super) fn protocol(party: Option<Blame>, message: impl Into<Box<str>>) -> Self {
        Self::new(Fault::Protocol, party, "protocol_error", message)
    }

    /// The peer closed before its answer was whole.
    pub(super) fn closed(party: Option<Blame>, during: &str) -> Self {
        Self::new(Fault::Closed, party, "eof", format!("closed by the peer {during}"))
    }

    /// An error on a connection to `party`; an error of this machine is blamed on this machine instead.
    pub(super) fn io(error: &io::Error, party: Option<Blame>, during: &str) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            return Self::tls(tls, party);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::closed(party, during);
        }
        match error.raw_os_error() {
            Some(errno) => Self::errno(errno, error, party),
            None => by_kind(error, party),
        }
    }

    fn errno(errno: i32, error: &io::Error, party: Option<Blame>) -> Self {
        let named = NAMED.iter().find(|row| row.0.raw_os_error() == errno);
        let cause = if let Some(&(_, _, fault, kind, message)) = named {
            Self::new(fault, party, kind, message)
        } else if NO_PATH.iter().any(|no_path| no_path.raw_os_error() == errno) {
            Self::new(Fault::Unreachable, party, "network_unreachable", error.to_string())
        } else {
            Self::new(Fault::Local, Some(Blame::Local), "dial_error", local_message(errno, error))
        };
        Self { errno: Some(errno), ..cause }
    }

    fn tls(error: &TlsError, party: Option<Blame>) -> Self {
        let (kind, message) = match error {
            TlsError::InvalidCertificate(certificate) => certificate_words(certificate),
            TlsError::InvalidMessage(_) => ("tls_record_header", "the peer does not speak TLS here".into()),
            TlsError::AlertReceived(alert) => ("tls_alert", format!("the peer refused the TLS handshake: {alert:?}")),
            other => ("tls_error", format!("TLS: {other}")),
        };
        Self::new(Fault::Tls, party, kind, message)
    }
}

fn certificate_words(error: &CertificateError) -> (&'static str, String) {
    match error {
        CertificateError::UnknownIssuer => (
            "tls_unknown_authority",
            "the certificate is from an authority that is not trusted here (a file of CA certificates adds one)".into(),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ("tls_hostname_invalid", format!("the certificate is not for this host: {error}"))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("tls_cert_invalid", format!("the certificate has expired: {error}"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("tls_cert_invalid", format!("the certificate is not valid yet (is this clock right?): {error}"))
        }
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "tls_cert_invalid",
            "the certificate is an authority's own (CA:TRUE), which no server may show; issue one for the server with it".into(),
        ),
        other => ("tls_cert_invalid", format!("the certificate is not valid: {other}")),
    }
}

/// Errors that TLS or tokio made up themselves carry no number.
fn by_kind(error: &io::Error, party: Option<Blame>) -> Cause {
    let row = NAMED.iter().find(|row| io::Error::from(row.0).kind() == error.kind());
    match row {
        Some(&(_, _, fault, kind, message)) => Cause::new(fault, party, kind, message),
        None => Cause::protocol(party, error.to_string()),
    }
}

fn local_message(errno: i32, error: &io::Error) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::MFILE => "this process has no file descriptor left (raise its limit: ulimit -n)".into(),
        Errno::NFILE => "this machine has no file descriptor left".into(),
        Errno::ADDRNOTAVAIL => "no local address or port is free for this connection".into(),
        Errno::NOMEM | Errno::NOBUFS => "this machine is out of memory for sockets".into(),
        Errno::PERM | Errno::ACCESS => "this machine's own rules forbid the connection".into(),
        _ => error.to_string(),
    }
}

/// The error's name, or `ERRNO_<n>`.
pub(super) fn errno_name(errno: i32) -> Cow<'static, str> {
    let row = NAMED.iter().find(|row| row.0.raw_os_error() == errno);
    row.map_or_else(|| format!("ERRNO_{errno}").into(), |row| row.1.into())
}

/// Longest message kept, in bytes: a message may quote what a node sent, and goes into one row of the log. 512 is what the
/// log's column of the same meaning holds elsewhere in this field; certificates' name lists are what exceeds it.
const MESSAGE_BYTES_MAX: usize = 512;

/// Collapses white space and control bytes: the text of a node must not forge a line of the log.
fn one_line(message: Box<str>) -> Box<str> {
    if message.len() <= MESSAGE_BYTES_MAX && !message.chars().any(char::is_control) {
        return message;
    }
    let mut line = String::new();
    for word in message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let whole = (0..=MESSAGE_BYTES_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(whole.unwrap_or(0));
    line.into()
}
