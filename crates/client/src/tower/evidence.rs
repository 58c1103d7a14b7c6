//! What a transport's errors prove of a request: declared by whoever knows the transport.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::marker::PhantomData;

use handover_core::{Fault, Sent, Stage};

use crate::body::BoxError;

/// Says what an error of a transport proves. It must not say more than is true: [`Sent::No`] lets every request go to the
/// next endpoint, also one that must not be done twice.
///
/// Sound are errors of connecting: name, TCP, TLS, a proxy's CONNECT (not where TLS 0-RTT is on). Not sound are timeouts
/// of unknown origin, resets, a connection that closed before the answer, and HTTP/2's GOAWAY as hyper reports it.
pub trait Evidence<E>: Send + Sync + 'static {
    /// What this error proves of the request that failed with it.
    fn failure(&self, error: &E) -> TransportFailure;
}

/// How an attempt failed, as far as its transport knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFailure {
    /// How far it got. Where `sent` is not [`Sent::No`], [`Stage::Send`] at least.
    pub stage: Stage,
    /// What went wrong; `None`: what the error's causes say, and [`Fault::Protocol`] where nothing is known of them.
    pub fault: Option<Fault>,
    /// What is proven of the request.
    pub sent: Sent,
}

impl TransportFailure {
    /// Nothing is proven: the request may have arrived.
    #[must_use]
    pub const fn unproven() -> Self {
        Self { stage: Stage::Send, fault: None, sent: Sent::Maybe }
    }

    /// There was no connection, so that not one byte of the request left.
    #[must_use]
    pub const fn no_connection() -> Self {
        Self { stage: Stage::Dial, fault: None, sent: Sent::No }
    }
}

/// No error proves anything: after each, the request may have arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingProven;

impl<E> Evidence<E> for NothingProven {
    fn failure(&self, _: &E) -> TransportFailure {
        TransportFailure::unproven()
    }
}

/// Errors for which a function returns true prove that there was no connection; the others prove nothing.
///
/// For hyper-util's client: `ConnectErrors::new(hyper_util::client::legacy::Error::is_connect)`.
#[derive(Clone, Copy)]
pub struct ConnectErrors<F>(F);

impl<F> ConnectErrors<F> {
    /// With this function, which must return true only for what failed before there was a connection.
    pub const fn new<E>(is_connect: F) -> Self
    where
        F: Fn(&E) -> bool,
    {
        Self(is_connect)
    }
}

impl<E, F> Evidence<E> for ConnectErrors<F>
where
    F: Fn(&E) -> bool + Send + Sync + 'static,
{
    fn failure(&self, error: &E) -> TransportFailure {
        if (self.0)(error) { TransportFailure::no_connection() } else { TransportFailure::unproven() }
    }
}

impl<F> fmt::Debug for ConnectErrors<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectErrors")
    }
}

/// As [`ConnectErrors`], for transports whose error is a box: the function is asked for the first error of type `T` in it
/// and its causes.
///
/// For hyper-util's client below layers that box errors:
/// `ConnectCauses::new(hyper_util::client::legacy::Error::is_connect)`.
pub struct ConnectCauses<T, F>(F, PhantomData<fn(&T)>);

impl<T, F> ConnectCauses<T, F>
where
    F: Fn(&T) -> bool,
{
    /// With this function, which must return true only for what failed before there was a connection.
    pub const fn new(is_connect: F) -> Self {
        Self(is_connect, PhantomData)
    }
}

impl<T, F> Evidence<BoxError> for ConnectCauses<T, F>
where
    T: StdError + 'static,
    F: Fn(&T) -> bool + Send + Sync + 'static,
{
    fn failure(&self, error: &BoxError) -> TransportFailure {
        let mut causes = causes(&**error);
        // The first only: what lies below may be about something else, such as a body.
        match causes.find_map(|cause| cause.downcast_ref::<T>()) {
            Some(error) if (self.0)(error) => TransportFailure::no_connection(),
            _ => TransportFailure::unproven(),
        }
    }
}

impl<T, F: Clone> Clone for ConnectCauses<T, F> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T, F> fmt::Debug for ConnectCauses<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectCauses")
    }
}

/// An error and its causes. What was put into an `io::Error` is one, which its `source` leaves out.
pub(crate) fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause_of(*error))
}

fn cause_of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// What went wrong, by what is known of an error's causes. It names a fault and proves nothing.
pub(crate) fn fault_of(error: &(dyn StdError + 'static)) -> Fault {
    causes(error).find_map(known).unwrap_or(Fault::Protocol)
}

fn known(error: &(dyn StdError + 'static)) -> Option<Fault> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Fault::Refused),
            io::ErrorKind::TimedOut => Some(Fault::Timeout),
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Some(Fault::Reset)
            }
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Some(Fault::Unreachable),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => Some(Fault::Local),
            io::ErrorKind::UnexpectedEof => Some(Fault::Closed),
            _ => None,
        };
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    match () {
        () if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => Some(Fault::Closed),
        () if error.is_timeout() => Some(Fault::Timeout),
        () => None,
    }
}
