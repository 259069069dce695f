//! The `bench` commands: their output, and that they leave no files behind.

use serde_json::Value;

use crate::support::sandbox::{Run, Sandbox};

#[test]
fn hash_measures_every_kernel() {
    let sandbox = Sandbox::new();
    let json = sandbox.run("bench hash --seconds 1 --json").ok().json();
    let [record] = &json[..] else { panic!("{json:?}") };
    let figures = record["figures"].as_array().unwrap();
    assert!(figures.iter().all(|figure| figure["gb_per_s"].as_f64().unwrap() > 0.0));
    for (work, kernel) in [("sha1", "portable"), ("sha1", "crate"), ("sha256", "auto"), ("memory", "read")] {
        assert!(figures.iter().any(|figure| figure["work"] == work && figure["kernel"] == kernel), "{work} {kernel}");
    }
}

fn positive(record: &Value, path: &str) {
    let number = record.pointer(path).and_then(Value::as_f64);
    assert!(number.is_some_and(|number| number > 0.0), "{path}: {record}");
}

/// Returns whether tracepoints are usable: they need root and a mounted tracefs.
fn can_count_system_calls() -> bool {
    let folders = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    folders.iter().any(|folder| std::fs::read(format!("{folder}/events/raw_syscalls/sys_enter/id")).is_ok())
}

#[test]
fn loopback_reports_verified_bytes_beside_the_bare_pair() {
    let sandbox = Sandbox::new();
    let options = "--size 20M -l 256K --rounds 2 --peers 2 --rings 1 --dir . --html page.html";
    let json = sandbox.run(&format!("bench loopback --json {options}")).ok().json();
    let [record] = &json[..] else { panic!("{json:?}") };
    assert_eq!((&record["bytes"], &record["peers"], &record["rounds"]), (&20_971_520.into(), &2.into(), &2.into()));
    assert_eq!((&record["piece_length"], &record["place"]), (&262_144.into(), &"disk".into()));
    for path in [
        "/gb_per_s",
        "/transfer_s",
        "/floor/gb_per_s",
        "/floor/share",
        "/at_most/gb_per_s",
        "/at_most/memory_gb_per_s",
        "/fairness",
        "/get/memory_anon_peak",
    ] {
        positive(record, path);
    }
    positive(record, "/latency_buckets/0/0");
    positive(record, "/seed/copied_bytes");
    if can_count_system_calls() {
        for side in ["seed", "get"] {
            // At least one send or receive per mebibyte.
            assert!(record[side]["system_calls_per_gb"].as_f64().unwrap() > 1000.0, "{record}");
        }
    }
    assert_eq!(record["round_gb_per_s"].as_array().unwrap().len(), 2);
    let last = record["progress"].as_array().unwrap().last().unwrap();
    assert_eq!(last[1], 2 * 20_971_520, "what both peers have");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && !page.contains("http:"));
    assert_eq!(sandbox.names(), ["page.html"], "everything else is removed");
}

/// Returns the words after the name in a row of the comparison.
fn compared(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {text}")).trim().to_owned()
}

#[test]
fn compare_shows_the_spread_of_both_runs() {
    let sandbox = Sandbox::new();
    let options = "--size 16M --rounds 2 --no-floor --dir .";
    let old = sandbox.run(&format!("bench loopback {options} --json")).ok();
    sandbox.write("old.json", &old.stdout);
    let [record] = &old.json()[..] else { panic!("{old:?}") };
    let measured = record["measured"].as_array().unwrap();
    assert!(measured.iter().all(|figure| figure["rounds"].as_array().unwrap().len() == 2), "{measured:?}");
    assert_eq!(record["conditions"]["size"], "16 MiB");
    let run = sandbox.run(&format!("bench loopback {options} --compare old.json")).ok();
    for name in ["seed → get, GB/s", "seed, processor time, CPU-s/GB", "get, anonymous memory, MiB", "latency p99, ms"]
    {
        let row = compared(run.text(), name);
        let verdict = ["within the spread", "faster", "slower", "more", "less", "longer", "shorter"];
        assert!(verdict.iter().any(|verdict| row.ends_with(verdict)), "{name}: {row}");
        assert_eq!(row.matches('–').count(), 2, "lowest and highest of both: {row}");
    }
    assert!(!run.text().contains("all numbers") && !run.text().contains("bare pair"), "{run:?}");
    // One round has no spread.
    let once = sandbox.run("bench loopback --size 16M --rounds 1 --no-floor --dir . --compare old.json -v").ok();
    assert!(compared(once.text(), "seed → get, GB/s").ends_with('-'));
    assert!(once.text().contains("one round has no spread: give --rounds 3"), "{once:?}");
    assert!(once.text().lines().any(|line| line.starts_with("seed.cpu_s_per_gb ")), "-v shows every number");
}

#[test]
fn compare_refuses_other_conditions_unless_forced() {
    let sandbox = Sandbox::new();
    let old = sandbox.run("bench loopback --size 16M --rounds 2 --no-floor --dir . --json").ok();
    sandbox.write("old.json", &old.stdout);
    let small = "bench loopback --size 1M --rounds 1 --no-floor --dir . --compare old.json";
    let refused = sandbox.run(small).fails(2, "size: 16 MiB, here 1 MiB");
    assert!(
        refused.stderr.contains("--force") && refused.stdout.is_empty(),
        "before anything is measured: {refused:?}"
    );
    let forced = sandbox.run(&format!("{small} --force")).ok();
    assert!(forced.stderr.contains("warning: --compare: old.json: ") && forced.stderr.contains("size: 16 MiB"));
    compared(forced.text(), "seed → get, GB/s");
    for (options, difference) in [("--size 16M --ram", "place: disk, here memory"), ("--size 16M --rings 7", "rings: ")]
    {
        sandbox.run(&format!("bench loopback {options} --compare old.json")).fails(2, difference);
    }
    sandbox
        .run("bench floor --size 16M --dir . --compare old.json")
        .fails(2, "it is a result of bench loopback, not of bench floor");
    sandbox.run("bench loopback --size 1M --force").fails(2, "--compare");
    // Another machine.
    let moved = String::from_utf8(old.stdout).unwrap().replace("\"processor\":\"", "\"processor\":\"Another ");
    sandbox.write("moved.json", moved);
    let same = "bench loopback --size 16M --dir . --compare moved.json";
    sandbox.run(same).fails(2, "processor: Another ");
    assert_eq!(sandbox.names(), ["moved.json", "old.json"]);
}

#[test]
fn compare_needs_conditions_and_rounds_unless_forced() {
    let sandbox = Sandbox::new();
    sandbox.write("old.json", "{\"gb_per_s\":0.5,\"gone\":7}\n");
    let options = "bench loopback --size 1M --rounds 1 --no-floor --dir . --compare old.json";
    sandbox.run(options).fails(2, "an older version wrote it");
    let run = sandbox.run(&format!("{options} --force")).ok();
    assert!(compared(run.text(), "gb_per_s ").starts_with("0.5000 "));
    assert!(compared(run.text(), "gone ").ends_with('-'), "nothing to compare it with");
    compared(run.text(), "seed.cpu_s_per_gb ");
    for (name, text) in [("empty.json", ""), ("list.json", "[1]"), ("text.json", "GB/s")] {
        sandbox.write(name, text);
        sandbox.run(&format!("bench loopback --size 1M --dir . --compare {name}")).fails(2, name);
    }
    sandbox.run("bench loopback --size 1M --dir . --compare absent.json").fails(1, "absent.json");
    sandbox.run("bench loopback --size 1M --dir . --html no/folder.html").fails(1, "no/folder.html");
}

#[test]
fn loopback_shows_the_machine_at_most() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("bench loopback --size 16M --rounds 1 --dir .").ok();
    let at_most = compared(run.text(), "at most ");
    assert!(at_most.contains(" binds: ") && at_most.contains("disk ") && at_most.contains("memory copy "), "{at_most}");
    assert!(compared(run.text(), "bare pair ").contains("a plain copy program"));
    let in_memory = sandbox.run("bench loopback --size 16M --rounds 1 --ram").ok();
    assert!(!compared(in_memory.text(), "at most ").contains("disk "), "no disk takes part");
}

#[test]
fn loopback_says_which_figures_are_medians() {
    let sandbox = Sandbox::new();
    let details = "details, memory and latencies are those of the round of the median time";
    for (options, count) in [("--rounds 2 --io both", 2), ("--rounds 1", 0)] {
        let run = sandbox.run(&format!("bench loopback --size 1M --no-floor --dir . {options}")).ok();
        let lines = |part: &str| run.text().lines().filter(|line| line.contains(part)).count();
        assert_eq!((lines("medians of 2 rounds"), lines(details)), (count, count), "{run:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_reported_with_the_flag() {
    let sandbox = Sandbox::new();
    for line in ["bench loopback --size 1M", "bench floor --size 1M", "bench swarm --size 1M"] {
        let mut command = sandbox.command(line.split(' '));
        let run = Run::from(command.env("TMPDIR", "/absent").output().unwrap());
        run.fails(1, "/absent: No such file or directory (os error 2): choose another place with --dir DIR");
    }
}

#[test]
fn hash_compares_the_chosen_kernels() {
    let sandbox = Sandbox::new();
    let old = sandbox.run("bench hash --seconds 1 --json").ok();
    sandbox.write("old.json", &old.stdout);
    let run = sandbox.run("bench hash --seconds 1 --compare old.json").ok();
    compared(run.text(), "sha1 auto, 4 × 1 MiB, cores 1, GB/s ");
    assert!(run.text().contains("auto is"));
    let figures = old.json()[0]["figures"].as_array().unwrap().clone();
    for figure in &figures {
        // Each kernel that auto consists of has a column of its own.
        for name in figure["choice"].as_str().into_iter().flat_map(|choice| choice.split(" + ")) {
            assert!(figures.iter().any(|other| other["kernel"] == name && other["work"] == figure["work"]), "{name}");
        }
    }
}

#[test]
fn floor_measures_every_part() {
    let sandbox = Sandbox::new();
    let json = sandbox.run("bench floor --size 20M --rounds 1 --dir . --json").ok().json();
    let [record] = &json[..] else { panic!("{json:?}") };
    let works: Vec<&str> =
        record["figures"].as_array().unwrap().iter().map(|figure| figure["work"].as_str().unwrap()).collect();
    assert_eq!(works.len(), 10);
    for (work, path) in [("tcp", "seed_cpu_s_per_gb"), ("pair_direct", "get_cpu_s_per_gb"), ("hash", "cpu_s_per_gb")] {
        let at = works.iter().position(|name| *name == work).unwrap();
        positive(record, &format!("/figures/{at}/gb_per_s"));
        positive(record, &format!("/figures/{at}/{path}"));
    }
    let rate = |name: &str| {
        let at = works.iter().position(|work| *work == name).unwrap();
        record["measured"][at]["rounds"][0].as_f64().unwrap()
    };
    assert!(rate("write_synced") <= rate("write_buffered"), "the sync is a part of the same write: {record}");
    let json = sandbox.run("bench floor --size 20M --rounds 1 --ram --json").ok().json();
    let figures = json[0]["figures"].as_array().unwrap();
    assert!(
        figures
            .iter()
            .all(|figure| !["write_synced", "write_direct", "pair_direct"].map(Value::from).contains(&figure["work"])),
        "no disk: {figures:?}"
    );
    assert_eq!(figures.len(), 7);
    assert!(sandbox.names().is_empty(), "{:?}", sandbox.names());
}

#[test]
fn loopback_without_content_writes_nothing() {
    let sandbox = Sandbox::new();
    let json = sandbox.run("bench loopback --json --null-data --size 9000001 -l 64K --rounds 1 --no-floor").ok().json();
    let [record] = &json[..] else { panic!("{json:?}") };
    assert_eq!((&record["bytes"], &record["place"]), (&9_000_001.into(), &"nowhere".into()));
    assert_eq!(record["progress"].as_array().unwrap().last().unwrap()[1], 9_000_001, "all of it went over");
    assert!(record.get("create_s").is_none() && record.get("verify_s").is_none());
    sandbox.run("bench loopback --null-data --ram").fails(2, "--ram");
}

#[test]
fn swarm_reports_processes_beside_the_bound_of_the_machine() {
    let sandbox = Sandbox::new();
    let json = sandbox.run("bench swarm --size 10M -l 64K --peers 3 --link 5M --dir . --json").ok().json();
    let [record] = &json[..] else { panic!("{json:?}") };
    assert_eq!((&record["bytes"], &record["leechers"]), (&10_485_760.into(), &3.into()));
    // The link needs two seconds, less the burst that an idle limiter permits.
    for path in ["t_min_s", "t_last_s"] {
        assert!(record[path].as_f64().unwrap() >= 1.8, "{record}");
    }
    for path in ["/pairs_s", "/efficiency_last", "/efficiency_p50", "/jain", "/gb_per_s"] {
        positive(record, path);
    }
    let copies = record["origin_copies"].as_f64().unwrap();
    assert!((1.0..=3.0).contains(&copies), "{copies}");
    assert!(sandbox.names().is_empty(), "{:?}", sandbox.names());
}

#[test]
fn swarm_simulates_many_downloaders() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("bench swarm --simulate 10 --pieces 200").ok();
    for name in ["T_min ", "T_last ", "T_min/T_last ", "origin ", "Jain index ", "waste "] {
        assert!(run.text().lines().any(|line| line.starts_with(name)), "{name}: {}", run.text());
    }
    sandbox.run("bench swarm --simulate 10 --ram").fails(2, "--ram");
    sandbox.run("bench swarm --simulate 10 --churn 0.7 --silent 0.7").fails(2, "shares");
    sandbox.run("bench swarm --churn 0.1").fails(2, "--simulate");
}
