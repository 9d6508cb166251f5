"""Runs a program that ends with who started it, however that ends: guard.py PROGRAM ARGUMENT…, with a pipe as standard input.

Who is killed cleans nothing up, but the kernel closes its end of the pipe. The program has a process group of its own, and what left
that group (Chromium has helpers that do) becomes a child of this process when its parent ends."""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
prctl = ctypes.CDLL(None).prctl


def children():
    """Those whose parent this process is."""
    own = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                # The name may have blanks and parentheses in it.
                state, parent = file.read().rsplit(")", 1)[1].split()[:2]
        except (OSError, IndexError):
            continue
        if int(parent) == os.getpid() and state != "Z":
            own.append(int(entry))
    return own


def end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    # What loses its parent comes here, which takes a moment.
    quiet = 0
    while quiet < 3:
        found = children()
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(0.02)


def wait_for_an_end(process):
    while process.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], 0.2)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break


prctl(PR_SET_CHILD_SUBREAPER, 1)
# A signal for the group of who started it is none for this process, which has a session of its own; others end it properly.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True,
                           preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
try:
    wait_for_an_end(process)
finally:
    end(process)
