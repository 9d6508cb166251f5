"""A device in QEMU: its power, its console and its ports."""

import base64
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

# As in root/all/etc/ioto/ioto.d/image-test.json5.
TOKEN = "only-for-the-tests-of-the-image"
# No boot of a test takes longer than this, whatever happens to its QEMU.
LIFETIME = 1200

QEMU = {
    "arm64": ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi"],
    "armv7": ["qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15", "-accel", "tcg,thread=multi"],
}


class Dead(Exception):
    """The machine is off, or does not answer."""


class Image:
    """What ci/image has built: kernel, root, and who is init in it."""

    def __init__(self, kind, directory):
        self.kind = kind
        self.directory = pathlib.Path(directory)
        self.init = "busybox" if kind == "busybox" else "systemd"
        self.qemu = QEMU["armv7" if kind == "armv7" else "arm64"]
        self.initrd = ["-initrd", str(self.directory / "initrd")] if kind == "armv7" else []

    def data_disk(self, path, size="64M"):
        """A new data partition: empty but for the directories that fstab binds."""
        with tempfile.TemporaryDirectory() as tree:
            for name in ("ioto", "helper"):
                os.mkdir(os.path.join(tree, name))
            path.unlink(missing_ok=True)
            # What the agent was promised is to be there: no block is kept for root.
            mke2fs = ["/sbin/mke2fs", "-q", "-t", "ext4", "-L", "data", "-m", "0", "-d", tree, path, size]
            subprocess.run(mke2fs, check=True, stdout=subprocess.DEVNULL)


class Machine:
    """One run of QEMU, from power on to power off."""

    def __init__(self, image, disk, log, clock=None):
        self.image, self.disk = image, disk
        self.directory = tempfile.mkdtemp(prefix="image-")
        self.http, self.https = free_port(), free_port()
        self.console = None
        self.began = time.monotonic()
        port = os.path.join(self.directory, "console")
        forward = f"hostfwd=tcp:127.0.0.1:{self.http}-:80,hostfwd=tcp:127.0.0.1:{self.https}-:443"
        # Two disks that are always numbered alike are two namespaces of one controller. A flush of the guest is one of
        # the file, so what was synced before a cut is there after it.
        command = image.qemu + image.initrd + [
            "-smp", "2", "-m", "512", "-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults",
            "-kernel", str(image.directory / "kernel"),
            "-append", "root=/dev/nvme0n1 rootfstype=ext4 ro console=ttyAMA0 panic=-1 quiet loglevel=4",
            "-device", "nvme,id=disks,serial=disks",
            "-drive", f"if=none,id=root,format=raw,readonly=on,file={image.directory / 'root.ext4'}",
            "-device", "nvme-ns,bus=disks,nsid=1,drive=root",
            "-drive", f"if=none,id=data,format=raw,cache=writeback,file={disk}",
            "-device", "nvme-ns,bus=disks,nsid=2,drive=data",
            "-netdev", f"user,id=net,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random",
            "-chardev", f"socket,id=console,path={port},server=on,wait=off", "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=console,name=console",
            "-serial", f"file:{log}",
        ]  # fmt: skip
        if clock:
            command += ["-rtc", f"base={clock}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=humble)
        self.last = threading.Timer(LIFETIME, self.process.kill)
        self.last.daemon = True
        self.last.start()
        self.connect(port)

    def connect(self, port):
        for _ in range(100):
            try:
                self.console = socket.socket(socket.AF_UNIX)
                self.console.connect(port)
                self.lines = self.console.makefile("rb")
                return
            except OSError:
                self.console.close()
                time.sleep(0.1)
        raise Dead("QEMU does not start")

    def sh(self, script, timeout=150):
        """Runs a shell script as root in the device: its exit status and output."""
        self.console.settimeout(timeout)
        try:
            self.console.sendall(base64.b64encode(script.encode()) + b"\n")
            head = self.lines.readline().split()
            status, length = int(head[0]), int(head[1])
            return status, self.lines.read(length).decode(errors="replace").strip()
        except (OSError, IndexError, ValueError) as error:
            raise Dead(f"no answer to `{script}`: {error!r}") from error

    def do(self, script, timeout=180):
        """As `sh`, for what must succeed: its output."""
        status, output = self.sh(script, timeout)
        assert status == 0, f"`{script}` ended with {status}: {output}"
        return output

    def client(self, timeout=60):
        return Client(self.https, timeout)

    def answers(self):
        """Whether the web server does, and the database behind it, which is there some time later."""
        try:
            return Client(self.https, 15).get("/api/db")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_for_page(self, timeout=200):
        """Waits for the page: the seconds since power on, also kept in `page`."""
        until(self.answers, timeout, "the page is not served")
        self.page = time.monotonic() - self.began
        return self.page

    def agent(self):
        """The process id of the agent, 0 when it does not run."""
        if self.image.init == "systemd":
            return int(self.do("systemctl show -P MainPID ioto"))
        return int(self.sh("cat /var/run/ioto-child.pid 2>/dev/null || echo 0")[1])

    def process_of(self, program):
        """The process id of a program beside the agent."""
        if self.image.init == "systemd":
            return int(self.do(f"systemctl show -P MainPID {program}"))
        return int(self.do(f"cat /var/run/{program}-child.pid"))

    def restart_agent(self):
        """Restarts it in order, and waits for its page."""
        self.do("systemctl restart ioto" if self.image.init == "systemd" else "/etc/init.d/ioto restart agent")
        until(self.answers, 200, "the page is not served after a restart")

    def poke(self, path):
        """Asks for something that need not answer."""
        try:
            Client(self.https, 5).get(path)
        except (OSError, http.client.HTTPException):
            pass

    def log(self):
        """What the agent has logged since the device was started."""
        if self.image.init == "systemd":
            return self.do("journalctl -b -u ioto -o cat --no-pager")
        return self.do("cat /var/log/messages")

    def cut(self):
        """Power is lost."""
        self.process.kill()
        self.process.wait()
        self.last.cancel()
        self.console.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def power_off(self, timeout=240):
        """Shuts down in order: the seconds that takes."""
        began = time.monotonic()
        # The answer may be lost on the way down.
        self.console.sendall(base64.b64encode(b"(sleep 0.2; poweroff) &") + b"\n")
        try:
            self.process.wait(timeout)
        finally:
            self.cut()
        return time.monotonic() - began


class Client:
    """An HTTP client over TLS that may use the API. The device's certificate is its own."""

    def __init__(self, port, timeout=20):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
        self.used = time.monotonic()

    def request(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if body is not None:
            headers["Content-Type"], body = "application/json", json.dumps(body)
        # The agent ends connections that were idle for 30 s.
        if time.monotonic() - self.used > 10:
            self.connection.close()
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        answer = response.status, response.read()
        self.used = time.monotonic()
        return answer

    def get(self, path):
        return self.request("GET", path)

    def write(self, name, value=0):
        """A row for the database: the status, and the row or the error."""
        status, body = self.request("POST", "/api/db/Reading", {"name": name, "value": value})
        return status, json.loads(body) if body.startswith(b"{") else body.decode()

    def rows(self):
        """All rows by their name."""
        found, next_page = {}, ""
        while next_page is not None:
            status, body = self.get(f"/api/db/Reading?limit=500{next_page}")
            assert status == 200, body
            page = json.loads(body)
            found.update({row["name"]: row for row in page["items"]})
            next_page = f"&next={page['next']}" if page.get("next") else None
        return found


def until(condition, timeout, complaint):
    """Waits until a condition holds: its value."""
    end = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"{complaint}, for {timeout} s"
        time.sleep(0.2)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end_with_parent():
    """This process ends when the one that started it does, however that ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def humble():
    """In a new process: gives way to others."""
    end_with_parent()
    os.nice(5)
