//! An HTTP server that runs on its own thread.

pub(super) mod endpoints;
pub(super) mod fault_switch;
mod form;
mod grant;
pub(super) mod json;
pub(super) mod key_ring;
mod management;
pub(super) mod state;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use axum::Router;
use tokio::{net::TcpSocket, runtime, sync::oneshot};

/// A server that runs until it is dropped.
///
/// The server has its own thread and runtime, for three reasons:
/// - The server outlives the runtime of the test that starts it, so all tests of a binary can share
///   the server.
/// - A test that pauses tokio's clock does not affect the server.
/// - Dropping the server's runtime closes every connection.
pub(crate) struct Server {
    address: SocketAddr,
    port: Mutex<Port>,
}

enum Port {
    Open(#[expect(dead_code, reason = "dropping it stops the thread")] ServerThread),
    /// The port is bound, but nothing listens on it. The operating system refuses connections, and
    /// does not give this port to a socket that asks for any free port.
    Closed(TcpSocket),
    /// The port is not even bound, because an earlier call failed.
    Lost,
}

/// The thread of the server. Dropping the sender stops the thread.
struct ServerThread(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Server {
    /// Binds a port on 127.0.0.1 without listening on it. Port 0 selects any free port.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        Ok(Self { address: socket.local_addr()?, port: Mutex::new(Port::Closed(socket)) })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to listen. Does nothing if the server already listens.
    pub(crate) fn open(&self, router: Router) -> io::Result<()> {
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

    /// Stops listening and closes every connection. Then binds the port again without listening on
    /// it.
    pub(crate) fn close(&self) -> io::Result<()> {
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

impl Drop for ServerThread {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // Ignores a panic of the thread, because the panic was already printed.
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // On Windows, SO_REUSEADDR would let another process take the port.
    if cfg!(not(windows)) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

fn serve(socket: TcpSocket, router: Router) -> io::Result<ServerThread> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listening = {
        let _context = runtime.enter();
        socket.listen(BACKLOG)
    };
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => {
            // `shutdown_background` does not block. Dropping `runtime` would block, and tokio
            // panics if this happens inside another runtime, such as the runtime of the test.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    runtime.spawn(axum::serve(listener, router).into_future());
    let (stop, stopped) = oneshot::channel();
    let run = move || drop(runtime.block_on(stopped));
    let thread = thread::Builder::new().name("test-issuer".into()).spawn(run)?;
    Ok(ServerThread(Some((stop, thread))))
}

/// The number of connections that may wait until the server accepts them.
const BACKLOG: u32 = 1024;
