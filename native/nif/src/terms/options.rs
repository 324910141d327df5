//! The options of a stream, as `hackney_native_options` has checked and completed them: every key is there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hackney_engine::h2::{
    ClientOptions, ConnectionOptions, FlowControl, Keepalive, RequestHead, ServerOptions, StreamOptions, Target,
};
use hackney_engine::net::{
    CertificateSource, Dial, Family, Identity, KeySource, ListenOptions, Roots, Secret, ServerNameOption,
    ServerTlsOptions, TcpOptions, TlsOptions, TlsVersion, Verify,
};
use rustler::{Atom, Binary, Decoder, NifMap, NifResult, NifTaggedEnum, NifUnitEnum, Term};

use super::{headers, mode};
use crate::atoms;

/// `Limit | infinity`.
struct Bound(Option<u64>);

impl<'a> Decoder<'a> for Bound {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.decode::<Atom>().ok() == Some(atoms::infinity()) {
            return Ok(Bound(None));
        }
        term.decode().map(|n| Bound(Some(n)))
    }
}

/// `Value | undefined`.
struct Maybe<T>(Option<T>);

impl<'a, T: Decoder<'a>> Decoder<'a> for Maybe<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.decode::<Atom>().ok() == Some(atoms::undefined()) {
            return Ok(Maybe(None));
        }
        term.decode().map(|value| Maybe(Some(value)))
    }
}

#[derive(NifUnitEnum)]
#[rustler(decode)]
enum FlowControlTerm {
    Auto,
    Manual,
}

#[derive(NifUnitEnum)]
#[rustler(decode)]
enum FamilyTerm {
    Any,
    Inet,
    Inet6,
}

#[derive(NifUnitEnum)]
#[rustler(decode)]
enum VerifyTerm {
    VerifyPeer,
    VerifyNone,
}

#[derive(NifTaggedEnum)]
#[rustler(decode)]
enum RootsTerm<'a> {
    System,
    Der(Vec<Binary<'a>>),
    File(Binary<'a>),
}

#[derive(NifTaggedEnum)]
#[rustler(decode)]
enum CertificateTerm<'a> {
    Der(Vec<Binary<'a>>),
    Pem(Binary<'a>),
    File(Binary<'a>),
}

#[derive(NifTaggedEnum)]
#[rustler(decode)]
enum KeyTerm<'a> {
    Der(Binary<'a>),
    Pem(Binary<'a>),
    File(Binary<'a>),
}

#[derive(NifTaggedEnum)]
#[rustler(decode)]
enum ServerNameTerm {
    FromHost,
    Disable,
    Name(String),
}

#[derive(NifMap)]
#[rustler(decode)]
struct IdentityTerm<'a> {
    certificate: CertificateTerm<'a>,
    key: KeyTerm<'a>,
    password: Maybe<Binary<'a>>,
}

#[derive(NifMap)]
#[rustler(decode)]
struct TlsTerm<'a> {
    verify: VerifyTerm,
    roots: RootsTerm<'a>,
    identity: Maybe<IdentityTerm<'a>>,
    server_name: ServerNameTerm,
    tls12: bool,
    tls13: bool,
    alpn: Vec<Binary<'a>>,
    keylog: Maybe<Binary<'a>>,
    resumption: bool,
}

#[derive(NifMap)]
#[rustler(decode)]
struct TcpTerm {
    nodelay: bool,
    keepalive: bool,
    family: FamilyTerm,
    local_address: Maybe<String>,
    local_port: Maybe<u16>,
    recbuf: Maybe<u32>,
    sndbuf: Maybe<u32>,
    linger: Maybe<u64>,
}

/// Whom to connect to. A stream that will be opened on another's connection has none of these keys.
#[derive(NifMap)]
#[rustler(decode)]
struct DialTerm<'a> {
    host: String,
    port: u16,
    tcp: TcpTerm,
    tls: Maybe<TlsTerm<'a>>,
}

/// Limits of a connection.
#[derive(NifMap)]
#[rustler(decode)]
struct ConnectionTerm {
    initial_window_size: u32,
    connection_window_size: u32,
    max_frame_size: u32,
    max_header_list_size: u32,
}

#[derive(NifMap)]
#[rustler(decode)]
struct StreamTerm<'a> {
    method: String,
    authority: String,
    path: String,
    headers: Term<'a>,
    active: Term<'a>,
    flow_control: FlowControlTerm,
    informational: bool,
    max_recv_buffer: Bound,
    max_send_buffer: Bound,
    recv_timeout: Bound,
    send_timeout: Bound,
}

#[derive(NifMap)]
#[rustler(decode)]
struct KeepaliveTerm {
    keepalive: Bound,
    keepalive_timeout: u64,
}

fn size(bound: &Bound) -> usize {
    bound.0.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

fn path(name: &Binary<'_>) -> PathBuf {
    #[cfg(unix)]
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.as_slice());
    #[cfg(not(unix))]
    let name = String::from_utf8_lossy(name.as_slice()).into_owned();
    PathBuf::from(name)
}

fn bytes(list: &[Binary<'_>]) -> Vec<Vec<u8>> {
    list.iter().map(|b| b.as_slice().to_vec()).collect()
}

/// Reads a stream's options.
pub(crate) fn decode(term: Term<'_>) -> NifResult<(Target, StreamOptions)> {
    let options: StreamTerm<'_> = term.decode()?;
    let fields = headers::decode(options.headers)?;
    let own_connection = term.map_get(atoms::host()).is_ok();
    let target = Target {
        request: RequestHead {
            method: options.method,
            authority: options.authority,
            path: options.path,
            headers: fields,
            protocol: None,
        },
        dial: own_connection.then(|| dial(term)).transpose()?,
    };
    let options = StreamOptions {
        mode: mode::initial(options.active)?,
        flow_control: match options.flow_control {
            FlowControlTerm::Auto => FlowControl::Auto,
            FlowControlTerm::Manual => FlowControl::Manual,
        },
        informational: options.informational,
        events: false,
        max_recv_buffer: size(&options.max_recv_buffer),
        max_send_buffer: size(&options.max_send_buffer),
        send_timeout: options.send_timeout.0,
        recv_timeout: options.recv_timeout.0,
        connection: if own_connection {
            connection(term)?
        } else {
            ConnectionOptions::default()
        },
    };
    Ok((target, options))
}

#[derive(NifMap)]
#[rustler(decode)]
struct ServerTerm {
    max_concurrent_streams: Bound,
    header_table_size: u32,
    enable_connect_protocol: bool,
}

#[derive(NifMap)]
#[rustler(decode)]
struct ListenTerm<'a> {
    ip: String,
    port: u16,
    backlog: u32,
    v6_only: bool,
    nodelay: bool,
    tls: Maybe<ServerTlsTerm<'a>>,
}

#[derive(NifMap)]
#[rustler(decode)]
struct ServerTlsTerm<'a> {
    identity: IdentityTerm<'a>,
    roots: Maybe<RootsTerm<'a>>,
    verify: VerifyTerm,
    tls12: bool,
    tls13: bool,
    alpn: Vec<Binary<'a>>,
}

/// Reads what a server's connection tells its peers.
pub(crate) fn decode_server(term: Term<'_>) -> NifResult<(ClientOptions, ServerOptions)> {
    let server: ServerTerm = term.decode()?;
    let options = ClientOptions {
        authority: String::new(),
        connection: connection(term)?,
        keepalive: keepalive(term)?,
        idle_timeout: idle_timeout(term)?,
    };
    let server = ServerOptions {
        max_concurrent_streams: server.max_concurrent_streams.0.and_then(|max| u32::try_from(max).ok()),
        header_table_size: server.header_table_size,
        connect_protocol: server.enable_connect_protocol,
    };
    Ok((options, server))
}

fn idle_timeout(term: Term<'_>) -> NifResult<Option<Duration>> {
    let Bound(timeout) = term.map_get(atoms::idle_timeout())?.decode()?;
    Ok(timeout.map(Duration::from_millis))
}

/// Reads the options of a client's connection on a byte stream that is there already.
pub(crate) fn decode_over(term: Term<'_>) -> NifResult<ClientOptions> {
    Ok(ClientOptions {
        authority: term.map_get(atoms::authority())?.decode()?,
        connection: connection(term)?,
        keepalive: keepalive(term)?,
        idle_timeout: idle_timeout(term)?,
    })
}

/// Reads where to listen, and how.
pub(crate) fn decode_listen(term: Term<'_>) -> NifResult<ListenOptions> {
    let listen: ListenTerm<'_> = term.decode()?;
    let ip = listen.ip.parse().map_err(|_| rustler::Error::BadArg)?;
    let mut options = ListenOptions::new(SocketAddr::new(ip, listen.port));
    options.backlog = listen.backlog;
    options.v6_only = listen.v6_only;
    options.tcp.nodelay = listen.nodelay;
    options.tls = listen.tls.0.map(|tls| {
        let mut options = ServerTlsOptions::new(identity(tls.identity));
        options.client_roots = tls.roots.0.as_ref().map(roots);
        options.verify_client = matches!(tls.verify, VerifyTerm::VerifyPeer);
        options.versions = versions(tls.tls12, tls.tls13);
        options.alpn = bytes(&tls.alpn);
        options
    });
    Ok(options)
}

fn versions(tls12: bool, tls13: bool) -> Vec<TlsVersion> {
    let versions = [(tls13, TlsVersion::Tls13), (tls12, TlsVersion::Tls12)];
    let wanted = versions
        .into_iter()
        .filter_map(|(wanted, version)| wanted.then_some(version));
    wanted.collect()
}

fn roots(term: &RootsTerm<'_>) -> Roots {
    match term {
        RootsTerm::System => Roots::System,
        RootsTerm::Der(list) => Roots::Der(bytes(list)),
        RootsTerm::File(name) => Roots::PemFile(path(name)),
    }
}

/// Reads the options of a connection that streams share.
pub(crate) fn decode_client(term: Term<'_>) -> NifResult<(Dial, ClientOptions)> {
    let options = ClientOptions {
        authority: term.map_get(atoms::authority())?.decode()?,
        connection: connection(term)?,
        keepalive: keepalive(term)?,
        // Pools see to it themselves.
        idle_timeout: None,
    };
    Ok((dial(term)?, options))
}

fn keepalive(term: Term<'_>) -> NifResult<Option<Keepalive>> {
    let KeepaliveTerm {
        keepalive,
        keepalive_timeout,
    } = term.decode()?;
    Ok(keepalive.0.map(|interval| Keepalive {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(keepalive_timeout),
    }))
}

fn dial(term: Term<'_>) -> NifResult<Dial> {
    let DialTerm {
        host,
        port,
        tcp: tcp_term,
        tls: tls_term,
    } = term.decode()?;
    Ok(Dial {
        host,
        port,
        tcp: tcp(tcp_term)?,
        tls: tls_term.0.map(tls),
    })
}

fn connection(term: Term<'_>) -> NifResult<ConnectionOptions> {
    let limits: ConnectionTerm = term.decode()?;
    Ok(ConnectionOptions {
        initial_window_size: limits.initial_window_size,
        connection_window_size: limits.connection_window_size,
        max_frame_size: limits.max_frame_size,
        max_header_list_size: limits.max_header_list_size,
    })
}

fn tcp(term: TcpTerm) -> NifResult<TcpOptions> {
    let local_address = term
        .local_address
        .0
        .map(|text| text.parse())
        .transpose()
        .map_err(|_| rustler::Error::BadArg)?;
    Ok(TcpOptions {
        nodelay: term.nodelay,
        keepalive: term.keepalive,
        family: match term.family {
            FamilyTerm::Any => Family::Any,
            FamilyTerm::Inet => Family::V4,
            FamilyTerm::Inet6 => Family::V6,
        },
        local_address,
        local_port: term.local_port.0,
        recv_buffer: term.recbuf.0,
        send_buffer: term.sndbuf.0,
        linger: term.linger.0.map(Duration::from_secs),
        ..TcpOptions::default()
    })
}

fn tls(term: TlsTerm<'_>) -> TlsOptions {
    TlsOptions {
        verify: match term.verify {
            VerifyTerm::VerifyPeer => Verify::Peer,
            VerifyTerm::VerifyNone => Verify::None,
        },
        roots: roots(&term.roots),
        identity: term.identity.0.map(identity),
        server_name: match term.server_name {
            ServerNameTerm::FromHost => ServerNameOption::FromHost,
            ServerNameTerm::Disable => ServerNameOption::Disable,
            ServerNameTerm::Name(name) => ServerNameOption::Named(name),
        },
        versions: versions(term.tls12, term.tls13),
        alpn: bytes(&term.alpn),
        keylog: term.keylog.0.as_ref().map(path),
        resumption: term.resumption,
        ..TlsOptions::default()
    }
}

fn identity(term: IdentityTerm<'_>) -> Identity {
    let secret = |b: &Binary<'_>| Secret(b.as_slice().to_vec());
    Identity {
        certificate: match &term.certificate {
            CertificateTerm::Der(list) => CertificateSource::Der(bytes(list)),
            CertificateTerm::Pem(text) => CertificateSource::Pem(text.as_slice().to_vec()),
            CertificateTerm::File(name) => CertificateSource::File(path(name)),
        },
        key: match &term.key {
            KeyTerm::Der(der) => KeySource::Der(secret(der)),
            KeyTerm::Pem(text) => KeySource::Pem(secret(text)),
            KeyTerm::File(name) => KeySource::File(path(name)),
        },
        password: term.password.0.as_ref().map(secret),
    }
}
