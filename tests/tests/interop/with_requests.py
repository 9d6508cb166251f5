"""requests against webtest, plain and over TLS."""

import io
import json
import os
import urllib3.connection

import requests
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from checks import check, equal, finish, place

opened = 0


def counting(connect):
    def counted(self):
        global opened
        opened += 1
        connect(self)

    return counted


for kind in (urllib3.connection.HTTPConnection, urllib3.connection.HTTPSConnection):
    kind.connect = counting(kind.connect)


def session():
    made = requests.Session()
    made.verify = place.ca
    made.trust_env = False
    send = made.send
    made.send = lambda request, **options: send(request, **{**options, "timeout": 20})
    return made


def everywhere(base):
    on = " over TLS" if base == place.secure else ""

    @check("a session of a visitor" + on)
    def _():
        visitor = session()
        token = visitor.get(base + "/test/session/create").text
        equal(visitor.get(f"{base}/test/session/check?{token}").text, "success")
        equal(visitor.get(f"{base}/test/session/check?{token}x").text, "token mismatch")
        equal(session().get(f"{base}/test/session/check?{token}").text, "token mismatch")

    @check("a cookie for a path" + on)
    def _():
        visitor = session()
        visitor.get(base + "/test/cookie", params={"name": "c", "value": "v", "path": "/test/"})
        equal(visitor.cookies.get("c", path="/test/"), "v")
        equal(visitor.get(base + "/test/show").json()["headers"]["Cookie"], "c=v")
        assert "Cookie" not in visitor.get(base + "/index.html").request.headers

    @check("connections are used again" + on)
    def _():
        client, before = session(), opened
        for _ in range(20):
            equal(client.get(base + "/test/success").text, "success\n")
            equal(client.get(base + "/letters.txt").status_code, 200)
            equal(client.get(base + "/none").status_code, 404)
            equal(client.post(base + "/test/put", data=b"x" * 1000).text, "1000\n")
            equal(client.head(base + "/test/bulk").text, "")
            equal(client.post(base + "/test/put", data=iter([b"ab", b"c"])).text, "3\n")
        equal(opened - before, 1, "number of connections")

    @check("login and logout" + on)
    def _():
        user = session()
        equal(user.get(base + "/session/").status_code, 401)
        answer = user.post(base + "/login", json={"username": "jo", "password": "open sesame"})
        if not on:
            equal(answer.status_code, 403, "a password in plain text")
            return
        equal((answer.status_code, answer.json()["user"]), (200, "jo"))
        answer = user.get(base + "/session/")
        equal((answer.status_code, answer.text), (200, "inside"))
        token = answer.headers["X-XSRF-TOKEN"]
        equal(user.get(base + "/session-action/test/show").json()["user"], "jo")
        equal(user.post(base + "/session-action/test/show", json={}).status_code, 403, "without the token")
        answer = user.post(base + "/session-action/test/show", json={"a": [1]}, headers={"X-XSRF-TOKEN": token})
        equal((answer.status_code, answer.json()["form"]), (200, {"a": [1]}))
        equal(user.post(base + "/logout").status_code, 204)
        equal((user.get(base + "/session/").status_code, len(user.cookies)), (401, 0))
        equal(user.post(base + "/login", data={"username": "jo", "password": "no"}).status_code, 401)

    @check("digest authentication" + on)
    def _():
        for path in ("/digest/", "/md5/"):
            user = session()
            user.auth = HTTPDigestAuth("jo", "open sesame")
            for number in range(3):
                answer = user.get(f"{base}{path}?number={number}")
                equal((answer.status_code, answer.text), (200, "inside"), path)
                equal(len(answer.history), 0 if number else 1, "requests that were challenged")
        # Once: who guesses has to wait.
        equal(session().get(base + path, auth=HTTPDigestAuth("nobody", "x")).status_code, 401)
        user = session()
        user.auth = HTTPDigestAuth("jo", "open sesame")
        answer = user.post(base + "/digest-action/test/show", data={"a": "ü" * 3000})
        equal((answer.json()["form"], answer.json()["user"]), ({"a": "ü" * 3000}, "jo"))

    @check("basic authentication" + on)
    def _():
        right = session().get(base + "/basic/", auth=HTTPBasicAuth("jo", "open sesame"))
        equal(right.status_code, 200 if on else 403)
        equal(session().get(base + "/basic/", auth=HTTPBasicAuth("nobody", "")).status_code, 401 if on else 403)

    @check("several files" + on)
    def _():
        content = os.urandom(700_000)
        files = [
            ("one", ("ä.bin", content, "application/octet-stream")),
            ("many", ("1.txt", b"1")),
            ("many", ("2.txt", b"")),
            ("big", ("big", io.BytesIO(content * 3), "image/png")),
        ]
        shown = session().post(base + "/test/upload?q=1", files=files, data={"text": "ü & =", "empty": ""}).json()
        equal(shown["form"], {"text": "ü & =", "empty": ""})
        found = [(f["name"], f["clientFilename"], f["size"]) for f in shown["uploads"]]
        wanted = [("one", "ä.bin", 700_000), ("many", "1.txt", 1), ("many", "2.txt", 0), ("big", "big", 2_100_000)]
        equal(found, wanted)

    @check("too many files, too large ones" + on)
    def _():
        many = [("x", (f"{number}", b"x")) for number in range(21)]
        equal(session().post(base + "/test/upload", files=many).status_code, 413)

    @check("a body from a generator" + on)
    def _():
        def parts():
            for number in range(200):
                yield bytes([number]) * (number * 100)

        length = sum(number * 100 for number in range(200))
        equal(session().post(base + "/test/put", data=parts()).text, f"{length}\n")
        equal(session().put(base + "/stream", data=parts()).text, f"{{length: {length}}}")
        shown = session().post(base + "/test/show", data=(text for text in [b"a=1&", b"b=2"]),
                               headers={"Content-Type": "application/x-www-form-urlencoded"}).json()
        equal(shown["form"], {"a": "1", "b": "2"})
        equal(shown["headers"]["Transfer-Encoding"], "chunked")

    @check("a body from a file, and back" + on)
    def _():
        content = os.urandom(1_000_000)
        client = session()
        equal(client.put(base + "/put/file", data=io.BytesIO(content)).status_code, 201)
        assert client.get(base + "/put/file").content == content
        answer = client.get(base + "/put/file", headers={"Range": "bytes=1000-1999"})
        equal((answer.status_code, answer.content == content[1000:2000]), (206, True))
        equal(client.delete(base + "/put/file").status_code, 204)

    @check("a download in parts" + on)
    def _():
        with session().get(base + "/test/bulk?count=50000", stream=True) as answer:
            lines = list(answer.iter_lines())
        equal((len(lines), lines[-1]), (50000, b"Hello World 0000049999"))
        with session().get(base + "/test/event", stream=True) as answer:
            events = [line for line in answer.iter_lines(decode_unicode=True) if line.startswith("data")]
        equal((len(events), events[99][-8:]), (100, "Event 99"))
        # Who goes away in the middle leaves no trouble behind.
        client = session()
        with client.get(base + "/test/bulk?count=10000000", stream=True) as answer:
            next(answer.iter_content(1000))
        equal(client.get(base + "/test/success").text, "success\n")

    @check("JSON" + on)
    def _():
        value = {"a": [1, 2.5, None, True], "ü": {"b": "\u2028\U0001f600"}}
        equal(session().post(base + "/test/show", json=value).json()["form"], value)
        broken = session().post(base + "/test/show", data="{", headers={"Content-Type": "application/json"})
        equal(broken.status_code, 400)

    @check("XSRF" + on)
    def _():
        visitor = session()
        url = base + "/test/xsrf"
        token = visitor.get(url).headers["X-XSRF-TOKEN"]
        equal(visitor.post(url).status_code, 400, "without the token")
        equal(visitor.post(url, headers={"X-XSRF-TOKEN": token[:-1] + "x"}).status_code, 400, "with another")
        equal(visitor.post(url, headers={"X-XSRF-TOKEN": token}).text, "success")
        equal(visitor.post(url, data={"-xsrf-": token, "a": "b"}).text, "success")
        equal(visitor.post(url, data={"-xsrf-": token}, files={"x": b"x" * 9000}).text, "success")
        equal(session().post(url, headers={"X-XSRF-TOKEN": token}).status_code, 400, "of another visitor")

    @check("redirects" + on)
    def _():
        answer = session().get(base + "/old.html")
        equal((answer.status_code, answer.url, answer.history[0].status_code), (200, base + "/index.html", 301))
        equal(session().post(base + "/moved", data=b"abc").text, "3\n")
        equal(session().post(base + "/see", data=b"abc").json()["method"], "GET")
        if not on:
            answer = session().get(base + "/tls.html")
            equal((answer.status_code, answer.url), (200, place.secure + "/index.html"))

    @check("many clients at once" + on)
    def _():
        from concurrent.futures import ThreadPoolExecutor

        def ask(number):
            client = session()
            return [json.loads(client.get(f"{base}/test/show?n={number}").text)["query"]["n"] for _ in range(5)]

        with ThreadPoolExecutor(8) as pool:
            for number, answers in enumerate(pool.map(ask, range(16))):
                equal(answers, [str(number)] * 5)


for base in (place.plain, place.secure):
    everywhere(base)


@check("a certificate of an authority that is not known")
def _():
    try:
        requests.get(place.secure, timeout=20)
    except requests.exceptions.SSLError:
        return
    raise AssertionError("it was trusted")


finish(at_least=31)
