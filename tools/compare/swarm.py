#!/usr/bin/env python3
"""One bt-fast origin; half of the downloaders are bt-fast, half libtorrent: when each is done, and whether the bytes are the same.

All are processes on loopback that find each other by `bt-fast track`. The downloaders and the origin limit themselves to --link bytes/s.
A downloader is done when it reports that everything is verified, and seeds until the last one is done. Prints a line for each
downloader and the medians. The exit code is 1 if bytes differ or a downloader did not finish.
Needs libtorrent in $LT_PYTHON or target/venv. Example: tools/compare/swarm.py --each 4 --mib 512 --link 20000000
"""

import argparse
import contextlib
import filecmp
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
import pairs  # noqa: E402

ROOT = pairs.ROOT
LT_CLIENT = pairs.SUPPORT / "lt_client.py"
IP = "127.0.0.1"
TRACKER_PORT, FIRST_PORT = 6969, 7101


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=4, help="downloaders of each client [4]")
    parser.add_argument("--mib", type=int, default=256, help="size of the file [256]")
    parser.add_argument("--piece", default="256K", help="piece length [256K]")
    parser.add_argument("--link", type=int, help="bytes/s of every link, up and down [no limit]")
    parser.add_argument("--rounds", type=int, default=1, help="[1]")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a round [300]")
    parser.add_argument("--work", type=Path, default=ROOT / "target/swarm", help="folder for files [target/swarm]")
    parser.add_argument("--bt", type=Path, default=ROOT / "target/release/bt-fast", help="[target/release/bt-fast]")
    parser.add_argument("--only", choices=["bt", "lt"], help="all downloaders are this client")
    return parser.parse_args()


def start(command, log):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(log, "wb"), text=True)


def end(process):
    if process.poll() is None:
        process.kill()
        process.wait()


def wait_for(process, said):
    """Reads the process's lines until `said` accepts one; returns that line."""
    for line in process.stdout:
        if said(line):
            return line
    raise RuntimeError(f"{process.args[0]} ended early: {process.args[1:3]}")


def event(name, **fields):
    def said(line):
        record = json.loads(line) if line.startswith("{") else {}
        return record.get("event") == name and all(record.get(key, 0) >= value for key, value in fields.items())

    return said


def downloader(client, at, options, torrent, length):
    """The command, and the predicate for the line that it prints when it has everything."""
    folder = options.work / f"get{at}"
    folder.mkdir()
    port, rate = str(FIRST_PORT + at), str(options.link)
    if client == "lt":
        command = [pairs.python(), "-u", LT_CLIENT, "share", torrent, folder, IP, port, *([rate] if options.link else [])]
        said = lambda line: line.strip() == "complete"  # noqa: E731
    else:
        limits = ["--up", rate, "--down", rate] if options.link else []
        command = [options.bt, "get", torrent, "-o", folder, "--listen", f"{IP}:{port}", "--seed", "--json", *limits]
        command += ["--json-interval", "50ms"]
        said = event("progress", bytes_done=length)
    return command, said


def swarm(options, content, torrent):
    """[(client, seconds or None, exact)], and the copies that the origin sent."""
    for folder in options.work.glob("get*"):
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    limits = ["--up", str(options.link)] if options.link else []
    seed = [options.bt, "seed", torrent, "--data", content.parent, "--listen", f"{IP}:{FIRST_PORT - 1}", "--json"]
    clients = [options.only or client for _ in range(options.each) for client in ("bt", "lt")]
    finished, ended = [None] * len(clients), [False] * len(clients)
    with contextlib.ExitStack() as stack:
        def run(command, log):
            process = start([str(part) for part in command], log)
            stack.callback(end, process)
            return process

        origin = run(seed + limits, options.work / "origin.log")
        wait_for(origin, event("seeding"))
        began = time.monotonic()
        processes = []
        for at, client in enumerate(clients):
            command, said = downloader(client, at, options, torrent, content.stat().st_size)
            processes.append(run(command, options.work / f"get{at}.log"))

            def watch(at=at, process=processes[-1], said=said):
                try:
                    wait_for(process, said)
                    finished[at] = time.monotonic() - began
                    for _ in process.stdout:
                        pass
                except (RuntimeError, ValueError):
                    ended[at] = True

            threading.Thread(target=watch, daemon=True).start()
        while None in finished and not any(ended) and time.monotonic() < began + options.timeout:
            time.sleep(0.05)
        for process in processes:
            process.terminate()
        origin.terminate()
        uploaded = json.loads(wait_for(origin, event("stopped")))["uploaded"]
        for process in [*processes, origin]:
            process.wait(30)
    paths = [options.work / f"get{at}" / content.name for at in range(len(clients))]
    exact = [path.exists() and filecmp.cmp(content, path, shallow=False) for path in paths]
    return list(zip(clients, finished, exact)), uploaded / content.stat().st_size


def main():
    pairs.stop_on_signals()
    options = arguments()
    shutil.rmtree(options.work, ignore_errors=True)
    source = options.work / "source"
    source.mkdir(parents=True)
    content, torrent = source / "content.bin", options.work / "content.torrent"
    with open(content, "wb") as file:
        for _ in range(options.mib):
            file.write(os.urandom(1 << 20))
    announce = f"http://{IP}:{TRACKER_PORT}/announce"
    create = [options.bt, "create", content, "-o", torrent, "-l", options.piece, "-a", announce, "-q"]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
    tracker = start([str(options.bt), "track", "--open", "--listen", f"{IP}:{TRACKER_PORT}"], options.work / "tracker.log")
    failed = False
    try:
        for round_number in range(1, options.rounds + 1):
            outcome, copies = swarm(options, content, torrent)
            print(f"round {round_number}: origin sent {copies:.2f} copies")
            for client, seconds, exact in outcome:
                print(f"  {client}  {'not done' if seconds is None else f'{seconds:7.2f} s'}  {'exact' if exact else 'DIFFERS'}")
                failed |= seconds is None or not exact
            for client in sorted({client for client, _, _ in outcome}):
                times = [seconds for other, seconds, _ in outcome if other == client and seconds is not None]
                if times:
                    print(f"  {client}: first {min(times):.2f}, median {statistics.median(times):.2f}, last {max(times):.2f} s")
    finally:
        end(tracker)
    sys.exit(1 if failed else 0)


main()
