"""Measures replication to DynamoDB beside boto3, on moto. Called by ci/bench sync: sync.py PROGRAM [CASE…] [options].

  items     10000 changed rows of 500 bytes, one UpdateItem each: how fast they are in the table, and the CPU time of that
  journal   the same as rows of a journal, 25 in a BatchWriteItem
  million   a million pending changes (--rows): memory beside that of an agent without any, the file, and the order

boto3 sends the same items with the same requests, as many at a time. moto runs on core 0, the sides in turn on core 1.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KNOWN = ["items", "journal", "million"]
ITEMS, WINDOW, BATCH = 10_000, 8, 25
THING = "bench"
# With `million`, what a second moto is to have when the order is looked at.
PART = 2_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--boto3", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.boto3:
        return boto3_side(json.loads(Path(arguments.boto3).read_text()), arguments.cases[0])
    cases = arguments.cases or KNOWN
    if unknown := [case for case in cases if case not in KNOWN]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    rows = []
    for case in cases:
        rows += million(arguments) if case == "million" else drain(arguments, case)
    if arguments.json:
        print(json.dumps(rows))
        return None
    print(f"cpu           {cpu()}, {os.cpu_count()} cores\nload average  {' '.join(map(str, os.getloadavg()))}\n")
    print(f"{'case':<9}{'figure':<34}{'ours':>12}{'boto3':>12}{'ratio':>8}  {'goal':<10}verdict")
    for row in rows:
        verdict = "" if row["met"] is None else "met" if row["met"] else "missed"
        peer, ratio = (f"{row[name]:.2f}" if row[name] is not None else "-" for name in ("boto3", "ratio"))
        print(f"{row['case']:<9}{row['figure']:<34}{row['ours']:>12.2f}{peer:>12}{ratio:>8}  {row['goal']:<10}{verdict}")
    return None


def row(case, figure, ours, boto3=None, met=None, goal=""):
    ratio = ours / boto3 if boto3 else None
    say(f"{case} {figure}: {ours:.2f}" + (f", boto3 {boto3:.2f}" if boto3 else ""))
    return {"case": case, "figure": figure, "ours": ours, "boto3": boto3, "ratio": ratio, "met": met, "goal": goal}


def drain(arguments, case):
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        with bench(arguments.program) as device:
            device.fill(ITEMS, case == "journal")
            ours.append(device.drain(ITEMS))
        with bench(arguments.program) as device:
            theirs.append(device.boto3(case))
        say(f"{case}: {ours[-1]}, boto3 {theirs[-1]}")
    rate = [statistics.median(ITEMS / wall for wall, _ in side) for side in (ours, theirs)]
    cpu_us = [statistics.median(cpu / ITEMS * 1e6 for _, cpu in side) for side in (ours, theirs)]
    yield row(case, "rows in a second", *rate, met=rate[0] >= 0.7 * rate[1], goal=">= 0.70")
    yield row(case, "us CPU a row", *cpu_us, met=cpu_us[0] <= cpu_us[1] / 4, goal="<= 0.25")


def million(arguments):
    with bench(arguments.program) as device:
        with device.running():
            time.sleep(3)
            idle = device.anonymous()
        say(f"filling in {arguments.rows} rows")
        device.fill(arguments.rows, False)
        size = device.file_size()
        with device.running():
            most, began = 0, time.monotonic()
            while device.stored() < PART or time.monotonic() - began < 20:
                most = max(most, device.anonymous())
                time.sleep(0.1)
            pending = device.status()["backlog"]
        keys = device.keys()
        log = device.file_size() - size
    # Those on their way at the end are not there in order.
    oldest = sum(key < len(keys) for key in keys)
    yield row("million", "MB of memory over idle", (most - idle) / 1e6, met=most - idle <= 4e6, goal="<= 4")
    yield row("million", "bytes of the file a row", size / arguments.rows)
    yield row("million", "MB that the file grew by", log / 1e6, met=log <= 8e6, goal="<= 8")
    yield row("million", "of the first rows sent, the oldest", oldest / len(keys), met=len(keys) - oldest <= WINDOW, goal="all")
    yield row("million", "rows that still wait", float(pending))


class Device:
    """An agent with a database, and its cloud."""

    def __init__(self, program, directory, cloud):
        self.program, self.directory, self.cloud = program, directory, cloud
        self.agent = None
        self.write("etc/schema.json5", json.dumps(schema(False)))
        self.write(
            "etc/ioto.json5",
            json.dumps(
                {
                    "device": {"id": THING},
                    "services": {"web": False, "database": True, "sync": True},
                    "aws": {"endpoint": cloud["endpoint"], "region": "us-east-1"},
                    "sync": {"table": cloud["table"], "window": WINDOW},
                    "log": {"level": "error"},
                }
            ),
        )

    def write(self, name, text):
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def command(self, *words):
        places = ["--config", self.directory / "etc", "--state", self.directory / "state", "--profile", "dev"]
        return ["taskset", "--cpu-list", "1", self.program, *places, *words]

    def environment(self):
        keys = {"AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key"}
        return {"PATH": os.environ["PATH"], **{name: self.cloud[key] for name, key in keys.items()}}

    def fill(self, rows, is_journal):
        self.write("etc/schema.json5", json.dumps(schema(is_journal)))
        file = self.directory / "rows.jsonl"
        with file.open("w") as lines:
            for number in range(rows):
                lines.write(json.dumps(item(number)) + "\n")
        command = self.command("db", "import", "Reading", str(file))
        subprocess.run(command, check=True, env=self.environment(), stdout=subprocess.DEVNULL)
        file.unlink()

    @contextlib.contextmanager
    def running(self):
        log = (self.directory / "log").open("w")
        self.agent = subprocess.Popen(self.command("run"), env=self.environment(), stdout=log, stderr=log)
        try:
            yield
        finally:
            self.agent.send_signal(signal.SIGTERM)
            if self.agent.wait(30):
                sys.exit(f"the agent ended with {self.agent.returncode}: {(self.directory / 'log').read_text()[-2000:]}")

    def drain(self, rows):
        """Seconds and CPU seconds until all is in the table."""
        began = time.monotonic()
        with self.running():
            # Seldom: asking takes of both what is measured.
            while self.stored() < rows:
                time.sleep(0.1)
                if self.agent.poll() is not None:
                    sys.exit((self.directory / "log").read_text()[-2000:])
            wall, cpu_time = time.monotonic() - began, self.cpu_time()
        return wall, cpu_time

    def boto3(self, case):
        plain = {name: value for name, value in self.cloud.items() if isinstance(value, str)}
        self.write("cloud.json", json.dumps(plain))
        command = ["taskset", "--cpu-list", "1", sys.executable, __file__, "-", case, "--boto3", self.directory / "cloud.json"]
        figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return figures["wall"], figures["cpu"]

    def cpu_time(self):
        fields = Path(f"/proc/{self.agent.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def anonymous(self):
        lines = Path(f"/proc/{self.agent.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

    def status(self):
        output = subprocess.run(self.command("status", "--json"), check=True, env=self.environment(), stdout=subprocess.PIPE)
        return json.loads(output.stdout)["services"]["sync"]

    def file_size(self):
        return sum(file.stat().st_size for file in (self.directory / "state/db").iterdir())

    def stored(self):
        """Counted by moto itself, for a scan of all of it takes the time that is measured."""
        return int(self.cloud["count"]())

    def keys(self):
        return [int(key) for key in self.cloud["keys"]()]


def schema(is_journal):
    mode = "journal" if is_journal else "items"
    fields = {name: {"type": "string"} for name in ("id", "text")} | {"value": {"type": "number"}}
    return {"version": "1", "process": {"Reading": {"sync": "up", "mode": mode}}, "models": {"Reading": fields}}


def item(number):
    """About 500 bytes."""
    return {"id": f"{number:08}", "value": number / 8, "text": f"{number:04}" * 110}


@contextlib.contextmanager
def bench(program):
    """moto on core 0, in a process of its own that is asked what it has over a pipe."""
    with tempfile.TemporaryDirectory(prefix="ioto-bench-") as directory:
        script = Path(__file__).with_name("cloud.py")
        command = ["taskset", "--cpu-list", "0", sys.executable, script, "serve", "--port", "0", "--ask"]
        moto = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

        def ask(what):
            moto.stdin.write(what + "\n")
            moto.stdin.flush()
            return json.loads(moto.stdout.readline())

        try:
            cloud = json.loads(moto.stdout.readline())
            cloud |= {"count": lambda: ask("count"), "keys": lambda: ask("keys")}
            yield Device(program, Path(directory), cloud)
        finally:
            moto.stdin.close()
            moto.wait(10)


def boto3_side(cloud, case):
    """The same items with the same requests. Prints seconds and CPU seconds."""
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": cloud["access_key_id"], "aws_secret_access_key": cloud["secret_access_key"]}
    config = Config(max_pool_connections=WINDOW)
    dynamodb = boto3.client("dynamodb", endpoint_url=cloud["endpoint"], region_name="us-east-1", config=config, **keys)

    def attributes(number):
        row = item(number)
        stamps = {"_v": {"N": "1"}, "_op": {"B": os.urandom(16)}, "_w": {"S": THING}, "_dn": {"N": str(number + 1)}}
        stamps |= {"_ds": {"S": "0123456789ABCDEF"}, "_d": {"BOOL": False}, "_s": {"S": "1"}}
        return stamps | {"id": {"S": row["id"]}, "value": {"N": str(row["value"])}, "text": {"S": row["text"]}}

    def key(number):
        return {"pk": {"S": f"{THING}#Reading"}, "sk": {"S": f"{number:08}"}}

    def update(number):
        values = attributes(number)
        names = {f"#{place}": name for place, name in enumerate([*values, "_ts", "gpk", "ttl"])}
        assign = ",".join(f"#{place}=:{place}" for place in range(len(values)))
        remove = ",".join(f"#{place}" for place in range(len(values), len(names)))
        dynamodb.update_item(
            TableName=cloud["table"],
            Key=key(number),
            UpdateExpression=f"SET {assign} REMOVE {remove}",
            ConditionExpression="attribute_not_exists(pk)",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={f":{place}": value for place, value in enumerate(values.values())},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )

    def batch(first):
        numbers = range(first, first + BATCH)
        puts = [{"PutRequest": {"Item": key(number) | attributes(number)}} for number in numbers]
        dynamodb.batch_write_item(RequestItems={cloud["table"]: puts})

    began, usage = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    with ThreadPoolExecutor(WINDOW) as pool:
        work = pool.map(batch, range(0, ITEMS, BATCH)) if case == "journal" else pool.map(update, range(ITEMS))
        list(work)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_time = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    print(json.dumps({"wall": time.monotonic() - began, "cpu": cpu_time}))


def cpu():
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(": ")[2] if names else platform.machine()


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
