"""What is stored: across restarts, with a clock that is wrong, with a full data partition."""

import json
import ssl

from cases import case
from machine import until


@case()
def a_full_data_partition_is_told_and_survived(device):
    machine = device.on()
    client = machine.client()
    assert client.write("before")[0] == 201
    machine.do("dd if=/dev/zero of=/data/fill bs=64k 2>/dev/null; dd if=/dev/zero of=/data/fill2 bs=1k 2>/dev/null; sync; df /data")
    # What the log of the database has reserved already may hold some more rows.
    for count in range(200):
        status, answer = client.write(f"full{count} " + "x" * 40_000)
        if status != 201:
            break
    assert status == 507, (status, answer)
    until(lambda: "no room on the disk" in machine.log(), 60, "the log does not say that the disk is full")
    agent = machine.agent()
    assert client.get("/")[0] == 200 and "before" in client.rows()
    machine.do("rm /data/fill /data/fill2")
    until(lambda: client.write("after")[0] == 201, 60, "nothing is written after there is room again")
    assert machine.agent() == agent, "the agent was restarted"
    return f"507 after {count} more rows: {answer['error']['message']}"


@case()
def state_survives_a_restart_of_the_device(device):
    machine = device.on()
    assert machine.client().write("kept", 7)[0] == 201
    machine.do("ioto-helper ask hostname '{\"name\":\"pump-8\"}'")
    certificate = ssl.get_server_certificate(("127.0.0.1", machine.https), timeout=60)
    identity = machine.do("cat /var/lib/ioto/config/device.json5")
    seconds = device.off()
    machine = device.on()
    assert machine.client().rows()["kept"]["value"] == 7
    assert ssl.get_server_certificate(("127.0.0.1", machine.https), timeout=60) == certificate
    assert machine.do("cat /var/lib/ioto/config/device.json5") == identity
    assert machine.do("cat /proc/sys/kernel/hostname") == "pump-8"
    return f"down in {seconds:.1f} s, page {machine.page:.1f} s after power on"


@case()
def a_clock_that_starts_in_1970_stops_nothing(device):
    if device.machine:
        device.off()
    machine = device.on(clock="1970-01-01")
    began = machine.do("date -u")
    # Some systems begin with the time of their own build.
    machine.do("date -u -s @60")
    machine.restart_agent()
    client = machine.client()
    status, row = client.write("early")
    assert status == 201, row
    agent = machine.agent()
    machine.do("date -u -s @1790000000")
    assert client.get("/")[0] == 200
    status, row = client.write("late")
    assert status == 201, row
    assert {"early", "late"} <= client.rows().keys()
    assert machine.agent() == agent, "the jump of the clock ended the agent"
    device.off()
    return f"began with {began}; {json.dumps(row.get('created', ''))} after the jump"
