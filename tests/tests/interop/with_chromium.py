"""Chromium against webtest: the checks of page.js, plain and over TLS, and what only the browser itself knows."""

import gzip
import json
import os

from browser import Browser
from checks import check, count, equal, fail, finish, place


def write(name, content):
    path = os.path.join(place.site, "app", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def brotli(content):
    """Content in the form of RFC 7932, as one block that is not compressed."""
    bits = (len(content) - 1) << 4 | 1 << 20
    return bits.to_bytes(3, "little") + content + b"\x03"


write("big.txt", b"x" * 200_000)
write("y.txt", b"as it is" * 100)
write("y.txt.gz", gzip.compress(b"from gzip" * 100))
write("y.txt.br", brotli(b"from br" * 100))

# Browsers use an old page again without asking, where they may.
os.utime(os.path.join(place.site, "session", "index.html"), (1e9, 1e9))

# The browser knows the server as localhost; 127.0.0.1 is another site to it.
plain, secure = (base.replace("127.0.0.1", "localhost") for base in (place.plain, place.secure))
stranger = place.other.replace("127.0.0.1", "localhost")


def checks_of(page, kind, target, on):
    results = page.run(f"run({json.dumps(kind)}, {json.dumps(target)})")
    count(len(results))
    for name, error in results:
        if error:
            fail(name + on, error)


def everything(browser):
    for base, on in ((plain, ""), (secure, " over TLS")):

        @check("the checks of the page" + on)
        def _():
            page = browser.page(base + "/page.html")
            checks_of(page, "own", base, on)
            page.run("text('/test/session/create')")
            cookies = page.cookies()
            for name in ("c", "-web-session-"):
                cookie = cookies[name]
                kept = (cookie["httpOnly"], cookie.get("sameSite"), cookie["secure"], cookie["path"])
                equal(kept, (True, "Lax", bool(on), "/"), f"cookie {name}")

        @check("pages of other sites" + on)
        def _():
            checks_of(browser.page(place.other + "/page.html"), "foreign", base, on)

        @check("strangers" + on)
        def _():
            checks_of(browser.page(stranger + "/page.html"), "stranger", base, on)

    @check("cookies that came over TLS stay there")
    def _():
        page = browser.page(secure + "/page.html")
        page.run("text('/test/cookie?name=kept&value=v')")
        equal(page.cookies()["kept"]["secure"], True)
        page.go(secure + "/page.html")
        equal(page.run("json('/test/show')")["headers"]["Cookie"], "kept=v")

    @check("a link from another site brings the cookie (SameSite=Lax), a form does not")
    def _():
        page = browser.page(plain + "/page.html")
        page.run("text('/test/cookie?name=lax&value=v')")
        page.go(place.other + "/page.html")
        page.run(f"void (location.href = '{plain}/test/show')")
        page.until(f"location.href === '{plain}/test/show' && document.readyState === 'complete'")
        equal(json.loads(page.run("document.body.textContent"))["headers"].get("Cookie"), "lax=v")
        page.go(place.other + "/page.html")
        page.run(f"form = document.getElementById('fields'), form.target = '', form.action = '{plain}/test/show', form.submit()")
        page.until(f"location.href === '{plain}/test/show' && document.readyState === 'complete'")
        # A cookie that is set without SameSite would come for two minutes; this one says Lax.
        equal(json.loads(page.run("document.body.textContent"))["headers"].get("Cookie"), None)

    @check("from plain to TLS by a redirect")
    def _():
        page = browser.page("about:blank")
        page.call("Page.navigate", url=plain + "/tls.html")
        page.until(f"location.href === '{place.secure}/index.html' && document.title === 'index'")


with Browser() as browser:
    everything(browser)

finish(at_least=60)
