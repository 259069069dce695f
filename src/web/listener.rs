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
use std::net::{IpAddr, SocketAddr};
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
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

use super::connection_limit::{BusyGuard, ConnectionLimiter, ConnectionLimits, ConnectionPermit, Refused};
use super::forwarded::TrustedProxies;
use super::plain::plain;
use crate::base::host_of;
use crate::base::limits::{
    WEB_ACCEPT_RETRY, WEB_BUFFER_LEN_MAX, WEB_CONNECTIONS_MAX, WEB_CONNECTIONS_PER_HOST_MAX, WEB_CROWDED_TIMEOUT,
    WEB_RECV_BUFFER_LEN, WEB_SILENCE_TIMEOUT, WEB_UNSENT_LEN_MAX,
};
use crate::engine::network::shortage::AcceptFailures;

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

/// Both ends of a connection. Handlers get it as `ConnectInfo<Endpoints>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoints {
    /// The address of the client, even behind a trusted proxy.
    pub remote: SocketAddr,
    /// Our address, as used by the client or the proxy.
    pub local: SocketAddr,
}

/// Serves `router` until the future is dropped. Clients above the total limit wait in the backlog; a client of a host
/// that has its maximum of connections is closed at once.
pub async fn serve(listener: TcpListener, bounds: Bounds, router: Router) {
    let limiter = ConnectionLimiter::new(bounds.connections);
    let bounds = Arc::new(bounds);
    let mut failures = AcceptFailures::default();
    loop {
        let (stream, remote) = match listener.accept().await {
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
        // Without this the end of a response waits until the client acknowledges its beginning, which takes 40 ms. An
        // error means that the connection has ended.
        let _ = stream.set_nodelay(true);
        // A connection without a local address has ended already.
        let Ok(local) = stream.local_addr() else { continue };
        bound_kernel_buffers(&stream);
        let host = (!bounds.proxies.include(remote.ip())).then(|| host_of(remote.ip()));
        let Some(permit) = permit_for(&limiter, host).await else { continue };
        let connection = Connection { endpoints: Endpoints { remote, local }, bounds: Arc::clone(&bounds), permit };
        tokio::spawn(connection.run(stream, router.clone()));
    }
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

/// Bounds the kernel memory used by a client that reads nothing, or whose bytes are not read.
///
/// An error means that the connection has failed, and the next read returns an error too.
fn bound_kernel_buffers(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_notsent_lowat(WEB_UNSENT_LEN_MAX);
    let _ = socket.set_recv_buffer_size(WEB_RECV_BUFFER_LEN);
}

/// A connection, with the data that its requests get.
struct Connection {
    endpoints: Endpoints,
    bounds: Arc<Bounds>,
    permit: Arc<ConnectionPermit>,
}

impl Connection {
    async fn run(self, stream: TcpStream, router: Router) {
        let stream = BoundedStream::new(stream, self.bounds.silence_max, Arc::clone(&self.permit));
        let router = TowerToHyperService::new(router);
        let service = service_fn(|request| self.answer(&router, request));
        let mut http = http1::Builder::new();
        // `BoundedStream` has its own time limits.
        http.header_read_timeout(None).max_buf_size(WEB_BUFFER_LEN_MAX);
        // An error is caused by the client, or by the end of the connection.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
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
    /// No byte has been written yet.
    is_new: bool,
    check: Pin<Box<Sleep>>,
    permit: Arc<ConnectionPermit>,
}

impl BoundedStream {
    fn new(stream: TcpStream, silence_max: Duration, permit: Arc<ConnectionPermit>) -> Self {
        let check = Box::pin(tokio::time::sleep(silence_max.min(WEB_CROWDED_TIMEOUT)));
        Self { stream, silence_max, is_new: true, check, permit }
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
mod tests {
    use super::*;
    use crate::base::limits::WEB_YIELD_AFTER;
    use axum::Extension;
    use axum::body::Body;
    use axum::routing::get;
    use futures_util::stream;
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Longer than all limits on silent connections that apply when many are open.
    const SLOW: Duration = Duration::from_secs(3);

    async fn start(bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = |ConnectInfo(endpoints): ConnectInfo<Endpoints>| async move { endpoints.remote.ip().to_string() };
        let slow = |Extension(activity): Extension<Activity>| async move {
            tokio::time::sleep(SLOW).await;
            // The first part is available at once, the second one after a delay.
            let parts = stream::unfold((0, activity), |(number, activity)| async move {
                let _busy = activity.begin_busy();
                tokio::time::sleep(SLOW * (number % 2)).await;
                (number < 2).then_some((Ok::<_, Infallible>("part"), (number + 1, activity)))
            });
            Body::from_stream(parts)
        };
        let router = Router::new().route("/", get(client)).route("/slow", get(slow));
        tokio::spawn(serve(listener, bounds, router));
        address
    }

    /// A connection from `source` that has received one response.
    fn answered(server: SocketAddr, source: [u8; 4], headers: &str) -> io::Result<(std::net::TcpStream, String)> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&server.into())?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())?;
        let mut answer = [0; 1000];
        let len = stream.read(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
        if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((stream, answer)) }
    }

    fn limits(in_all: usize, per_host: usize) -> Bounds {
        Bounds { connections: ConnectionLimits::new(in_all, per_host), ..Bounds::default() }
    }

    #[tokio::test]
    async fn idle_connections_do_not_lock_a_newcomer_out() {
        let server = start(limits(4, 2)).await;
        let play = move || {
            let _idle = [2, 2, 3, 3].map(|n| answered(server, [127, 0, 0, n], "").unwrap());
            std::thread::sleep(WEB_YIELD_AFTER);
            assert!(answered(server, [127, 0, 0, 4], "").unwrap().1.ends_with("127.0.0.4"));
            assert!(answered(server, [127, 0, 0, 3], "").unwrap().1.ends_with("127.0.0.3"));
        };
        tokio::task::spawn_blocking(play).await.unwrap();
    }

    #[tokio::test]
    async fn the_host_limit_applies_to_each_client_of_a_proxy() {
        let proxies = TrustedProxies { loopback: true, ranges: Vec::new() };
        let server = start(Bounds { proxies, ..limits(9, 1) }).await;
        let play = move || {
            let ask =
                |client: &str| answered(server, [127, 0, 0, 1], &format!("X-Forwarded-For: {client}\r\n")).unwrap();
            let (first, second, third) = (ask("192.0.2.1"), ask("192.0.2.2"), ask("192.0.2.1"));
            assert!(first.1.ends_with("192.0.2.1") && second.1.ends_with("192.0.2.2"));
            assert!(third.1.starts_with("HTTP/1.1 429 ") && third.1.contains("\r\nretry-after: 1\r\n"), "{}", third.1);
        };
        tokio::task::spawn_blocking(play).await.unwrap();
    }

    /// The first byte of the response is late, and so is one in the body. New connections do not take its permit
    /// meanwhile.
    #[tokio::test]
    async fn a_slow_response_arrives_while_connections_are_at_the_limit() {
        let server = start(limits(2, 1)).await;
        let play = move || {
            let mut slow = std::net::TcpStream::connect(server).unwrap();
            slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                // Each takes the second permit from the connection before it, which is idle.
                scope.spawn(|| {
                    let mut hosts = 2..=250;
                    let mut last = None;
                    while !is_over.load(Ordering::Relaxed) {
                        last = hosts.next().map(|host| answered(server, [127, 0, 0, host], "").unwrap());
                    }
                    drop(last);
                });
                let mut answer = String::new();
                let end = slow.read_to_string(&mut answer);
                is_over.store(true, Ordering::Relaxed);
                end.map(|_| answer).unwrap()
            })
        };
        let answer = tokio::task::spawn_blocking(play).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("part").count() == 2, "{answer}");
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let bounds = Bounds { silence_max: Duration::from_secs(1), ..Bounds::default() };
        let server = start(bounds).await;
        let play = move || {
            let (mut idle, _) = answered(server, [127, 0, 0, 1], "").unwrap();
            idle.read(&mut [0; 1]).unwrap()
        };
        assert_eq!(tokio::task::spawn_blocking(play).await.unwrap(), 0);
    }
}
