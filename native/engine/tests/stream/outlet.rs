//! An outlet that is a channel, and a client around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hackney_engine::error::RecvError;
use hackney_engine::h2::{Received, Stream, StreamOptions, Target};
use hackney_engine::{Gone, Life, Message, Notice, Outlet};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::DEADLINE;

/// A waiter that takes messages.
pub(crate) const TAKER: u64 = 2;
/// One that would, and is gone.
pub(crate) const GONE: u64 = 3;

#[derive(Debug)]
pub(crate) struct Channels {
    notices: mpsc::UnboundedSender<Notice>,
    noticed: Arc<AtomicUsize>,
    lives: mpsc::UnboundedSender<Life>,
    handed: mpsc::UnboundedSender<Option<Message>>,
    woken: Arc<Notify>,
    panic: Arc<AtomicBool>,
}

impl Outlet for Channels {
    type Owner = ();
    type Waiter = u64;

    fn notify(&self, (): &(), notice: Notice) {
        self.noticed.fetch_add(1, SeqCst);
        let _ = self.notices.send(notice);
    }

    fn wake(&self, _: u64) {
        self.woken.notify_one();
        if self.panic.swap(false, SeqCst) {
            panic!("as ordered");
        }
    }

    fn takes_messages(waiter: &u64) -> bool {
        [TAKER, GONE].contains(waiter)
    }

    fn hand(&self, waiter: u64, message: &Message) -> Result<(), Gone> {
        let taken = (waiter == TAKER).then(|| message.clone());
        let outcome = taken.as_ref().map(|_| ()).ok_or(Gone);
        let _ = self.handed.send(taken);
        outcome
    }

    fn life(&self, life: Life) {
        let _ = self.lives.send(life);
    }

    fn waiter_id(waiter: &u64) -> u64 {
        *waiter
    }
}

pub(crate) struct Client {
    pub(crate) stream: Arc<Stream<Channels>>,
    notices: mpsc::UnboundedReceiver<Notice>,
    noticed: Arc<AtomicUsize>,
    pub(crate) lives: mpsc::UnboundedReceiver<Life>,
    handed: mpsc::UnboundedReceiver<Option<Message>>,
    woken: Arc<Notify>,
    panic: Arc<AtomicBool>,
}

impl Client {
    pub(crate) async fn open(target: Target, options: StreamOptions) -> Self {
        let mut client = Client::opening(target, options);
        client.lived(|life| matches!(life, Life::Opened)).await;
        client
    }

    /// One that is not open yet, and may never be.
    pub(crate) fn opening(target: Target, options: StreamOptions) -> Self {
        let (notices_in, notices) = mpsc::unbounded_channel();
        let (lives_in, lives) = mpsc::unbounded_channel();
        let (handed_in, handed) = mpsc::unbounded_channel();
        let (woken, panic, noticed) = (Arc::<Notify>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let outlet = Channels {
            notices: notices_in,
            noticed: Arc::clone(&noticed),
            lives: lives_in,
            handed: handed_in,
            woken: Arc::clone(&woken),
            panic: Arc::clone(&panic),
        };
        let stream = Stream::new(target, options, (), outlet, tokio::runtime::Handle::current());
        stream.open(Some(Duration::from_secs(5))).unwrap();
        Client {
            stream,
            notices,
            noticed,
            lives,
            handed,
            woken,
            panic,
        }
    }

    pub(crate) async fn recv(&self) -> Result<Message, RecvError> {
        loop {
            match self.stream.recv(1, usize::MAX, || 1)? {
                Received::Message(message) => return Ok(message),
                Received::Nothing => tokio::task::yield_now().await,
                Received::Wait => timeout(DEADLINE, self.woken.notified()).await.expect("woken"),
                Received::Many => unreachable!("any number of fields is taken"),
            }
        }
    }

    /// Registers a reader now; done when it is woken.
    pub(crate) fn wait_once(&self) -> impl Future<Output = ()> + use<> {
        self.wait_as(1)
    }

    /// The same with that identity.
    pub(crate) fn wait_as(&self, waiter: u64) -> impl Future<Output = ()> + use<> {
        while !matches!(self.stream.recv(waiter, usize::MAX, || waiter), Ok(Received::Wait)) {
            std::thread::yield_now();
        }
        let woken = Arc::clone(&self.woken);
        async move { timeout(DEADLINE, woken.notified()).await.expect("woken") }
    }

    /// Waits as a sender of `size` bytes does; there must be no room for them yet.
    pub(crate) async fn room(&self, size: usize) {
        assert!(self.stream.await_room(size, || 1));
        timeout(DEADLINE, self.woken.notified()).await.expect("woken");
    }

    /// What a waiter was handed; `None` when it was gone.
    pub(crate) async fn handed(&mut self) -> Option<Message> {
        let handed = timeout(DEADLINE, self.handed.recv()).await;
        handed.expect("a message").expect("an outlet")
    }

    pub(crate) fn panic_at_next_wake(&self) {
        self.panic.store(true, SeqCst);
    }

    pub(crate) async fn notice(&mut self) -> Notice {
        timeout(DEADLINE, self.notices.recv())
            .await
            .expect("a notice")
            .expect("an outlet")
    }

    pub(crate) fn notices_so_far(&self) -> usize {
        self.noticed.load(SeqCst)
    }

    pub(crate) async fn next_life(&mut self) -> Life {
        timeout(DEADLINE, self.lives.recv())
            .await
            .expect("news")
            .expect("an outlet")
    }

    pub(crate) async fn lived(&mut self, wanted: impl Fn(&Life) -> bool) {
        while !wanted(&self.next_life().await) {}
    }
}
