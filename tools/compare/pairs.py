#!/usr/bin/env python3
"""One seeder, one downloader, one wire: bt-fast beside other clients.

Each pair moves one file of random bytes between two network namespaces joined by a veth pair, byte-for-byte compared
afterwards. Rounds are interleaved, so that a noisy minute affects every pair. Medians are printed as a Markdown table:
wall GB/s from the downloader's start to its end, the multiple of each client's pair with itself, CPU-seconds per GB
of both processes: user and system time of all their threads, which include io_uring's workers, and of children that
they have waited for. What the kernel's own threads do, such as writing pages back, belongs to no process.

A virtual machine gives free memory back to its host, and gets it back page by page at a price that differs from minute
to minute. So before each round memory of the file's size is taken, and released a little ahead of the download.

Without pairs: every installed client with itself, and bt-fast with each of them both ways; --all: every seeder with
every downloader. --on disk,tmpfs does it all in both places; the tmpfs is mounted for the run. Needs root, openssl,
iproute2, mktorrent and the clients named; libtorrent's python is $LT_PYTHON or target/venv's, rqbit is $RQBIT or on PATH.
Example: tools/compare/pairs.py --gib 2 --rounds 5 bt:bt lt:lt rqbit:rqbit bt:lt lt:bt
"""

import argparse
import contextlib
import datetime
import json
import mmap
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests/it/support"
SEED_IP, GET_IP = "10.77.0.1", "10.77.0.2"
SEED_PORT, GET_PORT, TRACKER_PORT = 6981, 6982, 6969
TRACKER_URL = f"http://{SEED_IP}:{TRACKER_PORT}/announce"
NAMES = {"bt": "bt-fast", "lt": "libtorrent", "rqbit": "rqbit", "aria2": "aria2", "tr": "Transmission"}
CLIENTS = list(NAMES)
PLACES = ["disk", "tmpfs"]
# Room on the tmpfs beyond the content and one copy of it: logs, torrents, what clients keep at home.
TMPFS_SPARE_BYTES = 256 << 20
# Backed memory is free this far ahead of the download, and is released in steps.
BACKED_AHEAD_BYTES = 256 << 20
BACKED_STEP_BYTES = 32 << 20
MADV_POPULATE_WRITE = 23
READY_TIMEOUT_S = 60
POLL_S = 0.005


def places(text):
    """The argument of --on."""
    chosen = text.split(",")
    if not set(chosen) <= set(PLACES):
        raise argparse.ArgumentTypeError(f"{text}: not of {', '.join(PLACES)}")
    return chosen


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", type=places, default=["disk"], metavar="PLACES", help="disk, tmpfs or disk,tmpfs [disk]")
    parser.add_argument("pairs", nargs="*", metavar="SEEDER:GETTER", help="of " + ", ".join(CLIENTS))
    parser.add_argument("--all", action="store_true", help="every installed client with every other one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round's figures there")
    parser.add_argument("--gib", type=float, default=2, help="size of the file [2]")
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--piece-kib", type=int, default=1024, help="piece length [1024]")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one download [300]")
    parser.add_argument("--work", type=Path, default=ROOT / "target/pairs", help="folder for files and logs [target/pairs]")
    parser.add_argument("--bt", type=Path, default=ROOT / "target/release/bt-fast", help="[target/release/bt-fast]")
    parser.add_argument("--bt-seed-flags", default="--verify none", help="[--verify none: the other clients do not hash either]")
    parser.add_argument("--bt-get-flags", default="", help="more flags for bt-fast get")
    options = parser.parse_args()
    if options.pairs and options.all:
        parser.error("give pairs or --all")
    for pair in options.pairs:
        if len(pair.split(":")) != 2 or not set(pair.split(":")) <= set(CLIENTS):
            parser.error(f"{pair}: not two of {', '.join(CLIENTS)} with a colon between")
    return options


def python():
    return os.environ.get("LT_PYTHON", str(ROOT / "target/venv/bin/python"))


def rqbit_program():
    return os.environ.get("RQBIT", "rqbit")


def versions(options):
    """The installed clients, each with the version that it reports."""
    asked = {
        "bt": [options.bt, "--version"],
        "lt": [python(), "-c", "import libtorrent; print(libtorrent.__version__)"],
        "rqbit": [rqbit_program(), "--version"],
        "aria2": ["aria2c", "--version"],
        "tr": ["transmission-cli", "--version"],
    }
    found = {}
    for client, command in asked.items():
        with contextlib.suppress(OSError):
            said = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30, check=False)
            number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
            if number:
                found[client] = number[0]
    return found


def chosen_pairs(options, installed):
    if options.pairs:
        return options.pairs
    clients = [client for client in CLIENTS if client in installed]
    if options.all:
        return [f"{seeder}:{getter}" for seeder in clients for getter in clients]
    others = [client for client in clients if client != "bt"]
    return ["bt:bt", *(pair for other in others for pair in (f"{other}:{other}", f"bt:{other}", f"{other}:bt"))]


def call(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def stop_on_signals():
    """Lets SIGTERM and SIGHUP unwind like Ctrl-C, so that processes, namespaces and mounts go."""
    def stop(number, _):
        raise SystemExit(128 + number)

    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, stop)


@contextlib.contextmanager
def tmpfs(folder, size):
    """A tmpfs of this size on the folder, for the time of the block."""
    available = int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) << 10
    if size > available:
        sys.exit(f"a tmpfs of {size >> 20} MiB does not fit into the {available >> 20} MiB of memory available")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        call("mount", "-t", "tmpfs", "-o", f"size={size}", "pairs", folder)
        yield folder
    finally:
        # A client that was just killed may hold the mount for a moment.
        if os.path.ismount(folder):
            call("umount", "-l", folder)
        folder.rmdir()


class Hosts:
    """Two network namespaces on one wire, named after this process and removed at the end."""

    def __init__(self):
        self.seed, self.get = f"pairs-{os.getpid()}s", f"pairs-{os.getpid()}g"

    def __enter__(self):
        try:
            self.connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def connect(self):
        call("ip", "netns", "add", self.seed)
        call("ip", "netns", "add", self.get)
        call("ip", "link", "add", "veth0", "netns", self.seed, "type", "veth", "peer", "name", "veth0", "netns", self.get)
        for name, ip in (self.seed, SEED_IP), (self.get, GET_IP):
            call("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", "veth0")
            call("ip", "-n", name, "link", "set", "lo", "up")
            call("ip", "-n", name, "link", "set", "veth0", "up")

    def __exit__(self, *_):
        for name in self.seed, self.get:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


class BackedMemory:
    """Memory that the host has backed with pages, released to the download that is about to fill it."""

    def __init__(self, size):
        self.pages = mmap.mmap(-1, size + BACKED_AHEAD_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.pages.madvise(MADV_POPULATE_WRITE)
        self.released = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pages.close()

    def follow(self, folder):
        """Releases pages up to a margin beyond the space that the files of `folder` take."""
        taken = BACKED_AHEAD_BYTES
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                taken += path.stat().st_blocks * 512
        end = min(taken, len(self.pages)) // BACKED_STEP_BYTES * BACKED_STEP_BYTES
        if end > self.released:
            self.pages.madvise(mmap.MADV_DONTNEED, self.released, end - self.released)
            self.released = end


class Process:
    """A client on a host; killed at the end. `ip netns exec` becomes the client, so the pid is the client's."""

    def __init__(self, host, command, home, log):
        self.log = log
        home.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                ["ip", "netns", "exec", host, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"})
        self.status = None
        self.rusage = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.has_ended():
            self.child.kill()
            self.child.wait()

    def has_ended(self):
        if self.status is None:
            pid, status, rusage = os.wait4(self.child.pid, os.WNOHANG)
            if pid:
                self.status, self.rusage = os.waitstatus_to_exitcode(status), rusage
                self.child.returncode = self.status
        return self.status is not None

    def cpu_s(self):
        """User and system time so far, of all threads and of children that were waited for."""
        if self.has_ended():
            return self.rusage.ru_utime + self.rusage.ru_stime
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def aria2(folder, port, torrent):
    return ["aria2c", "-q", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false",
            "--bt-max-peers=200", f"--listen-port={port}", "-d", folder, torrent]


def rqbit(folder, port, torrent):
    return [rqbit_program(), "--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--listen-port", port,
            "download", "-o", folder, torrent]


def transmission(folder, port, torrent, home):
    settings = home / "transmission"
    settings.mkdir(parents=True, exist_ok=True)
    off = ["dht-enabled", "lpd-enabled", "pex-enabled", "utp-enabled"]
    (settings / "settings.json").write_text(json.dumps({**dict.fromkeys(off, False), "encryption": 0}))
    return ["transmission-cli", "-g", settings, "-M", "-et", "-p", port, "-w", folder, torrent]


def client_command(client, role, torrent, folder, home, options):
    """The command of a client that seeds ("seed") or downloads ("get") `torrent` in `folder`."""
    ip, port = (SEED_IP, SEED_PORT) if role == "seed" else (GET_IP, GET_PORT)
    commands = {
        "bt": lambda: [options.bt, role, torrent, "--data" if role == "seed" else "-o", folder, "--listen", f"{ip}:{port}"],
        "lt": lambda: [python(), SUPPORT / "lt_client.py", role, torrent, folder, ip, port],
        "aria2": lambda: aria2(folder, port, torrent),
        "rqbit": lambda: rqbit(folder, port, torrent),
        "tr": lambda: transmission(folder, port, torrent, home),
    }
    flags = {
        ("bt", "seed"): lambda: shlex.split(options.bt_seed_flags),
        ("bt", "get"): lambda: shlex.split(options.bt_get_flags),
        ("aria2", "seed"): lambda: ["--seed-ratio=0", "--bt-seed-unverified=true"],
        ("aria2", "get"): lambda: ["--seed-time=0", "--file-allocation=none"],
        ("rqbit", "seed"): lambda: ["--overwrite"],
        ("rqbit", "get"): lambda: ["-e"],
        ("tr", "get"): lambda: ["-f", finish_script(home)],
    }
    return [*commands[client](), *flags.get((client, role), list)()]


def finish_script(home):
    """Writes the script that transmission-cli, which never exits by itself, runs on completion."""
    home.mkdir(parents=True, exist_ok=True)
    script = home / "finish.sh"
    script.write_text(f"#!/bin/sh\ntouch '{home}/complete'\n")
    script.chmod(0o755)
    return script


def wait_until(done, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def has_announced(tracker, port):
    lines = tracker.log.read_text().splitlines()
    announces = [json.loads(line) for line in lines if line.startswith("{")]
    return any(line.get("port") == str(port) and line.get("left") == "0" for line in announces)


def transfer(hosts, pair, content, options):
    """One round of one pair: GB/s and CPU-s/GB of both sides, or None when it failed."""
    seeder, getter = pair.split(":")
    source, torrent = content.source, content.torrent
    out, seed_home, get_home = (content.folder / name for name in ("out", "seed-home", "get-home"))
    for folder in out, seed_home, get_home:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    logs = options.work / "logs"
    logs.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        def start(host, command, home, log):
            return stack.enter_context(Process(host, command, home, logs / log))

        tracker = start(hosts.seed, [sys.executable, SUPPORT / "tracker.py", SEED_IP, TRACKER_PORT], seed_home, "tracker.log")
        wait_until(lambda: "listening" in tracker.log.read_text(), READY_TIMEOUT_S)
        seed = start(hosts.seed, client_command(seeder, "seed", torrent, source.parent, seed_home, options), seed_home,
                     f"{seeder}-seeds.log")
        if not wait_until(lambda: has_announced(tracker, SEED_PORT) or seed.has_ended(), READY_TIMEOUT_S):
            print(f"{pair}: the seeder did not announce itself; continuing", file=sys.stderr)
        memory = stack.enter_context(BackedMemory(source.stat().st_size))
        memory.follow(out)
        seed_cpu_s, start_s = seed.cpu_s(), time.monotonic()
        get = start(hosts.get, client_command(getter, "get", torrent, out, get_home, options), get_home, f"{getter}-gets.log")
        complete = get_home / "complete"
        wait_until(lambda: memory.follow(out) or get.has_ended() or complete.exists(), options.timeout)
        wall_s = time.monotonic() - start_s
        seed_cpu_s, get_cpu_s = seed.cpu_s() - seed_cpu_s, get.cpu_s()
        ended_well = complete.exists() or (get.has_ended() and get.status == 0)
    same = ended_well and subprocess.run(["cmp", "-s", source, out / source.name], check=False).returncode == 0
    gb = source.stat().st_size / 1e9
    verdict = "ok" if same else "DIFFERS" if ended_well else "FAILED"
    print(f"{pair:>12} on {content.place:5} {gb / wall_s:6.3f} GB/s, "
          f"CPU-s/GB seed {seed_cpu_s / gb:5.2f} get {get_cpu_s / gb:5.2f}, {verdict}",
          file=sys.stderr, flush=True)
    shutil.rmtree(out, ignore_errors=True)
    return (gb / wall_s, seed_cpu_s / gb, get_cpu_s / gb) if same else None


class Content(NamedTuple):
    """A file of random bytes and its torrent, and the folder beside them for downloads."""

    place: str
    folder: Path
    source: Path
    torrent: Path


def make_content(place, folder, options):
    """On disk both files are kept for the next run."""
    source = folder / "content" / f"{options.gib:g}GiB.bin"
    size = int(options.gib * (1 << 30))
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        key = "000102030405060708090a0b0c0d0e0f"
        unfinished = source.with_suffix(".unfinished")
        subprocess.run(f"openssl enc -aes-128-ctr -nosalt -K {key} -iv 0 -in /dev/zero 2>/dev/null | head -c {size} "
                       f"> {shlex.quote(str(unfinished))}", shell=True, check=True)
        unfinished.rename(source)
    torrent = folder / f"{options.gib:g}GiB-{options.piece_kib}KiB.torrent"
    if not torrent.exists():
        exponent = (options.piece_kib << 10).bit_length() - 1
        call("mktorrent", "-l", exponent, "-a", TRACKER_URL, "-o", torrent, source)
    return Content(place, folder, source, torrent)


def prepare(place, options, stack):
    """The content in this place; `stack` unmounts what was mounted for it."""
    folder = options.work
    if place == "tmpfs":
        size = 2 * int(options.gib * (1 << 30)) + TMPFS_SPARE_BYTES
        folder = stack.enter_context(tmpfs(options.work / "tmpfs", size))
    return make_content(place, folder, options)


def measure(pairs, options):
    """The figures of each round of each pair in each place, by (place, pair)."""
    results = {(place, pair): [] for place in options.on for pair in pairs}
    with contextlib.ExitStack() as stack:
        contents = [prepare(place, options, stack) for place in options.on]
        hosts = stack.enter_context(Hosts())
        for _ in range(options.rounds):
            for content in contents:
                for pair in pairs:
                    results[content.place, pair].append(transfer(hosts, pair, content, options))
    return results


def machine(folder):
    """Processor, kernel, memory and the file system of the folder."""
    cpu_info, memory_info = Path("/proc/cpuinfo").read_text(), Path("/proc/meminfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    memory_gib = int(re.search(r"MemTotal:\s+(\d+)", memory_info)[1]) / (1 << 20)
    file_system = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", folder], capture_output=True, text=True,
                                 check=True).stdout
    return (f"{os.cpu_count()} × {model[1] if model else platform.machine()}, {memory_gib:.0f} GiB of memory, "
            f"Linux {platform.release()}, {file_system.strip()}")


def medians(rounds):
    """GB/s and CPU-s/GB of both sides, of the rounds that were complete; None without one."""
    good = [figures for figures in rounds if figures]
    return [statistics.median(column) for column in zip(*good)] if good else None


def own_pairs(pair):
    """The pairs of each of these clients with itself."""
    return dict.fromkeys(f"{client}:{client}" for client in pair.split(":"))


def named(clients, installed):
    return ", ".join(f"{client} = {NAMES[client]} {installed[client]}" for client in CLIENTS if client in clients)


def report(results, options, installed):
    """Prints Markdown: one row for each pair and place, with its ratio to the pairs of its clients with themselves."""
    clients = {client for _, pair in results for client in pair.split(":")}
    print(f"{options.gib:g} GiB, {options.piece_kib} KiB pieces, medians of {options.rounds} interleaved rounds, "
          f"{datetime.date.today()}; {machine(options.work)}. {named(clients, installed)}.\n")
    print("| seeder → getter | on | GB/s | × own pair | seed CPU-s/GB | get CPU-s/GB | complete |")
    print("|---|---|--:|--:|--:|--:|--:|")
    figures = {key: medians(rounds) for key, rounds in results.items()}
    for (place, pair), rounds in results.items():
        name, complete = pair.replace(":", " → "), f"{sum(map(bool, rounds))}/{len(rounds)}"
        if not figures[place, pair]:
            print(f"| {name} | {place} | – | – | – | – | {complete} |")
            continue
        speed, seed_cpu, get_cpu = figures[place, pair]
        own = [f"{speed / figures[place, other][0]:.2f} {other.split(':')[0]}" for other in own_pairs(pair)
               if other != pair and figures.get((place, other))]
        print(f"| {name} | {place} | {speed:.2f} | {', '.join(own) or '–'} | {seed_cpu:.2f} | {get_cpu:.2f} | {complete} |")
    for place in options.on:
        others = {pair: figure[0] for (where, pair), figure in figures.items()
                  if where == place and figure and "bt" not in pair.split(":")}
        if figures.get((place, "bt:bt")) and others:
            fastest = max(others, key=others.get)
            print(f"\nOn {place} bt → bt is {figures[place, 'bt:bt'][0] / others[fastest]:.2f} × the fastest pair of "
                  f"others, {fastest.replace(':', ' → ')}.")


def main():
    stop_on_signals()
    options = arguments()
    options.work = options.work.resolve()
    options.bt = options.bt.resolve()
    installed = versions(options)
    wanted = chosen_pairs(options, installed)
    pairs = [pair for pair in wanted if set(pair.split(":")) <= installed.keys()]
    for pair in wanted:
        if pair not in pairs:
            absent = " and ".join(sorted(set(pair.split(":")) - installed.keys()))
            print(f"{pair}: left out, {absent} is not installed", file=sys.stderr)
    if not pairs:
        sys.exit("no pair of installed clients: build bt-fast with 'cargo build --release' first")
    results = measure(pairs, options)
    report(results, options, installed)
    if options.json:
        keys = ["gb_per_s", "seed_cpu_s_per_gb", "get_cpu_s_per_gb"]
        rounds = {place: {pair: [figures and dict(zip(keys, figures)) for figures in results[place, pair]] for pair in pairs}
                  for place in options.on}
        options.json.write_text(json.dumps(
            {"machine": machine(options.work), "gib": options.gib, "versions": installed, "pairs": rounds}))
    return 0 if all(all(rounds) for rounds in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
