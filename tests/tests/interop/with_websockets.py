"""websockets against the echo of webtest, plain and over TLS."""

import asyncio
import os
import socket
import ssl
import threading
import time

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from checks import check, equal, finish, place

LIMIT = 100 * 1024
context = ssl.create_default_context(cafile=place.ca)
loop, copies = asyncio.new_event_loop(), []
threading.Thread(target=loop.run_forever, daemon=True).start()


def tls(base):
    """A socket whose bytes go to the server over TLS. Two threads of websockets would use one TLS connection at the same time,
    which Python 3.11 gets wrong now and then; here one thread does the TLS of all."""
    host, port = base.removeprefix("https://").split(":")
    ours, theirs = socket.socketpair()

    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        # The server may say why it ends while more is sent to it.
        writer.write_eof() if writer.can_write_eof() else writer.close()

    async def bridge():
        outer = await asyncio.open_connection(host, int(port), ssl=context)
        inner = await asyncio.open_connection(sock=theirs)
        both = asyncio.gather(copy(outer[0], inner[1]), copy(inner[0], outer[1]))
        # Else they would be taken away.
        copies.append((outer, inner, both))

    asyncio.run_coroutine_threadsafe(bridge(), loop).result(20)
    return ours


def everywhere(base):
    on = " over TLS" if base == place.secure else ""
    url = "ws" + base[base.index(":") :] + "/test/ws"

    def talk(path=url, **options):
        options.setdefault("subprotocols", ["chat"])
        if on:
            options["sock"] = tls(base)
        return connect(path, max_size=None, proxy=None, open_timeout=20, close_timeout=10, legacy=True, **options)

    def echo(socket, message):
        socket.send(message)
        assert socket.recv(timeout=20) == message, f"{len(message)} came back changed"

    def closes(socket, code, message=None):
        """The server closes, perhaps while the message is still being sent: it need not wait for the end of one that it refuses."""
        try:
            if message is not None:
                socket.send(message)
            while True:
                socket.recv(timeout=20)
        except ConnectionClosed as closed:
            equal(closed.rcvd and closed.rcvd.code, code, "the code of the end")

    def refused(status, path=url, **options):
        try:
            talk(path, **options).close()
        except InvalidStatus as refused:
            equal(refused.response.status_code, status)
            return
        raise AssertionError("it was let in")

    @check("texts and bytes come back" + on)
    def _():
        with talk() as socket:
            for message in ["", "a", "ü\u2028\U0001f600" * 1000, b"", b"\x00\xff" * 50, os.urandom(70_000)]:
                echo(socket, message)
            echo(socket, "x" * LIMIT)
            for length in (125, 126, 127, 65535, 65536):
                echo(socket, os.urandom(length))

    @check("the sub-protocol" + on)
    def _():
        with talk() as socket:
            equal(socket.subprotocol, "chat")
        with talk(subprotocols=["other", "chat"]) as socket:
            equal(socket.subprotocol, "chat")
        with talk(subprotocols=None) as socket:
            equal(socket.subprotocol, None)
            echo(socket, "without")
        with talk(subprotocols=["other"]) as socket:
            equal(socket.subprotocol, None)

    @check("compression is not agreed on where the server has none" + on)
    def _():
        with talk(compression="deflate") as socket:
            assert not socket.protocol.extensions, socket.protocol.extensions
            echo(socket, "y" * 5000)

    @check("messages in fragments" + on)
    def _():
        with talk() as socket:
            socket.send(["one ", "two ", "", "three"])
            equal(socket.recv(timeout=20), "one two three")
            socket.send(bytes([number]) * 700 for number in range(100))
            assert socket.recv(timeout=20) == b"".join(bytes([number]) * 700 for number in range(100))
            # A character and a ping in between.
            with socket.send_context():
                socket.protocol.send_text("ü".encode()[:1], fin=False)
                socket.protocol.send_ping(b"in between")
                socket.protocol.send_continuation("ü".encode()[1:], fin=True)
            equal(socket.recv(timeout=20), "ü")

    @check("pings" + on)
    def _():
        with talk() as socket:
            for data in (b"", b"data", b"x" * 125):
                assert socket.ping(data).wait(20), "no pong"
            with socket.send_context():
                socket.protocol.send_pong(b"nobody asked")
            echo(socket, "after")

    @check("pings of the server" + on)
    def _():
        with talk() as socket:
            seen, process = [], socket.process_event
            socket.process_event = lambda frame: (seen.append(frame.opcode.name), process(frame))
            time.sleep(2.5)
            assert seen.count("PING") >= 2, f"a silent client got {seen}"
            echo(socket, "still there")

    @check("codes of the end" + on)
    def _():
        for code in (1000, 1001, 1011, 3000, 4999):
            socket = talk()
            socket.close(code, "reason")
            equal((socket.protocol.close_rcvd.code, socket.protocol.close_rcvd_then_sent), (code, False))
        socket = talk()
        with socket.send_context():
            socket.protocol.send_close()
        closes(socket, 1005)

    @check("too much is 1009" + on)
    def _():
        closes(talk(), 1009, "x" * (LIMIT + 1))
        closes(talk(), 1009, ("x" * 30_000 for _ in range(4)))

    @check("text that is no UTF-8 is 1007" + on)
    def _():
        for bad in (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"):
            socket = talk()
            with socket.send_context():
                socket.protocol.send_text(bad)
            closes(socket, 1007)

    @check("what breaks the protocol is 1002" + on)
    def _():
        def raw(write):
            socket = talk()
            with socket.send_context():
                write(socket.protocol)
            closes(socket, 1002)

        def bytes_of(*frame):
            return lambda protocol: protocol.writes.append(bytes(frame))

        raw(bytes_of(0x83, 0x80, 0, 0, 0, 0))
        raw(bytes_of(0xC1, 0x80, 0, 0, 0, 0))
        raw(bytes_of(0x80, 0x80, 0, 0, 0, 0))
        raw(bytes_of(0x09, 0x80, 0, 0, 0, 0))
        raw(bytes_of(0x81, 0x01, 0x41))

    @check("the origin" + on)
    def _():
        with talk(origin=base) as socket:
            echo(socket, "our own page")
        refused(403, origin="https://elsewhere.example")
        refused(403, origin="null")
        refused(403, origin=place.other)
        if on:
            refused(403, origin=base.replace("https", "http"))

    @check("no WebSocket" + on)
    def _():
        refused(404, url + "x/none")
        refused(200, url.replace("/test/ws", "/test/success"))
        refused(200, url.replace("/test/ws", "/letters.txt"))

    @check("many at once" + on)
    def _():
        sockets = [talk() for _ in range(20)]
        for number, socket in enumerate(sockets):
            socket.send(f"{number}")
        for number, socket in reversed(list(enumerate(sockets))):
            equal(socket.recv(timeout=20), f"{number}")
        threads = [threading.Thread(target=socket.close) for socket in sockets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @check("messages in a row, before an answer is read" + on)
    def _():
        with talk() as socket:
            # Less than the buffers of the two kernels hold, since nobody reads before all is sent.
            for number in range(500):
                socket.send(f"message {number}")
            for number in range(500):
                equal(socket.recv(timeout=20), f"message {number}")

    @check("a client that goes away without a word" + on)
    def _():
        socket_ = talk()
        socket_.socket.shutdown(socket.SHUT_RDWR)
        with talk() as other:
            echo(other, "still there")


for base in (place.plain, place.secure):
    everywhere(base)

finish(at_least=30)
