use clap::Parser as _;

use super::*;

fn resolve(line: &str) -> Result<Command, Failure> {
    let words = std::iter::once("bt-fast").chain(line.split_whitespace());
    Options::resolve(Arguments::try_parse_from(words).unwrap()).map(|options| options.command)
}

fn refused(line: &str) -> String {
    let failure = resolve(line).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{line}");
    assert!(!failure.line.contains('\n'), "{line}");
    failure.line
}

#[test]
fn create_resolves_tiers_lengths_and_destination() {
    let line = "create x -a http://a/announce,udp://b:1 -a https://c/ -w http://m/x -l 4M -p -o - --no-creator";
    let Command::Create(create) = resolve(line).unwrap() else { panic!("not create") };
    assert_eq!(create.destination, Destination::Stdout);
    assert_eq!(create.settings.attributes.tiers, [vec!["http://a/announce", "udp://b:1"], vec!["https://c/"]]);
    assert_eq!(create.settings.piece_len, Some(4 << 20));
    let attributes = &create.settings.attributes;
    assert!(attributes.private && create.date == CreationDate::Clock && attributes.created_by.is_none());
}

#[test]
fn a_dash_is_standard_input_and_a_path_with_one_is_not() {
    for (line, source) in [
        ("create - -n x", ContentSource::Stdin),
        ("create ./-", ContentSource::Path("./-".into())),
        ("create x/-", ContentSource::Path("x/-".into())),
    ] {
        let Command::Create(create) = resolve(line).unwrap() else { panic!("not create") };
        assert_eq!(create.source, source, "{line}");
    }
}

#[test]
fn invalid_values_are_refused_before_any_work() {
    for (line, part) in [
        ("create x -l 3M", "power of two"),
        ("create x -l 8K", "16 KiB"),
        ("create x -l 512M", "256 MiB"),
        ("create x -l 4X", "not a size"),
        ("create x -a ftp://a/", "tracker"),
        ("create x -a http://a/,", "tracker"),
        ("create x -w udp://a/", "web seed"),
        ("create x -n a/b", "-n"),
        ("create x -n ..", "-n"),
        ("create x -g a[", "-g"),
        ("create x -o - --json", "--json"),
        ("create -", "give one with -n"),
        ("create - -n x -g *.iso", "-g needs a folder"),
        ("create - -n x --dry-run", "--dry-run"),
        ("seed x.torrent --listen here", "ADDR:PORT"),
        ("seed x.torrent --slots 0", "--slots"),
        ("seed x.torrent --rings 9", "--rings"),
        (
            "get x.torrent --peer localhost",
            "--peer: 'localhost' has no port: give ADDR:PORT, for example 192.0.2.7:6881",
        ),
        ("get x.torrent --peer 10.77.0.1", "--peer: 10.77.0.1 has no port: give ADDR:PORT, for example 10.77.0.1:6881"),
        ("magnet x.torrent --peer fe80::1", "--peer: fe80::1 has no port: give ADDR:PORT, for example [fe80::1]:6881"),
        ("get x.torrent --peer host:99999", "--peer: 'host:99999': give ADDR:PORT"),
        ("get x.torrent --peer :6881", "--peer: ':6881': give ADDR:PORT"),
        ("seed x.torrent --web 10.77.0.1", "--web: 10.77.0.1 has no port: give ADDR:PORT, for example 10.77.0.1:6880"),
        ("seed x.torrent --admin 6870", "--admin: '6870': give ADDR:PORT, for example 0.0.0.0:6870"),
        ("get x.torrent --arena 0", "--arena"),
        ("get ftp://host/x.torrent", "http or https"),
    ] {
        let refusal = refused(line);
        assert!(refusal.contains(part), "{line}: {refusal}");
    }
}

#[test]
fn get_distinguishes_files_from_urls() {
    let Command::Get(get) = resolve("get https://host/x.torrent --seed --timeout 5 --slots all").unwrap() else {
        panic!("not get")
    };
    assert_eq!(get.sources, [MetainfoSource::Url("https://host/x.torrent".into())]);
    assert!(get.seed.is_some());
    assert_eq!(get.timeout, Some(Duration::from_secs(5)));
    assert_eq!(get.engine.slots, Slots::All);
    let Command::Get(get) = resolve("get x.torrent --peer [::1]:6881 --peer 127.0.0.1:1").unwrap() else {
        panic!("not get")
    };
    assert_eq!(get.sources, [MetainfoSource::File("x.torrent".into())]);
    assert!(get.seed.is_none());
    assert_eq!(get.network.peers.len(), 2);
    assert_eq!(get.engine.slots, Slots::Auto);
}

#[test]
fn a_peer_may_have_a_name() {
    let Command::Get(get) = resolve("get x.torrent --peer localhost:7").unwrap() else { panic!("not get") };
    assert!(get.network.peers.iter().all(|peer| peer.ip().is_loopback() && peer.port() == 7));
    assert!(!get.network.peers.is_empty());
    let failure = resolve("get x.torrent --peer no-such-host.invalid:7").unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.line.starts_with("--peer: no-such-host.invalid: can't find its address: "), "{failure}");
}

#[test]
fn progress_intervals_have_the_defaults_of_the_limits() {
    let output = |line: &str| resolve_output(&Arguments::try_parse_from(line.split(' ')).unwrap());
    assert_eq!(output("bt-fast get x"), output("bt-fast show x"));
}

#[test]
fn verify_defaults_to_the_folder_of_the_torrent() {
    for (line, folder) in [("verify a/b.torrent", "a"), ("verify b.torrent", "."), ("verify b.torrent d", "d")] {
        let Command::Verify(verify) = resolve(line).unwrap() else { panic!("not verify") };
        assert_eq!(verify.data, Path::new(folder), "{line}");
    }
}

#[test]
fn the_command_line_is_consistent() {
    <crate::cli::args::Arguments as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn rate_limits_are_bytes_per_second_and_at_least_a_block() {
    let Command::Get(get) = resolve("get x.torrent --down 10M --up 100K --sequential").unwrap() else {
        panic!("not get")
    };
    assert_eq!((get.rates.down, get.rates.up, get.sequential), (Some(10 << 20), Some(100 << 10), true));
    let Command::Seed(seed) = resolve("seed x.torrent --up-each 1M").unwrap() else { panic!("not seed") };
    assert_eq!((seed.rates.up, seed.rates.up_each), (None, Some(1 << 20)));
    for line in ["get x.torrent --down 1K", "seed x.torrent --up 0", "seed x.torrent --up-each fast"] {
        refused(line);
    }
}
