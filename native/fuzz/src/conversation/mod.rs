//! The whole engine: a stream over a byte stream in memory, a peer that sends anything at all, a user who calls in any order.
//!
//! One thread and a clock that stands still until everybody waits: an input always takes the same course, but for the reader's spin,
//! which looks at the real clock.

mod heard;
mod outlet;
mod peer;
mod steps;
mod transcript;
mod user;
mod wire;

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use hackney_engine::Life;
use hackney_engine::h2::StreamState;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::sleep;

use peer::Peer;
use steps::{Act, Call, Case, Farewell, Step};
use user::User;

/// The shortest time: the clock goes on only when every task waits for something.
const REST: Duration = Duration::from_millis(1);
/// Longer than an opening's deadline and a connection's goodbye may take together.
const LONG: Duration = Duration::from_secs(10);
/// More makes a run slow and finds nothing new.
const MAX_STEPS: usize = 100;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O takes nothing from the operating system");
}

/// The steps that an input stands for, to read a finding by: `cargo run --example show FILE`.
#[must_use]
pub fn show(data: &[u8]) -> String {
    format!("{:#?}", Case::arbitrary_take_rest(Unstructured::new(data)))
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    RUNTIME.with(|runtime| {
        runtime.block_on(converse(&case));
        assert_eq!(runtime.metrics().num_alive_tasks(), 0, "tasks are left behind");
    });
}

async fn converse(case: &Case) {
    let (wire, end) = wire::wire(case.setup.part());
    let mut peer = Peer::new(end);
    let options = case.setup.options();
    let mut user = User::open(case.setup.target(), options, wire);
    if case.setup.greets {
        peer.act(&Act::Settings(Vec::new()));
    }
    for step in case.steps.iter().take(MAX_STEPS) {
        match step {
            Step::User(call) => user.call(call),
            Step::Peer(act) => peer.act(act),
            Step::Turn => yield_now().await,
            Step::Rest => {
                sleep(REST).await;
                at_rest(&mut user, &peer);
            }
            Step::Wait(tenths) => sleep(Duration::from_millis(100) * u32::from(*tenths)).await,
        }
        user.listen();
    }
    sleep(REST).await;
    at_rest(&mut user, &peer);
    match case.farewell {
        Farewell::Peer(end) => {
            peer.act(&Act::AllRoom);
            peer.act(&Act::End(end));
        }
        Farewell::Close => user.call(&Call::Close),
        Farewell::Bury => user.call(&Call::Bury),
        Farewell::Abort => user.call(&Call::Abort),
    }
    sleep(LONG).await;
    at_rest(&mut user, &peer);
    user.read_all();
    sleep(REST).await;
    at_rest(&mut user, &peer);
    at_the_end(&user, &peer);
    transcript::check(&options, &peer, &user);
    everything_is_freed(user, &peer);
}

/// Nobody has anything to do: so nobody who waits has something to wait for no longer.
fn at_rest(user: &mut User, peer: &Peer) {
    user.listen();
    let info = user.stream.info();
    user.nobody_waits_in_vain(&info);
    let wire = peer.end.look();
    let Some(connected) = info.connected.filter(|_| info.state == StreamState::Connected) else {
        return;
    };
    if wire.dropped || !wire.is_open_for_writes() {
        return;
    }
    assert_eq!(wire.taken, wire.sent.len(), "the peer's bytes are left lying");
    let window = connected.send_window.min(connected.connection_send_window);
    // A peer that allows no streams at all (SETTINGS_MAX_CONCURRENT_STREAMS) holds back the request itself.
    assert!(
        info.send_queue_bytes == 0 || window <= 0 || !transcript::has_request(&wire.written),
        "{} bytes are not sent, with a window of {window}",
        info.send_queue_bytes
    );
}

/// The connection is over, and everything is read.
fn at_the_end(user: &User, peer: &Peer) {
    assert!(peer.end.look().dropped, "the connection is not over");
    assert_eq!(user.stream.info().state, StreamState::Closed);
    assert!(user.heard.end.is_some(), "the end is not told");
    let told = user.record.told();
    let lives = &told.lives;
    match &lives[..] {
        [Life::Failed(_)] => assert!(!user.was_open),
        [Life::Opened, after @ ..] => {
            let count = |wanted: fn(&Life) -> bool| after.iter().filter(|life| wanted(life)).count();
            let (ended, drained) = (
                count(|life| matches!(life, Life::Ended)),
                count(|life| matches!(life, Life::Drained)),
            );
            assert_eq!(ended + drained, after.len(), "{lives:?}");
            // A user who has closed the stream knows that it is over.
            assert!(ended == 1 || (ended == 0 && user.closed), "{lives:?}");
            assert!(drained == 1 || (drained == 0 && user.buried), "{lives:?}");
        }
        _ => panic!("{lives:?}"),
    }
}

fn everything_is_freed(user: User, peer: &Peer) {
    let User { stream, record, .. } = user;
    assert!(peer.end.look().dropped);
    let connection = hackney_engine::h2::fuzzing::connection(&stream);
    assert_eq!(std::sync::Arc::strong_count(&stream), 1, "somebody holds the stream");
    drop(stream);
    assert!(record.recorder_is_gone(), "somebody holds the outlet");
    if let Some(connection) = connection {
        assert_eq!(connection.strong_count(), 0, "somebody holds the connection");
    }
}
