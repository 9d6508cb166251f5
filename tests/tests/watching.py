"""Watches the database of an agent over WebSockets: watching.py HOST:PORT patient|quick."""

import contextlib
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

ADDRESS = sys.argv[1]


def ask(method, path, body=None, status=(200, 201, 204)):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADDRESS}/api/db{path}", data, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status in status, answer.status
    except urllib.error.HTTPError as error:
        assert error.code in status, (error.code, error.read())


def watch(path="/Lamp", **options):
    query = options.pop("query", "")
    return connect(f"ws://{ADDRESS}/api/db{path}?watch{query}", close_timeout=1, **options)


def told(socket):
    return json.loads(socket.recv(timeout=10))


def closed(socket):
    """How the agent closes it: code and reason."""
    try:
        while True:
            socket.recv(timeout=10)
    except ConnectionClosed as end:
        return end.rcvd.code, end.rcvd.reason


def changes_and_their_filter():
    where = urllib.parse.quote(json.dumps({"n": {">": 1}}))
    with watch(query="&where=" + where) as socket, watch("") as everything:
        begin = told(socket)
        assert begin["change"] == "watching" and begin["at"], begin
        assert told(everything)["change"] == "watching"
        ask("POST", "/Lamp", {"id": "a", "n": 1, "secret": "s"})
        ask("PATCH", "/Lamp/a", {"n": 2})
        ask("DELETE", "/Lamp/a")
        change = told(socket)
        assert (change["change"], change["model"], change["id"]) == ("updated", "Lamp", "a"), change
        assert (change["before"], change["item"]) == ({"id": "a", "n": 1}, {"id": "a", "n": 2}), change
        assert told(socket)["change"] == "removed"
        assert [told(everything)["change"] for _ in range(3)] == ["created", "updated", "removed"]
    return change["at"]


def who_comes_again_hears_what_was_missed(at):
    ask("POST", "/Lamp", {"id": "b", "n": 5})
    with watch(query="&since=" + at) as socket:
        assert [told(socket)["change"] for _ in range(3)] == ["watching", "removed", "created"]
    with watch(query="&since=00000000-7") as socket:
        assert [told(socket)["change"] for _ in range(2)] == ["watching", "lost"]
    request = urllib.request.Request(f"http://{ADDRESS}/api/db/Lamp?watch", headers={"Last-Event-ID": at})
    with urllib.request.urlopen(request, timeout=10) as events:
        lines = [events.readline().decode().strip() for _ in range(12)]
    assert [line for line in lines if line.startswith("event:")] == ["event: watching", "event: removed", "event: created"], lines
    ids = [line for line in lines if line.startswith("id: ")]
    assert ids[0] == "id: " + at and len(set(ids)) == 3, lines


def what_cannot_be_watched():
    for path, query, status in (("/None", "", 404), ("/Lamp", "&where=x", 400), ("/Lamp", "&colour=1", 400)):
        try:
            watch(path, query=query)
            raise AssertionError("it is watched: " + path + query)
        except InvalidStatus as refusal:
            assert refusal.response.status_code == status, refusal
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        try:
            watch(additional_headers=headers)
            raise AssertionError(f"it is watched from {headers}")
        except InvalidStatus as refusal:
            assert refusal.response.status_code in (400, 403), refusal


def too_many(sockets=4):
    # An event stream whose client went away counts until its next heartbeat.
    eventually_there_is_room(sockets)
    with contextlib.ExitStack() as watching:
        for _ in range(sockets):
            assert told(watching.enter_context(watch()))["change"] == "watching"
        with watch() as socket:
            code, reason = closed(socket)
            assert code == 1013 and "database.watchers" in reason, (code, reason)
        ask("GET", "/Lamp?watch", status=(503,))
    eventually_there_is_room(sockets)


def eventually_there_is_room(sockets):
    for _ in range(400):
        with contextlib.ExitStack() as watching:
            try:
                for _ in range(sockets):
                    told(watching.enter_context(watch()))
                return
            except ConnectionClosed:
                pass
        time.sleep(0.05)
    raise AssertionError("those who went away still count")


def who_speaks_is_told_that_nothing_is_expected():
    with watch() as socket:
        socket.send("hello")
        code, reason = closed(socket)
        assert code == 1003 and "nothing is expected" in reason, (code, reason)


def pings_keep_it_open():
    with watch(ping_interval=None) as socket:
        told(socket)
        time.sleep(4.5)
        ask("PATCH", "/Lamp/b", {"n": 6})
        assert told(socket)["item"]["n"] == 6


def a_slow_reader_is_told_that_it_lost_some():
    """It reads nothing while 80 MB come, far more than the buffers between take; then it hears what waited, and of the loss."""
    with watch(max_queue=1) as slow, watch(max_queue=None) as quick:
        assert told(quick)["change"] == "watching"
        for n in range(400):
            ask("PATCH", "/Lamp/b", {"n": n, "text": "x" * 100_000})
            assert told(quick)["item"]["n"] == n
        kinds = [told(slow)["change"]]
        last = None
        while kinds[-1] != "lost":
            change = told(slow)
            kinds.append(change["change"])
            if "item" in change:
                assert last is None or change["item"]["n"] == last + 1, (change["item"]["n"], last)
                last = change["item"]["n"]
        assert kinds[0] == "watching" and 2 < len(kinds) < 400, len(kinds)
        ask("PATCH", "/Lamp/b", {"n": 1000, "text": None})
        assert told(slow)["item"]["n"] == 1000


def who_reads_nothing_is_cut_off():
    with contextlib.ExitStack() as slow:
        for _ in range(4):
            slow.enter_context(watch(max_queue=1))
        for n in range(200):
            ask("PATCH", "/Lamp/b", {"n": n, "text": "x" * 100_000})
        # They hold no places any more, although nobody closed them.
        eventually_there_is_room(4)


if sys.argv[2] == "patient":
    ask("POST", "/Lamp", {"id": "b"})
    a_slow_reader_is_told_that_it_lost_some()
else:
    at = changes_and_their_filter()
    who_comes_again_hears_what_was_missed(at)
    what_cannot_be_watched()
    too_many()
    who_speaks_is_told_that_nothing_is_expected()
    pings_keep_it_open()
    who_reads_nothing_is_cut_off()
