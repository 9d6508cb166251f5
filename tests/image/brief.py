"""32-bit ARM in brief: no filter of system calls in the process, the unit's instead."""

from cases import case
from start import status


@case(on=("armv7",), quick=True)
def the_agent_runs_on_32_bit_arm_within_its_unit(device):
    machine = device.on()
    assert machine.do("uname -m") == "armv7l"
    fields = status(machine)
    assert int(fields["CapEff"], 16) == 0 and fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2", fields
    assert machine.client().write("brief")[0] == 201
    rss, page = fields["VmRSS"], machine.page
    seconds = device.off()
    return f"page {page:.1f} s after power on, off in {seconds:.1f} s, {rss} resident"
