"""Measures our MQTT client beside libmosquitto on one mosquitto. Called by ci/bench mqtt: mqtt.py OURS THEIRS [options]."""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

# Name, quality of service, messages of a round, goal: our CPU time by theirs. What is durable of ours is beside what they
# hold in memory.
CASES = [
    ("qos0", 0, 200_000, 0.25),
    ("qos1", 1, 50_000, 0.9),
    ("durable", 1, 50_000, 2.0),
]
BYTES, WINDOW = 64, 100


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_broker(directory, port):
    path = os.path.join(directory, "mosquitto.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n")
    command = ["taskset", "--cpu-list", "0", "/usr/sbin/mosquitto", "-c", path]
    broker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return broker
        except OSError:
            time.sleep(0.05)
    sys.exit("mosquitto does not start")


def measure(program, port, qos, messages, outbox=()):
    words = [program, str(port), str(qos), str(messages), str(BYTES), str(WINDOW), *outbox]
    output = subprocess.run(["taskset", "--cpu-list", "1", *words], stdout=subprocess.PIPE, check=True, timeout=300)
    figures = json.loads(output.stdout)
    return figures["cpu"] / messages * 1e6, figures["rss"]


def compare(case, programs, port, rounds, directory):
    name, qos, messages, goal = case
    cpu, rss = {who: [] for who in programs}, {who: [] for who in programs}
    for number in range(rounds):
        for who, program in programs.items():
            outbox = [os.path.join(directory, f"outbox{number}")] if (name, who) == ("durable", "ours") else []
            used, memory = measure(program, port, qos, messages, outbox)
            cpu[who].append(used)
            rss[who].append(memory)
            print(f"{name} {who}: {used:.2f} us, {memory} KB", file=sys.stderr)
    ours, theirs = (statistics.median(cpu[who]) for who in ("ours", "libmosquitto"))
    memory = [max(rss[who]) for who in ("ours", "libmosquitto")]
    return {
        "case": name, "unit": "us/message", "ours": ours, "libmosquitto": theirs, "ratio": ours / theirs, "goal": goal,
        "met": ours / theirs <= goal, "rss": memory[0], "rssLibmosquitto": memory[1], "rssMet": memory[0] <= memory[1],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    programs = {"ours": arguments.ours, "libmosquitto": arguments.theirs}
    with tempfile.TemporaryDirectory(prefix="ioto-bench-") as directory:
        port = free_port()
        broker = start_broker(directory, port)
        try:
            rows = [compare(case, programs, port, arguments.rounds, directory) for case in CASES]
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait()
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    verdict = {True: "met", False: "missed"}
    print(f"{'case':8}{'unit':12}{'ours':>8}{'libmosquitto':>14}{'ratio':>7}  goal       verdict")
    for row in rows:
        print(f"{row['case']:8}{row['unit']:12}{row['ours']:8.2f}{row['libmosquitto']:14.2f}{row['ratio']:7.2f}"
              f"  <= {row['goal']:<7} {verdict[row['met']]}")
        print(f"{'':8}{'KB at most':12}{row['rss']:8}{row['rssLibmosquitto']:14}"
              f"{row['rss'] / row['rssLibmosquitto']:7.2f}  <= 1.0     {verdict[row['rssMet']]}")


main()
