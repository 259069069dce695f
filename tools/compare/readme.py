#!/usr/bin/env python3
"""Measures README's tables of figures anew, beside every other client that is installed.

Pairs on disk and on tmpfs, creating and verifying beside mktorrent and libtorrent, announces beside opentracker, a
transfer of null data beside a bare pair of sockets, a simulated swarm. The figures become a page of this day in
docs/benchmarks, a row in its index, and the tables between the markers of README. Nothing is written when anything
failed. Processes, namespaces and mounts are removed at the end and on Ctrl-C.

Needs what pairs.py needs, and rustc; clients that are missing are left out by name, but README's pairs need
libtorrent, mktorrent and opentracker. --quick takes little of everything to try the command, and writes copies of the
page and of README to target/readme; so does --out FOLDER with full figures.
Example: tools/compare/readme.py --quick
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

sys.dont_write_bytecode = True
import pairs  # noqa: E402

README = pairs.ROOT / "README.md"
BENCHMARKS = pairs.ROOT / "docs/benchmarks"
TRACKER = f"{pairs.SEED_IP}:{pairs.TRACKER_PORT}"
TORRENTS = 100
# Slow clients move this part of the content: whole files would take hours.
PARTS = {"aria2": 1 / 4, "tr": 1 / 16}
LINE_LEN = 120
LT_CREATE = """import sys, libtorrent as lt
files = lt.file_storage()
lt.add_files(files, sys.argv[1])
torrent = lt.create_torrent(files, int(sys.argv[3]), lt.create_torrent.v1_only)
lt.set_piece_hashes(torrent, sys.argv[2])
open(sys.argv[4], "wb").write(lt.bencode(torrent.generate()))
"""


class Failed(Exception):
    """A measurement without a result; no table is written."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of little content, written to target/readme")
    parser.add_argument("--rounds", type=int, help="[5, or 1 with --quick]")
    parser.add_argument("--gib", type=float, help="content of a pair and of create [4, or 0.125 with --quick]")
    parser.add_argument("--out", type=Path, help="folder for the page and README in place of the repository's")
    parser.add_argument("--bt", type=Path, default=pairs.ROOT / "target/release/bt-fast",
                        help="[target/release/bt-fast]")
    parser.add_argument("--work", type=Path, default=pairs.ROOT / "target/pairs",
                        help="folder for files [target/pairs]")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.gib = options.gib or (0.125 if options.quick else 4)
    options.load_s, options.leechers, options.pieces = (1, 10, 256) if options.quick else (5, 100, 4096)
    options.out = options.out or (pairs.ROOT / "target/readme" if options.quick else None)
    options.work, options.bt = options.work.resolve(), options.bt.resolve()
    options.bytes = int(options.gib * (1 << 30))
    # What pairs.py sets by its own flags.
    options.on, options.piece_kib, options.timeout = pairs.PLACES, 1024, 300
    options.bt_seed_flags, options.bt_get_flags = "--verify none", ""
    return options


def output(command):
    """The standard output of a command that has to succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{shlex.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def last_json(command):
    return json.loads(output(command).strip().splitlines()[-1])


def interleaved(rounds, contenders):
    """The median of each contender, a function that returns a figure; the rounds are interleaved."""
    figures = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            figures[name].append(measure())
            print(f"{name:>28} {figures[name][-1]:.2f}", file=sys.stderr, flush=True)
    return {name: statistics.median(column) for name, column in figures.items()}


def table(heads, rows):
    """A Markdown table; all columns but the first are of numbers."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("|" + "|".join(f" {cell} " if cell[:2] != "--" else cell for cell in line) + "|" for line in lines)


def section(text, heads, rows):
    """A paragraph and its table."""
    return f"{textwrap.fill(text, LINE_LEN, break_on_hyphens=False)}\n\n{table(heads, rows)}"


def rounded(figure):
    """Two digits after the point, or two that count."""
    return f"{figure:.2f}" if figure >= 0.1 else f"{figure:.2g}"


def pair_gib(pair, options):
    return options.gib * min(PARTS.get(client, 1) for client in pair.split(":"))


def measure_pairs(options, installed):
    """Every installed client with itself and with bt-fast both ways, on disk and tmpfs."""
    wanted = pairs.chosen_pairs(argparse.Namespace(pairs=[], all=False), installed)
    results = {}
    for gib in sorted({pair_gib(pair, options) for pair in wanted}, reverse=True):
        same_size = [pair for pair in wanted if pair_gib(pair, options) == gib]
        results |= pairs.measure(same_size, argparse.Namespace(**{**vars(options), "gib": gib}))
    broken = [f"{pair} on {place}" for (place, pair), rounds in results.items() if not all(rounds)]
    if broken:
        raise Failed(f"no figures for {', '.join(broken)}; see {options.work / 'logs'}")
    rows = []
    for pair in wanted:
        figures = [figure for place in pairs.PLACES for figure in pairs.medians(results[place, pair])]
        seeder, getter = (pairs.NAMES[client] for client in pair.split(":"))
        size = "" if pair_gib(pair, options) == options.gib else f" ({pair_gib(pair, options):g} GiB)"
        rows.append([f"{seeder} → {getter}{size}", *map(rounded, figures)])
    heads = ["seeder → getter", *(f"{place} {unit}" for place in pairs.PLACES
                                  for unit in ("GB/s", "seed CPU-s/GB", "get CPU-s/GB"))]
    return section(f"One file of {options.gib:g} GiB, or of the size in the row ({options.piece_kib // 1024} MiB pieces), "
                   "between two network namespaces over a veth pair, from the start of the download until everything is "
                   "verified and written. CPU-s/GB is the processor time of a process for each GB.", heads, rows)


def measure_create(options, installed):
    """Creating and verifying, content and torrents in memory. Each torrent is verified by bt-fast."""
    with contextlib.ExitStack() as stack:
        content = pairs.prepare("tmpfs", options, stack)
        made = content.folder / "made.torrent"
        exponent = (options.piece_kib << 10).bit_length() - 1

        def seconds(command, makes=True):
            def measure():
                if makes:
                    made.unlink(missing_ok=True)
                start_s = time.monotonic()
                output(command)
                spent_s = time.monotonic() - start_s
                if makes:
                    output([options.bt, "verify", made, content.source.parent, "-q"])
                return spent_s
            return measure

        contenders = {
            "bt-fast create": seconds([options.bt, "create", content.source, "-o", made, "-l", f"{options.piece_kib}K", "-q"]),
            "bt-fast verify": seconds([options.bt, "verify", content.torrent, content.source.parent, "-q"], makes=False),
            f"mktorrent -t {os.cpu_count()}": seconds(["mktorrent", "-t", os.cpu_count(), "-l", exponent, "-a", pairs.TRACKER_URL,
                                                       "-o", made, content.source]),
        }
        if "lt" in installed:
            contenders["libtorrent `set_piece_hashes`"] = seconds(
                [pairs.python(), "-c", LT_CREATE, content.source, content.source.parent, options.piece_kib << 10, made])
        medians = interleaved(options.rounds, contenders)
    rows = [[name, f"{spent:.2f}", f"{options.bytes / 1e9 / spent:.2f}"] for name, spent in medians.items()]
    return section(f"A torrent of {options.gib:g} GiB in memory, {options.piece_kib // 1024} MiB pieces.",
                   ["", "seconds", "GB/s"], rows)


def tracker_commands(options, load):
    """bt-fast's tracker and opentracker on one address; opentracker changes its root to a folder with its list."""
    root = options.work / "opentracker"
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    (root / "listed").write_text(output([load, "--list", "--torrents", TORRENTS]))
    return {
        "bt-fast": [options.bt, "track", "--open", "--listen", TRACKER],
        "opentracker": ["opentracker", "-i", pairs.SEED_IP, "-p", pairs.TRACKER_PORT, "-P", pairs.TRACKER_PORT,
                        "-w", "listed", "-d", root],
    }


def announces(hosts, tracker, options, load_command):
    """Announces/s that a tracker answers, and its announces for each second of processor time."""
    logs = options.work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    # Over UDP nothing is left behind on the tracker's connections.
    probe = [load_command[0], "udp", TRACKER]

    def announce(command, seconds, check):
        command = ["ip", "netns", "exec", hosts.seed, *command, "--seconds", str(seconds), "--torrents", str(TORRENTS)]
        return subprocess.run(command, capture_output=True, text=True, check=check)

    with pairs.Process(hosts.seed, tracker, options.work / "tracker-home", logs / "tracker.log") as process:
        # The load fails while nothing listens.
        if not pairs.wait_until(lambda: process.has_ended() or announce(probe, 0, False).returncode == 0,
                                pairs.READY_TIMEOUT_S) or process.has_ended():
            raise Failed(f"{tracker[0]} does not answer; see {logs / 'tracker.log'}")
        cpu_s = process.cpu_s()
        said = json.loads(announce(load_command, options.load_s, True).stdout)
        cpu_s = process.cpu_s() - cpu_s
    if said["failed"] * 1000 > said["announces"]:
        raise Failed(f"{tracker[0]}: {said['failed']} announces failed, {said['announces']} were answered")
    return said["announces_per_s"], said["announces"] / max(cpu_s, 0.01)


def measure_trackers(options, _):
    load = pairs.ROOT / "target/load"
    output(["rustc", "-O", "--edition", "2024", pairs.ROOT / "tools/load.rs", "-o", load])
    kinds = {"UDP": [load, "udp", TRACKER], "HTTP, a connection for each announce": [load, "http", TRACKER]}
    commands = tracker_commands(options, load)
    figures = {(kind, name): [] for kind in kinds for name in commands}
    with pairs.Hosts() as hosts:
        for _ in range(options.rounds):
            for kind, name in figures:
                figures[kind, name].append(announces(hosts, commands[name], options, list(map(str, kinds[kind]))))
                print(f"{name:>12} {kind} {figures[kind, name][-1][0]:.0f}/s", file=sys.stderr, flush=True)
    rows = []
    for at, what in enumerate(("announces/s", "announces for each CPU-s")):
        for kind in kinds:
            rows.append([f"{kind}: {what}", *(f"{statistics.median(r[at] for r in figures[kind, name]):,.0f}" for name in commands)])
    return section(f"Announces by one thread of `tools/load.rs` on the tracker's machine: {TORRENTS} torrents of 64 peers, 50 "
                   "wanted.", ["", *commands], rows)


def measure_alone(options, _):
    """bt-fast beside the limit that it measures itself."""
    loopback = last_json([options.bt, "bench", "loopback", "--null-data", "--size", options.bytes, "--rounds", options.rounds,
                          "--json"])
    rounds = {figure["name"]: figure["rounds"] for figure in loopback["measured"]}
    simulation = last_json([options.bt, "bench", "swarm", "--simulate", options.leechers, "--pieces", options.pieces, "--json"])
    if simulation["finished"] != simulation["honest"]:
        raise Failed(f"simulation: {simulation['finished']} of {simulation['honest']} finished")
    rows = [
        ["zeros over loopback, hashed and not written: share of a bare pair of sockets",
         f"{statistics.median(rounds['share of the bare pair']):.2f}"],
        ["the same in GB/s", f"{statistics.median(rounds['seed → get']):.2f}"],
        [f"simulated swarm of {options.leechers} on 1 Gbit/s links: theoretical bound over the last one's time",
         f"{simulation['efficiency_last']:.2f}"],
        ["copies that its origin sends", f"{simulation['origin_copies']:.2f}"],
    ]
    return section("bt-fast beside what is possible: `bench loopback --null-data`, `bench swarm --simulate`.", ["", ""], rows)


MEASUREMENTS = {"pairs": ("Pairs", measure_pairs), "create": ("create and verify", measure_create),
                "trackers": ("Trackers", measure_trackers), "alone": ("Limits", measure_alone)}


def versions(options):
    """The installed clients by pairs.py's names, and a line with the versions of all programs."""
    installed = pairs.versions(options)
    if "bt" not in installed:
        raise Failed(f"{options.bt} does not run: build it with 'cargo build --release'")
    said = subprocess.run(["mktorrent", "-h"], capture_output=True, text=True, check=False)
    mktorrent = re.search(r"mktorrent (\d+(\.\d+)+)", said.stdout + said.stderr)
    # opentracker cannot tell its version.
    package = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "opentracker"], capture_output=True, text=True, check=False)
    missing = [pairs.NAMES[client] for client in pairs.CLIENTS if client not in installed]
    line = ", ".join([*(f"{pairs.NAMES[client]} {version}" for client, version in installed.items()),
                      f"mktorrent {mktorrent[1] if mktorrent else 'of unknown version'}",
                      f"opentracker {package.stdout or 'of unknown version'}"])
    return installed, line + (f". Not installed: {', '.join(missing)}" if missing else "")


def heading(options, programs):
    """Date, command, machine and versions."""
    command = shlex.join(["tools/compare/readme.py", *sys.argv[1:]])
    paragraphs = [f"Measured on {datetime.datetime.now():%Y-%m-%d %H:%M} by `{command}`. Medians of {options.rounds} "
                  "interleaved rounds.", f"Machine: {pairs.machine(options.work)}.", f"Programs: {programs}."]
    return "\n\n".join(textwrap.fill(text, LINE_LEN, break_on_hyphens=False) for text in paragraphs)


def replaced(readme, name, text):
    """README with this text between the two markers of this name."""
    marked = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        raise Failed(f"README.md: not one pair of markers 'measured: {name}'")
    return marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", readme)


def unused_page(folder, today):
    """The page of this day, or its second or third: pages are never changed."""
    names = [f"{today}.md", *(f"{today}-{number}.md" for number in range(2, 100))]
    return next(folder / name for name in names if not (folder / name).exists())


def page_text(page, head, sections):
    parts = "".join(f"\n## {MEASUREMENTS[name][0]}\n\n{text}\n" for name, text in sections.items())
    return f"# {page.stem}\n\n{head}\n{parts}"


def write(options, head, sections):
    """All tables at once, after everything has been measured."""
    readme, index = README.read_text(), (BENCHMARKS / "README.md").read_text()
    page = unused_page(options.out or BENCHMARKS, datetime.date.today())
    for name, text in sections.items():
        readme = replaced(readme, name, text)
    link = f"docs/benchmarks/{page.name}"
    readme = replaced(readme, "machine", f"{head}\n\nThis run's page is [{link}]({link}).")
    last_row = index.rindex("\n| [") + 1
    end = index.index("\n", last_row) + 1
    row = f"| [{page.stem}]({page.name}) | README's tables: pairs on disk and tmpfs, `create`, trackers, limits |\n"
    if options.out:
        (options.out / "README.md").write_text(readme)
    else:
        README.write_text(readme)
        (BENCHMARKS / "README.md").write_text(index[:end] + row + index[end:])
    page.write_text(page_text(page, head, sections))
    print(f"written: {page}", file=sys.stderr)


def main():
    pairs.stop_on_signals()
    options = arguments()
    os.environ["BT_FAST_CONFIG"] = "/dev/null"
    (options.out or options.work).mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        # An absent marker would otherwise be found after all measurements.
        for name in [*MEASUREMENTS, "machine"]:
            replaced(README.read_text(), name, "")
        absent = [program for program in ("mktorrent", "opentracker", "rustc") if not shutil.which(program)]
        if absent:
            raise Failed(f"not installed: {', '.join(absent)}")
        installed, programs = versions(options)
        head = heading(options, programs)
        sections = {name: measure(options, installed) for name, (_, measure) in MEASUREMENTS.items()}
    except (Failed, subprocess.CalledProcessError) as failure:
        sys.exit(f"nothing written: {failure}")
    write(options, head, sections)


if __name__ == "__main__":
    main()
