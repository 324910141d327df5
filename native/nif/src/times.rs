//! How long each function of the library keeps its scheduler, measured when asked for: to show that none does for a millisecond, on
//! the machine and under the load in question. Otherwise a call costs one load of a flag more.
//!
//! Measured twice: by the wall's clock, which is what the scheduler's other processes wait, and by the thread's CPU clock, which
//! leaves out what the operating system gave to other threads in between and so is the function's own doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustler::{Atom, Encoder, Env, NifResult, Term};

use crate::atoms;

static MEASURING: AtomicBool = AtomicBool::new(false);

/// Each octave of nanoseconds has so many buckets, as a power of two: a figure read off them is at most an eighth too high.
const PRECISION: u32 = 3;
/// Up to a quarter of an hour; longer times go into the last.
const BUCKETS: usize = (41 - PRECISION as usize) << PRECISION;

/// Which scheduler a function runs on: dirty ones may be kept as long as it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheduler {
    Normal,
    Dirty,
}

/// One function's times.
pub(crate) struct Function {
    name: &'static str,
    scheduler: Scheduler,
    wall: Histogram,
    cpu: Histogram,
}

macro_rules! functions {
    ($($function:ident $name:literal $scheduler:ident,)*) => {
        $(pub(crate) static $function: Function = Function::new($name, Scheduler::$scheduler);)*
        static FUNCTIONS: &[&Function] = &[$(&$function),*];
    };
}

functions! {
    ADOPT "adopt" Dirty,
    AWAIT_ROOM "await_room" Normal,
    CLIENT_CLOSE "client_close" Normal,
    CLIENT_CONNECT "client_connect" Normal,
    CLIENT_INFO "client_info" Normal,
    CLIENT_LOAD "client_load" Normal,
    CLIENT_NEW "client_new" Dirty,
    CLIENT_RETIRE "client_retire" Normal,
    CLOSE "close" Normal,
    CONNECT "connect" Normal,
    CONNECT_ON "connect_on" Normal,
    CONSUME "consume" Normal,
    // The watch on a stream's process, which the VM calls on a scheduler too.
    DOWN "down" Normal,
    FEED "feed" Normal,
    FEED_END "feed_end" Normal,
    FEED_WRITTEN "feed_written" Normal,
    H2_CANCEL "h2_cancel" Normal,
    H2_CONSUME "h2_consume" Normal,
    H2_DRAIN "h2_drain" Normal,
    H2_HANDLERS "h2_handlers" Dirty,
    H2_ORPHAN "h2_orphan" Normal,
    H2_PEER_SETTINGS "h2_peer_settings" Normal,
    H2_REQUEST "h2_request" Normal,
    H2_REQUEST_MANY "h2_request_many" Dirty,
    H2_RESPOND "h2_respond" Normal,
    H2_RESPOND_MANY "h2_respond_many" Dirty,
    H2_RESPOND_WITH "h2_respond_with" Normal,
    H2_SEND_AND_WAIT "h2_send_and_wait" Normal,
    H2_SEND_DATA "h2_send_data" Normal,
    H2_SEND_MANY "h2_send_many" Dirty,
    H2_SEND_MANY_TRAILERS "h2_send_many_trailers" Dirty,
    H2_SEND_TRAILERS "h2_send_trailers" Normal,
    H2_SET_HANDLER "h2_set_handler" Normal,
    H2_SET_OWNER "h2_set_owner" Normal,
    H2_STOP_WAITING "h2_stop_waiting" Normal,
    H2_UNSET_HANDLER "h2_unset_handler" Normal,
    INFO "info" Normal,
    LISTEN "listen" Dirty,
    MEMORY "memory" Dirty,
    NEW "new" Normal,
    NEW_MANY "new_many" Dirty,
    RECV "recv" Normal,
    RECV_MANY "recv_many" Dirty,
    SEND "send" Normal,
    SEND_MANY "send_many" Dirty,
    SEND_MANY_TRAILERS "send_many_trailers" Dirty,
    SEND_TRAILERS "send_trailers" Normal,
    SERVE_ACCEPTED "serve_accepted" Normal,
    SET_ACTIVE "set_active" Normal,
    SET_OWNER "set_owner" Normal,
    SHUTDOWN "shutdown" Dirty,
    STOP_WAITING "stop_waiting" Normal,
    UNLISTEN "unlisten" Normal,
}

impl Function {
    const fn new(name: &'static str, scheduler: Scheduler) -> Self {
        Function {
            name,
            scheduler,
            wall: Histogram::new(),
            cpu: Histogram::new(),
        }
    }

    /// Begins to measure a call, which lasts until the result is dropped. `None` when nobody asked for it.
    pub(crate) fn start(&'static self) -> Option<Timer> {
        MEASURING.load(Relaxed).then(|| Timer {
            function: self,
            wall: Instant::now(),
            cpu: thread_cpu_time(),
        })
    }

    fn encode<'a>(&self, env: Env<'a>) -> NifResult<Term<'a>> {
        Term::map_from_pairs(
            env,
            &[
                (atoms::calls(), self.wall.count().encode(env)),
                (atoms::wall(), self.wall.encode(env)?),
                (atoms::cpu(), self.cpu.encode(env)?),
            ],
        )
    }
}

/// A call under measurement.
pub(crate) struct Timer {
    function: &'static Function,
    wall: Instant,
    cpu: Duration,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let cpu = thread_cpu_time().saturating_sub(self.cpu);
        self.function.cpu.record(cpu);
        self.function.wall.record(self.wall.elapsed());
    }
}

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to. Should the system not know the clock, it stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds, exactly.
    max: AtomicU64,
}

impl Histogram {
    const fn new() -> Self {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            max: AtomicU64::new(0),
        }
    }

    fn record(&self, time: Duration) {
        let nanoseconds = time.as_nanos() as u64;
        self.buckets[bucket(nanoseconds)].fetch_add(1, Relaxed);
        self.max.fetch_max(nanoseconds, Relaxed);
    }

    fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
        self.max.store(0, Relaxed);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// What so many hundredths of the calls do not exceed, in nanoseconds.
    fn percentile(&self, hundredths: u64) -> u64 {
        let wanted = (self.count() * hundredths).div_ceil(100);
        let max = self.max.load(Relaxed);
        let mut counted = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            counted += bucket.load(Relaxed);
            if counted >= wanted {
                return highest(index).min(max);
            }
        }
        max
    }

    /// `#{p50 := Us, p99 := Us, max := Us}`.
    fn encode<'a>(&self, env: Env<'a>) -> NifResult<Term<'a>> {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        Term::map_from_pairs(
            env,
            &[
                (atoms::p50(), microseconds(self.percentile(50))),
                (atoms::p99(), microseconds(self.percentile(99))),
                (atoms::max(), microseconds(self.max.load(Relaxed))),
            ],
        )
    }
}

/// The bucket of a time.
fn bucket(nanoseconds: u64) -> usize {
    let octave = (nanoseconds | 1).ilog2().saturating_sub(PRECISION);
    let index = ((octave as usize) << PRECISION) + (nanoseconds >> octave) as usize;
    index.min(BUCKETS - 1)
}

/// The longest time that belongs to a bucket.
fn highest(index: usize) -> u64 {
    let octave = (index >> PRECISION).saturating_sub(1);
    let first = index - (octave << PRECISION);
    ((first as u64 + 1) << octave) - 1
}

/// `true` forgets what was measured before and starts measuring, `false` stops it.
#[rustler::nif(schedule = "DirtyCpu")]
fn measure(on: bool) -> Atom {
    MEASURING.store(false, Relaxed);
    if on {
        for function in FUNCTIONS {
            function.wall.clear();
            function.cpu.clear();
        }
        MEASURING.store(true, Relaxed);
    }
    atoms::ok()
}

/// `{ok, #{normal := Table, dirty := Table}}`, by function, of those that were called.
#[rustler::nif(schedule = "DirtyCpu")]
fn measured(env: Env<'_>) -> NifResult<Term<'_>> {
    let table = |scheduler| {
        let rows = FUNCTIONS
            .iter()
            .filter(|function| function.scheduler == scheduler && function.wall.count() > 0)
            .map(|function| Ok((Atom::from_str(env, function.name)?, function.encode(env)?)))
            .collect::<NifResult<Vec<_>>>()?;
        Term::map_from_pairs(env, &rows)
    };
    let tables = Term::map_from_pairs(
        env,
        &[
            (atoms::normal(), table(Scheduler::Normal)?),
            (atoms::dirty(), table(Scheduler::Dirty)?),
        ],
    )?;
    Ok((atoms::ok(), tables).encode(env))
}
