"""Users of the running agent, seen by requests: argv is the plain and the TLS address."""

import os
import sys

import requests
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

requests.packages.urllib3.disable_warnings()
plain, secure = sys.argv[1:3]
# They would have the certificate verified after all.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)


def get(url, **options):
    return requests.get(url, verify=False, timeout=20, **options)


for base in (plain, secure):
    for path in ("/digest/", "/md5/"):
        right, wrong = HTTPDigestAuth("jo", "open sesame"), HTTPDigestAuth("jo", "open Sesame")
        session = requests.Session()
        session.auth, session.verify = right, False
        # One nonce, and a count that grows.
        for _ in range(3):
            answer = session.get(base + path)
            assert (answer.status_code, answer.text) == (200, "inside"), (path, answer.status_code, answer.text)
        assert len(answer.history) == 0, "the nonce was used again"
# Not more often: who guesses has to wait.
assert get(base + path, auth=wrong).status_code == 401
assert get(base + path, auth=HTTPDigestAuth("nobody", "open sesame")).status_code == 401

assert get(secure + "/basic/", auth=HTTPBasicAuth("jo", "open sesame")).status_code == 200
assert get(plain + "/basic/", auth=HTTPBasicAuth("jo", "open sesame")).status_code == 403
assert get(secure + "/basic/", auth=HTTPBasicAuth("jo", "x")).status_code == 401

session = requests.Session()
session.verify = False
assert session.get(secure + "/session/").status_code == 401
answer = session.post(secure + "/login", json={"username": "jo", "password": "x"})
assert (answer.status_code, len(session.cookies)) == (401, 0)
answer = session.post(secure + "/login", json={"username": "jo", "password": "open sesame"})
assert answer.status_code == 200, (answer.status_code, answer.text)
assert (answer.json()["user"], answer.json()["role"]) == ("jo", "user")
(cookie,) = session.cookies
assert cookie.secure and cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "Lax"
assert session.get(secure + "/session/").text == "inside"
assert session.get(secure + "/session/").headers["X-XSRF-TOKEN"] == answer.json()["xsrf"]
first = session.get(secure + "/session/").headers["X-XSRF-TOKEN"]
answer = session.post(secure + "/login", data={"username": "jo", "password": "open sesame", "redirect": "/session/"})
assert (answer.status_code, answer.text, answer.history[0].status_code) == (200, "inside", 303)
second = answer.headers["X-XSRF-TOKEN"]
assert first != second, "a login gives another token"
assert session.post(secure + "/form/", data={"a": "b"}).status_code == 400
assert session.post(secure + "/form/", data={"-xsrf-": first}).status_code == 400
# The route is one for files, which nobody posts to: the token was right.
assert session.post(secure + "/form/", data={"-xsrf-": second}).status_code == 405
assert session.post(secure + "/form/", files={"x": b"y" * 50000}, data={"-xsrf-": second}).status_code == 405
assert session.post(secure + "/form/", headers={"X-XSRF-TOKEN": second}).status_code == 405
assert session.post(secure + "/form/", headers={"X-XSRF-TOKEN": second, "Origin": "https://evil"}).status_code == 403
kept = session.cookies.copy()
assert session.post(secure + "/logout").status_code == 204 and len(session.cookies) == 0
session.cookies = kept
assert session.get(secure + "/session/").status_code == 401

visitor = requests.Session()
visitor.verify = False
token = visitor.get(secure + "/form/").headers["X-XSRF-TOKEN"]
assert visitor.post(secure + "/form/", data={"-xsrf-": token}).status_code == 405
assert requests.post(secure + "/form/", data={"-xsrf-": token}, verify=False).status_code == 400
