//! The addresses in the links of `seed`, on hosts with and without a default route.

use std::{net::Ipv4Addr, path::Path};

use bt_fast::codec::magnet::{Magnet, PeerAddress};
use serde_json::Value;

use crate::loopback::{DEADLINE, NAME, event, warnings};
use crate::support::{
    bt_fast,
    content::write_random,
    net::NetPair,
    process::{Running, wait_until},
    scratch::Scratch,
};

const LEN: u64 = 100_000;

/// What a seed on the left host prints.
struct Printed {
    published: Value,
    /// The peer addresses of the magnet link.
    peers: Vec<String>,
    output: String,
}

impl Printed {
    fn link(&self, key: &str) -> &str {
        self.published[key].as_str().unwrap()
    }
}

fn start(net: &NetPair, folder: &Path, flags: &[&str]) -> Running {
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(folder.join(NAME)).args(flags);
    Running::start("seed", &net.left.command(&command), &folder.join("seed.log"))
}

#[track_caller]
fn seed(net: &NetPair, flags: &[&str]) -> Printed {
    let scratch = Scratch::new();
    write_random(&scratch.join(NAME), LEN, 1);
    let mut process = start(net, &scratch.join(""), flags);
    let serves = wait_until(DEADLINE, || event(&process.output(), "seeding").is_some() || !process.is_running());
    assert!(serves && process.is_running(), "{}", process.log_tail());
    let output = process.output();
    let published = event(&output, "published").unwrap();
    let magnet = Magnet::parse(published["magnet"].as_str().unwrap().as_bytes()).unwrap();
    let shown = |peer: &PeerAddress| match peer {
        PeerAddress::Socket(address) => address.to_string(),
        other => format!("{other:?}"),
    };
    Printed { peers: magnet.peers.iter().map(shown).collect(), published, output }
}

#[test]
fn without_a_default_route_links_name_the_interface() {
    let net = NetPair::new();
    let printed = seed(&net, &[]);
    assert_eq!(printed.link("page"), "http://10.77.0.1:6880/");
    assert!(printed.link("torrent").starts_with("http://10.77.0.1:6880/t/"), "{}", printed.published);
    assert_eq!(printed.peers, ["10.77.0.1:6881"]);
    assert!(!printed.link("magnet").contains("127.0.0.1"), "{}", printed.published);
    assert_eq!(warnings(&printed.output), [""; 0]);
}

#[test]
fn links_of_a_host_with_ipv6_alone_name_its_address() {
    let net = NetPair::new();
    net.replace_left_address(Some("fd00:77::1/64"));
    let printed = seed(&net, &[]);
    assert_eq!(printed.link("page"), "http://[fd00:77::1]:6880/");
    assert_eq!(printed.peers, ["[fd00:77::1]:6881"]);
    assert_eq!(warnings(&printed.output), [""; 0]);
}

#[test]
fn a_host_with_the_loopback_alone_is_warned() {
    let net = NetPair::new();
    net.replace_left_address(None);
    let printed = seed(&net, &[]);
    assert_eq!(printed.link("page"), "http://127.0.0.1:6880/");
    let warned = warnings(&printed.output);
    assert!(warned.len() == 1 && warned[0].contains("other hosts cannot reach the page"), "{}", printed.output);
    // A loopback address that the user gave is meant.
    assert_eq!(warnings(&seed(&net, &["--web", "127.0.0.1:6880"]).output), [""; 0]);
}

#[test]
fn behind_a_proxy_magnet_links_name_only_an_announced_address() {
    let net = NetPair::new();
    net.add_default_routes();
    net.add_left_address(Ipv4Addr::new(198, 51, 100, 7));
    let proxied = ["--web", "127.0.0.1:6880", "--public-url", "https://dl.example.org/bt"];
    for flags in [&proxied[..], &proxied[2..], &[&proxied[..], &["--listen", "198.51.100.7:6881"]].concat()] {
        let printed = seed(&net, flags);
        assert_eq!(printed.link("page"), "https://dl.example.org/bt/");
        assert_eq!(printed.peers, [""; 0], "{flags:?}");
        assert!(!printed.published.to_string().contains("127.0.0.1:6880"), "{}", printed.published);
        assert!(
            printed.output.contains("open TCP port 6881 of this host to them, and give its address"),
            "{}",
            printed.output
        );
    }
    let printed = seed(&net, &[&proxied[..], &["--announce-ip", "203.0.113.9"]].concat());
    assert_eq!(printed.peers, ["203.0.113.9:6881"]);
}
