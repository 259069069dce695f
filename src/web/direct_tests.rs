use super::*;
use proptest::prelude::*;

/// Answers with the path and the query.
#[derive(Debug)]
struct Echo;

impl Direct for Echo {
    fn paths(&self) -> &[&str] {
        &["/announce", "/scrape"]
    }

    fn answer(&self, path: &str, query: &str, _endpoints: Endpoints) -> Vec<u8> {
        format!("{path} {query}").into_bytes()
    }
}

fn step(received: &[u8]) -> (Step, String) {
    let mut out = Vec::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let step = respond(&Echo, received, Endpoints { remote: address, local: address }, &mut out);
    (step, String::from_utf8(out).unwrap())
}

fn answered(received: &str, next: Next) -> Step {
    Step::Answered { consumed: received.len(), next }
}

#[test]
fn a_request_is_answered_once_its_head_is_complete() {
    let head = "GET /announce?a=%20&b HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n";
    for len in 0..head.len() {
        assert_eq!(step(&head.as_bytes()[..len]), (Step::Receive, String::new()), "{len} bytes");
    }
    let (step, response) = step(head.as_bytes());
    assert_eq!(step, answered(head, Next::Request));
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "/announce a=%20&b");
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[..3], ["HTTP/1.1 200 OK", "content-type: text/plain", "content-length: 17"]);
    assert!(lines[3].starts_with("date: ") && httpdate::parse_http_date(&lines[3][6..]).is_ok(), "{head}");
}

#[test]
fn one_request_is_answered_at_a_time() {
    let first = "GET /scrape HTTP/1.1\r\n\r\n";
    let (step, response) = step(format!("{first}GET /announce HTTP/1.1\r\n\r\n").as_bytes());
    assert_eq!(step, answered(first, Next::Request));
    assert!(response.ends_with("/scrape "), "{response}");
}

#[test]
fn the_connection_ends_as_the_client_asks() {
    for (head, next) in [
        ("HTTP/1.1\r\n", Next::Request),
        ("HTTP/1.1\r\nConnection: Keep-Alive\r\n", Next::Request),
        ("HTTP/1.1\r\nCONNECTION: close\r\n", Next::Close),
        ("HTTP/1.1\r\nconnection: keep-alive , Close\r\n", Next::Close),
        ("HTTP/1.0\r\n", Next::Close),
        ("HTTP/1.0\r\nConnection: close\r\n", Next::Close),
    ] {
        let request = format!("GET /announce {head}\r\n");
        let (step, response) = step(request.as_bytes());
        assert_eq!(step, answered(&request, next), "{head}");
        assert_eq!(response.contains("\r\nconnection: close\r\n"), next == Next::Close, "{head}");
        assert!(response.starts_with(&head[..8]), "{response}");
    }
}

#[test]
fn every_other_request_is_left_to_hyper() {
    let headers = |lines: &str| format!("GET /announce HTTP/1.1\r\n{lines}\r\n\r\n");
    let many: String = (0..=WEB_DIRECT_HEADERS_MAX).map(|n| format!("h{n}: x\r\n")).collect();
    let long = format!("GET /announce?{}", "x".repeat(WEB_DIRECT_HEAD_LEN_MAX));
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /announcement HTTP/1.1\r\n\r\n",
        "GET /announce/x HTTP/1.1\r\n\r\n",
        "GET http://x/announce HTTP/1.1\r\n\r\n",
        "POST /announce HTTP/1.1\r\n\r\n",
        "HEAD /announce HTTP/1.1\r\n\r\n",
        "get /announce HTTP/1.1\r\n\r\n",
        "GET /announce HTTP/2.0\r\n\r\n",
        "GET /announce\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        "\r\nGET /announce HTTP/1.1\r\n\r\n",
        &headers("Content-Length: 5"),
        &headers("content-length: 0"),
        &headers("Transfer-Encoding: chunked"),
        &headers("Expect: 100-continue"),
        &headers("Upgrade: websocket"),
        &headers("Connection: upgrade"),
        &headers("Connection: close, x-hop"),
        &headers("A: b\r\n c"),
        &headers("A: \0"),
        &headers("Content-Length : 5"),
        &headers(&many),
        &long,
        "GET /announce HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        assert_eq!(step(request.as_bytes()), (Step::Other, String::new()), "{request:?}");
    }
}

proptest! {
    /// A request is taken as a whole: nothing of a body or of the next request is consumed.
    #[test]
    fn arbitrary_bytes_are_answered_by_whole_heads(
        parts in prop::collection::vec(prop::sample::select(vec![
            "GET ", "/announce", "/scrape", "?", "a=b", " ", "HTTP/1.1", "HTTP/1.0", "\r\n", "\n", "\r", "Host: x",
            "Content-Length: 3", "Connection: close", ":", "\0", "é", "xyz",
        ]), 0..24)
    ) {
        let bytes = parts.concat();
        let (step, response) = step(bytes.as_bytes());
        match step {
            Step::Answered { consumed, .. } => {
                let head = &bytes[..consumed];
                prop_assert!(head.starts_with("GET /") && head.ends_with('\n'), "{head:?}");
                prop_assert!(!head.contains("Content-Length") && !response.is_empty());
                let empty_lines = head.replace('\r', "").matches("\n\n").count();
                prop_assert_eq!(empty_lines, 1);
            }
            Step::Receive | Step::Other => prop_assert!(response.is_empty()),
        }
    }
}
