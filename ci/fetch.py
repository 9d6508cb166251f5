#!/usr/bin/env python3
"""Usage: ci/fetch.py PROGRAM [CASE…] [--rounds N] [--json] [--requests N] [--megabytes N]

What `PROGRAM fetch` costs beside curl, on the same server in the same run: CPU time (user and system) and the largest
memory. Run by `ci/bench fetch`. The server is nginx on core 0, the clients are on core 1; they take turns.

  plain, tls   one response of 1 GB over HTTP and HTTPS, to /dev/null
  small        10000 requests of 1 KB on one connection, as `--repeat` and as a list of URLs (curl -K)
  small-tls    the same over TLS
  memory       of the largest response, beside that of a small one
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NGINX = """daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    root {directory}/www;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {directory}/server.pem;
        ssl_certificate_key {directory}/server.key;
        ssl_protocols TLSv1.3;
    }}
}}
"""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    known = ["plain", "tls", "small", "small-tls", "memory"]
    unknown = [case for case in arguments.cases if case not in known]
    if unknown:
        parser.error(f"no such case: {unknown[0]}; there are {', '.join(known)}")
    # In memory: a disk would be measured otherwise.
    with tempfile.TemporaryDirectory(prefix="ioto-bench-", dir="/dev/shm") as directory:
        with Server(Path(directory), arguments.megabytes) as server:
            bench = Bench(server, arguments)
            figures = [figure for case in arguments.cases or known for figure in bench.measure(case)]
    report(figures, arguments)


class Server:
    """nginx with a large and a small file, plain and over TLS."""

    def __init__(self, directory, megabytes):
        self.directory = directory
        self.plain, self.tls = free_port(), free_port()
        # For nginx's worker, which is nobody.
        directory.chmod(0o755)
        (directory / "www").mkdir()
        (directory / "www/small").write_bytes(b"x" * 1024)
        # A sparse file: its bytes are all the same, and nobody has to read them from anywhere.
        with open(directory / "www/large", "wb") as file:
            file.truncate(megabytes << 20)
        openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl += ["-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=bench", "-days", "2"]
        openssl += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(openssl, cwd=directory, check=True, capture_output=True)
        (directory / "nginx.conf").write_text(NGINX.format(directory=directory, plain=self.plain, tls=self.tls))

    def __enter__(self):
        command = ["taskset", "--cpu-list", "0", "nginx", "-c", str(self.directory / "nginx.conf")]
        self.child = subprocess.Popen(command + ["-e", str(self.directory / "error.log")], env=ENVIRONMENT)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.tls)) == 0:
                    return self
            time.sleep(0.05)
        sys.exit("nginx does not start")

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()

    def url(self, name, tls):
        return f"https://127.0.0.1:{self.tls}/{name}" if tls else f"http://127.0.0.1:{self.plain}/{name}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bench:
    def __init__(self, server, arguments):
        self.server, self.arguments = server, arguments
        self.ours = [os.path.abspath(arguments.program), "fetch", "-s", "-S", "-f"]
        self.theirs = ["curl", "-q", "-s", "-S", "-f"]

    def measure(self, case):
        tls = case.endswith("tls")
        trust = ["--cacert", str(self.server.directory / "server.pem")] if tls else []
        if case == "memory":
            yield from self.memory()
        elif case.startswith("small"):
            url, count = self.server.url("small", tls), self.arguments.requests
            listed = self.server.directory / "urls"
            listed.write_text(f"url = {url}\noutput = /dev/null\n" * count)
            ours = self.ours + trust + ["--repeat", str(count), "-o", "/dev/null", url]
            theirs = self.theirs + trust + ["-K", str(listed)]
            yield self.compare(case, ours, theirs, 1e6 / count, "us/request", 0.7)
        else:
            url = self.server.url("large", tls)
            tail = trust + ["-o", "/dev/null", url]
            yield self.compare(case, self.ours + tail, self.theirs + tail, 1024 / self.arguments.megabytes, "s/GB", 1.1)

    def compare(self, case, ours, theirs, factor, unit, goal):
        """Both once to warm up, then in turn; the median of each counts."""
        times = {"ours": [], "curl": []}
        for count in range(self.arguments.rounds + 1):
            for name, command in ("ours", ours), ("curl", theirs):
                seconds = run(command)[0]
                if count > 0:
                    times[name].append(seconds * factor)
            progress(f"{case}: round {count} of {self.arguments.rounds}")
        ours, curl = statistics.median(times["ours"]), statistics.median(times["curl"])
        ratios = [o / c for o, c in zip(times["ours"], times["curl"])]
        return {"case": case, "unit": unit, "ours": ours, "curl": curl, "ratio": ours / curl, "goal": goal,
                "met": ours / curl <= goal, "ratios": [round(ratio, 3) for ratio in ratios]}

    def memory(self):
        for tls in False, True:
            trust = ["--cacert", str(self.server.directory / "server.pem")] if tls else []
            peaks = {}
            for name in "small", "large":
                for who, command in ("ours", self.ours), ("curl", self.theirs):
                    whole = command + trust + ["-o", "/dev/null", self.server.url(name, tls)]
                    peaks[who, name] = statistics.median(run(whole)[1] for _ in range(self.arguments.rounds))
            growth = peaks["ours", "large"] - peaks["ours", "small"]
            yield {"case": "memory-tls" if tls else "memory", "unit": "KB", "ours": peaks["ours", "large"],
                   "curl": peaks["curl", "large"], "ratio": peaks["ours", "large"] / peaks["curl", "large"],
                   "growth": growth, "goal": 1024, "met": growth <= 1024}


def run(command):
    """CPU time in seconds and the largest memory in KB. GNU time starts it: a child of this large program would count
    what it shared with it for a moment."""
    read, write = os.pipe()
    whole = ["taskset", "--cpu-list", "1", "/usr/bin/time", "--quiet", "-f", "%M", "-o", f"/dev/fd/{write}"] + command
    child = subprocess.Popen(whole, env=ENVIRONMENT, pass_fds=[write])
    os.close(write)
    with os.fdopen(read) as pipe:
        memory = pipe.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {child.returncode}")
    return usage.ru_utime + usage.ru_stime, int(memory.split()[-1])


def progress(text):
    print(text, file=sys.stderr)


def report(figures, arguments):
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1]
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"date          {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    print(f"kernel        {platform.system()} {platform.release()}, {os.cpu_count()} cores")
    print(f"load average  {load}")
    print(f"peers         curl {version}, OpenSSL")
    print(f"rounds        {arguments.rounds}, the median counts\n")
    print("case        unit             ours      curl   ratio  goal             verdict")
    for figure in figures:
        goal = f"<= +{figure['goal']} KB" if "growth" in figure else f"<= {figure['goal']:.2f} curl"
        more = f"  {figure['growth']:+.0f} KB over a small one" if "growth" in figure else ""
        verdict = "met" if figure["met"] else "missed"
        digits = 3 if figure["unit"] == "s/GB" else 1
        print(f"{figure['case']:11} {figure['unit']:10} {figure['ours']:10.{digits}f}{figure['curl']:10.{digits}f}"
              f"{figure['ratio']:8.2f}  {goal:16} {verdict}{more}")


if __name__ == "__main__":
    if not shutil.which("curl"):
        sys.exit("this takes curl")
    main()
