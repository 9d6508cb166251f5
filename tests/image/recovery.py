"""The agent dies, hangs or runs out of memory, and comes back."""

import time

from cases import case
from machine import until


def returns(machine, how, timeout):
    """Does something to the agent; it is to come back as a new process that serves: the seconds until then."""
    before = machine.agent()
    assert before > 0, "the agent does not run"
    began = time.monotonic()
    machine.do(how.format(before))
    until(lambda: machine.agent() not in (0, before), timeout, f"no new process after `{how}`")
    until(machine.answers, timeout, f"no page after `{how}`")
    return time.monotonic() - began


@case(quick=True)
def a_killed_agent_comes_back(device):
    return f"{returns(device.on(), 'kill -KILL {}', 120):.1f} s"


@case()
def a_hanging_agent_is_ended_and_comes_back(device):
    """systemd's watchdog or the supervisor of the init script, by what the rescue server sees."""
    return f"{returns(device.on(), 'kill -STOP {}', 240):.1f} s"


@case(on=("systemd",))
def an_agent_over_its_memory_bound_comes_back(device):
    seconds = returns(device.on(), "echo 1M >/sys/fs/cgroup/system.slice/ioto.service/memory.max", 120)
    assert "oom-kill" in device.machine.do("journalctl -b -u ioto --no-pager"), "it ended in another way"
    return f"{seconds:.1f} s"


@case()
def an_agent_that_the_kernel_chose_when_memory_ran_out_comes_back(device):
    machine = device.on()
    seconds = returns(machine, "echo 1000 >/proc/{0}/oom_score_adj && echo f >/proc/sysrq-trigger", 120)
    assert "Killed process" in machine.do("dmesg"), "it ended in another way"
    return f"{seconds:.1f} s"
