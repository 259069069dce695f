use super::*;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// A server on the loopback that answers each connection's request with what `answer` makes of its path, and closes.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            let _ = stream.write_all(&answer(&path));
        }
    });
    addr
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    answer.reserve(body.len());
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

fn fetch(url: &str, limits: FetchLimits) -> Result<Vec<u8>, HttpError> {
    Fetcher::new(Egress::default()).fetch(url, limits)
}

fn limits() -> FetchLimits {
    FetchLimits { timeout: Duration::from_secs(10), body_len_max: 1000, ..FetchLimits::metainfo() }
}

#[test]
fn the_query_is_sent_unchanged() {
    let addr = serve(|path| ok(path.as_bytes()));
    let body = fetch(&format!("http://{addr}/announce?info_hash=%00%ff~a&x=1"), limits()).unwrap();
    assert_eq!(String::from_utf8_lossy(&body), "/announce?info_hash=%00%ff~a&x=1");
}

#[test]
fn an_error_status_keeps_its_body() {
    let addr = serve(|_| b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nd14:failure reason2:noe".to_vec());
    match fetch(&format!("http://{addr}/"), limits()) {
        Err(HttpError::Status { status: 400, body, .. }) => assert_eq!(body, b"d14:failure reason2:noe"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn redirects_are_followed_up_to_five() {
    let addr = serve(|path| match path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => ok(b"done"),
        Ok(n) => redirect(&(n - 1).to_string()),
        Err(_) => redirect("/5"),
    });
    assert_eq!(fetch(&format!("http://{addr}/5"), limits()).unwrap(), b"done");
    assert!(matches!(fetch(&format!("http://{addr}/6"), limits()), Err(HttpError::TooManyRedirects)));
    assert!(matches!(fetch(&format!("http://{addr}/loop"), limits()), Err(HttpError::TooManyRedirects)));
}

/// T5: a torrent's tracker URL must not reach other services of this host, not through a redirect either.
#[test]
fn announces_reach_nothing_else_on_this_host() {
    let addr = serve(|path| if path.starts_with("/announce/moved") { redirect("/admin") } else { ok(b"body") });
    let announce = FetchLimits { source: UrlSource::Torrent, ..limits() };
    let fetched = |path: &str| fetch(&format!("http://{addr}{path}"), announce);
    assert_eq!(fetched("/announce?x").unwrap(), b"body");
    for path in ["/", "/admin?/announce", "/announce/moved", "/announce/../admin", "/announce/%2e%2e/admin"] {
        assert!(matches!(fetched(path), Err(HttpError::NotTrackerHere)), "{path}");
    }
    assert!(matches!(fetch(&format!("http://localhost:{}/x", addr.port()), announce), Err(HttpError::NotTrackerHere)));
    assert_eq!(fetch(&format!("http://{addr}/admin"), limits()).unwrap(), b"body");
}

#[test]
fn redirects_to_other_schemes_are_refused() {
    for target in ["file:///etc/passwd", "ftp://x/", "gopher://x/"] {
        let addr = serve(move |_| redirect(target));
        assert!(matches!(fetch(&format!("http://{addr}/"), limits()), Err(HttpError::BadRedirect(_))), "{target}");
    }
    assert!(matches!(fetch("file:///etc/passwd", limits()), Err(HttpError::BadUrl)));
    assert!(matches!(fetch("udp://x:1/announce", limits()), Err(HttpError::BadUrl)));
    assert!(matches!(fetch("not a url", limits()), Err(HttpError::BadUrl)));
}

#[test]
fn a_redirect_to_a_magnet_link_gives_the_link() {
    let link = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    let addr = serve(move |_| redirect(link));
    match fetch(&format!("http://{addr}/dl"), limits()) {
        Err(HttpError::Magnet(found)) => assert_eq!(found, link.as_bytes()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn credentials_are_decoded_and_stay_with_their_server() {
    let of = |text: &str| credentials(&Url::parse(text).unwrap());
    assert_eq!(of("http://us%40er:pa%3Ass@t.example/").as_deref(), Some("Basic dXNAZXI6cGE6c3M="));
    assert_eq!(of("http://user@t.example/").as_deref(), Some("Basic dXNlcjo="));
    assert_eq!(of("http://t.example/@"), None);
    let from = Url::parse("http://user:word@t.example/a").unwrap();
    assert!(credentials(&url::join(&from, b"/b").unwrap()).is_some());
    assert!(credentials(&url::join(&from, b"http://other.example/b").unwrap()).is_none());
}

#[test]
fn https_does_not_fall_back_to_http() {
    let response = |location: &str| {
        let answer = Response::builder().status(301).header("location", location);
        answer.body(Body::builder().data(Vec::new())).unwrap()
    };
    let from = Url::parse("https://example.org/a").unwrap();
    assert!(matches!(redirect_target(&from, &response("http://example.org/")), Err(HttpError::BadRedirect(_))));
    let target = redirect_target(&from, &response("b?c")).unwrap().unwrap();
    assert_eq!(target.as_str(), "https://example.org/b?c");
}

#[test]
fn locations_are_resolved() {
    let from = Url::parse("http://a.example:8080/x/y?z").unwrap();
    for (location, target) in [
        ("https://b.example/c", "https://b.example/c"),
        ("//b.example/c", "http://b.example/c"),
        ("/c?d", "http://a.example:8080/c?d"),
        ("c", "http://a.example:8080/x/c"),
        ("?d", "http://a.example:8080/x/y?d"),
        ("c#part", "http://a.example:8080/x/c#part"),
        ("../c", "http://a.example:8080/c"),
        ("/My File", "http://a.example:8080/My%20File"),
        ("/Café", "http://a.example:8080/Caf%C3%A9"),
    ] {
        assert_eq!(url::join(&from, location.as_bytes()).unwrap().as_str(), target, "{location}");
    }
    assert_eq!(url::join(&from, b"/Caf\xe9").unwrap().as_str(), "http://a.example:8080/Caf%E9");
    assert_eq!(url::join(&from, b"http://"), None);
}

#[test]
fn a_long_body_is_refused_raw_and_inflated() {
    let addr = serve(|path| match path {
        "/exact" => ok(&[b'x'; 1000]),
        "/told" => b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\nconnection: close\r\n\r\n".to_vec(),
        "/bomb" => [&b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"[..], &bomb()].concat(),
        _ => [&b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"[..], &[b'x'; 1001]].concat(),
    });
    assert_eq!(fetch(&format!("http://{addr}/exact"), limits()).unwrap().len(), 1000);
    for path in ["told", "untold", "bomb"] {
        let fetched = fetch(&format!("http://{addr}/{path}"), limits());
        assert!(matches!(fetched, Err(HttpError::TooLong(1000))), "{path}: {fetched:?}");
    }
}

#[test]
fn broken_bodies_are_refused_and_inflated_only_once() {
    let addr = serve(|path| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
        let mut body = bomb();
        match path {
            "/cut" => body.truncate(20),
            "/corrupt" => body[12] ^= 0xff,
            "/sum" => body[22] ^= 1,
            // Stored as it is, in one last block (RFC 1951, 3.2.4).
            _ => {
                body =
                    [&bomb()[..10], &[1, 29, 0, 226, 255], &bomb(), &[0x0c, 0x3e, 0x5d, 0x02, 0x1d, 0x00, 0x00, 0x00]]
                        .concat()
            }
        }
        [&head[..], &body].concat()
    });
    let large = FetchLimits { body_len_max: 2000, ..limits() };
    for path in ["cut", "corrupt", "sum"] {
        let fetched = fetch(&format!("http://{addr}/{path}"), large);
        assert!(matches!(fetched, Err(HttpError::Transport(_))), "{path}: {fetched:?}");
    }
    assert_eq!(fetch(&format!("http://{addr}/nested"), large).unwrap(), bomb());
}

/// 1032 zeroes: `head -c 1032 /dev/zero | gzip -n`.
fn bomb() -> Vec<u8> {
    vec![
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14, 0x8c,
        0x74, 0x00, 0x00, 0x42, 0xde, 0xbe, 0xd8, 0x08, 0x04, 0x00, 0x00,
    ]
}

#[test]
fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let quick = FetchLimits { timeout: Duration::from_millis(200), ..limits() };
    let started = Instant::now();
    assert!(matches!(fetch(&url, quick), Err(HttpError::Timeout(_))));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_body_that_drips_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let quick = FetchLimits { timeout: Duration::from_millis(300), ..limits() };
    let fetched = fetch(&url, quick);
    assert!(matches!(fetched, Err(HttpError::Timeout(_))), "{fetched:?}");
}

#[test]
fn a_refused_connection_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = fetch(&url, limits()).unwrap_err();
    assert!(matches!(error, HttpError::Transport(_)));
    assert_eq!(error.to_string().lines().count(), 1);
}

#[test]
fn the_public_agent_refuses_names_of_local_addresses() {
    for host in ["127.0.0.1", "localhost", "169.254.169.254", "[fd00::1]"] {
        let url = Url::parse(&format!("http://{host}:1/")).unwrap();
        let public = &Fetcher::new(Egress::default()).agents[0];
        match send(public, &url, limits(), Instant::now() + Duration::from_secs(5)) {
            Err(ureq::Error::Other(error)) => assert!(error.is::<TooNear>(), "{host}"),
            other => panic!("{host}: {other:?}"),
        }
    }
}

#[test]
fn redirects_to_nearer_addresses_are_refused() {
    let url = Url::parse("http://x/announce").unwrap();
    for (before, nearness, refused) in [
        (None, Nearness::ThisHost, false),
        (Some(Nearness::Public), Nearness::Private, true),
        (Some(Nearness::Public), Nearness::ThisHost, true),
        (Some(Nearness::Private), Nearness::ThisHost, true),
        (Some(Nearness::ThisHost), Nearness::Loopback, true),
        (Some(Nearness::Loopback), Nearness::ThisHost, false),
        (Some(Nearness::Private), Nearness::Private, false),
        (Some(Nearness::ThisHost), Nearness::ThisHost, false),
        (Some(Nearness::ThisHost), Nearness::Public, false),
    ] {
        for source in [UrlSource::User, UrlSource::Torrent] {
            assert_eq!(check(&url, source, before, nearness).is_err(), refused, "{before:?} {nearness:?}");
        }
    }
}

#[test]
fn a_tracker_script_on_this_host_must_be_named_by_the_torrent() {
    let url = Url::parse("http://x/tracker.php").unwrap();
    let is_refused = |before| check(&url, UrlSource::Torrent, before, Nearness::ThisHost).is_err();
    assert!(!is_refused(None));
    assert!(is_refused(Some(Nearness::ThisHost)));
}

/// A connection that an earlier request left open is no way around the check of the path.
#[test]
fn an_open_connection_lets_nothing_through() {
    let addr = serve(|path| {
        let body = path.split('?').next().unwrap_or_default();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    });
    let fetcher = Fetcher::new(Egress::default());
    let announce = FetchLimits { source: UrlSource::Torrent, ..limits() };
    assert_eq!(fetcher.fetch(&format!("http://{addr}/announce"), announce).unwrap(), b"/announce");
    let fetched = fetcher.fetch(&format!("http://{addr}/admin"), announce);
    assert!(matches!(fetched, Err(HttpError::NotTrackerHere)), "{fetched:?}");
}

#[test]
fn trackers_that_the_user_named_may_have_any_path() {
    let fetcher = Fetcher::new(Egress::default()).trusting(["http://127.0.0.1/x".to_owned()].into());
    assert_eq!(fetcher.source_of("http://127.0.0.1/x"), UrlSource::User);
    assert_eq!(fetcher.source_of("http://127.0.0.1/y"), UrlSource::Torrent);
    let fetcher = Fetcher::new(Egress::default()).trusting(["http://moves.example/x".to_owned()].into());
    assert_eq!(
        fetcher.source_of("http://moves.example/x"),
        UrlSource::Torrent,
        "its name server decides where it leads"
    );
}
