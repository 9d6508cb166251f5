"""The image of ioto_qemu_aarch64_virt_defconfig, with its root in memory: the agent runs locked in, and comes back.

BR_TEST_CONFIG_JSON='{"downloaddir": "dl", "outputdir": "/tmp/out"}' PYTHONPATH=BUILDROOT/support/testing \
    python3 -m unittest -v test_ioto_agent

IOTO_TEST_KERNEL names another kernel than the one that is built.
"""
import os
import time

import infra.basetest

EXTERNAL = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
CONFIG = os.path.join(EXTERNAL, "configs/ioto_qemu_aarch64_virt_defconfig")


def config():
    with open(CONFIG) as file:
        lines = [line for line in file if "EXT2" not in line and "POST_IMAGE" not in line and "_HOST_QEMU" not in line]
    text = "".join(lines).replace("--data /dev/vda4", "--data none")
    return text + "BR2_TARGET_ROOTFS_CPIO=y\n"


class TestIotoAgent(infra.basetest.BRTest):
    br2_external = [EXTERNAL]
    config = config()

    def value(self, command):
        output, status = self.emulator.run(command, 20)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output[-1].strip() if output else ""

    def until(self, command, seconds):
        """Waits for a command to succeed."""
        end = time.monotonic() + seconds * self.emulator.timeout_multiplier
        while self.emulator.run(command, 20)[1] != 0:
            if time.monotonic() > end:
                self.fail(f"did not succeed in time: {command}\n{self.report()}")
            time.sleep(1)

    def report(self):
        return "\n".join(self.emulator.run("ps; tail -n 30 /var/log/messages", 20)[0])

    def agent(self):
        return self.value("cat /var/run/ioto-child.pid")

    def test_run(self):
        images = os.path.join(self.builddir, "images")
        kernel = os.environ.get("IOTO_TEST_KERNEL", os.path.join(images, "Image"))
        self.emulator.boot(arch="aarch64", kernel=kernel, kernel_cmdline=["console=ttyAMA0"],
                           options=["-M", "virt", "-cpu", "cortex-a57", "-nic", "none",
                                    "-initrd", os.path.join(images, "rootfs.cpio")])
        self.emulator.login()

        self.until("wget -q -O /dev/null http://127.0.0.1/", 10)
        self.assertRunOk("/etc/init.d/S90ioto status", 20)
        self.check_rights()
        self.check_directories()
        self.check_restarts()
        self.check_stop()

    def check_rights(self):
        status = f"/proc/{self.agent()}/status"
        user = self.value("id -u ioto")
        self.assertNotEqual(user, "0")
        for key, wanted in [("Uid", user), ("CapEff", "0" * 16), ("CapBnd", "0" * 16), ("NoNewPrivs", "1"), ("Seccomp", "2")]:
            found = self.value(f"grep '^{key}:' {status}").split()[1]
            self.assertEqual(found, wanted, key)
        rescue = self.value("id -u ioto-rescue")
        found = self.value("grep '^Uid:' /proc/$(cat /var/run/ioto-rescue-child.pid)/status").split()[1]
        self.assertEqual(found, rescue)

    def check_directories(self):
        for path, wanted in [("/run/ioto", "750 ioto:ioto"), ("/var/lib/ioto", "750 ioto:ioto"),
                             ("/var/lib/ioto-helper", "750 root:ioto")]:
            listed = self.value(f"ls -ld {path}").split()
            modes = {"drwxr-x---": "750"}.get(listed[0], listed[0])
            self.assertEqual(f"{modes} {listed[2]}:{listed[3]}", wanted, path)
        self.assertEqual(self.value("grep -c ' /var/lib tmpfs' /proc/mounts"), "1")

    def check_restarts(self):
        for signal in ("KILL", "STOP"):
            before = self.agent()
            self.assertRunOk(f"kill -{signal} {before}")
            self.until(f"test -r /var/run/ioto-child.pid && test \"$(cat /var/run/ioto-child.pid)\" != {before}", 30)
            self.until("wget -q -O /dev/null http://127.0.0.1/", 10)
        self.assertRunOk("grep -q 'supervise: ioto hangs and is killed' /var/log/messages")

    def check_stop(self):
        self.assertRunOk("/etc/init.d/S90ioto stop", 30)
        self.assertRunNotOk("pidof ioto ioto-helper ioto-rescue")
        self.assertRunOk("/etc/init.d/S90ioto start", 30)
        self.until("wget -q -O /dev/null http://127.0.0.1/", 10)
