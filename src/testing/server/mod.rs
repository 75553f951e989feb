//! A port that is served from a thread of its own.

pub(super) mod endpoints;
mod form;
pub(super) mod grant;
pub(super) mod json;
mod management;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use axum::Router;
use tokio::{net::TcpSocket, runtime, sync::oneshot};

/// Serves until it is dropped.
///
/// Its own thread and runtime make it live longer than the runtime of the test that started it (a
/// server may be shared by all tests of a binary), keep it out of a test's paused time, and make
/// closing it complete: no connection outlives the runtime.
pub(in crate::testing) struct Server {
    address: SocketAddr,
    port: Mutex<Port>,
}

enum Port {
    Open(#[expect(dead_code, reason = "held for its Drop")] Serving),
    /// Bound and not listening: connections are refused, and who binds any free port gets another.
    Closed(TcpSocket),
    Lost,
}

/// The sender is dropped to stop the thread.
struct Serving(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Server {
    /// Binds a port of 127.0.0.1 without listening on it; 0 for any that is free.
    pub(in crate::testing) fn bind(port: u16) -> io::Result<Self> {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        Ok(Self { address: socket.local_addr()?, port: Mutex::new(Port::Closed(socket)) })
    }

    pub(in crate::testing) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens; nothing happens if it does already.
    pub(in crate::testing) fn open(&self, router: Router) -> io::Result<()> {
        let mut port = self.lock();
        if let Port::Open(_) = *port {
            return Ok(());
        }
        let socket = match std::mem::replace(&mut *port, Port::Lost) {
            Port::Closed(socket) => socket,
            Port::Open(_) | Port::Lost => bind(self.address)?,
        };
        *port = Port::Open(serve(socket, router)?);
        Ok(())
    }

    /// Closes the port and every connection; returns when they are closed.
    pub(in crate::testing) fn close(&self) -> io::Result<()> {
        let mut port = self.lock();
        if let Port::Open(_) = *port {
            *port = Port::Lost;
            *port = Port::Closed(bind(self.address)?);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.address).finish()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // A panic in there was printed, and failed the request it belongs to.
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // On Windows the option would let others take the port.
    if cfg!(not(windows)) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

fn serve(socket: TcpSocket, router: Router) -> io::Result<Serving> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listening = {
        let _context = runtime.enter();
        socket.listen(BACKLOG)
    };
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => {
            // To drop it as usual would wait, and panic inside a test's own runtime.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    runtime.spawn(axum::serve(listener, router).into_future());
    let (stop, stopped) = oneshot::channel();
    let run = move || drop(runtime.block_on(stopped));
    let thread = thread::Builder::new().name("test-issuer".into()).spawn(run)?;
    Ok(Serving(Some((stop, thread))))
}

const BACKLOG: u32 = 1024;
