"""The programs beside the agent: the helper, which is root, and the rescue server, which is there when the agent is not."""

import json

from cases import case
from recovery import LIVEZ, returns
from start import RIGHTS, status, user


def ask(machine, request):
    """Asks the helper; another outcome than `done` is an exit status."""
    return machine.do(f"ioto-helper ask {request}")


@case(quick=True)
def the_helper_does_what_needs_root_and_says_so(device):
    machine = device.on()
    if device.image.init == "systemd":
        # Its socket starts it.
        machine.do("systemctl stop ioto-helper.service && systemctl is-active ioto-helper.socket")
        assert machine.sh("systemctl is-active ioto-helper.service")[1] == "inactive"
    pong = ask(machine, "ping")
    if device.image.init == "systemd":
        machine.do("systemctl is-active ioto-helper.service")
    ask(machine, "hostname '{\"name\":\"pump-7\"}'")
    assert machine.do("cat /proc/sys/kernel/hostname") == "pump-7"
    seconds = returns(machine, "ioto-helper ask restart", 150)
    audit = [json.loads(line) for line in machine.do("cat /var/lib/ioto-helper/audit.log").splitlines()]
    done = {line["verb"] for line in audit if line["outcome"] == "done"}
    assert {"hostname", "restart"} <= done, audit
    assert machine.do("stat -c '%a %U:%G' /run/ioto/helper.sock") == "660 root:ioto"
    return f"`{pong}`, restart in {seconds:.1f} s"


@case(quick=True)
def the_rescue_server_is_a_user_without_rights_and_restarts_the_agent(device):
    machine = device.on()
    process = machine.process_of("ioto-rescue")
    fields = status(machine, process)
    rights = {name: fields[name] for name in RIGHTS}
    assert fields["Uid"].split() == [user(machine, "ioto-rescue")] * 4, rights
    assert int(fields["CapEff"], 16) == 0 and fields["NoNewPrivs"] == "1", rights
    assert machine.do(LIVEZ) == "200"
    said = json.loads(machine.do("ioto-rescue status"))
    assert said["agent"]["pid"] == machine.agent() and said["log"]["lines"], said
    # The same as POST /restart.
    seconds = returns(machine, "ioto-rescue restart", 150)
    assert machine.process_of("ioto-rescue") == process, "it was restarted with the agent"
    return f"uid {fields['Uid'].split()[0]}, {fields['VmRSS']} resident, POST /restart in {seconds:.1f} s"
