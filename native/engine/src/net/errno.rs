//! POSIX names of I/O errors, as Erlang's `inet` writes them.

use std::io;

/// The lower-case POSIX name (`"econnrefused"`) of an I/O error; `"eio"` for one that has none.
///
/// On Unix the errno decides. Errors without one, and other platforms, go by [`io::ErrorKind`].
#[must_use]
pub fn name(error: &io::Error) -> &'static str {
    #[cfg(unix)]
    if let Some(name) = error.raw_os_error().and_then(of_errno) {
        return name;
    }
    of_kind(error.kind())
}

/// The error for an address whose family the options rule out.
pub(super) fn family_not_supported() -> io::Error {
    #[cfg(unix)]
    return io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
    #[cfg(not(unix))]
    return io::ErrorKind::Unsupported.into();
}

/// The error for an address where nobody listens.
pub(super) fn connection_refused() -> io::Error {
    #[cfg(unix)]
    return io::Error::from_raw_os_error(libc::ECONNREFUSED);
    #[cfg(not(unix))]
    return io::ErrorKind::ConnectionRefused.into();
}

#[cfg(unix)]
fn of_errno(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EACCES => "eacces",
        libc::EADDRINUSE => "eaddrinuse",
        libc::EADDRNOTAVAIL => "eaddrnotavail",
        libc::EAFNOSUPPORT => "eafnosupport",
        libc::EAGAIN => "eagain",
        libc::EALREADY => "ealready",
        libc::EBADF => "ebadf",
        libc::ECONNABORTED => "econnaborted",
        libc::ECONNREFUSED => "econnrefused",
        libc::ECONNRESET => "econnreset",
        libc::EDESTADDRREQ => "edestaddrreq",
        libc::EFAULT => "efault",
        libc::EHOSTDOWN => "ehostdown",
        libc::EHOSTUNREACH => "ehostunreach",
        libc::EINPROGRESS => "einprogress",
        libc::EINTR => "eintr",
        libc::EINVAL => "einval",
        libc::EIO => "eio",
        libc::EISCONN => "eisconn",
        libc::EMFILE => "emfile",
        libc::EMSGSIZE => "emsgsize",
        libc::ENETDOWN => "enetdown",
        libc::ENETRESET => "enetreset",
        libc::ENETUNREACH => "enetunreach",
        libc::ENFILE => "enfile",
        libc::ENOBUFS => "enobufs",
        libc::ENODEV => "enodev",
        libc::ENOENT => "enoent",
        libc::ENOMEM => "enomem",
        libc::ENOPROTOOPT => "enoprotoopt",
        libc::ENOTCONN => "enotconn",
        libc::ENOTSOCK => "enotsock",
        libc::EOPNOTSUPP => "eopnotsupp",
        libc::EPERM => "eperm",
        libc::EPIPE => "epipe",
        libc::EPROTO => "eproto",
        libc::EPROTONOSUPPORT => "eprotonosupport",
        libc::EPROTOTYPE => "eprototype",
        libc::ESHUTDOWN => "eshutdown",
        libc::ETIMEDOUT => "etimedout",
        _ => return None,
    })
}

fn of_kind(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as K;
    match kind {
        K::AddrInUse => "eaddrinuse",
        K::AddrNotAvailable => "eaddrnotavail",
        K::BrokenPipe => "epipe",
        K::ConnectionAborted => "econnaborted",
        K::ConnectionRefused => "econnrefused",
        K::ConnectionReset => "econnreset",
        K::HostUnreachable => "ehostunreach",
        K::Interrupted => "eintr",
        K::InvalidInput => "einval",
        K::NetworkDown => "enetdown",
        K::NetworkUnreachable => "enetunreach",
        K::NotConnected => "enotconn",
        K::NotFound => "enoent",
        K::OutOfMemory => "enomem",
        K::PermissionDenied => "eacces",
        K::TimedOut => "etimedout",
        K::Unsupported => "eafnosupport",
        K::WouldBlock => "eagain",
        _ => "eio",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_errno_are_named_by_kind() {
        assert_eq!(name(&io::ErrorKind::ConnectionRefused.into()), "econnrefused");
        assert_eq!(name(&io::Error::other("no errno")), "eio");
    }

    #[cfg(unix)]
    #[test]
    fn the_errno_decides() {
        assert_eq!(name(&io::Error::from_raw_os_error(libc::ENETUNREACH)), "enetunreach");
        assert_eq!(name(&io::Error::from_raw_os_error(libc::EAFNOSUPPORT)), "eafnosupport");
    }
}
