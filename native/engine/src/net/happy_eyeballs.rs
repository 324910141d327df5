//! Happy eyeballs (RFC 8305): several addresses tried in a staggered race, the first connection wins.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::errno;
use super::tcp::{self, TcpOptions};

/// The "Connection Attempt Delay" that RFC 8305 section 5 recommends.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The least delay that RFC 8305 section 5 allows; shorter ones are raised to it, so that no option turns the race into a
/// burst of SYNs.
pub const MIN_ATTEMPT_DELAY: Duration = Duration::from_millis(10);

/// Connects to the first of `addresses` that answers. The losers' sockets are closed before this returns.
///
/// When all fail, the error is the one that says most about the peer: a refusal or reset before a time-out, before "no
/// route", before a local fault; among equals the first in order.
pub async fn connect(addresses: &[SocketAddr], options: &TcpOptions) -> io::Result<TcpStream> {
    let usable: Vec<SocketAddr> = addresses
        .iter()
        .copied()
        .filter(|address| options.admits(address))
        .collect();
    if usable.is_empty() {
        return Err(errno::family_not_supported());
    }
    let delay = options.attempt_delay.max(MIN_ATTEMPT_DELAY);
    race(&interleave(&usable), delay, |peer| tcp::attempt(peer, options)).await
}

/// Alternates between the families, beginning with the family of the first address (RFC 8305 section 4, with a "First
/// Address Family Count" of 1). Within a family the resolver's order stays.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (preferred, other): (Vec<_>, Vec<_>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(addresses.len());
    loop {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

enum Event<T> {
    Connected(T),
    Failed(io::Error),
    DelayOver,
}

/// Runs the attempts: the next one starts when `delay` is over or at once when a running one fails.
async fn race<T, F, A>(addresses: &[SocketAddr], delay: Duration, attempt: A) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
    A: Fn(SocketAddr) -> F,
{
    let mut waiting = addresses.iter();
    // Owned here and polled from here, never spawned: dropping the race drops every socket with it.
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut most_telling: Option<io::Error> = None;
    let mut timer = pin!(sleep(delay));
    loop {
        if let Some(address) = waiting.next() {
            running.push(Box::pin(attempt(*address)));
            timer.as_mut().reset(Instant::now() + delay);
        } else if running.is_empty() {
            return Err(most_telling.unwrap_or_else(errno::family_not_supported));
        }
        let more = !waiting.as_slice().is_empty();
        let event = poll_fn(|cx| {
            for index in 0..running.len() {
                if let Poll::Ready(outcome) = running[index].as_mut().poll(cx) {
                    drop(running.remove(index));
                    return Poll::Ready(match outcome {
                        Ok(connection) => Event::Connected(connection),
                        Err(error) => Event::Failed(error),
                    });
                }
            }
            if more && timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::DelayOver);
            }
            Poll::Pending
        })
        .await;
        match event {
            Event::Connected(connection) => return Ok(connection),
            Event::Failed(error) => {
                if most_telling.as_ref().is_none_or(|best| weight(&error) > weight(best)) {
                    most_telling = Some(error);
                }
            }
            Event::DelayOver => {}
        }
    }
}

/// How much an error says about the peer.
fn weight(error: &io::Error) -> u8 {
    use io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused | K::ConnectionReset | K::ConnectionAborted => 3,
        K::TimedOut => 2,
        K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_alternate_from_the_preferred_one() {
        let resolved = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(interleave(&resolved), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_start_a_delay_apart_and_losers_are_dropped() {
        let started = RefCell::new(Vec::new());
        let begin = Instant::now();
        let list = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1"]);
        let won = race(&list, ATTEMPT_DELAY, |address| {
            started.borrow_mut().push(begin.elapsed());
            async move {
                if address.ip().to_string() == "::2" {
                    Ok(address)
                } else {
                    std::future::pending().await
                }
            }
        });
        assert_eq!(won.await.expect("a winner"), list[2]);
        assert_eq!(*started.borrow(), [Duration::ZERO, ATTEMPT_DELAY, 2 * ATTEMPT_DELAY]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_attempt_at_once() {
        let begin = Instant::now();
        let list = addresses(&["[::1]:1", "1.1.1.1:1"]);
        let won = race(&list, ATTEMPT_DELAY, |address| async move {
            if address.is_ipv6() {
                Err(io::ErrorKind::NetworkUnreachable.into())
            } else {
                Ok(address)
            }
        });
        assert_eq!(won.await.expect("a winner"), list[1]);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_attempt_may_still_win_after_the_next_has_begun() {
        let list = addresses(&["[::1]:1", "1.1.1.1:1"]);
        let won = race(&list, ATTEMPT_DELAY, |address| async move {
            if address.is_ipv6() {
                sleep(ATTEMPT_DELAY + Duration::from_millis(1)).await;
                Ok(address)
            } else {
                std::future::pending().await
            }
        });
        assert_eq!(won.await.expect("a winner"), list[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_telling_error_is_reported() {
        let list = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1"]);
        let lost = race(&list, ATTEMPT_DELAY, |address| async move {
            Err::<(), _>(io::Error::from(if address.is_ipv4() {
                io::ErrorKind::ConnectionRefused
            } else {
                io::ErrorKind::NetworkUnreachable
            }))
        });
        let error = lost.await.expect_err("all fail");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
