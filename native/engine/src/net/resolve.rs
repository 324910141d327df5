//! Host name to addresses, by the operating system's resolver.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::Semaphore;

use super::errno;
use super::recent::Recent;
use super::tcp::Family;

/// How many `getaddrinfo` calls run at once in this process. Each holds a thread and cannot be cancelled: without a
/// bound, callers that give up on a dead name server and try again would fill the runtime's pool of blocking threads.
pub const MAX_LOOKUPS: usize = 64;

static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);

/// Names of this machine itself: `localhost`, mostly, where connecting takes less time than a look-up. Other names are asked about each
/// time, since their answers have a time to live that the resolver does not tell, and an order that shares out the load.
static LOOPBACK: LazyLock<Recent<(String, Family), Vec<SocketAddr>>> = LazyLock::new(Recent::default);

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {text}")]
pub struct ResolveError {
    /// What was looked up.
    pub host: String,
    /// What kind of failure it was.
    pub code: ResolveCode,
    /// The resolver's own words.
    pub text: String,
}

/// The resolver's answer, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveCode {
    /// The name does not exist, or has no address of the wanted family.
    NxDomain,
    /// The name servers could not be asked now; asking again later may work.
    TryAgain,
    /// The name servers answered with a failure that asking again will not cure.
    NoRecovery,
    /// A system call of the resolver failed; the POSIX name of its error.
    System(&'static str),
}

impl ResolveCode {
    /// The name that Erlang's `inet` gives this failure: `"nxdomain"`, `"try_again"`, `"no_recovery"` or a POSIX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NxDomain => "nxdomain",
            Self::TryAgain => "try_again",
            Self::NoRecovery => "no_recovery",
            Self::System(name) => name,
        }
    }
}

/// The addresses of `host` in the resolver's order of preference (RFC 6724), restricted to `family`, without repeats.
///
/// An IP literal is its own address; whether it fits the family is for the connection attempt to say. A name whose addresses were all
/// of this machine's loopback a second ago is not looked up again.
pub async fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let key = (host.to_owned(), family);
    let mut addresses = match LOOPBACK.get(&key) {
        Some(addresses) => addresses,
        None => {
            let addresses = ask(host, family).await?;
            if addresses.iter().all(|address| address.ip().is_loopback()) {
                LOOPBACK.put(key, addresses.clone());
            }
            addresses
        }
    };
    for address in &mut addresses {
        address.set_port(port);
    }
    Ok(addresses)
}

/// Asks the operating system's resolver, on a thread that may block. The addresses have no port.
async fn ask(host: &str, family: Family) -> Result<Vec<SocketAddr>, ResolveError> {
    let failed = |code, text: String| ResolveError {
        host: host.to_owned(),
        code,
        text,
    };
    let permit = LOOKUPS
        .acquire()
        .await
        .map_err(|closed| failed(ResolveCode::TryAgain, closed.to_string()))?;
    let name = host.to_owned();
    let looked_up = tokio::task::spawn_blocking(move || {
        // The permit lives as long as the thread is held, not as long as somebody waits for it.
        let _permit = permit;
        look_up(&name, family)
    })
    .await
    .map_err(|join| failed(ResolveCode::TryAgain, join.to_string()))?;
    let addresses = looked_up.map_err(|(code, text)| failed(code, text))?;
    if addresses.is_empty() {
        return Err(failed(ResolveCode::NxDomain, "the name has no address".into()));
    }
    Ok(addresses)
}

fn look_up(host: &str, family: Family) -> Result<Vec<SocketAddr>, (ResolveCode, String)> {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        address: match family {
            Family::Any => 0,
            Family::V4 => AddrFamily::Inet.into(),
            Family::V6 => AddrFamily::Inet6.into(),
        },
        ..AddrInfoHints::default()
    };
    let mut addresses = Vec::new();
    for info in getaddrinfo(Some(host), None, Some(hints)).map_err(classify)? {
        let Ok(info) = info else { continue }; // a family that is neither IPv4 nor IPv6
        if family.admits(&info.sockaddr) && !addresses.contains(&info.sockaddr) {
            addresses.push(info.sockaddr);
        }
    }
    Ok(addresses)
}

fn classify(error: LookupError) -> (ResolveCode, String) {
    let (kind, number) = (error.kind(), error.error_num());
    let text = error.to_string();
    let code = match kind {
        LookupErrorKind::NoName | LookupErrorKind::NoData => ResolveCode::NxDomain,
        _ if EAI_ADDRFAMILY == Some(number) => ResolveCode::NxDomain,
        LookupErrorKind::Again => ResolveCode::TryAgain,
        LookupErrorKind::Fail => ResolveCode::NoRecovery,
        LookupErrorKind::Memory => ResolveCode::System("enomem"),
        LookupErrorKind::Family => ResolveCode::System("eafnosupport"),
        LookupErrorKind::System | LookupErrorKind::IO => ResolveCode::System(errno::name(&io::Error::from(error))),
        _ => ResolveCode::System("einval"),
    };
    (code, text)
}

/// glibc's code for "the name exists, but not in this family"; POSIX has no name for it.
const EAI_ADDRFAMILY: Option<i32> = if cfg!(all(target_os = "linux", target_env = "gnu")) {
    Some(-9)
} else {
    None
};
