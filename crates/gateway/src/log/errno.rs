//! The names of the system's error numbers: the numbers differ between systems, the names do not.

use rustix::io::Errno;

/// The errors that sockets, name resolution and files give.
const NAMES: [(Errno, &str); 29] = [
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::CONNRESET, "ECONNRESET"),
    (Errno::CONNABORTED, "ECONNABORTED"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NETRESET, "ENETRESET"),
    (Errno::HOSTDOWN, "EHOSTDOWN"),
    (Errno::PIPE, "EPIPE"),
    (Errno::NOTCONN, "ENOTCONN"),
    (Errno::ISCONN, "EISCONN"),
    (Errno::ALREADY, "EALREADY"),
    (Errno::INPROGRESS, "EINPROGRESS"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
    (Errno::PROTO, "EPROTO"),
    (Errno::ACCESS, "EACCES"),
    (Errno::PERM, "EPERM"),
    (Errno::MFILE, "EMFILE"),
    (Errno::NFILE, "ENFILE"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::INVAL, "EINVAL"),
    (Errno::BADF, "EBADF"),
    (Errno::IO, "EIO"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::INTR, "EINTR"),
];

/// The name of an error number, if it is one of these.
pub(super) fn name(number: i32) -> Option<&'static str> {
    NAMES.iter().find(|(errno, _)| errno.raw_os_error() == number).map(|(_, name)| *name)
}
