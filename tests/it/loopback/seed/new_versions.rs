//! Content that changes while `seed PATH` serves it: the new version replaces the old one, and SIGHUP reads the paths
//! again.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::loopback::{
    DEADLINE, NAME, STOP_DEADLINE, assert_fails, event, exit_code, failures, own_address, own_ip, warnings,
};
use crate::support::{
    bt_fast,
    content::{difference, write_random},
    http_client::{Answer, get, get_url},
    process::{Finished, Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = (3 << 20) + 77;
const WEB_PORT: u16 = 7100;
const ADMIN_PORT: u16 = 7101;

/// A running `seed` of paths in the folder `source`.
struct Seeding {
    process: Running,
    ip: IpAddr,
    scratch: Scratch,
    source: PathBuf,
}

impl Seeding {
    /// Serves one file of random bytes.
    fn file(flags: &[&str]) -> Self {
        Self::start(flags, &[NAME], |source| write_random(&source.join(NAME), LEN, fastrand::u64(..)))
    }

    /// Serves `paths` of the folder that `make` fills.
    fn start(flags: &[&str], paths: &[&str], make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new();
        let source = scratch.folder("source");
        make(&source);
        let ip: IpAddr = own_ip().into();
        let mut command = bt_fast();
        command.args(["seed", "--json"]).args(paths.iter().map(|path| source.join(path))).args(flags);
        command.args(["--listen", &format!("{ip}:7000"), "--web", &format!("{ip}:{WEB_PORT}")]);
        command.args(["--admin", &format!("{ip}:{ADMIN_PORT}")]);
        let process = Running::start("seed", &command, &scratch.join("seed.log"));
        Self { process, ip, scratch, source }
    }

    fn content(&self) -> PathBuf {
        self.source.join(NAME)
    }

    fn web(&self) -> SocketAddr {
        (self.ip, WEB_PORT).into()
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let records = self.process.output();
        let records = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["event"] == name).collect()
    }

    /// Waits for the record number `count` of this event and returns it.
    #[track_caller]
    fn wait_for(&mut self, name: &str, count: usize) -> Value {
        let is_there = wait_until(DEADLINE, || self.events(name).len() >= count || !self.process.is_running());
        assert!(is_there && self.process.is_running(), "{name} {count}\n{}", self.process.log_tail());
        self.events(name)[count - 1].clone()
    }

    #[track_caller]
    fn wait_for_line(&mut self, part: &str) {
        let is_there = wait_until(DEADLINE, || self.process.output().contains(part) || !self.process.is_running());
        assert!(is_there && self.process.is_running(), "{part}\n{}", self.process.log_tail());
    }

    fn get_command(&self, url: &str, target: &Path) -> Command {
        let mut command = bt_fast();
        command.args(["get", url, "-o"]).arg(target).args(["--listen", &own_address().to_string()]);
        command
    }

    /// Downloads from this URL and compares the content with that at `path` in `source`.
    #[track_caller]
    fn assert_gets(&self, url: &str, path: &str) {
        let target = self.scratch.folder(&format!("target {}", fastrand::u32(..)));
        run(&self.get_command(url, &target), DEADLINE).success();
        let name = Path::new(path).file_name().unwrap();
        assert_eq!(difference(&self.source.join(path), &target.join(name), true), None);
    }

    fn failed_get(&self, url: &str) -> Finished {
        run(&self.get_command(url, &self.scratch.folder("failed target")), DEADLINE)
    }

    fn page(&self) -> String {
        get(self.web(), "/", "").text().to_owned()
    }

    fn failed(&self) -> Vec<bool> {
        let api: Value = serde_json::from_slice(&get((self.ip, ADMIN_PORT).into(), "/api", "").body).unwrap();
        api["torrents"].as_array().unwrap().iter().map(|torrent| torrent["failed"] == true).collect()
    }

    /// Returns the number of complete hosts of each torrent.
    fn complete_hosts(&self) -> Vec<u64> {
        let api: Value = serde_json::from_slice(&get((self.ip, ADMIN_PORT).into(), "/api", "").body).unwrap();
        let torrents = api["torrents"].as_array().unwrap();
        torrents.iter().map(|torrent| torrent["hosts_complete"].as_u64().unwrap()).collect()
    }

    #[track_caller]
    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(exit_code(&mut self.process, STOP_DEADLINE), Some(0), "{}", self.process.log_tail());
        assert_eq!(failures(&self.process.output()), [""; 0]);
    }
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record[key].as_str().unwrap_or_else(|| panic!("{key}: {record}"))
}

#[track_caller]
fn assert_replaced_by(answer: &Answer, url: &str) {
    assert_eq!((answer.status, answer.text()), (410, &*format!("this torrent was replaced: get {url}\n")));
    assert!(answer.head.contains(&format!("link: <{url}>; rel=\"successor-version\"")), "{}", answer.head);
}

fn replace(path: &Path) {
    let other = path.with_extension("other");
    write_random(&other, LEN, fastrand::u64(..));
    fs::rename(other, path).unwrap();
}

/// Overwrites every byte in place.
fn overwrite(path: &Path) {
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(usize::try_from(LEN).unwrap()).collect();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

fn truncate(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(LEN / 2).unwrap();
}

#[test]
fn changed_content_is_published_as_a_new_version() {
    for change in [replace, overwrite, truncate] {
        let mut seed = Seeding::file(&["--web-seed"]);
        let old = seed.wait_for("published", 1);
        seed.wait_for("seeding", 1);
        let newest = text(&old, "newest").to_owned();
        assert_eq!(newest, format!("http://{}/t/{NAME}.torrent", seed.web()));
        seed.assert_gets(&newest, NAME);
        change(&seed.content());
        let replaced = seed.wait_for("replaced", 1);
        let new = seed.wait_for("published", 2);
        assert_eq!(replaced["old_info_hash"], old["info_hash"]);
        assert!(replaced["info_hash"] == new["info_hash"] && new["info_hash"] != old["info_hash"], "{replaced}");
        assert_eq!(text(&new, "newest"), newest);
        let answers = [get_url(text(&old, "torrent")), get_url(text(&old, "content"))];
        answers.iter().for_each(|answer| assert_replaced_by(answer, &newest));
        seed.assert_gets(&newest, NAME);
        assert_fails(&seed.failed_get(text(&old, "torrent")), 1, &format!("this torrent was replaced: get {newest}"));
        let page = seed.page();
        assert!(page.contains(text(&new, "info_hash")) && !page.contains(text(&old, "info_hash")), "{page}");
        assert!(wait_until(DEADLINE, || seed.failed() == [false]), "{:?}", seed.failed());
        seed.stop();
    }
}

/// Both versions are replaced, and each old URL leads to the newest.
#[test]
fn a_second_change_leads_all_old_urls_to_the_newest() {
    let mut seed = Seeding::file(&[]);
    seed.wait_for("seeding", 1);
    for count in 1..=2 {
        replace(&seed.content());
        seed.wait_for("replaced", count);
    }
    let newest = text(&seed.events("published")[2], "newest").to_owned();
    for old in &seed.events("published")[..2] {
        assert_replaced_by(&get_url(text(old, "torrent")), &newest);
    }
    let by_name = get(seed.web(), &format!("/{NAME}"), "");
    let place = format!("location: ./#{}", text(&seed.events("published")[2], "info_hash"));
    assert!(by_name.status == 302 && by_name.head.contains(&place), "{}", by_name.head);
    seed.assert_gets(&newest, NAME);
    seed.stop();
}

#[test]
fn a_change_is_one_warning_and_fails_at_once() {
    // Without a peer that asks for the bytes, the comparison of the files sees the change.
    let mut seed = Seeding::file(&[]);
    seed.wait_for("seeding", 1);
    let is_failed = || {
        overwrite(&seed.content());
        std::thread::sleep(Duration::from_millis(300));
        seed.failed() == [true]
    };
    assert!(wait_until(DEADLINE, is_failed), "{:?}", seed.failed());
    seed.wait_for("replaced", 1);
    assert!(wait_until(DEADLINE, || seed.failed() == [false]), "{:?}", seed.failed());
    assert_eq!(warnings(&seed.process.output()).len(), 1, "{}", seed.process.log_tail());

    // A peer asks for pieces, so that the engine may see the change first.
    let url = text(&seed.wait_for("published", 2), "torrent").to_owned();
    let mut command = seed.get_command(&url, &seed.scratch.folder("slow target"));
    command.args(["--json", "--json-interval", "100ms", "--down", "300K"]);
    let getter = Running::start("get", &command, &seed.scratch.join("slow.log"));
    let has_bytes = |output: &str| event(output, "progress").is_some_and(|record| record["bytes_done"] != 0);
    assert!(wait_until(DEADLINE, || has_bytes(&getter.output())), "{}", getter.output());
    overwrite(&seed.content());
    seed.wait_for("replaced", 2);
    assert_eq!(warnings(&seed.process.output()).len(), 2, "one for each change: {}", seed.process.log_tail());
    seed.stop();
}

#[test]
fn content_with_the_same_bytes_keeps_its_torrent() {
    let touch =
        |path: &Path| File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let copy = |path: &Path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(copy, path).unwrap();
    };
    for change in [&touch as &dyn Fn(&Path), &copy] {
        let mut seed = Seeding::file(&[]);
        let published = seed.wait_for("published", 1);
        seed.wait_for("seeding", 1);
        change(&seed.content());
        seed.wait_for_line("the files have changed");
        // The torrent is served while the files are hashed again.
        seed.assert_gets(text(&published, "torrent"), NAME);
        seed.wait_for_line("the content is unchanged; serving continues");
        seed.assert_gets(text(&published, "torrent"), NAME);
        assert_eq!((seed.events("published").len(), seed.events("replaced").len()), (1, 0));
        assert!(!seed.page().contains("being updated"), "{}", seed.page());
        assert_eq!(warnings(&seed.process.output()).len(), 1, "{}", seed.process.log_tail());
        seed.stop();
    }
}

#[test]
fn removed_content_fails_until_it_is_back() {
    let mut seed = Seeding::file(&[]);
    let published = seed.wait_for("published", 1);
    seed.wait_for("seeding", 1);
    seed.assert_gets(text(&published, "torrent"), NAME);
    assert!(wait_until(DEADLINE, || seed.complete_hosts() == [1]), "{:?}", seed.complete_hosts());
    let bytes = fs::read(seed.content()).unwrap();
    fs::remove_file(seed.content()).unwrap();
    let refused = seed.wait_for("not_served", 1);
    assert!(text(&refused, "message").contains("the content is gone: "), "{refused}");
    assert!(wait_until(DEADLINE, || seed.failed() == [true]), "{:?}", seed.failed());
    assert!(seed.page().contains("being updated"), "{}", seed.page());
    fs::write(seed.content(), bytes).unwrap();
    seed.wait_for_line("the content is unchanged; serving continues");
    assert!(wait_until(DEADLINE, || seed.failed() == [false]), "{:?}", seed.failed());
    assert_eq!(seed.complete_hosts(), [1], "the hosts of a torrent that is served again are still counted");
    seed.assert_gets(text(&published, "torrent"), NAME);
    let output = seed.process.output();
    let refusals = warnings(&output).iter().filter(|line| line.contains("not served")).count();
    assert_eq!((refusals, seed.events("replaced").len()), (1, 0), "{output}");
    seed.stop();
}

#[test]
fn a_file_added_to_a_folder_makes_a_new_version() {
    let mut seed = Seeding::start(&[], &[NAME], |source| {
        fs::create_dir(source.join(NAME)).unwrap();
        write_random(&source.join(NAME).join("a"), LEN, 1);
    });
    seed.wait_for("seeding", 1);
    write_random(&seed.content().join("b"), LEN, 2);
    seed.wait_for("replaced", 1);
    let newest = text(&seed.events("published")[1], "newest").to_owned();
    seed.assert_gets(&newest, NAME);
    fs::remove_file(seed.content().join("a")).unwrap();
    seed.wait_for("replaced", 2);
    seed.assert_gets(&newest, NAME);
    seed.stop();
}

/// The download of the old version reports that there is a new one, and gets no wrong byte.
#[test]
fn a_download_of_the_old_version_names_the_new_one() {
    let mut seed = Seeding::file(&["--up", "64K"]);
    let old = seed.wait_for("published", 1);
    seed.wait_for("seeding", 1);
    let target = seed.scratch.folder("target");
    let mut command = seed.get_command(text(&old, "torrent"), &target);
    command.arg("--json");
    let mut getter = Running::start("get", &command, &seed.scratch.join("get.log"));
    let has_bytes = |output: &str| event(output, "progress").is_some_and(|record| record["bytes_done"] != 0);
    assert!(wait_until(DEADLINE, || has_bytes(&getter.output())), "{}", getter.log_tail());
    replace(&seed.content());
    seed.wait_for("replaced", 1);
    // The getter asks the tracker again after the tracker's interval.
    let line = "this torrent was replaced by a new version: end this download, and get /t/content.torrent";
    assert!(wait_until(DEADLINE, || getter.output().contains(line)), "{}", getter.log_tail());
    getter.signal(Signal::INT);
    assert_eq!(exit_code(&mut getter, STOP_DEADLINE), Some(130), "{}", getter.log_tail());
    assert!(!getter.output().contains("wrong data"), "{}", getter.log_tail());
    seed.stop();
}

#[test]
fn a_name_leads_to_the_first_of_several_torrents() {
    let mut seed = Seeding::start(&[], &["one/content", "two/content"], |source| {
        for folder in ["one", "two"] {
            fs::create_dir(source.join(folder)).unwrap();
            write_random(&source.join(folder).join(NAME), LEN, fastrand::u64(..));
        }
    });
    seed.wait_for("seeding", 2);
    let published = seed.events("published");
    assert!(published[1]["newest"].is_null(), "{}", published[1]);
    let first = get_url(text(&published[0], "newest"));
    assert_eq!(first.body, get_url(text(&published[0], "torrent")).body);
    // A change of the second torrent does not take the name away from the first.
    replace(&seed.source.join("two").join(NAME));
    seed.wait_for("replaced", 1);
    assert_eq!(get_url(text(&published[0], "newest")).body, first.body);
    let successor = text(&seed.events("published")[2], "torrent").to_owned();
    assert_replaced_by(&get_url(text(&published[1], "torrent")), &successor);
    seed.stop();
}

/// Two paths have the same torrent. When the one that serves it changes or is gone, the other one serves it.
#[test]
fn a_path_with_the_same_content_takes_over() {
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    for (change, served_count) in [(&replace as &dyn Fn(&Path), 2), (&remove, 1)] {
        let mut seed = Seeding::start(&[], &["one/content", "two/content"], |source| {
            for folder in ["one", "two"] {
                fs::create_dir(source.join(folder)).unwrap();
                write_random(&source.join(folder).join(NAME), LEN, 4);
            }
        });
        let published = seed.wait_for("published", 1);
        seed.wait_for_line("this torrent is given more than once");
        change(&seed.source.join("one").join(NAME));
        seed.wait_for_line(&format!("serving {NAME} from "));
        if served_count == 2 {
            let new = seed.wait_for("published", 2);
            seed.assert_gets(text(&new, "torrent"), &format!("one/{NAME}"));
        } else {
            seed.wait_for("not_served", 1);
        }
        seed.assert_gets(text(&published, "torrent"), &format!("two/{NAME}"));
        assert!(seed.events("replaced").is_empty() && seed.events("dropped").is_empty(), "{}", seed.process.log_tail());
        assert!(wait_until(DEADLINE, || seed.failed() == vec![false; served_count]), "{:?}", seed.failed());
        seed.stop();
    }
}

/// Content that was refused at the start is served when it is there.
#[test]
fn content_refused_at_the_start_is_served_later() {
    let mut seed = Seeding::start(&[], &[NAME, "empty", "link"], |source| {
        write_random(&source.join(NAME), LEN, 5);
        fs::create_dir(source.join("empty")).unwrap();
        std::os::unix::fs::symlink("absent", source.join("link")).unwrap();
    });
    seed.wait_for("not_served", 2);
    seed.wait_for_line("the folder is empty: it is served as soon as it has readable content");
    write_random(&seed.source.join("empty").join("file"), LEN, 6);
    write_random(&seed.source.join("absent"), LEN, 7);
    seed.wait_for("seeding", 3);
    let served = |name: &str| seed.events("seeding").iter().any(|record| record["name"] == name);
    assert!(served("empty") && served("link"), "{:?}", seed.events("seeding"));
    assert_eq!(seed.events("not_served").len(), 2, "a refusal is reported once");
    seed.process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut seed.process, STOP_DEADLINE), Some(0), "{}", seed.process.log_tail());
}

/// Content that is refused for want of descriptors is tried again while its files stay the same.
#[test]
fn refused_content_is_tried_again_without_a_change() {
    let mut seed = Seeding::start(&[], &[NAME, "later"], |source| write_random(&source.join(NAME), LEN, 5));
    seed.wait_for("seeding", 1);
    seed.wait_for("not_served", 1);
    let limit_descriptors = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &seed.process.id().to_string(), &format!("--nofile={soft}:")]);
        run(&command, DEADLINE).success();
    };
    write_random(&seed.source.join("other"), LEN, 6);
    limit_descriptors("0");
    fs::rename(seed.source.join("other"), seed.source.join("later")).unwrap();
    let is_refused = wait_until(DEADLINE, || seed.events("not_served").len() == 2);
    assert!(is_refused, "{:?}", seed.events("not_served"));
    limit_descriptors("1024");
    seed.wait_for("seeding", 2);
    assert_eq!(seed.events("not_served").len(), 2, "a refusal is reported once");
    seed.process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut seed.process, STOP_DEADLINE), Some(0), "{}", seed.process.log_tail());
}

#[test]
fn a_hangup_reads_the_paths_again() {
    let mut seed = Seeding::start(&[], &["*", ".hidden"], |source| write_random(&source.join(".hidden"), LEN, 1));
    seed.wait_for("seeding", 1);
    seed.wait_for_line("no path matches");
    for name in ["one", "two", ".other"] {
        write_random(&seed.source.join(name), LEN, fastrand::u64(..));
    }
    seed.process.signal(Signal::HUP);
    seed.wait_for("seeding", 3);
    let served: Vec<String> = seed.events("seeding").iter().map(|record| text(record, "name").to_owned()).collect();
    assert_eq!(served, [".hidden", "one", "two"]);
    fs::remove_file(seed.source.join("one")).unwrap();
    fs::remove_file(seed.source.join(".hidden")).unwrap();
    seed.process.signal(Signal::HUP);
    seed.wait_for("dropped", 2);
    let page = seed.page();
    assert!(page.contains("<h2>two</h2>") && !page.contains("<h2>one</h2>"), "{page}");
    seed.assert_gets(&format!("http://{}/t/two.torrent", seed.web()), "two");
    write_random(&seed.source.join(".hidden"), LEN, 2);
    seed.process.signal(Signal::HUP);
    seed.wait_for("seeding", 4);
    seed.assert_gets(&format!("http://{}/t/.hidden.torrent", seed.web()), ".hidden");
    seed.stop();
}

/// A `.torrent` on the command line is not made again: its content fails with a warning, and a hangup tries it again.
#[test]
fn a_torrent_whose_content_changed_fails_until_a_hangup() {
    let scratch = Scratch::new();
    let torrent = scratch.join("a.torrent");
    let source = scratch.folder("source");
    let content = source.join(NAME);
    write_random(&content, LEN, 3);
    run(bt_fast().arg("create").arg(&content).arg("-o").arg(&torrent), DEADLINE).success();
    let (ip, bytes) = (own_ip(), fs::read(&content).unwrap());
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(&torrent).arg("--data").arg(&source);
    command.args(["--listen", &format!("{ip}:7000"), "--web", &format!("{ip}:{WEB_PORT}")]);
    command.args(["--admin", &format!("{ip}:{ADMIN_PORT}")]);
    let process = Running::start("seed", &command, &scratch.join("seed.log"));
    let mut seed = Seeding { process, ip: ip.into(), scratch, source };
    let published = seed.wait_for("published", 1);
    seed.wait_for("seeding", 1);
    replace(&content);
    let finished = run(
        seed.get_command(text(&published, "torrent"), &seed.scratch.folder("none")).args(["--timeout", "3s"]),
        DEADLINE,
    );
    assert_eq!(finished.code, Some(4), "{finished:#?}");
    seed.wait_for_line("is not served: its data does not match the torrent");
    assert!(wait_until(DEADLINE, || seed.failed() == [true]), "{:?}", seed.failed());
    fs::write(&content, bytes).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    seed.process.signal(Signal::HUP);
    seed.wait_for_line("the content is unchanged; serving continues");
    seed.assert_gets(text(&published, "torrent"), NAME);
    seed.stop();
}
