"""Runs a command in a network of its own, in which one name server answers for one family of addresses alone.

Usage: names.py DIRECTORY a|aaaa COMMAND…

`late.example` is 127.0.0.1 and ::1, and a web server answers on port 8080 of both. `$DIRECTORY/resolv.conf` is made.
Writes the exit status and the time that the command took, in seconds.
"""

import fcntl
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time

A, AAAA = 1, 28

# netdevice(7)
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def main():
    directory, answered, *command = sys.argv[1:]
    loopback_up()
    with open(f"{directory}/resolv.conf", "w", encoding="ascii") as file:
        file.write("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", f"{directory}/resolv.conf", "/etc/resolv.conf"], check=True)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=answer, args=(names, A if answered == "a" else AAAA), daemon=True).start()
    for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
        server = type("Server", (http.server.ThreadingHTTPServer,), {"address_family": family})
        web = server((address, 8080), type("Handler", (http.server.SimpleHTTPRequestHandler,), {"do_GET": greet}))
        threading.Thread(target=web.serve_forever, daemon=True).start()
    start = time.monotonic()
    done = subprocess.run(command, check=False, env={}, stdout=subprocess.PIPE, text=True)
    print(done.returncode, done.stdout.strip() or "-", round(time.monotonic() - start, 3))
    sys.stdout.flush()
    os._exit(0)


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def answer(names, known):
    while True:
        question, client = names.recvfrom(512)
        end = question.index(0, 12) + 5
        kind = struct.unpack("!H", question[end - 4:end - 2])[0]
        if kind in (A, AAAA) and kind != known:
            continue
        if kind != known:
            names.sendto(question[:2] + struct.pack("!HHHHH", 0x8183, 1, 0, 0, 0) + question[12:end], client)
            continue
        data = socket.inet_pton(socket.AF_INET if kind == A else socket.AF_INET6, "127.0.0.1" if kind == A else "::1")
        head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data
        names.sendto(head + question[12:end] + record, client)


def greet(handler):
    body = handler.client_address[0].encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


main()
