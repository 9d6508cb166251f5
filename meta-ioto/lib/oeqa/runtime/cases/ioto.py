#
# SPDX-License-Identifier: MIT
#
"""The device agent on a running image. IMAGE_CLASSES += "testimage", TEST_SUITES:append = " ioto", bitbake -c testimage."""

import time

from oeqa.core.decorator.depends import OETestDepends
from oeqa.runtime.case import OERuntimeTestCase
from oeqa.runtime.decorator.package import OEHasPackage

# Seconds in which a service is up, on an emulated machine.
PATIENCE = 60


class IotoTest(OERuntimeTestCase):
    def run_ok(self, command):
        status, output = self.target.run(command)
        self.assertEqual(status, 0, msg=f"{command}: {output}")
        return output

    def wait(self, command, what):
        """Until a command succeeds."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status, output = self.target.run(command)
            if status == 0:
                return output
            time.sleep(2)
        self.fail(f"{what}: {command}: {output}")

    def process(self):
        """The fields of the agent's /proc/PID/status."""
        text = self.run_ok('cat "/proc/$(pidof ioto)/status"')
        return {key: value.split() for key, value in (line.split(":", 1) for line in text.splitlines() if ":" in line)}

    @OEHasPackage(["ioto-agent"])
    @OETestDepends(["ssh.SSHTest.test_ssh"])
    def test_agent_runs(self):
        self.wait("ioto status", "the agent is not up")

    @OETestDepends(["ioto.IotoTest.test_agent_runs"])
    def test_agent_has_no_rights(self):
        process = self.process()
        user = self.run_ok("id -u ioto")
        self.assertEqual(process["Uid"], [user.strip()] * 4)
        self.assertEqual(int(process["CapEff"][0], 16), 0, msg="it has capabilities")
        self.assertEqual(process["NoNewPrivs"], ["1"])
        self.assertEqual(process["Seccomp"], ["2"])

    @OETestDepends(["ioto.IotoTest.test_agent_runs"])
    def test_state_belongs_to_the_agent_alone(self):
        listed = self.run_ok("ls -ld /var/lib/ioto /run/ioto")
        for line in listed.splitlines():
            fields = line.split()
            self.assertTrue(fields[0].startswith("drwxr-x---"), msg=line)
            self.assertEqual(fields[2:4], ["ioto", "ioto"], msg=line)

    @OETestDepends(["ioto.IotoTest.test_agent_runs"])
    def test_agent_comes_back_when_it_is_killed(self):
        before = self.run_ok("pidof ioto").strip()
        self.run_ok(f"kill -KILL {before}")
        self.wait(f'new=$(pidof ioto) && [ "$new" != {before} ] && ioto status', "the agent did not come back")

    @OEHasPackage(["ioto-data"])
    @OETestDepends(["ioto.IotoTest.test_agent_runs"])
    def test_state_is_on_the_data_partition(self):
        mounts = self.run_ok("cat /proc/mounts")
        places = {line.split()[1]: line.split()[0] for line in mounts.splitlines()}
        self.assertIn("/data", places)
        self.assertEqual(places.get("/var/lib/ioto"), places["/data"])
