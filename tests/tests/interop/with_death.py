"""A browser whose program dies: says `up`, and does nothing until it is killed."""

import signal
import time

from browser import Browser
from checks import place

signal.alarm(0)
with Browser() as browser:
    browser.page("about:blank")
    print("up", flush=True)
    time.sleep(60 if place.how == "killed" else 0)
    raise RuntimeError("it fails")
