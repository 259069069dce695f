//! Serves HTTP within bounds: limits on the number of connections, in total and per host, and on the time without a
//! write.
//!
//! A client that sends no request, sends it slowly, or does not read the response loses its permit after a time, which
//! is shorter when many connections are open. A long response to a client that reads it is not interrupted. While the
//! server computes a response, only [`Bounds::silence_max`] ends the connection, so that a file system that hangs does
//! not hold a permit forever. A connection buffers at most [`WEB_BUFFER_LEN_MAX`] of a response in memory, and at most
//! [`WEB_UNSENT_LEN_MAX`] of unsent bytes in the kernel.

#![allow(clippy::disallowed_methods, reason = "connections end by the clock")]

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::net::getsockname;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

use super::connection_limit::{BusyGuard, ConnectionLimiter, ConnectionLimits, ConnectionPermit, Refused};
use super::direct::{Direct, Endpoints, Next, Step, respond};
use super::forwarded::TrustedProxies;
use super::plain::plain;
use crate::base::host_of;
use crate::base::limits::{
    WEB_ACCEPT_RETRY, WEB_BUFFER_LEN_MAX, WEB_CONNECTIONS_MAX, WEB_CONNECTIONS_PER_HOST_MAX, WEB_CROWDED_TIMEOUT,
    WEB_DIRECT_HEAD_LEN_MAX, WEB_RECV_BUFFER_LEN, WEB_SILENCE_TIMEOUT, WEB_UNSENT_LEN_MAX,
};
use crate::engine::network::shortage::AcceptFailures;
use crate::io::Acceptor;

/// Value of `Retry-After`, in seconds, for temporary errors.
pub(super) const RETRY_AFTER_S: &str = "1";

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub connections: ConnectionLimits,
    /// A connection is closed if no byte could be written to it for this long.
    pub silence_max: Duration,
    pub proxies: TrustedProxies,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: ConnectionLimits::new(WEB_CONNECTIONS_MAX, WEB_CONNECTIONS_PER_HOST_MAX),
            silence_max: WEB_SILENCE_TIMEOUT,
            proxies: TrustedProxies::default(),
        }
    }
}

/// The handlers of a server.
#[derive(Clone, Debug)]
pub struct Service {
    pub router: Router,
    /// Requests that are answered before `router` sees them, except on connections of trusted proxies.
    pub direct: Option<Arc<dyn Direct>>,
}

impl From<Router> for Service {
    fn from(router: Router) -> Self {
        Self { router, direct: None }
    }
}

/// Serves requests until the future is dropped. Clients above the total limit wait in the backlog; a client of a host
/// that has its maximum of connections is closed at once. A request that can be answered directly and has arrived with
/// its connection needs no permit, as it holds nothing.
pub async fn serve(listener: TcpListener, bounds: Bounds, service: impl Into<Service>) {
    let service = service.into();
    let limiter = ConnectionLimiter::new(bounds.connections);
    let bounds = Arc::new(bounds);
    let mut failures = AcceptFailures::default();
    prepare(&listener);
    // Fails only if the event loop takes no further descriptor.
    let Ok(acceptor) = listener.into_std().and_then(Acceptor::new) else { return };
    loop {
        let (socket, remote) = match acceptor.accept().await {
            Ok(accepted) => {
                failures.handle_accepted();
                accepted
            }
            // The client has closed the connection before the accept.
            Err(error) if is_of_one_connection(&error) => continue,
            // For example too many open files. Connections that end release descriptors.
            Err(error) => {
                failures.handle_failed(&error);
                tokio::time::sleep(WEB_ACCEPT_RETRY).await;
                continue;
            }
        };
        // A connection without a local address has ended already.
        let Some(local) = getsockname(&socket).ok().and_then(|local| local.try_into().ok()) else { continue };
        let endpoints = Endpoints { remote, local };
        let is_proxy = bounds.proxies.include(remote.ip());
        let direct = service.direct.clone().filter(|_| !is_proxy);
        let mut socket = std::net::TcpStream::from(socket);
        let early =
            match direct.as_deref().map_or(Ok(Early::default()), |direct| answer_early(direct, &mut socket, endpoints))
            {
                Ok(early) if early.next == Next::Request || !early.unsent.is_empty() => early,
                // The exchange is over, or the connection has failed.
                Ok(_) | Err(_) => continue,
            };
        let host = (!is_proxy).then(|| host_of(remote.ip()));
        let Some(permit) = permit_for(&limiter, host).await else { continue };
        // Fails only if the event loop takes no further descriptor.
        let Ok(stream) = TcpStream::from_std(socket) else { continue };
        let connection = Connection { endpoints, bounds: Arc::clone(&bounds), permit };
        tokio::spawn(connection.run(stream, early, direct, service.router.clone()));
    }
}

/// Sets the options that accepted connections inherit.
///
/// An error means that the listener has failed, and the next accept returns an error too.
fn prepare(listener: &TcpListener) {
    let socket = SockRef::from(listener);
    // Without this the end of a response waits until the client acknowledges its beginning, which takes 40 ms.
    let _ = socket.set_tcp_nodelay(true);
    // Bound the kernel memory used by a client that reads nothing, or whose bytes are not read.
    let _ = socket.set_tcp_notsent_lowat(WEB_UNSENT_LEN_MAX);
    let _ = socket.set_recv_buffer_size(WEB_RECV_BUFFER_LEN);
}

/// The beginning of a connection.
#[derive(Debug)]
struct Early {
    /// Received, and not answered.
    received: Vec<u8>,
    /// The end of responses that the kernel did not take at once.
    unsent: Vec<u8>,
    next: Next,
}

impl Default for Early {
    fn default() -> Self {
        Self { received: Vec::new(), unsent: Vec::new(), next: Next::Request }
    }
}

/// Answers requests that have arrived already, without waiting. An error means that the connection has failed or ended.
fn answer_early(direct: &dyn Direct, socket: &mut std::net::TcpStream, endpoints: Endpoints) -> io::Result<Early> {
    use std::io::{Read as _, Write as _};
    let mut buffer = [0; WEB_DIRECT_HEAD_LEN_MAX];
    let len = match socket.read(&mut buffer) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Early::default()),
        received => received?,
    };
    let received = buffer.get(..len).unwrap_or_default();
    let mut out = Vec::new();
    let (consumed, next) = match respond(direct, received, endpoints, &mut out) {
        Step::Answered { consumed, next } => (consumed, next),
        Step::Receive | Step::Other => (0, Next::Request),
    };
    let sent = match if out.is_empty() { Ok(0) } else { socket.write(&out) } {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    out.drain(..sent);
    Ok(Early { received: received.get(consumed..).unwrap_or_default().to_vec(), unsent: out, next })
}

/// Waits for a permit. Returns `None` if the host has its maximum of connections.
async fn permit_for(limiter: &Arc<ConnectionLimiter>, host: Option<IpAddr>) -> Option<Arc<ConnectionPermit>> {
    loop {
        match limiter.take(host) {
            Ok(permit) => return Some(Arc::new(permit)),
            Err(Refused::HostLimit | Refused::HasYielded) => return None,
            Err(Refused::TotalLimit) => {
                limiter.report_limit();
                limiter.changed().await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection, with the data that its requests get.
struct Connection {
    endpoints: Endpoints,
    bounds: Arc<Bounds>,
    permit: Arc<ConnectionPermit>,
}

impl Connection {
    async fn run(self, stream: TcpStream, early: Early, direct: Option<Arc<dyn Direct>>, router: Router) {
        let Early { received, unsent, next } = early;
        let mut stream = BoundedStream::new(stream, self.bounds.silence_max, Arc::clone(&self.permit));
        stream.received = received;
        if stream.write_all(&unsent).await.is_err() || next == Next::Close {
            return;
        }
        if let Some(direct) = direct
            && self.answer_directly(&mut stream, &*direct).await.is_err()
        {
            return;
        }
        let router = TowerToHyperService::new(router);
        let service = service_fn(|request| self.answer(&router, request));
        let mut http = http1::Builder::new();
        // `BoundedStream` has its own time limits.
        http.header_read_timeout(None).max_buf_size(WEB_BUFFER_LEN_MAX);
        // An error is caused by the client, or by the end of the connection.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    /// Answers requests until one is hyper's, which is then in the stream. An error means that the connection has ended.
    async fn answer_directly(&self, stream: &mut BoundedStream, direct: &dyn Direct) -> io::Result<()> {
        let mut received = std::mem::take(&mut stream.received);
        let mut out = Vec::new();
        loop {
            let step = respond(direct, &received, self.endpoints, &mut out);
            if let Step::Answered { consumed, .. } = step {
                received.drain(..consumed);
            }
            let waits = !matches!(step, Step::Answered { next: Next::Request, .. }) || received.is_empty();
            if !out.is_empty() && (waits || out.len() >= WEB_BUFFER_LEN_MAX) {
                stream.write_all(&out).await?;
                out.clear();
            }
            match step {
                Step::Answered { next: Next::Close, .. } => return Err(io::ErrorKind::UnexpectedEof.into()),
                Step::Other => {
                    stream.received = received;
                    return Ok(());
                }
                Step::Answered { .. } if !received.is_empty() => {}
                Step::Answered { .. } | Step::Receive => {
                    let mut buffer = [0; WEB_DIRECT_HEAD_LEN_MAX];
                    match stream.read(&mut buffer).await? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        len => received.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                    }
                }
            }
        }
    }

    fn answer(
        &self,
        router: &TowerToHyperService<Router>,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let remote = self.bounds.proxies.client(self.endpoints.remote, request.headers());
        request.extensions_mut().insert(ConnectInfo(Endpoints { remote, ..self.endpoints }));
        request.extensions_mut().insert(Activity(Some(Arc::clone(&self.permit))));
        let busy = self.permit.begin_busy();
        let answer = self.permit.assign(host_of(remote.ip())).map(|()| router.call(request));
        async {
            let _busy = busy;
            match answer {
                Ok(answer) => answer.await,
                Err(why) => Ok(refusal(why)),
            }
        }
    }
}

fn refusal(why: Refused) -> Response {
    let (status, line) = match why {
        Refused::HostLimit => (StatusCode::TOO_MANY_REQUESTS, "too many connections from your host: close some\n"),
        Refused::TotalLimit | Refused::HasYielded => {
            (StatusCode::SERVICE_UNAVAILABLE, "too many connections: try again\n")
        }
    };
    ([(header::CONNECTION, "close"), (header::RETRY_AFTER, RETRY_AFTER_S)], plain(status, line)).into_response()
}

/// The connection of a request, as an extension of the request, for responses that are computed in parts. The default
/// stands for a request without a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Option<Arc<ConnectionPermit>>);

impl Activity {
    /// Marks the connection as busy, which means that it waits for the server, until the guard is dropped.
    pub(super) fn begin_busy(&self) -> Option<BusyGuard> {
        self.0.as_ref().map(ConnectionPermit::begin_busy)
    }
}

/// A connection that ends if no byte could be written to it for some time, or if it must yield its permit.
#[derive(Debug)]
struct BoundedStream {
    stream: TcpStream,
    silence_max: Duration,
    /// Received before hyper took over the stream, and read first.
    received: Vec<u8>,
    /// No byte has been written yet.
    is_new: bool,
    check: Pin<Box<Sleep>>,
    permit: Arc<ConnectionPermit>,
}

impl BoundedStream {
    fn new(stream: TcpStream, silence_max: Duration, permit: Arc<ConnectionPermit>) -> Self {
        let check = Box::pin(tokio::time::sleep(silence_max.min(WEB_CROWDED_TIMEOUT)));
        Self { stream, silence_max, received: Vec::new(), is_new: true, check, permit }
    }

    /// Returns an error if the connection must end. Otherwise arranges that the task of `cx` is woken for the next
    /// check.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.permit.poll_yielded(cx) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.check.as_mut().poll(cx).is_ready() {
            let left = self.silence_max.saturating_sub(self.permit.silence());
            let yields = self.is_new && !self.permit.is_busy() && self.permit.limiter().is_crowded();
            if left.is_zero() || yields {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let next = if self.is_new { left.min(WEB_CROWDED_TIMEOUT) } else { left };
            self.check.as_mut().reset(Instant::now() + next);
        }
        Ok(())
    }

    /// Notes the activity of a successful write.
    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.is_new = false;
            self.permit.note_active();
        }
        written
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if !self.received.is_empty() {
            let len = buf.remaining().min(self.received.len());
            self.received.drain(..len).for_each(|byte| buf.put_slice(&[byte]));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    /// Vectored, so that hyper does not copy all parts of a response into one buffer.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
