//! The tokio runtime that all connections share: started on first use, stopped with the application.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
pub use tokio::runtime::Handle;
use tokio::runtime::{Builder, Runtime};

static STATE: Mutex<State> = Mutex::new(State::Stopped);

enum State {
    /// The next stream starts it.
    Stopped,
    Running(Runtime),
    /// A stream made now would be too late for the farewell.
    Stopping,
}

/// Why there is no runtime to be had.
#[derive(Debug, thiserror::Error)]
pub enum NotRunning {
    /// It is being stopped.
    #[error("the engine is being stopped")]
    Stopping,
    /// The operating system gave no threads.
    #[error(transparent)]
    Threads(#[from] std::io::Error),
}

/// Threads of the runtime: its workers, and those that name look-ups and file reads run on.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// How often a runtime that stops looks whether its tasks are done.
const FAREWELL_POLL: Duration = Duration::from_millis(2);
/// A worker that always has something to run looks for what the sockets of others have got after so many turns of its tasks.
/// A turn may take a millisecond, see `Place::allowance`; tokio's own 61 would be felt.
const TURNS_BETWEEN_EVENTS: u32 = 8;
/// Idle threads that name look-ups and file reads ran on are kept for so long.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Name look-ups and file reads at one time; more wait in line.
const MAX_BLOCKING_THREADS: usize = 16;

/// The runtime's handle, if it is running. Returns at once.
pub fn running() -> Option<Handle> {
    // Held for long while the runtime starts.
    match &*STATE.try_lock()? {
        State::Running(runtime) => Some(runtime.handle().clone()),
        State::Stopped | State::Stopping => None,
    }
}

/// The runtime's handle. Starts it with `workers` threads when it is not running, which takes milliseconds.
///
/// # Errors
/// See [`NotRunning`].
pub fn handle(workers: usize) -> Result<Handle, NotRunning> {
    let mut state = STATE.lock();
    match &*state {
        State::Running(runtime) => return Ok(runtime.handle().clone()),
        State::Stopping => return Err(NotRunning::Stopping),
        State::Stopped => {}
    }
    let serial = AtomicUsize::new(1);
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .event_interval(TURNS_BETWEEN_EVENTS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        // Linux shows 15 bytes of a thread's name.
        .thread_name_fn(move || format!("hackney_h2-{}", serial.fetch_add(1, Ordering::Relaxed)))
        .on_thread_start(|| {
            THREADS.fetch_add(1, Ordering::Relaxed);
            run_in_batches();
        })
        .on_thread_stop(|| {
            THREADS.fetch_sub(1, Ordering::Relaxed);
        })
        // Others on this core go first: what they still send is then found in the same batch.
        .on_thread_park(std::thread::yield_now)
        .enable_io()
        .enable_time()
        .build()?;
    let handle = runtime.handle().clone();
    *state = State::Running(runtime);
    Ok(handle)
}

/// Asks the system not to interrupt another thread for the calling one just because that has something to do again.
///
/// With many streams on busy cores, a worker that preempts a scheduler at each arrival handles one message per thread switch; one that waits
/// for its turn finds a batch. An idle core runs it at once either way, and its share of the processor stays the same (sched(7)).
fn run_in_batches() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the structure is of integers and times, whose number differs among C libraries. Priority 0 is the one of this policy.
        let priority: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: the call reads `priority` and changes nothing but how the calling thread is scheduled. A refusal leaves that as it was.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    }
}

/// Stops the runtime within `patience`: runs `farewell` on one of its threads, lets the tasks that are left finish, then drops
/// what has not. A later [`handle`] starts a new one; one meanwhile is refused.
pub fn shutdown(patience: Duration, farewell: impl FnOnce() + Send + 'static) {
    let mut state = STATE.lock();
    let runtime = match std::mem::replace(&mut *state, State::Stopping) {
        State::Running(runtime) => runtime,
        before => {
            *state = before;
            return;
        }
    };
    drop(state);
    let deadline = Instant::now() + patience;
    let (done, finished) = std::sync::mpsc::channel();
    let handle = runtime.handle().clone();
    runtime.spawn(async move {
        farewell();
        // Beside this one there may be a task for each connection that still says goodbye.
        while handle.metrics().num_alive_tasks() > 1 && Instant::now() < deadline {
            tokio::time::sleep(FAREWELL_POLL).await;
        }
        let _ = done.send(());
    });
    let _ = finished.recv_timeout(patience);
    runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()));
    *STATE.lock() = State::Stopped;
}

/// Tasks alive: about one for each connection. 0 when the runtime is not running.
pub fn tasks() -> usize {
    match &*STATE.lock() {
        State::Running(runtime) => runtime.metrics().num_alive_tasks(),
        State::Stopped | State::Stopping => 0,
    }
}

/// Threads alive. 0 when the runtime is not running.
pub fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}
