"""curl against webtest, plain and over TLS."""

import gzip
import json
import os
import re
import subprocess

from checks import check, equal, finish, place


class Answer:
    def __init__(self, status, head, body, figures):
        self.status, self.head, self.body, self.figures = status, head, body, figures
        self.text = body.decode("utf-8", "replace")

    def field(self, name):
        found = re.findall(rf"(?im)^{name}: *(.*?)\r?$", self.head)
        return ", ".join(found) if found else None


def run(arguments, given=b""):
    command = ["curl", "-q", "-sS", "--max-time", "20", "--cacert", place.ca, *arguments]
    return subprocess.run(command, input=given, capture_output=True, timeout=30)


def curl(*arguments, given=b""):
    """The last answer, with what curl counted; `head` is of all answers."""
    heads = os.path.join(place.scratch, "heads")
    done = run(["-D", heads, *FIGURES, *arguments], given)
    said = done.stderr.decode()
    assert done.returncode == 0, f"curl ends with {done.returncode}: {said[:300]}"
    figures = json.loads(said[said.rindex('\n{"') + 1 :])
    with open(heads, encoding="latin-1") as file:
        return Answer(figures["http_code"], file.read(), done.stdout, figures)


def write(name, content):
    path = os.path.join(place.scratch, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def brotli(content):
    """Content in the form of RFC 7932, as one block that is not compressed."""
    bits = (len(content) - 1) << 4 | 1 << 20
    return bits.to_bytes(3, "little") + content + b"\x03"


FIGURES = ["-w", "%{stderr}\n%{json}"]
# What is said again after --next.
AGAIN = ["-sS", "--cacert", place.ca, *FIGURES]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
write("site/app/x.txt", b"as it is" * 100)
write("site/app/x.txt.gz", gzip.compress(b"from gz" * 100))
write("site/app/x.txt.br", brotli(b"from br" * 100))
BIG = os.urandom(3_000_000)
big = write("big", BIG)


def everywhere(base):
    on = " over TLS" if base == place.secure else ""
    letters = base + "/letters.txt"

    @check("ranges" + on)
    def _():
        for wanted, text, field in [
            ("0-4", "abcde", "bytes 0-4/26"),
            ("-5", "vwxyz", "bytes 21-25/26"),
            ("24-", "yz", "bytes 24-25/26"),
            ("24-99", "yz", "bytes 24-25/26"),
        ]:
            answer = curl("-r", wanted, letters)
            equal((answer.status, answer.text, answer.field("Content-Range")), (206, text, field), wanted)
        answer = curl("-r", "26-30", letters)
        equal((answer.status, answer.field("Content-Range")), (416, "bytes */26"))
        answer = curl("-r", "0-1,4-5", letters)
        equal(answer.status, 206)
        assert answer.field("Content-Type").startswith("multipart/byteranges"), answer.head
        assert "\r\n\r\nab\r\n" in answer.text and "\r\n\r\nef\r\n" in answer.text, answer.text

    @check("a download that goes on" + on)
    def _():
        half = write("half", b"abcdef")
        curl("-C", "-", "-o", half, letters)
        with open(half) as file:
            equal(file.read(), LETTERS)

    @check("HEAD, and GET on the same connection" + on)
    def _():
        answer = curl("-I", letters)
        equal((answer.status, answer.field("Content-Length")), (200, "26"))
        answer = curl("-I", letters, "--next", *AGAIN, letters)
        equal((answer.figures["num_connects"], answer.text.endswith(LETTERS)), (0, True))
        equal(curl("-I", base + "/test/bulk?count=1000").status, 200)

    @check("conditions" + on)
    def _():
        tag = os.path.join(place.scratch, "tag")
        equal(curl("--etag-save", tag, letters).status, 200)
        answer = curl("--etag-compare", tag, letters)
        equal((answer.status, answer.text), (304, ""))
        date = curl("-I", letters).field("Last-Modified")
        equal(curl("-z", date, letters).status, 304)
        equal(curl("-z", "Thu, 01 Jan 1998 00:00:00 GMT", letters).status, 200)
        equal(curl("-H", 'If-Match: "other"', letters).status, 412)
        equal(curl("-r", "0-4", "-H", 'If-Range: "other"', letters).text, LETTERS)

    @check("PUT and DELETE of a file" + on)
    def _():
        path = base + "/put/new.txt"
        equal(curl("-T", big, path).status, 201)
        equal(curl("-T", big, path).status, 204)
        assert curl(path).body == BIG
        equal(curl("-X", "DELETE", "-H", 'If-Match: "other"', path).status, 412)
        equal(curl("-X", "DELETE", path).status, 204)
        equal(curl(path).status, 404)
        equal(curl("-T", "-", path, given=b"of no told length").status, 201)
        equal(curl(path).text, "of no told length")
        equal(curl("-X", "DELETE", path).status, 204)
        equal(curl("-T", big, base + "/letters.txt").status, 405)
        equal(curl(letters).text, LETTERS)

    @check("files of a form" + on)
    def _():
        answer = curl("-F", "a=b ü", "-F", f"one=@{big};type=application/x-one", "-F", 'two=@-;filename="t w,o.txt"',
                      base + "/test/upload", given=b"two")
        shown = json.loads(answer.text)
        equal(shown["form"], {"a": "b ü"})
        files = [(f["name"], f["clientFilename"], f["contentType"], f["size"]) for f in shown["uploads"]]
        equal(files, [("one", "big", "application/x-one", 3_000_000), ("two", "t w,o.txt", "text/plain", 3)])
        assert not os.path.exists(shown["uploads"][0]["filename"]), "it is removed after the request"

    @check("uploads" + on)
    def _():
        equal(curl("-T", "-", base + "/test/put", given=BIG).text, "3000000\n", "chunked")
        equal(curl("-T", big, base + "/test/put").text, "3000000\n", "with its length")
        equal(curl("--data-binary", "@" + big, base + "/test/put").text, "3000000\n", "by POST")
        equal(curl("-H", "Transfer-Encoding: chunked", "-d", "a=b", base + "/test/put").text, "3\n", "chunked POST")
        equal(curl("-X", "POST", base + "/test/put").text, "0\n", "without a body")

    @check("forms" + on)
    def _():
        answer = curl("-d", "a=1", "--data-urlencode", "b=x&y ü", base + "/test/show?q=1%262")
        shown = json.loads(answer.text)
        equal((shown["form"], shown["query"]), ({"a": "1", "b": "x&y ü"}, {"q": "1&2"}))
        answer = curl("-G", "-d", "a=1", "--data-urlencode", "b=x&y", base + "/test/show")
        equal(json.loads(answer.text)["query"], {"a": "1", "b": "x&y"})

    @check("Expect: 100-continue" + on)
    def _():
        answer = curl("-H", "Expect: 100-continue", "--expect100-timeout", "15", "-T", big, base + "/test/put")
        equal((answer.status, answer.text), (200, "3000000\n"))
        assert "HTTP/1.1 100 Continue" in answer.head, answer.head
        assert answer.figures["time_total"] < 12, "it did not wait for its answer"
        # It is not read: the answer comes before.
        answer = curl("-H", "Expect: 100-continue", "--expect100-timeout", "15", "-T", big, base + "/test/show")
        equal((answer.status, answer.figures["size_upload"]), (413, 0))

    @check("a body that is too large, without asking before" + on)
    def _():
        equal(curl("-H", "Expect:", "--data-binary", "@" + big, base + "/test/show").status, 413)

    @check("digest authentication" + on)
    def _():
        for path in ("/digest/", "/md5/"):
            answer = curl("--digest", "-u", "jo:open sesame", base + path)
            equal((answer.status, answer.text), (200, "inside"), path)
            equal(curl("--digest", "-u", "jo:wrong", base + path).status, 401, path)
        answer = curl("--anyauth", "-u", "jo:open sesame", base + "/digest/", base + "/digest/")
        equal((answer.status, answer.text.endswith("inside")), (200, True))
        answer = curl("--digest", "-u", "jo:open sesame", "-d", "a=" + "b" * 5000, base + "/digest-action/test/show?q=a%20b")
        shown = json.loads(answer.text)
        equal((shown["form"], shown["user"]), ({"a": "b" * 5000}, "jo"))

    @check("basic authentication" + on)
    def _():
        answer = curl("-u", "jo:open sesame", base + "/basic/")
        equal(answer.status, 200 if on else 403)
        answer = curl(base + "/basic/")
        equal(answer.status, 401 if on else 403)
        if on:
            assert answer.field("WWW-Authenticate").startswith("Basic realm="), answer.head

    @check("cookies and sessions" + on)
    def _():
        jar = os.path.join(place.scratch, "jar" + on)
        token = curl("-c", jar, base + "/test/session/create").text
        equal(len(token), 32)
        equal(curl("-b", jar, f"{base}/test/session/check?{token}").text, "success")
        equal(curl(f"{base}/test/session/check?{token}").text, "token mismatch")
        with open(jar) as file:
            (line,) = [line.split("\t") for line in file.read().splitlines() if "-web-session-" in line]
        equal((line[0][:10], line[3]), ("#HttpOnly_", "TRUE" if on else "FALSE"))
        curl("-b", jar, "-c", jar, base + "/test/cookie?name=c&value=v&path=/test/")
        sent = json.loads(curl("-b", jar, base + "/test/show").text)["headers"]["Cookie"]
        assert "c=v" in sent and "-web-session-=" in sent, sent

    @check("HTTP/1.0" + on)
    def _():
        answer = curl("--http1.0", letters)
        equal((answer.status, answer.text), (200, LETTERS))
        answer = curl("--http1.0", base + "/test/bulk?count=5000")
        equal((len(answer.body), answer.field("Transfer-Encoding")), (5000 * 23, None))
        answer = curl("--http1.0", "-H", "Connection: keep-alive", letters, letters)
        equal(answer.text, LETTERS * 2)
        equal(curl("--http1.0", "-d", "a=b", base + "/test/put").text, "3\n")

    @check("compressed files" + on)
    def _():
        path = base + "/app/x.txt"
        answer = curl("--compressed", path)
        equal((answer.text, answer.field("Content-Encoding")), ("from br" * 100, "br"))
        answer = curl("--compressed", "-H", "Accept-Encoding: gzip", path)
        equal((answer.text, answer.field("Content-Encoding")), ("from gz" * 100, "gzip"))
        answer = curl(path)
        equal((answer.text, answer.field("Content-Encoding")), ("as it is" * 100, None))
        assert "accept-encoding" in answer.field("Vary").lower() and "max-age=3600" in answer.field("Cache-Control")
        equal(curl("--compressed", base + "/test/bulk?count=10").status, 200)

    @check("server-sent events" + on)
    def _():
        answer = curl("-N", base + "/test/event")
        assert answer.field("Content-Type").startswith("text/event-stream"), answer.head
        events = re.findall(r"^data: ?(.*)$", answer.text, re.M)
        equal(events, [f"Event {number}" for number in range(100)])

    @check("much data" + on)
    def _():
        answer = curl(base + "/test/bulk?count=100000")
        equal(len(answer.body), 2_300_000)
        assert answer.body.endswith(b"Hello World 0000099999\n")

    @check("redirects" + on)
    def _():
        answer = curl("-L", base + "/old.html")
        equal((answer.status, "<title>index</title>" in answer.text), (200, True))
        equal(curl("-L", "-d", "a=bcd", base + "/moved").text, "5\n", "308 keeps the method")
        equal(json.loads(curl("-L", "-d", "a=bcd", base + "/see").text)["method"], "GET", "303 does not")
        answer = curl("-L", base + "/sub")
        equal((answer.text, answer.figures["url_effective"]), ("sub", base + "/sub/"))
        if not on:
            answer = curl("-L", base + "/tls.html")
            equal((answer.status, answer.figures["scheme"]), (200, "HTTPS"))

    @check("kept connections" + on)
    def _():
        answer = curl(letters, letters, base + "/test/success", base + "/none", letters)
        equal((answer.status, answer.figures["num_connects"]), (200, 0))
        many = run(["-Z", *[word for number in range(20) for word in (f"{letters}?{number}", "-o", "-")]])
        equal((many.returncode, len(many.stdout)), (0, 20 * 26))

    @check("odd targets" + on)
    def _():
        equal(curl("--path-as-is", base + "/../../etc/passwd").status, 400)
        equal(curl("-X", "OPTIONS", "--request-target", "*", base).status in (200, 204), True)
        answer = curl("-X", "OPTIONS", letters)
        assert "GET" in answer.field("Allow"), answer.head
        equal(curl("-X", "PROPFIND", letters).status, 405)
        equal(curl("-X", "TRACE", letters).status, 405)
        assert curl(base + "/" + "x" * 9000).status == 414
        assert curl("-H", "X-Long: " + "x" * 20000, letters).status == 431


for base in (place.plain, place.secure):
    everywhere(base)


@check("TLS")
def _():
    url = place.secure + "/letters.txt"
    for version in ("1.2", "1.3"):
        equal(curl("--tlsv" + version, "--tls-max", version, url).text, LETTERS, version)
    assert run(["--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0", "--tlsv1.0", url]).returncode == 35
    equal(curl(url).figures["http_version"], "1.1", "of h2 and http/1.1")
    equal(curl("--http1.1", "--no-alpn", url).status, 200)
    port = place.secure.rsplit(":", 1)[1]
    equal(run(["--resolve", f"other.example:{port}:127.0.0.1", f"https://other.example:{port}/"]).returncode, 60)
    # Plain HTTP on a port with TLS, and the other way round.
    equal(curl(url.replace("https", "http")).status, 400)
    assert run([place.plain.replace("http", "https")]).returncode == 35


@check("HTTP/2 is not spoken")
def _():
    # The offer to change to it is not taken.
    answer = curl("--http2", place.plain + "/letters.txt", place.plain + "/test/success")
    equal((answer.status, answer.text), (200, LETTERS + "success\n"))
    done = run(["--http2-prior-knowledge", place.plain + "/letters.txt"])
    assert done.returncode not in (0, 28), done.returncode


@check("a Unix socket")
def _():
    equal(curl("--unix-socket", place.socket, "http://localhost/letters.txt").text, LETTERS)
    equal(curl("--unix-socket", place.socket, "-T", big, "http://localhost/test/put").text, "3000000\n")


@check("absolute-form, as to a proxy")
def _():
    answer = curl("--proxy", place.plain, place.plain + "/letters.txt")
    equal((answer.status, answer.text), (200, LETTERS))
    shown = json.loads(curl("--proxy", place.plain, "-H", "Host: other", place.plain + "/test/show?x=y").text)
    equal(shown["query"], {"x": "y"})
    # It is no proxy: this is served from here, or refused.
    answer = curl("--proxy", place.plain, "http://elsewhere.invalid/letters.txt")
    assert answer.status in (200, 400, 404, 421), answer.status
    done = run(["--proxy", place.plain, "--proxytunnel", place.plain + "/letters.txt"])
    equal(done.returncode, 56, "a tunnel")


finish(at_least=44)
