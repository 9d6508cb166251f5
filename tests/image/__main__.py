"""Usage: python3 tests/image systemd|busybox|armv7 IMAGES [--quick] [--cuts N] [--seed N] [CASE…]

Runs the cases against the image that ci/image has made in IMAGES, or those whose names hold one of the words given.
"""

import argparse
import pathlib
import random
import sys
import time
import traceback

# In this order the cases run.
import start  # noqa: F401
import neighbours  # noqa: F401
import recovery  # noqa: F401
import storage  # noqa: F401
import power
import brief  # noqa: F401
from cases import CASES
from device import Device
from machine import Image, end_with_parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("words", nargs="*", metavar="CASE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cuts", type=int, default=power.CUTS)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    wanted = parser.parse_intermixed_args()
    end_with_parent()
    directory = wanted.images / wanted.kind
    device = Device(Image(wanted.kind, directory), directory, wanted.seed)
    device.cuts = wanted.cuts
    began, failed, count = time.monotonic(), [], 0
    for function, kinds, quick in CASES:
        name = function.__name__.replace("_", " ")
        who = wanted.kind if wanted.kind == "armv7" else device.image.init
        if who not in kinds or (wanted.quick and not quick) or not chosen(function.__name__, wanted.words):
            continue
        count += 1
        case_began = time.monotonic()
        try:
            result = function(device) or ""
            verdict = "ok"
        except Exception:
            traceback.print_exc(file=sys.stdout)
            verdict, result = "FAILED", ""
            failed.append(name)
            # The next case begins with a fresh boot of the same disk.
            tell(device)
            device.cut()
        print(f"{verdict} {time.monotonic() - case_began:6.1f} s  {name}{': ' if result else ''}{result}", flush=True)
    if device.machine:
        device.off()
    print(f"{wanted.kind}: {count - len(failed)} of {count} cases, {device.boots} boots, {time.monotonic() - began:.0f} s")
    return 1 if failed or not count else 0


def chosen(name, words):
    return not words or any(word in name for word in words)


def tell(device):
    """What the device has to say after a failure."""
    try:
        print(device.machine.log()[-4000:])
    except Exception as error:
        print(f"(no log: {error!r})")
    print(device.log.read_text(errors="replace")[-1500:])


sys.exit(main())
