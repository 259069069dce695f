//! Headless Chromium on the pages of an origin and on the report of a benchmark, in light and dark, with only their own
//! scripts and styles.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;

use super::transfer::SEED_PORT;
use crate::support::{
    bt_fast,
    client::{Client, Site},
    content::Content,
    net::{Host, NetPair},
    process::{Running, run, wait_until},
    python,
    scratch::Scratch,
    script,
};

const TIMEOUT: Duration = Duration::from_secs(90);

/// Returns the text of a page once `expression` is true in it. A screenshot stays in Cargo's temporary test folder.
fn text_of(host: &Host, url: &str, scheme: &str, name: &str, expression: &str) -> String {
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{scheme}.png"));
    let mut command = Command::new(python());
    command.arg(script("browser.py")).args([url, scheme]).arg(&picture).arg(expression);
    let text = run(&host.command(&command), TIMEOUT).success();
    assert!(fs::metadata(picture).unwrap().len() > 5000, "an empty picture");
    text
}

#[test]
fn page_and_dashboard_show_the_swarm_in_a_browser() {
    let (scratch, net) = (Scratch::new(), NetPair::new());
    let content = Content::Tree;
    let web = format!("{}:6880", net.left.ip);
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(content.folder().join(content.name())).args(["--web", &web]);
    command.args(["--listen", &format!("{}:{SEED_PORT}", net.left.ip), "--admin", "127.0.0.1:6870"]);
    let mut seed = Running::start("seed", &net.left.command(&command), &scratch.join("seed.log"));
    let published = |seed: &Running| {
        let output = seed.output();
        let mut records = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.find(|record| record["event"] == "published")
    };
    assert!(wait_until(TIMEOUT, || published(&seed).is_some()), "{}", seed.log_tail());
    let torrent = published(&seed).unwrap()["torrent"].as_str().unwrap().to_owned();
    let newest = published(&seed).unwrap()["newest"].as_str().unwrap().to_owned();
    let page = text_of(&net.left, &format!("http://{web}/"), "light", "page", "document.links.length > 1");
    assert!(page.contains(content.name()) && page.contains(&format!("bt-fast get {newest}")), "{page}");

    let file = scratch.join("a.torrent");
    let save = "import sys, urllib.request as r; open(sys.argv[2], 'wb').write(r.urlopen(sys.argv[1]).read())";
    run(&net.right.command(Command::new(python()).args(["-c", save, &torrent]).arg(&file)), TIMEOUT).success();
    let (target, state) = (scratch.folder("target"), scratch.folder("getter"));
    let mut get = Client::BtFast.get(&file, &target, &Site { host: &net.right, port: SEED_PORT, state: &state });
    get.wait(TIMEOUT).unwrap();
    for scheme in ["light", "dark"] {
        let drawn = "document.querySelectorAll('#rates polyline').length === 2 \
                     && document.body.innerText.includes('sent 1.45 MiB') \
                     && document.querySelectorAll('#torrents section').length === 1";
        let text = text_of(&net.left, "http://127.0.0.1:6870/dashboard", scheme, "dashboard", drawn);
        assert!(text.contains(content.name()) && text.contains("100 % complete · sent 1.45 MiB"), "{text}");
    }
}

/// The report has no scripts, so the expression opens its tables. Nothing in the page may lie beyond its right edge.
#[test]
fn report_of_a_benchmark_fits_narrow_and_wide_pages() {
    let (scratch, net) = (Scratch::new(), NetPair::new());
    let report = scratch.join("report.html");
    let mut command = bt_fast();
    command
        .args(["bench", "loopback", "--size", "64M", "--rounds", "2", "--peers", "2", "--dir"])
        .arg(scratch.folder("content"));
    run(command.arg("--html").arg(&report), TIMEOUT).success();
    let fits = "document.querySelectorAll('details').forEach(table => table.open = true) \
                || [...document.querySelectorAll('.chart > svg')].filter(chart => chart.clientWidth > 0).length === 4 \
                && [...document.querySelectorAll('main *')].every(one => one.getBoundingClientRect().right <= innerWidth)";
    for (width, scheme) in [("360", "light"), ("360", "dark"), ("1280", "light"), ("1280", "dark")] {
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{width}-{scheme}.png"));
        let url = format!("file://{}", report.display());
        let mut command = Command::new(python());
        command.arg(script("browser.py")).args([&*url, scheme]).arg(picture).args([fits, width]);
        let text = run(&net.left.command(&command), TIMEOUT).success();
        assert!(text.contains("Beside a plain copy program") && text.contains("no limit"), "{text}");
    }
}
