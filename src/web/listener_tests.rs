use super::*;
use crate::base::limits::WEB_YIELD_AFTER;
use axum::Extension;
use axum::body::Body;
use axum::routing::get;
use futures_util::stream;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
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
        let ask = |client: &str| answered(server, [127, 0, 0, 1], &format!("X-Forwarded-For: {client}\r\n")).unwrap();
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
