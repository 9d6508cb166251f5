"""Power cuts while rows are written."""

import http.client
import pathlib
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time

from cases import case

CUTS = 20
# Writers at a time: their rows share commits.
WRITERS = 3


def write_until_the_cut(machine, cut, acknowledged):
    """Each thread writes row by row; a row counts as acknowledged when its answer was read."""

    def write(writer):
        try:
            client = machine.client()
            for number in range(100_000):
                name = f"cut{cut}.{writer}.{number}"
                if client.write(name, number)[0] == 201:
                    acknowledged.append(name)
        except (OSError, http.client.HTTPException, ValueError):
            pass

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    return threads


def names_on(disk):
    """The names in the database on a data partition that lost its power; the partition itself stays as it is."""
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        copy = pathlib.Path(directory) / "data.img"
        subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
        # Replays the journal, as the kernel will. 1: errors were corrected.
        check = subprocess.run(["/sbin/e2fsck", "-fy", copy], capture_output=True, text=True)
        assert check.returncode in (0, 1), check.stdout
        for name in ("device.db", "device.db-wal"):
            dump = f"dump /ioto/db/{name} {directory}/{name}"
            subprocess.run(["/sbin/debugfs", "-R", dump, copy], check=True, capture_output=True)
        database = sqlite3.connect(f"{directory}/device.db")
        damage = database.execute("PRAGMA integrity_check").fetchall()
        assert damage == [("ok",)], damage
        found = set()
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                found.update(word for cell in row if isinstance(cell, str) for word in cell.split('"'))
        database.close()
        return found


@case()
def no_acknowledged_row_is_lost_by_power_cuts(device):
    print(f"    seed {device.seed}")
    instants = random.Random(device.seed)
    acknowledged, boots = [], []
    for cut in range(device.cuts):
        machine = device.on()
        boots.append(machine.page)
        threads = write_until_the_cut(machine, cut, acknowledged)
        before = len(acknowledged)
        # Not before writing has begun, which a slow machine decides.
        while len(acknowledged) == before:
            assert any(thread.is_alive() for thread in threads), machine.log()
            time.sleep(0.05)
        time.sleep(instants.uniform(0, 3))
        device.cut()
        for thread in threads:
            thread.join()
        lost = set(acknowledged) - names_on(device.disk)
        assert not lost, f"after cut {cut}: {len(lost)} of {len(acknowledged)} rows are lost: {sorted(lost)[:5]}"
        print(f"    cut {cut}: page {machine.page:.0f} s after power on, {len(acknowledged) - before} rows", flush=True)
    lost = set(acknowledged) - device.on().client().rows().keys()
    assert not lost, f"the agent does not know {len(lost)} of {len(acknowledged)} rows"
    return f"{device.cuts} cuts, {len(acknowledged)} rows, boot to page {sum(boots) / len(boots):.1f} s"
