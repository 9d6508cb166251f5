"""The agent dies, hangs or runs out of memory, and comes back."""

import time

from cases import case
from machine import until

# The status that /livez of the rescue server answers with.
LIVEZ = (
    "printf 'GET /livez HTTP/1.1\\r\\nHost: device\\r\\nConnection: close\\r\\n\\r\\n' |"
    " nc.openbsd -U /run/ioto/rescue.sock | head -n 1 | cut -d ' ' -f 2"
)

# Stops the agent and looks on, by the clock of the device.
HANG = f"""
livez() {{ {LIVEZ}; }}
now() {{ read -r up _ </proc/uptime; echo "$up"; }}
[ "$(livez)" = 200 ] || exit 1
kill -STOP {{0}}
began=$(now)
while [ "$(livez)" = 200 ]; do sleep 0.3; done
echo "$began $(now) $(livez)"
ioto status 2>&1
echo "status $?"
"""


def returns(machine, how, timeout):
    """Does something to the agent; it is to come back as a new process that serves: the seconds until then."""
    before = machine.agent()
    assert before > 0, "the agent does not run"
    began = time.monotonic()
    machine.do(how.replace("{0}", str(before)))
    came_back(machine, before, timeout, how)
    return time.monotonic() - began


def came_back(machine, before, timeout, how):
    until(lambda: machine.agent() not in (0, before), timeout, f"no new process after `{how}`")
    until(machine.answers, timeout, f"no page after `{how}`")


@case(quick=True)
def a_killed_agent_comes_back(device):
    return f"{returns(device.on(), 'kill -KILL {0}', 150):.1f} s"


@case(quick=True)
def a_hanging_agent_is_told_ended_and_comes_back(device):
    """Told by the rescue server within 10 s; ended by systemd's watchdog or by the supervisor of the init script."""
    machine = device.on()
    before, began = machine.agent(), time.monotonic()
    lines = machine.do(HANG.replace("{0}", str(before))).splitlines()
    stopped, bad, code = lines[0].split()
    late = float(bad) - float(stopped)
    assert code == "503" and late < 10, f"/livez {code} after {late:.1f} s"
    told = [line for line in lines if "the agent hangs" in line]
    assert told and lines[-1] == "status 1", lines
    came_back(machine, before, 240, "kill -STOP")
    return f"/livez 503 after {late:.1f} s; `{told[0]}`; back after {time.monotonic() - began:.1f} s"


@case(on=("systemd",))
def an_agent_over_its_memory_bound_comes_back(device):
    seconds = returns(device.on(), "echo 1M >/sys/fs/cgroup/system.slice/ioto.service/memory.max", 150)
    assert "Memory cgroup out of memory: Killed process" in device.machine.do("dmesg"), "it ended in another way"
    return f"{seconds:.1f} s"


@case(quick=True)
def an_agent_that_the_kernel_chose_when_memory_ran_out_comes_back(device):
    machine = device.on()
    seconds = returns(machine, "echo 1000 >/proc/{0}/oom_score_adj && echo f >/proc/sysrq-trigger", 150)
    assert "Killed process" in machine.do("dmesg"), "it ended in another way"
    return f"{seconds:.1f} s"
