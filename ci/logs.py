#!/usr/bin/env python3
"""Usage: unshare --mount --pid --fork --mount-proc --kill-child ci/logs.py PROGRAM [LINES]

What the forwarding of the journal costs: CPU time for a line and the largest memory of the agent PROGRAM and of its
journalctl, beside `journalctl --follow --output=json >/dev/null` alone on the same journal. Run by `ci/bench logs`, as root.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

JOURNALD = "/lib/systemd/systemd-journald"
SOCKET = "/run/systemd/journal/socket"
MARK = b"[ioto@32473 "
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def shell(*command):
    subprocess.run(command, check=True)


def journal(lines):
    """A journal of its own with so many lines."""
    shell("mount", "--make-rprivate", "/")
    for directory in ["/run", "/etc/systemd", "/var/log/journal"]:
        os.makedirs(directory, exist_ok=True)
        shell("mount", "-t", "tmpfs", "tmpfs", directory)
    os.makedirs("/run/systemd/journal")
    Path("/etc/systemd/journald.conf").write_text(
        "[Journal]\nRateLimitBurst=0\nRateLimitIntervalSec=0\nReadKMsg=no\nSystemMaxUse=1G\n")
    daemon = subprocess.Popen([JOURNALD], stderr=subprocess.DEVNULL)
    writer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    while True:
        try:
            writer.connect(SOCKET)
            break
        except OSError:
            time.sleep(0.05)
    for line in range(lines):
        text = f"line {line} " + "x" * (line * 7919 % 100)
        writer.send(f"MESSAGE={text}\nPRIORITY=6\nSYSLOG_IDENTIFIER=writer\n".encode())
    wait(f"line {lines - 1} ", lambda: subprocess.run(
        ["journalctl", "--output=cat", "--lines=1"], capture_output=True, text=True).stdout)
    return daemon


def wait(begin, output):
    while not output().startswith(begin):
        time.sleep(0.1)


def cpu(pid):
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Its largest resident memory, in KB."""
    return int(next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                    if line.startswith("VmHWM")))


def alone():
    """journalctl by itself, until it has nothing more to do."""
    child = subprocess.Popen(["journalctl", "--follow", "--lines=all", "--output=json"], stdout=subprocess.DEVNULL)
    last, since = -1.0, time.time()
    while time.time() - since < 1.0:
        now = cpu(child.pid)
        if now != last:
            last, since = now, time.time()
        time.sleep(0.1)
    figures = (last, memory(child.pid))
    child.kill()
    child.wait()
    return figures


def receive(listener, count):
    """Counts messages; their own times do not matter."""
    while True:
        stream, _ = listener.accept()
        rest = b""
        while data := stream.recv(1 << 18):
            data = rest + data
            count[0] += data.count(MARK)
            rest = data[-(len(MARK) - 1):]


def forwarded(program, lines):
    """The agent and its journalctl, until all lines are with the sink."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = [0]
    threading.Thread(target=receive, args=(listener, count), daemon=True).start()
    place = Path(tempfile.mkdtemp(prefix="ioto-bench-"))
    for name in ["config", "state", "share"]:
        (place / name).mkdir()
    (place / "config/ioto.json5").write_text(json.dumps({
        "services": {"logs": True, "database": False, "web": False},
        "directories": {"run": f"{place}/run"},
        "logs": {"sink": f"syslog+tcp://127.0.0.1:{listener.getsockname()[1]}",
                 "sources": [{"journal": {"position": "start"}, "filter": {"identifiers": "writer"}}]}}))
    began = time.time()
    agent = subprocess.Popen([program, "run", "--profile", "dev", "--config", f"{place}/config",
                              "--state", f"{place}/state"],
                             env={**ENVIRONMENT, "IOTO_DIRECTORIES_SHARE": f"{place}/share"},
                             stdout=subprocess.DEVNULL, stderr=open(place / "errors", "wb"))
    while count[0] < lines:
        if agent.poll() is not None or time.time() - began > 300:
            errors = (place / "errors").read_text()[-2000:]
            sys.exit(f"{program}: {count[0]} of {lines} lines arrived\n{errors}")
        time.sleep(0.02)
    took = time.time() - began
    children = Path(f"/proc/{agent.pid}/task").glob("*/children")
    child = next(pid for task in children for pid in task.read_text().split())
    figures = (cpu(agent.pid), memory(agent.pid)), (cpu(child), memory(child)), took
    agent.send_signal(signal.SIGTERM)
    agent.wait()
    shutil.rmtree(place)
    return figures


def main():
    program, lines = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    daemon = journal(lines)
    print(f"{lines} lines; load average {os.getloadavg()[0]:.1f}; times are user and system")
    print(f"{'':28}{'µs a line':>10}{'peak KB':>10}")
    for round_ in range(3):
        time_, size = alone()
        print(f"{'journalctl -f -o json alone':28}{time_ / lines * 1e6:10.1f}{size:10}")
        (agent, agent_size), (child, child_size), took = forwarded(program, lines)
        print(f"{'the agent':28}{agent / lines * 1e6:10.1f}{agent_size:10}")
        print(f"{'its journalctl -o export':28}{child / lines * 1e6:10.1f}{child_size:10}   in {took:.1f} s", flush=True)
    daemon.terminate()


main()
