use super::*;
use crate::codec::metainfo::{Attributes, Draft, DraftFiles, FileEntry, Metainfo, MetainfoLimits};
use crate::engine::Contents;
use crate::tracker::Table;
use crate::web::listener::{self, Bounds};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const NAME: &[u8] = b"<b>\"t\xffree";
const ELEMENT: &[u8] = b"a&b <script>";
const CONTENT: &[u8] = b"0123456789";

fn metainfo() -> Metainfo {
    let files = DraftFiles::Many(vec![
        FileEntry { path: vec![b"sub".to_vec(), ELEMENT.to_vec()], len: 10, pad: false, symlink: None },
        FileEntry { path: vec![b"empty".to_vec()], len: 0, pad: false, symlink: None },
    ]);
    let content = Draft::new(NAME.to_vec(), 1 << 14, files, vec![crate::hash::sha1(&[CONTENT])]);
    let tiers = vec![vec!["http://other.example/announce".to_owned()]];
    let draft = Draft { attributes: Attributes { tiers, ..Attributes::default() }, ..content };
    Metainfo::decode(&draft.encode(), &MetainfoLimits::default()).unwrap()
}

struct Served {
    address: SocketAddr,
    info_hash: InfoHash,
    site: Site,
    folder: tempfile::TempDir,
}

async fn serve(public_url: Option<&str>, as_web_seed: bool) -> Served {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join(std::ffi::OsStr::from_bytes(NAME));
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("sub").join(std::ffi::OsStr::from_bytes(ELEMENT)), CONTENT).unwrap();
    std::fs::write(root.join("empty"), b"").unwrap();
    std::fs::write(folder.path().join("secret"), b"nobody's").unwrap();
    let contents = as_web_seed.then(|| Contents::of(metainfo(), folder.path()));
    let published = Published::new(metainfo(), contents, SystemTime::now());
    let info_hash = published.info_hash;
    let table = Table::listed();
    table.allow(info_hash);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = Site::new(vec![published], Tracker::new(table), public_url.map(str::to_owned), address.port());
    let router = site.router(Hosts::new(["origin.example".to_owned()]));
    tokio::spawn(listener::serve(listener, Bounds::default(), router));
    Served { address, info_hash, site, folder }
}

impl Served {
    /// Sends a GET. Returns status, head and body of the response.
    async fn get(&self, target: &str, headers: &str) -> (u16, String, Vec<u8>) {
        self.ask("GET", target, headers).await
    }

    async fn ask(&self, method: &str, target: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let host = if headers.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let request = format!("{method} {target} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        let address = self.address;
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        };
        let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }
}

#[tokio::test]
async fn the_page_lists_all_torrents_and_escapes_names() {
    let served = serve(None, true).await;
    let (status, head, body) = served.get("/", "").await;
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("default-src 'none'"), "{head}");
    assert!(body.contains("&lt;b&gt;&quot;t\\xffree") && body.contains("sub/a&amp;b &lt;script&gt;"), "{body}");
    assert!(!body.contains("<b>") && !body.contains("<script"), "{body}");
    let torrent = format!("http://{}/t/%3Cb%3E%22t%FFree.torrent", served.address);
    assert!(body.contains(&format!("bt-fast get {torrent}")) && body.contains("href=\"magnet:?xt="), "{body}");
}

#[tokio::test]
async fn the_torrent_has_our_tracker_first_and_our_content() {
    let served = serve(None, true).await;
    let (status, head, body) = served.get(&format!("/t/{}.torrent", served.info_hash), "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/x-bittorrent\r\n"), "{head}");
    assert!(head.contains("filename=\"_b__t_ree.torrent\"; filename*=UTF-8''%3Cb%3E%22t%5Cxffree.torrent"), "{head}");
    let found = Metainfo::decode(&body, &MetainfoLimits::default()).unwrap();
    let address = served.address;
    let own = vec![format!("http://{address}/announce"), format!("udp://{address}/announce")];
    assert_eq!((found.info_hash, &found.tiers[0]), (served.info_hash, &own));
    assert_eq!(found.tiers[1], ["http://other.example/announce"]);
    assert_eq!(found.web_seeds, [format!("http://{address}/f/{}/", served.info_hash)]);
    let (status, head, _) = served.get(&format!("/t/{}", served.info_hash), "").await;
    assert_eq!((status, header(&head, "location")), (301, &*format!("./{}.torrent", served.info_hash)));
    for unknown in
        ["/t/x.torrent", "/t/x", &format!("/t/{}.torrent", "0".repeat(40)), &format!("/t/{}", "0".repeat(40))]
    {
        let (status, head, body) = served.get(unknown, "").await;
        assert_eq!(status, 404, "{unknown}");
        assert!(head.contains("content-type: text/plain"), "{head}");
        assert_eq!(body, b"not found: nothing is served at this address\n", "{unknown}");
    }
}

#[tokio::test]
async fn a_torrent_that_names_our_tracker_has_it_once() {
    let metainfo = metainfo();
    let info_hash = metainfo.info_hash;
    let own = "http://other.example/announce";
    let published = Published::new(metainfo, None, SystemTime::now());
    let site = Site::new(vec![published], Tracker::new(Table::listed()), Some("http://other.example".to_owned()), 1);
    let links = site.links(info_hash, "ignored:1", None).unwrap();
    assert_eq!(Magnet::parse(links.magnet.as_bytes()).unwrap().trackers, [own]);
}

#[tokio::test]
async fn all_urls_begin_with_the_public_url() {
    let served = serve(Some("https://origin.example/bt/"), false).await;
    let links = served.site.links(served.info_hash, "ignored:1", None).unwrap();
    assert_eq!(links.page, "https://origin.example/bt/");
    assert_eq!(links.torrent, format!("https://origin.example/bt/t/{}.torrent", served.info_hash));
    let magnet = Magnet::parse(links.magnet.as_bytes()).unwrap();
    assert_eq!(magnet.trackers, ["https://origin.example/bt/announce", "http://other.example/announce"]);
    assert_eq!(links.content, None);
}

#[tokio::test]
async fn content_is_served_with_ranges_if_enabled() {
    let served = serve(None, true).await;
    let target = format!("/f/{}/%3Cb%3E%22t%FFree/sub/a&b%20%3Cscript%3E", served.info_hash);
    let (status, head, body) = served.get(&target, "").await;
    assert_eq!((status, &body[..]), (200, &b"0123456789"[..]), "{head}");
    let (status, head, body) = served.get(&target, "Range: bytes=2-4\r\n").await;
    assert_eq!((status, &body[..]), (206, &b"234"[..]));
    assert!(head.contains("content-range: bytes 2-4/10"), "{head}");
    let (status, head, _) = served.get(&target, "Range: bytes=10-\r\n").await;
    assert!(status == 416 && head.contains("content-range: bytes */10"), "{head}");
    // Ranges apply only to GET.
    for range in ["bytes=-3", "bytes=10-"] {
        let (status, head, body) = served.ask("HEAD", &target, &format!("Range: {range}\r\n")).await;
        assert!(status == 200 && header(&head, "content-length") == "10" && body.is_empty(), "{head}");
        assert!(!head.contains("content-range"), "{head}");
    }
    let (_, _, body) = served.get(&target, "Range: bytes=2-4\r\nIf-Range: \"other\"\r\n").await;
    assert_eq!(body.len(), 10);
    let empty = format!("/f/{}/%3Cb%3E%22t%FFree/empty", served.info_hash);
    assert_eq!(served.get(&empty, "").await.2, b"");
    assert_eq!(serve(None, false).await.get(&target, "").await.0, 404);
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_else(|| panic!("{head}"))
}

#[tokio::test]
async fn conditional_requests_do_not_resend_content() {
    let served = serve(None, true).await;
    let torrent = format!("/t/{}.torrent", served.info_hash);
    for target in [format!("/f/{}/%3Cb%3E%22t%FFree/sub/a&b%20%3Cscript%3E", served.info_hash), torrent.clone()] {
        let (status, head, whole) = served.get(&target, "").await;
        assert_eq!(status, 200);
        let (tag, date) = (header(&head, "etag").to_owned(), header(&head, "last-modified").to_owned());
        for known in [format!("If-None-Match: {tag}\r\n"), format!("If-Modified-Since: {date}\r\n")] {
            let (status, head, body) = served.get(&target, &known).await;
            assert_eq!((status, body.len()), (304, 0), "{known}");
            assert_eq!(header(&head, "etag"), tag);
        }
        assert_eq!(served.get(&target, "If-None-Match: \"other\"\r\n").await.2, whole);
        for other in ["If-Match: \"other\"\r\n", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"] {
            let (status, head, body) = served.get(&target, &format!("{other}Range: bytes=0-1\r\n")).await;
            assert_eq!((status, body.iter().filter(|&&byte| byte == b'\n').count()), (412, 1), "{other}");
            assert_eq!(header(&head, "etag"), tag);
        }
        for same in [format!("If-Match: {tag}\r\n"), format!("If-Unmodified-Since: {date}\r\n")] {
            assert_eq!(served.get(&target, &same).await.2, whole, "{same}");
        }
        let (status, head, body) = served.ask("HEAD", &target, "").await;
        assert_eq!((status, header(&head, "content-length"), body.len()), (200, &*whole.len().to_string(), 0));
    }
    let (_, head, _) = served.get(&torrent, "Host: origin.example\r\n").await;
    assert_ne!(header(&head, "etag"), header(&served.get(&torrent, "").await.1, "etag"), "its trackers differ");
}

#[tokio::test]
async fn a_replaced_file_is_served_if_its_bytes_are_the_same() {
    use std::os::unix::ffi::OsStrExt as _;
    let served = serve(None, true).await;
    let target = format!("/f/{}/%3Cb%3E%22t%FFree/sub/a&b%20%3Cscript%3E", served.info_hash);
    let tag = header(&served.get(&target, "").await.1, "etag").to_owned();
    let folder = served.folder.path().join(std::ffi::OsStr::from_bytes(NAME)).join("sub");
    let replace = |bytes: &[u8]| {
        std::fs::write(folder.join("new"), bytes).unwrap();
        std::fs::rename(folder.join("new"), folder.join(std::ffi::OsStr::from_bytes(ELEMENT))).unwrap();
    };
    replace(CONTENT);
    let (_, _, body) = served.get(&target, &format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n")).await;
    assert_eq!(body, CONTENT[2..5]);
    replace(b"9876543210");
    for request in [String::new(), format!("If-None-Match: {tag}\r\n"), "Range: bytes=2-4\r\n".to_owned()] {
        let (status, _, body) = served.get(&target, &request).await;
        assert_eq!((status, &body[..]), (404, &b"not found: the file is missing or was changed\n"[..]), "{request}");
    }
}

#[tokio::test]
async fn a_folder_is_a_page_of_working_links() {
    let served = serve(None, true).await;
    let content = served.site.links(served.info_hash, &served.address.to_string(), None).unwrap().content.unwrap();
    let target = content.strip_prefix(&format!("http://{}", served.address)).unwrap();
    let (status, head, body) = served.get(target, "").await;
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{head}");
    assert!(body.contains("<a href=\"empty\">empty</a>") && body.contains("<a href=\"sub/\">sub/</a>"), "{body}");
    assert!(body.contains("href=\"../../../style.css\"") && !body.contains("<b>"), "{body}");
    let (_, _, body) = served.get(&format!("{target}sub/"), "").await;
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("<a href=\"a%26b%20%3Cscript%3E\">a&amp;b &lt;script&gt;</a>"), "{body}");
    assert_eq!(served.get(&format!("{target}sub/a%26b%20%3Cscript%3E"), "").await.2, b"0123456789");
    let (status, head, _) = served.get(&format!("{target}sub"), "").await;
    assert_eq!((status, header(&head, "location")), (301, "./sub/"));
    assert!(body.contains("<a href=\"../../../../\">All torrents of this origin</a>"), "{body}");
    for (base, location) in [("", format!("..{target}")), ("/", format!("../..{target}"))] {
        let (status, head, _) = served.get(&format!("/f/{}{base}", served.info_hash), "").await;
        assert_eq!((status, header(&head, "location")), (301, &*location));
    }
    let closed = serve(None, false).await;
    for target in [target, &format!("/f/{}/", served.info_hash)] {
        assert_eq!(closed.get(target, "").await.0, 404);
    }
}

/// Relative links work behind a proxy that serves the origin under a path prefix.
#[tokio::test]
async fn links_within_the_origin_are_relative() {
    for public_url in [None, Some("https://origin.example/bt")] {
        let served = serve(public_url, true).await;
        let (hash, page) = (served.info_hash, String::from_utf8(served.get("/", "").await.2).unwrap());
        let links: Vec<&str> = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let content = format!("./f/{hash}/%3Cb%3E%22t%FFree/");
        assert_eq!(links[..2], ["style.css", &format!("t/{hash}.torrent")], "{links:?}");
        assert!(links[2].starts_with("magnet:?") && links[3..] == [content], "{links:?}");
    }
}

/// A path is only compared with those of the torrent's files, so no other file can be reached.
#[tokio::test]
async fn path_traversal_is_not_possible() {
    let served = serve(None, true).await;
    let hash = served.info_hash;
    for path in [
        format!("/f/{hash}/../secret"),
        format!("/f/{hash}/%2e%2e/secret"),
        format!("/f/{hash}/%3Cb%3E%22t%FFree/..%2f..%2fsecret"),
        format!("/f/{hash}/%3Cb%3E%22t%FFree/sub/../empty"),
        format!("/f/{hash}/%3Cb%3E%22t%FFree//empty"),
        format!("/f/{hash}/%3Cb%3E%22t%FFree/empty%00"),
        format!("/f/{hash}/%3Cb%3E%22t%FFree/empty/"),
        format!("/f/{hash}/%3Cb%3E%22t%FFree/su/"),
        format!("/f/{hash}//"),
        format!("/f/{hash}//etc/passwd"),
        format!("/f/{hash}/%zz"),
        "/f/..".to_owned(),
        "/f/../../etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
    ] {
        assert_eq!(served.get(&path, "").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_forged_host_gets_no_page() {
    let served = serve(None, true).await;
    for host in ["Host: evil.example\r\n", "Host: \r\n", "Host: a\"><script>\r\n"] {
        for target in ["/".to_owned(), format!("/t/{}.torrent", served.info_hash)] {
            let (status, _, body) = served.get(&target, host).await;
            assert!((400..500).contains(&status), "{host} {status}");
            assert!(!String::from_utf8_lossy(&body).contains("evil"), "{host}");
        }
    }
    assert_eq!(served.get("/", "Host: ORIGIN.example:80\r\n").await.0, 200);
    assert_eq!(served.get("/healthz", "Host: anything\r\n").await.2, b"ok\n");
}

#[tokio::test]
async fn names_lead_to_the_newest_version() {
    let served = serve(None, true).await;
    let (status, head, _) = served.get("/%3Cb%3E%22t%FFree", "").await;
    assert_eq!((status, header(&head, "location")), (302, &*format!("./#{}", served.info_hash)));
    let (_, _, by_hash) = served.get(&format!("/t/{}.torrent", served.info_hash), "").await;
    let (status, head, by_name) = served.get("/t/%3Cb%3E%22t%FFree.torrent", "").await;
    assert_eq!((status, header(&head, "cache-control"), by_name == by_hash), (200, "no-cache", true));
    for unknown in ["/other", "/other.torrent", "/t/other.torrent", "/%", "/t/%"] {
        assert_eq!(served.get(unknown, "").await.0, 404, "{unknown}");
    }

    let draft = Draft::new(NAME.to_vec(), 1 << 14, DraftFiles::Single(10), vec![crate::hash::sha1(&[CONTENT])]);
    let newer = Metainfo::decode(&draft.encode(), &MetainfoLimits::default()).unwrap();
    let newer_hash = newer.info_hash;
    let origin = Origin { port: 7000, peer_id: PeerId([b'o'; 20]), ip: None };
    served.site.replace(served.info_hash, Published::new(newer, None, SystemTime::now()), origin);
    let url = format!("http://{}/t/%3Cb%3E%22t%FFree.torrent", served.address);
    for gone in [
        format!("/t/{}.torrent", served.info_hash),
        format!("/t/{}", served.info_hash),
        format!("/f/{}/", served.info_hash),
        format!("/f/{}/%3Cb%3E%22t%FFree/sub/", served.info_hash),
    ] {
        let (status, head, body) = served.get(&gone, "").await;
        assert_eq!((status, header(&head, "link")), (410, &*format!("<{url}>; rel=\"successor-version\"")), "{gone}");
        assert_eq!(body, format!("this torrent was replaced: get {url}\n").into_bytes());
    }
    let (_, _, page) = served.get("/", "").await;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("1 torrent,") && page.contains(&newer_hash.to_string()), "{page}");
    served.site.set_timeliness(newer_hash, Timeliness::Outdated);
    let (_, _, page) = served.get("/", "").await;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("being updated") && !page.contains("magnet:"), "{page}");
}
