//! Work for the engine's threads that somebody waits for: it is done even when the runtime is stopped.

/// Does its work when it is [run](Errand::run), or else, on a thread of its own, when it is dropped: that is what a runtime
/// does to its tasks when it stops, and to those that it is given later.
pub(super) struct Errand<W: FnOnce() + Send + 'static>(Option<W>);

impl<W: FnOnce() + Send + 'static> Errand<W> {
    pub(super) fn new(work: W) -> Self {
        Errand(Some(work))
    }

    pub(super) fn run(mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }

    /// There is no need any more.
    pub(super) fn cancel(mut self) {
        self.0 = None;
    }
}

impl<W: FnOnce() + Send + 'static> Drop for Errand<W> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            // Not here: this may be a caller's thread. Without a thread to be had there is nothing left to do it with.
            let _ = std::thread::Builder::new()
                .name("hackney_h2-stop".to_owned())
                .spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn done_once_when_run() {
        let (done, told) = mpsc::channel();
        Errand::new(move || done.send(()).unwrap()).run();
        assert_eq!(told.iter().count(), 1);
    }

    #[test]
    fn done_by_another_thread_when_a_stopped_runtime_drops_it() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_timeout(DEADLINE);
        let (done, told) = mpsc::channel();
        let errand = Errand::new(move || done.send(std::thread::current().id()).unwrap());
        handle.spawn(async move { errand.run() });
        assert_ne!(told.recv_timeout(DEADLINE).unwrap(), std::thread::current().id());
    }

    #[test]
    fn not_done_when_cancelled() {
        let (done, told) = mpsc::channel();
        Errand::new(move || done.send(()).unwrap()).cancel();
        assert_eq!(told.iter().count(), 0);
    }
}
