"""A Chromium of our own, told what to do by its debugging protocol."""

import base64
import hashlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import connect

from checks import place

GUARD = str(pathlib.Path(__file__).with_name("guard.py"))
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-default-apps", "--metrics-recording-only", "--password-store=basic",
    # Nothing but this machine.
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
]


def trust():
    """The key of the server's certificate, if it has one: the browser takes it from nobody else."""
    if not hasattr(place, "certificate"):
        return []
    with open(place.certificate, "rb") as file:
        key = x509.load_pem_x509_certificate(file.read()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return ["--ignore-certificate-errors-spki-list=" + base64.b64encode(digest).decode()]


class Lost(RuntimeError):
    """The page went to another while it was asked."""


class Browser:
    """Ends with all of its processes when this one ends, whatever happens: see guard.py."""

    def __enter__(self):
        profile = os.path.join(place.scratch, "chromium")
        os.makedirs(profile)
        with open(os.path.join(place.scratch, "chromium.log"), "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-B", GUARD, "chromium", *FLAGS, *trust(), "--user-data-dir=" + profile, "about:blank"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile},
            )
        try:
            self.socket = connect(self._address(os.path.join(profile, "DevToolsActivePort")), max_size=None, proxy=None,
                                  ping_interval=None)
        except BaseException:
            self.__exit__()
            raise
        self.numbers, self.events = itertools.count(1), []
        return self

    def _address(self, path):
        for _ in range(600):
            if self.process.poll() is not None:
                break
            if os.path.exists(path):
                with open(path) as file:
                    lines = file.read().split("\n")
                if len(lines) > 1:
                    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            time.sleep(0.05)
        with open(os.path.join(place.scratch, "chromium.log"), errors="replace") as file:
            raise RuntimeError(f"chromium does not start: {file.read()[-2000:]}")

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def call(self, method, session=None, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == number:
                break
            self.events.append(answer)
        if answer.get("error", {}).get("code") == -32000:
            raise Lost(f"{method}: {answer['error']}")
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self, url):
        """A page in a window of its own, which shares no cookies with others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(domain + ".enable")
        page.go(url)
        return page


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def go(self, url):
        """Loads another page; waits until it is there with all that belongs to it."""
        done = self.call("Page.navigate", url=url)
        assert not done.get("errorText"), f"{url}: {done['errorText']}"
        self.until(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def run(self, script):
        """The value of a script, or of the promise that it gives."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return done["result"].get("value")

    def until(self, script, limit=15):
        """Waits until the value of a script is true."""
        began = time.monotonic()
        while not self._is_true(script):
            assert time.monotonic() - began < limit, f"not within {limit} s: {script}"
            time.sleep(0.05)

    def _is_true(self, script):
        try:
            return self.run(script)
        except Lost:
            return False

    def cookies(self):
        return {cookie["name"]: cookie for cookie in self.call("Network.getCookies")["cookies"]}

    def complaints(self):
        """What the console of the page shows of errors."""
        self.run("1")
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
            if event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"]["text"])
        return found
