"""The page of the device in Chromium, profile prod: the fields for careful browsers leave it as it is."""

import requests

from browser import Browser
from checks import check, equal, finish, place

FIELDS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "base-uri 'self'; frame-ancestors 'self'; object-src 'none'",
}


def everything(browser):
    for base, on in ((place.plain, ""), (place.secure, " over TLS")):
        page = browser.page(base + "/")

        @check("the fields are there" + on)
        def _():
            answer = requests.get(base + "/", verify=place.ca, timeout=20)
            for name, value in FIELDS.items():
                equal(answer.headers.get(name), value, name)
            transport = answer.headers.get("Strict-Transport-Security")
            equal(transport, "max-age=15552000" if on else None)

        @check("styles, pictures and scripts work" + on)
        def _():
            page.until("document.getElementById('connection').textContent !== 'Connecting…'")
            equal(page.run("document.styleSheets.length === 1 && document.styleSheets[0].cssRules.length > 5"), True)
            equal(page.run("document.querySelector('img').complete && document.querySelector('img').naturalWidth > 0"), True)
            # It is a visitor, whom the API does not answer.
            found = page.run("document.getElementById('connection').className")
            equal(found, "bad")

        @check("no part of the page was refused" + on)
        def _():
            refused = [text for text in page.complaints() if "status of 401" not in text and "status of 403" not in text]
            equal(refused, [])

    @check("it shows the device after a login")
    def _():
        body = "new URLSearchParams({username: 'jo', password: 'open sesame'})"
        status = page.run(f"fetch('/login', {{method: 'POST', redirect: 'manual', body: {body}}}).then(({{type}}) => type)")
        equal(status, "opaqueredirect")
        page.until("document.getElementById('connection').textContent === 'Live'")
        equal(page.run("document.getElementById('device').children.length > 2"), True)
        equal(page.run("document.getElementById('services').textContent.includes('web')"), True)

    @check("pages of other origins cannot put it into a frame")
    def _():
        other = browser.page(place.other + "/")
        framed = f"""new Promise((resolve) => {{
            const frame = document.createElement('iframe');
            frame.onload = () => {{
                let seen;
                try {{ seen = frame.contentDocument; }} catch {{ seen = null; }}
                resolve(seen && seen.title || 'refused');
            }};
            frame.src = '{{}}/';
            document.body.append(frame);
        }})"""
        equal(other.run(framed.replace("{}", place.other)) == "refused", False, "its own frame")
        equal(other.run(framed.replace("{}", place.plain)), "refused")
        assert any("frame" in text for text in other.complaints()), other.complaints()


with Browser() as browser:
    everything(browser)

finish(at_least=8)
