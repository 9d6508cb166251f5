"""What the interoperability checks share: where the server is, and named checks of which all run, whatever fails."""

import json
import os
import signal
import sys
import time
import traceback
from types import SimpleNamespace

# argv is one JSON object: plain, other and secure are addresses of the server; ca, site and scratch are paths.
place = SimpleNamespace(**json.loads(sys.argv[1]))
# Nothing of the machine comes between.
for name in list(os.environ):
    if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        del os.environ[name]

_failures, _count, _began = [], 0, time.monotonic()


def _late(*_):
    raise TimeoutError("the checks take too long")


# Below the limit of main.rs, so that everything is cleaned up and the failures are told.
signal.signal(signal.SIGALRM, _late)
signal.alarm(75)


def check(name, *arguments):
    """Runs the function that it stands above, as the check of that name."""

    def run(function):
        global _count
        _count += 1
        began = time.monotonic()
        try:
            function(*arguments)
        except Exception as error:
            lines = traceback.extract_tb(error.__traceback__)
            where = next((line.lineno for line in reversed(lines) if line.filename == sys.argv[0]), "?")
            cause = f" ({error.__cause__!r})" if error.__cause__ else ""
            fail(name, f"line {where}: {type(error).__name__}: {error}{cause}")
        if time.monotonic() - began > 3:
            print(f"slow: {name}: {time.monotonic() - began:.1f} s")
        return function

    return run


def fail(name, text):
    _failures.append(f"{name}: {text}")


def count(number):
    """Checks that were counted elsewhere."""
    global _count
    _count += number


def equal(got, expected, what=""):
    assert got == expected, f"{what}{' ' if what else ''}is {got!r}, expected {expected!r}"


def finish(at_least):
    """Ends the program; a run with fewer checks than there should be has failed."""
    if _count < at_least:
        fail("number of checks", f"{_count}, expected {at_least} at least")
    print(f"{_count} checks in {time.monotonic() - _began:.1f} s")
    for failure in _failures:
        print(f"FAILED {failure}")
    sys.exit(bool(_failures))
