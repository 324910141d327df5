//! A stream with a connection of its own: look-up, TCP, TLS, HTTP/2's preface, the request, the peer's SETTINGS, all under one
//! deadline. The task that opens the connection goes on to drive it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::connect::{self, Carrier, Standing};
use super::errand::Errand;
use super::options::{RequestHead, Target};
use super::stream::{Phase, Stream};
use super::tether::Tether;
use crate::error::{EndReason, OpenError};
use crate::net::{self, ConnectError, Dial};
use crate::outlet::{Life, Outlet};

/// The way to an open stream.
type Opening<O> = Pin<Box<dyn Future<Output = Result<Tether<O>, OpenError>> + Send>>;

impl<O: Outlet> Stream<O> {
    /// Opens the stream in the background: [`Life::Opened`] or [`Life::Failed`] tells how it went, the latter not later than
    /// `deadline` from now.
    ///
    /// # Errors
    /// [`OpenError::Already`] when it was called before.
    pub fn open(self: &Arc<Self>, deadline: Option<Duration>) -> Result<(), OpenError> {
        self.open_over(
            |dial| async move { net::connect(&dial).await.map(Carrier::from) },
            deadline,
        )
    }

    /// [`Stream::open`] on whatever carrier `connect` brings.
    pub(crate) fn open_over<F>(
        self: &Arc<Self>,
        connect: impl FnOnce(Dial) -> F + Send + 'static,
        deadline: Option<Duration>,
    ) -> Result<(), OpenError>
    where
        F: Future<Output = Result<Carrier, ConnectError>> + Send + 'static,
    {
        let mut state = self.state.lock();
        let Some(Target {
            request,
            dial: Some(dial),
        }) = state.target.take()
        else {
            return Err(OpenError::Already);
        };
        state.phase = Phase::Opening;
        drop(state);
        // Boxed, so that the memory of opening, TLS handshake and all, is free again once the stream is open.
        let opening = Box::pin(establish(self.clone(), request, dial, connect));
        let stream = self.clone();
        let epitaph = Errand::new(move || stream.run_soon(Self::cut_short));
        self.runtime.spawn(self.clone().live(opening, deadline, epitaph));
        Ok(())
    }

    /// The runtime was stopped before the stream was over, or had begun.
    fn cut_short(&self) {
        self.leave();
        if self.state.lock().phase != Phase::Open {
            self.outlet.life(Life::Failed(OpenError::Ended(EndReason::Closed)));
        }
    }

    /// The stream's whole life. `epitaph` is for the case that this is dropped before its end.
    async fn live(
        self: Arc<Self>,
        mut opening: Opening<O>,
        deadline: Option<Duration>,
        epitaph: Errand<impl FnOnce() + Send + 'static>,
    ) {
        let opened = connect::within(opening.as_mut(), deadline, &self.cancelled).await;
        drop(opening);
        match opened {
            Ok(tether) => {
                self.opened();
                connect::serve(tether, |_| {}).await;
                epitaph.cancel();
            }
            Err(error) => {
                epitaph.cancel();
                self.fail(EndReason::Closed);
                self.outlet.life(Life::Failed(error));
            }
        }
    }
}

/// Connects and sends the request; done when the peer's SETTINGS have come (RFC 9113, 3.4), which prove that it speaks HTTP/2.
async fn establish<O: Outlet, F>(
    stream: Arc<Stream<O>>,
    request: RequestHead,
    dial: Dial,
    connect: impl FnOnce(Dial) -> F,
) -> Result<Tether<O>, OpenError>
where
    F: Future<Output = Result<Carrier, ConnectError>>,
{
    // Before connecting: nothing is sent for a request that HTTP/2 cannot carry.
    let request = request.into_request(if dial.tls.is_some() { "https" } else { "http" })?;
    let carrier = connect(dial).await.map_err(OpenError::Connect)?;
    let Standing { tether, side } = connect::stand_up(carrier, &stream.options.connection, false).await?;
    // The request goes out with the preface, without waiting for SETTINGS: one round trip less (RFC 9113, 3.4 allows it).
    tether.0.start(side, Some((stream.clone(), request)))?;
    connect::settings(&tether).await.map_err(|reason| {
        // The stream itself may know better: a reset, say.
        OpenError::Ended(stream.state.lock().inbox.told_end().unwrap_or(reason))
    })?;
    Ok(tether)
}
