"""The start of the device, and what the agent is and may do after it."""

import http.client
import json
import re

from cases import case
from machine import until

# Who it is, and what the kernel lets it do: the same in every thread.
RIGHTS = ("Uid", "CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp")


def status(machine, process=None):
    """The fields of the /proc/PID/status of the agent, or of another process."""
    return fields(machine.do(f"cat /proc/{process or machine.agent()}/status"))


def fields(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def threads(machine):
    """The fields of the status of each thread of the agent."""
    text = machine.do(f"for task in /proc/{machine.agent()}/task/*; do cat $task/status; done")
    return [fields("Name:" + part) for part in text.split("Name:")[1:]]


def user(machine, name):
    return machine.do(f"sed -n 's/^{name}:[^:]*:\\([0-9]*\\):.*/\\1/p' /etc/passwd")


def agents_status(machine):
    return json.loads(machine.do("ioto status --json"))


def memory(machine):
    """What the agent, and where systemd counts its whole group, takes."""
    text = f"{status(machine)['VmRSS']} resident"
    if machine.image.init == "systemd":
        text += f", {int(machine.do('systemctl show -P MemoryCurrent ioto')) // 1024} kB in its group"
    return text


@case(on=("systemd",), quick=True)
def the_agent_is_ready_within_10_s_of_multi_user(device):
    """It is a part of multi-user.target and so comes before it: what counts as well is the time from the unit's start."""
    machine = device.on()
    names = ("ActiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic", "NRestarts")
    ready, began, restarts = (int(machine.do(f"systemctl show -P {name} ioto")) for name in names)
    until(lambda: machine.do("systemctl show -P ActiveState multi-user.target") == "active", 60, "no multi-user.target")
    users = int(machine.do("systemctl show -P ActiveEnterTimestampMonotonic multi-user.target"))
    assert ready > 0 and restarts == 0, machine.log()
    took, late = (ready - began) / 1e6, (ready - users) / 1e6
    text = f"READY {took:.1f} s after the start of its unit, {late:+.1f} s from multi-user.target, {ready / 1e6:.1f} s after the kernel"
    assert took < 10 and late < 10, f"NOT PROVED, {text}; is this machine busy?"
    return f"{text}, {memory(machine)}"


@case(on=("busybox",), quick=True)
def the_agent_is_ready_within_10_s_of_the_init_scripts(device):
    machine = device.on()
    began = float(machine.do("cat /run/image-test.started"))
    age = int(machine.do(f"cut -d ' ' -f 22 /proc/{machine.agent()}/stat")) / 100
    ready = age + json.loads(machine.do("ioto-rescue status"))["agent"]["readyAfter"]
    late = ready - began
    text = f"ready {late:.1f} s after the first start script, {ready:.1f} s after the kernel"
    assert late < 10, f"NOT PROVED, {text}; is this machine busy?"
    return f"{text}, the page came {machine.page:.1f} s after power on, {memory(machine)}"


@case(quick=True)
def the_page_and_tls_answer_through_forwarded_ports(device):
    machine = device.on()
    plain = http.client.HTTPConnection("127.0.0.1", machine.http, timeout=60)
    plain.request("GET", "/")
    response = plain.getresponse()
    body = response.read()
    assert response.status == 200 and b"<html" in body, (response.status, body[:200])
    client = machine.client()
    assert client.get("/")[1] == body
    kind = client.connection.sock.version()
    assert kind == "TLSv1.3", kind
    # Nobody without the token reaches the database.
    plain.request("GET", "/api/db/Reading")
    assert plain.getresponse().status in (401, 403)
    assert client.write("page")[0] == 201
    return f"ports 80 and 443 of the device, {kind}"


@case(quick=True)
def the_agent_is_a_user_without_rights_in_all_threads(device):
    machine = device.on()
    uid = user(machine, "ioto")
    found = threads(machine)
    assert len(found) >= 2, found
    for thread in found:
        rights = {name: thread[name] for name in RIGHTS}
        assert thread["Uid"].split() == [uid] * 4 and thread["Gid"].split()[0] != "0", rights
        assert all(int(thread[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")), rights
        assert thread["NoNewPrivs"] == "1" and thread["Seccomp"] == "2", rights
    first = found[0]
    return f"{len(found)} threads: uid {uid}, CapEff 0, NoNewPrivs 1, Seccomp 2 ({first['Seccomp_filters']} filters), CapBnd {first['CapBnd']}"


@case(quick=True)
def the_sandbox_of_the_process_is_on(device):
    """Landlock shows in no file of the kernel: the agent knows what it was answered."""
    sandbox = agents_status(device.on())["sandbox"]
    assert sandbox["active"] and sandbox["landlock"].startswith("ABI"), sandbox
    assert sandbox["capabilities"] == [] and sandbox["noNewPrivs"] and not sandbox["warnings"], sandbox
    assert re.match(r"\d+ calls", sandbox["seccomp"]), sandbox
    return sandbox["summary"]


# What the rights of the files alone would let every user write.
OPEN = "/run/open /var/open /data/open /dev/shm"
MINE = {"/var/lib/ioto", "/run/ioto", "/tmp"}
# The routes of root/all/etc/ioto/ioto.d/image-test.json5, and the worker.
PROBE = """{web: {routes: [
  {match: '/probe', handler: 'proxy', proxy: {program: ['/usr/lib/image-test/probe']}},
  {match: '/api/', handler: 'action', role: 'api'},
  {match: ''},
]}}"""


@case(quick=True)
def the_agent_writes_nowhere_but_in_its_state(device):
    """A worker, which the agent starts and which lives in the same sandbox, tries it. Workers have a temporary directory."""
    machine = device.on()
    machine.do(f'mkdir -p {OPEN} && chmod 1777 {OPEN} && mkdir -p /var/lib/ioto/config')
    machine.do(f'echo "{PROBE}" >/var/lib/ioto/config/local.json5 && chown -R ioto:ioto /var/lib/ioto/config')
    machine.restart_agent()
    try:
        def tried():
            # It is no server: the request is only what makes the agent start it.
            machine.poke("/probe")
            return machine.sh("cat /var/lib/ioto/probe.txt")[0] == 0

        until(tried, 120, "the worker does not come to its end")
        report = machine.do("cat /var/lib/ioto/probe.txt")
        outside = machine.sh("ls /tmp/probe")[0] == 0
    finally:
        machine.do("rm -f /var/lib/ioto/config/local.json5 /var/lib/ioto/probe.txt /tmp/probe; rmdir /data/open")
        machine.restart_agent()
    answers = dict(line.split(": ", 1) for line in report.splitlines())
    assert answers.pop("uid") == user(machine, "ioto"), report
    written = {place for place, answer in answers.items() if answer == "written"}
    assert written == MINE, report
    refused = [answer for place, answer in answers.items() if place not in MINE]
    assert all(re.search("Permission denied|Read-only file system", answer) for answer in refused), report
    assert set(OPEN.split()) < answers.keys(), report
    # systemd gives it a /tmp of its own.
    assert outside == (device.image.init == "busybox"), "its /tmp"
    denied = sum("Permission" in answer for answer in refused)
    return f"{len(refused)} places refused (EACCES {denied}, EROFS {len(refused) - denied}), written: {' '.join(sorted(written))}"


@case(quick=True)
def the_root_is_read_only(device):
    machine = device.on()
    assert re.search(r" / ext4 ro", machine.do("cat /proc/mounts")), "root is writable"
    assert machine.sh("touch /etc/x")[0] != 0
    if device.image.init == "systemd":
        failed = machine.do("systemctl --failed --no-legend --plain")
        assert not failed, failed


@case(quick=True)
def the_doctor_finds_nothing_failed(device):
    code, text = device.on().sh("ioto doctor --json")
    checks = json.loads(text)["checks"]
    bad = [f"{check['check']}: {check['text']}" for check in checks if check["level"] != "ok"]
    assert code == 0 and not any(check["level"] == "fail" for check in checks), bad
    return f"{len(checks)} checks; not ok: {'; '.join(bad) or 'none'}"
