"""Measures the agent's database beside rusqlite alone. Called by ci/bench db: db.py PROGRAM FLUSH DIRECTORY [CASE…] [options].

FLUSH is the library that makes flushes slow. DIRECTORY is on the disk whose flushes count; what needs none is done in memory.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

KNOWN = ["get", "find", "write", "memory", "wear"]
ITEMS_OF_GET, ITEMS_OF_FIND, ITEMS_OF_MEMORY = 1_000, 100_000, 100_000
DAY = 86_400
# What a flush takes on an SD card or eMMC; that of a virtual disk may take nothing.
FLUSH_MS = 5
# The file system of `wear`: an image in memory, which the kernel counts the sectors of.
DISK_MB = 512


class Bench:
    def __init__(self, arguments, memory):
        self.program, self.disk, self.memory = arguments.program, Path(arguments.directory), Path(memory)
        self.rounds, self.rows, self.pace = arguments.rounds, arguments.rows, arguments.pace
        self.flush = os.path.abspath(arguments.flush)

    def run(self, case, side, file, count, pace=0.0, flush=0):
        environment = {"LD_PRELOAD": self.flush, "FLUSH_MS": str(flush)} if flush else {}
        command = ["taskset", "--cpu-list", "1", self.program, case, side, str(file), str(count), str(pace)]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
        return json.loads(output) if output else {}

    def median(self, name, sides, measure):
        """The median of the rounds for each side, in turn."""
        figures = {side: [] for side in sides}
        for number in range(self.rounds):
            for side in sides:
                figures[side].append(measure(side, number))
                say(f"{name} {side}: {figures[side][-1]:.1f}")
        return {side: statistics.median(values) for side, values in figures.items()}

    def filled(self, items):
        files = {side: self.memory / f"{side}{items}.db" for side in ("ours", "document", "columns")}
        for side, file in files.items():
            self.run("fill", side, file, items)
        return files

    def get(self):
        files, count = self.filled(ITEMS_OF_GET), 50_000

        def measure(side, _):
            case, _, side = side.rpartition(" ")
            return self.run(case or "get", side, files[side], count)["cpu"] / count * 1e6

        us = self.median("get", ["ours", "get-64 ours", "document", "columns"], measure)
        for name, side in (("get", "ours"), ("get-64", "get-64 ours")):
            for peer in ("document", "columns"):
                yield row(name, "us CPU", us[side], peer, us[peer], us[side] / us[peer] <= 1.5, "<= 1.5")

    def find(self):
        files, count = self.filled(ITEMS_OF_FIND), 5_000
        cpu = {side: [] for side in files}

        def measure(side, _):
            figures = self.run("find", side, files[side], count)
            cpu[side].append(figures["cpu"] / count * 1e6)
            return figures["wall"] / count * 1e6

        us = self.median("find", list(files), measure)
        for peer in ("document", "columns"):
            yield row("find", "us", us["ours"], peer, us[peer], us["ours"] < 150, "< 150 us")
        cpu = {side: statistics.median(values) for side, values in cpu.items()}
        yield row("find", "us CPU", cpu["ours"], "document", cpu["document"], None, "")

    def write(self):
        sides = {
            "64 ours": ("create-64", "ours", 10_000),
            "64 up": ("create-64", "up", 10_000),
            "1 ours": ("create", "ours", 500),
            "document": ("create", "document", 500),
            "plain": ("create", "plain", 500),
        }
        for flush in (0, FLUSH_MS):
            cpu = {side: [] for side in sides}

            def measure(side, number, flush=flush, cpu=cpu):
                case, kind, count = sides[side]
                with tempfile.TemporaryDirectory(dir=self.disk) as directory:
                    figures = self.run(case, kind, Path(directory) / f"{number}.db", count, flush=flush)
                cpu[side].append(figures["cpu"] / count * 1e6)
                return count / figures["wall"]

            rate = self.median(f"write {flush} ms", list(sides), measure)
            us = {side: statistics.median(values) for side, values in cpu.items()}
            for side in ("64 ours", "64 up", "1 ours"):
                name = f"write {side}, {flush} ms" if flush else f"write {side}"
                for peer in ("document", "plain"):
                    ratio = rate[side] / rate[peer]
                    goal = (ratio >= 30, ">= 30") if (side, peer) == ("64 ours", "document") else (None, "")
                    yield row(name, "rows/s", rate[side], peer, rate[peer], *goal)
                yield row(name, "us CPU", us[side], "document", us["document"], None, "")

    def memory_(self):
        figures = self.run("memory", "ours", self.memory / "memory.db", ITEMS_OF_MEMORY)
        say(f"memory: {figures}")
        yield row("memory", "KB", figures["most"], "opened", figures["opened"], figures["most"] <= 4096, "<= 4096 KB")

    def wear(self):
        sides = ["ours", "up", "document", "plain"]
        for case in ("create", "update"):
            written = {}
            for side in sides:
                with disk(self.memory) as (mount, sectors):
                    if case == "update":
                        self.run("create", side, mount / "device.db", 64)
                    os.sync()
                    before = sectors()
                    self.run(case, side, mount / "device.db", self.rows, self.pace)
                    os.sync()
                    written[side] = (sectors() - before) * 512 / self.rows
                    say(f"wear {case} {side}: {written[side]:.0f} bytes")
            for side in ("ours", "up"):
                for peer in ("document", "plain"):
                    yield row(f"wear {case} {side}", "bytes/row", written[side], peer, written[peer], None, "")


@contextlib.contextmanager
def disk(directory):
    """A fresh ext4 on a loop device: where it is mounted, and what says how many sectors were written to it."""
    image, mount = directory / "disk", directory / "mnt"
    mount.mkdir(exist_ok=True)
    with open(image, "wb") as file:
        file.truncate(DISK_MB << 20)
    # All of it is written now: otherwise the kernel would write the rest of the file system in the background.
    options = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", options, str(image)], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", str(image), str(mount)], check=True)
    try:
        device = Path(subprocess.check_output(["findmnt", "-n", "-o", "SOURCE", str(mount)], text=True).strip()).name
        yield mount, lambda: int(Path(f"/sys/block/{device}/stat").read_text(encoding="ascii").split()[6])
    finally:
        subprocess.run(["umount", str(mount)], check=True)
        image.unlink()


def row(case, unit, ours, peer, theirs, met, goal):
    return {"case": case, "unit": unit, "ours": ours, "peer": peer, "theirs": theirs, "ratio": ours / theirs if theirs else None,
            "goal": goal, "met": met}


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("flush")
    parser.add_argument("directory")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=DAY)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    unknown = [case for case in arguments.cases if case not in KNOWN]
    if unknown:
        parser.error(f"no such case: {unknown[0]}; there are {', '.join(KNOWN)}")
    load = " ".join(f"{load:.2f}" for load in os.getloadavg())
    rows = []
    with tempfile.TemporaryDirectory(prefix="ioto-bench-", dir="/dev/shm") as memory:
        bench = Bench(arguments, memory)
        methods = {"get": bench.get, "find": bench.find, "write": bench.write, "memory": bench.memory_, "wear": bench.wear}
        for case in arguments.cases or KNOWN:
            rows += methods[case]()
    if arguments.json:
        print(json.dumps({"load": load, "rounds": arguments.rounds, "figures": rows}, indent=1))
        return
    print(f"load average  {load}\nrounds        {arguments.rounds}, the median counts\n")
    verdict = {True: "met", False: "missed", None: ""}
    print(f"{'case':22}{'unit':11}{'ours':>10}  {'beside':10}{'theirs':>10}{'ratio':>8}  {'goal':12}verdict")
    for r in rows:
        ratio = f"{r['ratio']:8.2f}" if r["ratio"] is not None else " " * 8
        print(f"{r['case']:22}{r['unit']:11}{r['ours']:10.1f}  {r['peer']:10}{r['theirs']:10.1f}{ratio}  "
              f"{r['goal']:12}{verdict[r['met']]}".rstrip())


main()
