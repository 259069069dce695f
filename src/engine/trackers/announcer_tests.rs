use super::*;
use crate::base::Rng;
use crate::engine::network::egress::Egress;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc as std_mpsc;
use std::thread;

fn identity() -> Identity {
    let fetcher = Fetcher::new(Egress { device: None, local: Some(FROM.into()) });
    let (info_hash, peer_id) = (InfoHash([b'h'; 20]), PeerId([b'p'; 20]));
    Identity { info_hash, peer_id, ip: None, port: 6881, key: 0xabc, fetcher }
}

/// The source address of announces.
const FROM: [u8; 4] = [127, 7, 6, 5];

/// Starts a tracker that answers every announce with `body`. Returns its URL and the queries that it receives.
fn tracker(status: &'static str, body: &'static [u8]) -> (String, std_mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (seen, queries) = std_mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from(FROM));
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            let _ = seen.send(request.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    });
    (url, queries)
}

struct Running {
    commands: mpsc::Sender<Command>,
    found: mpsc::Receiver<(u32, Vec<Found>)>,
    task: tokio::task::JoinHandle<()>,
}

fn start(tiers: Vec<Vec<String>>) -> Running {
    let announce = Announce::new(tiers, false, &mut Rng::with_seed(1));
    let (commands, commands_rx) = mpsc::channel(4);
    let (found_tx, found) = mpsc::channel(4);
    let totals = || Totals { uploaded: 1, downloaded: 2, left: 3 };
    let task =
        tokio::spawn(run(announce, identity(), totals, announce_permits(), commands_rx, Finds::new(7, found_tx)));
    Running { commands, found, task }
}

fn next_query(queries: &std_mpsc::Receiver<String>) -> String {
    queries.recv_timeout(Duration::from_secs(5)).unwrap()
}

#[tokio::test]
async fn peers_are_found_and_events_are_sent() {
    let (url, queries) = tracker("200 OK", b"d8:intervali900e5:peers12:\x7f\0\0\x01\x1a\xe1\x0a\0\0\x02\0\x50e");
    let mut running = start(vec![vec![url]]);
    let (_, found) = running.found.recv().await.unwrap();
    assert_eq!(addresses(&found), ["127.0.0.1:6881", "10.0.0.2:80"].map(|addr| addr.parse().unwrap()));
    let query = next_query(&queries);
    for part in ["event=started", "uploaded=1", "downloaded=2", "left=3", "port=6881", "numwant=80", "key=00000ABC"] {
        assert!(query.contains(part), "{part} in {query}");
    }
    running.commands.send(Command::Complete).await.unwrap();
    running.found.recv().await.unwrap();
    let query = next_query(&queries);
    assert!(query.contains("event=completed") && query.contains("left=0"), "{query}");
    running.commands.send(Command::Stop).await.unwrap();
    running.task.await.unwrap();
    let query = next_query(&queries);
    assert!(query.contains("event=stopped") && query.contains("numwant=0"), "{query}");
}

#[tokio::test]
async fn names_in_peer_lists_are_resolved() {
    let (url, _queries) =
        tracker("200 OK", b"d8:intervali900e5:peersld2:ip9:localhost4:porti7eed2:ip13:x.invalid.foo4:porti8eeee");
    let mut running = start(vec![vec![url]]);
    let (_, found) = running.found.recv().await.unwrap();
    assert!(addresses(&found).iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7), "{found:?}");
    drop(running.commands);
    running.task.await.unwrap();
}

#[tokio::test]
async fn leaving_does_not_wait_for_a_tracker_that_never_answered() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = start(vec![vec![format!("http://{}/announce", silent.local_addr().unwrap())]]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = Instant::now();
    running.commands.send(Command::Stop).await.unwrap();
    running.task.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    // Lets the request on the blocking pool fail, so that the runtime can end.
    drop(silent);
}

#[tokio::test]
async fn leaving_takes_no_longer_than_its_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    // Answers only the first announce.
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Closing the socket with unread bytes would discard the answer.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let body = b"d8:intervali900e5:peers6:\x7f\0\0\x01\x1a\xe1e";
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).unwrap();
        stream.write_all(body).unwrap();
        drop(stream);
        listener
    });
    let mut running = start(vec![vec![url]]);
    running.found.recv().await.unwrap();
    // Connections from now on wait in the backlog.
    let _listener = server.join().unwrap();
    let asked = Instant::now();
    running.commands.send(Command::Stop).await.unwrap();
    running.task.await.unwrap();
    assert!(asked.elapsed() < TRACKER_STOP_TIMEOUT + Duration::from_secs(1));
}

#[test]
fn a_failure_reason_in_an_error_page_is_reported() {
    let page = |status, body: &[u8]| {
        interpret_response(Err(HttpError::Status { status, reason: String::new(), body: body.to_vec() }))
    };
    let text = |failure: Result<AnnounceReply, AnnounceFailure>| failure.unwrap_err().to_string();
    assert_eq!(text(page(400, b"d14:failure reason6:no keye")), "the tracker refused: no key");
    assert_eq!(text(page(404, b"<html>")), "HTTP status 404");
    assert_eq!(page(410, b""), Err(AnnounceFailure::Gone));
    assert!(interpret_response(Ok(b"d5:peers0:e".to_vec())).is_ok());
    assert!(text(interpret_response(Ok(b"<html>".to_vec()))).contains("not bencoded"));
}

#[tokio::test]
async fn a_refusal_leads_to_the_next_tier() {
    let (bad, bad_queries) = tracker("403 Forbidden", b"d14:failure reason2:noe");
    let (good, good_queries) = tracker("200 OK", b"d8:intervali900e5:peers6:\x7f\0\0\x01\x1a\xe1e");
    let mut running = start(vec![vec![bad], vec![good]]);
    running.found.recv().await.unwrap();
    assert!(next_query(&bad_queries).contains("event=started"));
    assert!(next_query(&good_queries).contains("event=started"));
    running.commands.send(Command::Stop).await.unwrap();
    running.task.await.unwrap();
    assert!(next_query(&good_queries).contains("event=stopped"));
    assert!(bad_queries.try_recv().is_err());
}

fn addresses(found: &[Found]) -> Vec<SocketAddr> {
    found.iter().map(|found| found.address).collect()
}
