//! SOCKS5 towards a node (RFC 1928, RFC 1929): the node resolves the name, and not one byte more than its replies is read.
//!
//! Reading exactly is what lets the socket be handed on bare: whatever a server says first is still in it.

use handover_core::{Blame, Fault};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::cause::Cause;
use super::target::{Credentials, Host, Target};

const VERSION: u8 = 5;
const METHOD_NONE: u8 = 0;
const METHOD_USER_PASSWORD: u8 = 2;
const METHOD_NONE_ACCEPTABLE: u8 = 0xff;
const USER_PASSWORD_VERSION: u8 = 1;
const COMMAND_CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;
/// A name's length is one byte (RFC 1928 §5); two more are the port.
const NAME_AND_PORT_BYTES_MAX: usize = u8::MAX as usize + 2;

/// Asks for the target; afterwards the connection is the target's.
///
/// Not cancel safe in the sense that the connection is of no use after it was dropped: close it.
pub(super) async fn connect<S>(io: &mut S, target: &Target, credentials: Option<&Credentials>) -> Result<(), Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Made before anything is sent: what cannot be said in this protocol is not the node's fault.
    let login = credentials.map(login).transpose()?;
    let request = request(target)?;
    let methods: &[u8] = match login {
        Some(_) => &[VERSION, 2, METHOD_NONE, METHOD_USER_PASSWORD],
        None => &[VERSION, 1, METHOD_NONE],
    };
    send(io, methods).await?;
    match (receive(io).await?, login) {
        ([VERSION, METHOD_NONE], _) => {}
        ([VERSION, METHOD_USER_PASSWORD], Some(login)) => log_in(io, &login).await?,
        ([VERSION, METHOD_NONE_ACCEPTABLE], login) => return Err(no_method(login.is_some())),
        ([VERSION, _], _) => return Err(protocol("the node chose a method that was not offered")),
        _ => return Err(protocol("the node does not speak SOCKS5 here")),
    }
    send(io, &request).await?;
    read_reply(io).await
}

fn login(credentials: &Credentials) -> Result<Vec<u8>, Cause> {
    let mut login = vec![USER_PASSWORD_VERSION];
    for part in [&credentials.user, &credentials.password] {
        let length = u8::try_from(part.len()).map_err(|_| {
            let message = "SOCKS5 cannot carry a user name or password of more than 255 bytes";
            Cause::new(Fault::ProxyAuth, Some(Blame::Local), "proxy_auth", message)
        })?;
        login.push(length);
        login.extend_from_slice(part.as_bytes());
    }
    Ok(login)
}

fn request(target: &Target) -> Result<Vec<u8>, Cause> {
    let mut request = vec![VERSION, COMMAND_CONNECT, 0];
    match &target.host {
        Host::Ip(std::net::IpAddr::V4(address)) => {
            request.push(ADDRESS_V4);
            request.extend_from_slice(&address.octets());
        }
        Host::Ip(std::net::IpAddr::V6(address)) => {
            request.push(ADDRESS_V6);
            request.extend_from_slice(&address.octets());
        }
        Host::Name(name) => {
            let length = u8::try_from(name.len()).map_err(|_| {
                let message = "SOCKS5 cannot carry a host name of more than 255 bytes";
                Cause::protocol(Some(Blame::Client), message)
            })?;
            request.extend_from_slice(&[ADDRESS_NAME, length]);
            request.extend_from_slice(name.as_bytes());
        }
    }
    request.extend_from_slice(&target.port.to_be_bytes());
    Ok(request)
}

async fn log_in<S>(io: &mut S, login: &[u8]) -> Result<(), Cause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(io, login).await?;
    match receive(io).await? {
        [USER_PASSWORD_VERSION, 0] => Ok(()),
        [USER_PASSWORD_VERSION, _] => Err(proxy_auth("the node refused the credentials")),
        _ => Err(protocol("the node's answer to the credentials is malformed")),
    }
}

fn no_method(had_credentials: bool) -> Cause {
    proxy_auth(match had_credentials {
        true => "the node takes neither user name and password nor none",
        false => "the node asks for credentials",
    })
}

/// Reads the reply to the last byte: the address in it is of no use here, but it is not the tunnel's either.
async fn read_reply<S>(io: &mut S) -> Result<(), Cause>
where
    S: AsyncRead + Unpin,
{
    let [version, reply, _reserved, address_kind] = receive(io).await?;
    if version != VERSION {
        return Err(protocol("the node's reply is not SOCKS5"));
    }
    if reply != 0 {
        // The connection ends here, so the rest of the reply need not come.
        return Err(refusal(reply));
    }
    match address_kind {
        ADDRESS_V4 => drop(receive::<_, { 4 + 2 }>(io).await?),
        ADDRESS_V6 => drop(receive::<_, { 16 + 2 }>(io).await?),
        ADDRESS_NAME => {
            let [length] = receive(io).await?;
            let mut rest = [0; NAME_AND_PORT_BYTES_MAX];
            receive_into(io, &mut rest[..usize::from(length) + 2]).await?;
        }
        _ => return Err(protocol("the node's reply has an unknown kind of address")),
    }
    Ok(())
}

/// What each reply means (RFC 1928 §6) and against whom it speaks, as far as the node's word goes.
fn refusal(reply: u8) -> Cause {
    let (node, target) = (Some(Blame::Node), Some(Blame::Target));
    let (fault, blame, kind, words) = match reply {
        1 => (Fault::ProxyRefused, node, "proxy_refused", "general failure"),
        2 => (Fault::ProxyRefused, target, "proxy_refused", "not allowed by its rules"),
        3 => (Fault::Unreachable, node, "network_unreachable", "network unreachable"),
        4 => (Fault::Unreachable, target, "host_unreachable", "host unreachable"),
        5 => (Fault::Refused, target, "connection_refused", "connection refused by the target"),
        6 => (Fault::Unreachable, None, "host_unreachable", "TTL expired on the way to the target"),
        7 => (Fault::ProxyRefused, node, "proxy_refused", "command not supported"),
        8 => (Fault::ProxyRefused, node, "proxy_refused", "address type not supported"),
        _ => (Fault::ProxyRefused, node, "proxy_refused", "unassigned reply"),
    };
    Cause::new(fault, blame, kind, format!("the node answered SOCKS5 with reply {reply}: {words}"))
}

async fn send<S: AsyncWrite + Unpin>(io: &mut S, bytes: &[u8]) -> Result<(), Cause> {
    let sent = async { io.write_all(bytes).await.and(io.flush().await) };
    sent.await.map_err(|error| Cause::io(&error, Some(Blame::Node), "in the SOCKS5 handshake"))
}

async fn receive<S: AsyncRead + Unpin, const N: usize>(io: &mut S) -> Result<[u8; N], Cause> {
    let mut bytes = [0; N];
    receive_into(io, &mut bytes).await?;
    Ok(bytes)
}

async fn receive_into<S: AsyncRead + Unpin>(io: &mut S, bytes: &mut [u8]) -> Result<(), Cause> {
    let read = io.read_exact(bytes).await;
    read.map(drop).map_err(|error| Cause::io(&error, Some(Blame::Node), "in the SOCKS5 handshake"))
}

fn proxy_auth(message: &str) -> Cause {
    Cause::new(Fault::ProxyAuth, Some(Blame::Node), "proxy_auth", message)
}

fn protocol(message: &str) -> Cause {
    Cause::protocol(Some(Blame::Node), message)
}
