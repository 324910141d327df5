//! What an input can make of a conversation: how the stream is made, and what user and peer do, in turn.

use arbitrary::{Arbitrary, Unstructured};
use hackney_engine::Mode;
use hackney_engine::h2::{ConnectionOptions, FlowControl, ModeChange, RequestHead, StreamOptions, Target};
use hackney_engine::net::{Dial, TcpOptions};
use http::HeaderMap;

use super::wire::End;

#[derive(Debug, Arbitrary)]
pub(super) struct Case {
    pub(super) setup: Setup,
    pub(super) steps: Vec<Step>,
    pub(super) farewell: Farewell,
}

#[derive(Debug, Arbitrary)]
pub(super) struct Setup {
    mode: ModeCall,
    manual: bool,
    informational: bool,
    method: Method,
    window: Size,
    connection_window: Size,
    max_recv_buffer: Option<Size>,
    max_send_buffer: Option<Size>,
    max_header_list_size: Option<u16>,
    /// The most that one read or write of the byte stream moves; 0 for any amount.
    part: u8,
    /// The peer begins with SETTINGS, as it should.
    pub(super) greets: bool,
}

#[derive(Debug, Arbitrary)]
enum Method {
    Post,
    Get,
    Head,
    Connect,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Step {
    User(Call),
    Peer(Act),
    /// The engine's tasks get a turn.
    Turn,
    /// The engine works until it has nothing more to do.
    Rest,
    /// So many tenths of a second pass.
    Wait(u8),
}

/// A call of the stream's user.
#[derive(Debug, Arbitrary)]
pub(super) enum Call {
    Send { size: Size, shared: bool, fin: bool },
    Trailers,
    Recv(Id),
    Consume(Size),
    Mode(ModeCall),
    AwaitRoom(Id, Size),
    Forget(Id),
    Owner(u8),
    Info,
    Close,
    Bury,
    Abort,
}

/// What the peer does.
#[derive(Debug, Arbitrary)]
pub(super) enum Act {
    Settings(Vec<(u8, Value)>),
    SettingsAck,
    Head {
        status: Status,
        end: bool,
    },
    Data {
        size: Size,
        padding: Option<u8>,
        end: bool,
    },
    Trailers,
    Update {
        stream: bool,
        by: Value,
    },
    Reset(u8),
    GoAway {
        last: u8,
        code: u8,
    },
    Ping {
        ack: bool,
    },
    /// Any frame at all.
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: Vec<u8>,
    },
    /// No frame at all.
    Bytes(Vec<u8>),
    End(End),
    /// Reads no more than this from now on.
    Room(Size),
    /// Reads everything again.
    AllRoom,
    /// Hangs up in one direction: what is written fails.
    Deaf,
}

/// How the conversation is brought to its end, whatever came before.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Farewell {
    Peer(End),
    Close,
    Bury,
    Abort,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum ModeCall {
    Passive,
    Active,
    Once,
    Add(i16),
    AddFew(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Status {
    Ok,
    NoContent,
    NotModified,
    Continue,
    Early,
    /// With a content-length that the body may or may not keep to.
    Length(u8),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Id(pub(super) u64);

impl<'a> Arbitrary<'a> for Id {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Id(u64::from(u8::arbitrary(u)? % 3)))
    }
}

/// A number of bytes: mostly few, now and then about as many as some limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) usize);

impl<'a> Arbitrary<'a> for Size {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let [scale, n] = <[u8; 2]>::arbitrary(u)?;
        let n = usize::from(n);
        Ok(Size(match scale % 8 {
            0..4 => n,
            4 => n * 64,
            5 => 16_384 - 8 + n,
            6 => 65_535 - 8 + n,
            _ => n * 512,
        }))
    }
}

/// A 32-bit number of the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value(pub(super) u32);

impl<'a> Arbitrary<'a> for Value {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let [scale, n] = <[u8; 2]>::arbitrary(u)?;
        let n = u32::from(n);
        Ok(Value(match scale % 8 {
            0..3 => n,
            3 => n * 256,
            4 => 16_384 - 8 + n,
            5 => 65_535 - 8 + n,
            6 => 0x7fff_ffff - n,
            _ => u32::MAX - n,
        }))
    }
}

impl ModeCall {
    pub(super) fn change(self) -> ModeChange {
        match self {
            ModeCall::Passive => ModeChange::Set(Mode::Passive),
            ModeCall::Active => ModeChange::Set(Mode::Active),
            ModeCall::Once => ModeChange::Set(Mode::Once),
            ModeCall::Add(n) => ModeChange::Add(n),
            ModeCall::AddFew(n) => ModeChange::Add(n.into()),
        }
    }

    /// The mode that a stream begins with.
    fn initial(self) -> Mode {
        match self.change() {
            ModeChange::Set(mode) => mode,
            ModeChange::Add(n) => u16::try_from(n)
                .ok()
                .filter(|n| *n > 0)
                .map_or(Mode::Passive, Mode::Count),
        }
    }
}

impl Setup {
    pub(super) fn part(&self) -> usize {
        if self.part == 0 { usize::MAX } else { self.part.into() }
    }

    pub(super) fn target(&self) -> Target {
        Target {
            request: RequestHead {
                method: match self.method {
                    Method::Post => "POST",
                    Method::Get => "GET",
                    Method::Head => "HEAD",
                    Method::Connect => "CONNECT",
                }
                .into(),
                authority: "localhost".into(),
                path: "/".into(),
                headers: HeaderMap::new(),
                protocol: None,
            },
            dial: Some(Dial {
                host: "localhost".into(),
                port: 0,
                tcp: TcpOptions::default(),
                tls: None,
            }),
        }
    }

    pub(super) fn options(&self) -> StreamOptions {
        let bound = |size: &Option<Size>| size.as_ref().map_or(usize::MAX, |size| size.0.max(1));
        let max_recv_buffer = bound(&self.max_recv_buffer);
        // As the options are completed in front of the engine: a window of at least one, and not beyond the buffer.
        let window = self.window.0.clamp(1, max_recv_buffer) as u32;
        StreamOptions {
            mode: self.mode.initial(),
            flow_control: if self.manual {
                FlowControl::Manual
            } else {
                FlowControl::Auto
            },
            informational: self.informational,
            events: false,
            max_recv_buffer,
            max_send_buffer: bound(&self.max_send_buffer),
            send_timeout: None,
            recv_timeout: None,
            connection: ConnectionOptions {
                initial_window_size: window,
                connection_window_size: self.connection_window.0.max(65_535) as u32,
                max_frame_size: 16_384,
                max_header_list_size: self.max_header_list_size.map_or(65_536, u32::from).max(1),
            },
        }
    }
}
