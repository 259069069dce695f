//! `get` with the URL of a torrent.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use crate::loopback::{DEADLINE, Fixture, assert_fails, own_address, own_ip};
use crate::support::{
    bt_fast,
    http_server::{Answer, HttpServer},
    process::{Finished, Running, run, wait_until},
};

const LEN: u64 = 300_000;

fn get(url: &str, target: &Path, peers: &[SocketAddr]) -> Command {
    let mut command = bt_fast();
    command.args(["get", url, "-o"]).arg(target).args(["--listen", &own_address().to_string()]);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command
}

#[test]
fn torrents_are_fetched_over_http_and_redirects() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let torrent = fs::read(&fixture.torrent).unwrap();
    let server = HttpServer::start(own_ip(), move |get| match get.target.as_str() {
        "/moved" => Answer { status: "302 Found\r\nLocation: /a.torrent?x=1", ..Answer::ok("") },
        "/a.torrent" | "/a.torrent?x=1" => Answer::ok(torrent.clone()),
        _ => Answer { status: "404 Not Found", ..Answer::ok("nothing here") },
    });
    for path in ["/a.torrent", "/moved"] {
        let target = fixture.scratch.folder(&path[1..4]);
        run(&get(&server.url(path), &target, &[seed.address]), DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

#[test]
fn urls_are_escaped_as_browsers_do() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let torrent = fs::read(&fixture.torrent).unwrap();
    let server = HttpServer::start(own_ip(), move |get| match get.target.as_str() {
        "/moved" => Answer::redirect("/Caf\u{e9} [1].torrent"),
        "/My%20File.torrent" | "/Caf%C3%A9%20[1].torrent" => Answer::ok(torrent.clone()),
        _ => Answer { status: "404 Not Found", ..Answer::ok("nothing here") },
    });
    for (name, path) in [("space", "/My File.torrent"), ("letters", "/Caf\u{e9} [1].torrent#top"), ("moved", "/moved")]
    {
        let target = fixture.scratch.folder(name);
        run(&get(&format!(" <{}> ", server.url(path)), &target, &[seed.address]), DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

#[test]
fn a_redirect_to_a_magnet_link_is_followed() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let info_hash = fixture.metainfo.info_hash;
    let link: &'static str = format!("magnet:?xt=urn:btih:{info_hash}&x.pe={}", seed.address).leak();
    let server = HttpServer::start(own_ip(), move |get| match get.target.as_str() {
        "/dl" => Answer::redirect(link),
        _ => Answer::redirect("magnet:?dn=x"),
    });
    let target = fixture.scratch.folder("target");
    run(&get(&server.url("/dl"), &target, &[]), DEADLINE).success();
    fixture.assert_complete(&target);
    assert_fails(&run(&get(&server.url("/broken"), &target, &[]), DEADLINE), 1, "bad link");
}

#[test]
fn a_failed_fetch_is_reported_in_one_line() {
    let fixture = Fixture::file(LEN);
    let server = HttpServer::start(own_ip(), |get| match get.target.as_str() {
        "/large" => Answer { announced_len: 1 << 40, ..Answer::ok(vec![b'd'; 1000]) },
        "/longer" => Answer { announced_len: (64 << 20) + 1, ..Answer::ok(vec![b'd'; 65 << 20]) },
        "/cut" => Answer { announced_len: 500, ..Answer::ok("d8:announce") },
        "/html" => Answer::ok("<!doctype html>\n<p>\x1b[31mhello"),
        "/empty" => Answer::ok(""),
        "/loop" => Answer { status: "301 Moved\r\nLocation: /loop", ..Answer::ok("") },
        "/file" => Answer { status: "301 Moved\r\nLocation: file:///etc/passwd", ..Answer::ok("") },
        "/why" => Answer {
            status: "421 Misdirected Request\r\nContent-Type: text/plain; charset=utf-8",
            ..Answer::ok(format!("\x1b[31mask {}\nmore", "again ".repeat(100)))
        },
        _ => Answer { status: "404 Not Found", ..Answer::ok("nothing here") },
    });
    let target = fixture.scratch.join("target");
    for (path, part) in [
        ("/none", "HTTP status 404"),
        ("/why", "HTTP status 421: server message: \\x1b[31mask again"),
        ("/large", "longer than"),
        ("/longer", "longer than"),
        ("/cut", "can't fetch"),
        ("/html", "not a torrent"),
        ("/empty", "not a torrent"),
        ("/loop", "redirects"),
        ("/file", "redirect refused"),
    ] {
        let finished = run(&get(&server.url(path), &target, &[]), DEADLINE);
        assert_fails(&finished, 1, part);
        assert!(!finished.stderr.contains('\x1b') && finished.stderr.len() < 400, "{finished:#?}");
    }
    assert_fails(&run(&get("http://127.0.0.1:1/x", &target, &[]), DEADLINE), 1, "can't fetch");
    assert!(!target.exists(), "a failed fetch creates no folder");
}

#[test]
fn https_requires_a_trusted_certificate_of_the_host() {
    let fixture = Fixture::file(LEN);
    let (seed, folder) = (fixture.seed(), fixture.scratch.folder("tls"));
    let ip = own_ip();
    fs::copy(&fixture.torrent, folder.join("a.torrent")).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    openssl(&folder, &format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=tracker"));
    let mut servers = Vec::new();
    for (port, name, days) in [(7443, ip, "2"), (7444, own_ip(), "2"), (7445, ip, "-1")] {
        fs::write(folder.join("leaf.ext"), format!("subjectAltName=IP:{name}\nbasicConstraints=CA:FALSE\n")).unwrap();
        let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext";
        openssl(&folder, &format!("{sign} -days {days} -out {port}.pem"));
        let mut server = Command::new("openssl");
        server.args(["s_server", "-accept", &format!("{ip}:{port}"), "-cert", &format!("{port}.pem")]);
        server.args(["-key", "leaf.key", "-WWW"]).current_dir(&folder);
        let mut server = Running::start("openssl", &server, &folder.join(format!("{port}.log")));
        assert!(wait_until(DEADLINE, || server.output().contains("ACCEPT")), "{}", server.log_tail());
        servers.push(server);
    }
    let url = |port| format!("https://{ip}:{port}/a.torrent");
    let get = |port, target: &Path| {
        let mut command = get(&url(port), target, &[seed.address]);
        run(command.env("SSL_CERT_FILE", folder.join("ca.pem")), DEADLINE)
    };
    let target = fixture.scratch.folder("target");
    let finished = get(7443, &target);
    assert_eq!(finished.code, Some(0), "{finished:#?}\n{}", servers[0].log_tail());
    fixture.assert_complete(&target);
    // A certificate of another host, and an expired one.
    for port in [7444, 7445] {
        assert_fails(&get(port, &fixture.scratch.folder(&format!("{port}"))), 1, "can't fetch");
    }
    // Without its authority the first certificate is untrusted.
    assert_fails(&run(&self::get(&url(7443), &target, &[]), DEADLINE), 1, "can't fetch");
}

#[track_caller]
fn openssl(folder: &Path, arguments: &str) {
    let done: Finished = run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder), DEADLINE);
    assert_eq!(done.code, Some(0), "{done:#?}");
}

#[test]
fn plain_http_behind_an_https_url_is_named() {
    let listener = std::net::TcpListener::bind((own_ip(), 7443)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let scratch = crate::support::scratch::Scratch::new();
    let finished = run(&get(&format!("https://{address}/x.torrent"), &scratch.folder("target"), &[]), DEADLINE);
    assert_fails(&finished, 1, "the server does not speak TLS: try http://");
}
