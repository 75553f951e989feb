//! Captures the log of the current thread as text.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, Once},
};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Captures the log of the current thread until the `LogCapture` is dropped. By default,
/// a `#[tokio::test]` runs all its tasks on this thread, so their log is captured too.
pub(crate) struct LogCapture {
    traced: Buffer,
    _guard: DefaultGuard,
}

impl LogCapture {
    /// Captures the log of this crate.
    pub(crate) fn start() -> Self {
        Self::with_filter("tower_logto=trace")
    }

    /// Captures the log of every crate, whether it logs with `tracing` or with `log`.
    pub(crate) fn start_for_every_crate() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            log::set_logger(&ThreadLogger).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
        });
        LOGGED.set(Some(String::new()));
        Self::with_filter("trace")
    }

    fn with_filter(filter: &str) -> Self {
        log_on_every_thread();
        let traced = Buffer::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(traced.clone())
            .finish();
        Self { traced, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Returns the log since the start, or since the last call of [`take`](Self::take).
    pub(crate) fn text(&self) -> String {
        let traced = String::from_utf8(self.traced.0.lock().unwrap().clone()).unwrap();
        LOGGED.with_borrow(|logged| traced + logged.as_deref().unwrap_or_default())
    }

    /// Returns the log and clears it.
    pub(crate) fn take(&self) -> String {
        let text = self.text();
        self.traced.0.lock().unwrap().clear();
        LOGGED.with_borrow_mut(|logged| logged.iter_mut().for_each(String::clear));
        text
    }
}

impl Drop for LogCapture {
    fn drop(&mut self) {
        LOGGED.set(None);
    }
}

/// Makes sure that every thread has a subscriber. If the first thread that logs an event had no
/// subscriber, `tracing` would disable this event for all threads.
pub(crate) fn log_on_every_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let discard = tracing_subscriber::fmt().with_env_filter("trace").with_writer(io::sink);
        tracing::subscriber::set_global_default(discard.finish()).unwrap();
    });
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

thread_local! {
    /// The messages that were logged with `log`, for example by reqwest. `None` while nothing is
    /// captured.
    static LOGGED: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct ThreadLogger;

impl log::Log for ThreadLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        LOGGED.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(text) = logged {
                text.push_str(&format!("{} {}\n", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}
