"""Signs requests with botocore: one JSON object a line in, the signature a line out. See sigv4.rs."""

import base64
import datetime
import hashlib
import hmac
import json
import sys
import zlib

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CHUNK = 64 * 1024


def main():
    for line in sys.stdin:
        print(sign(json.loads(line)))


def sign(case):
    time = datetime.datetime.fromtimestamp(case["time"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda *_: time
    chunked = case["form"].startswith("Chunks")
    request = AWSRequest(case["method"], case["url"], data=None if chunked else case["body"].encode() or None)
    for name, value in case["headers"]:
        request.headers[name] = value
    if case["form"] == "WebSocket":
        return sign_websocket(case, request)
    where = (Credentials(case["id"], case["secret"], case["token"]), case["service"], case["region"])
    if case["form"] == "Query":
        auth = botocore.auth.S3SigV4QueryAuth if case["s3"] else botocore.auth.SigV4QueryAuth
        auth(*where, expires=case["expires"]).add_auth(request)
        return request.url.rsplit("X-Amz-Signature=")[1]
    if chunked:
        return sign_chunks(case, request, where, time)
    auth = botocore.auth.S3SigV4Auth if case["s3"] else botocore.auth.SigV4Auth
    auth(*where).add_auth(request)
    return request.headers["Authorization"]


def sign_websocket(case, request):
    """Without the token, which follows the signature; the order of the parameters before it counts for nobody but us."""
    where = (Credentials(case["id"], case["secret"]), case["service"], case["region"])
    botocore.auth.SigV4QueryAuth(*where, expires=24 * 60 * 60).add_auth(request)
    target = request.url.split("/mqtt")[1]
    token = "&X-Amz-Security-Token=" + quote(case["token"]) if case["token"] else ""
    return "/mqtt" + target + token


def quote(text):
    return botocore.auth.quote(text, safe="-_.~")


def sign_chunks(case, request, where, time):
    """The Authorization field, and the hash of the body as it goes over the wire."""
    trailer = case["form"] == "ChunksAndTrailer"
    body = case["body"].encode()
    request.headers["Content-Encoding"] = "aws-chunked"
    request.headers["X-Amz-Decoded-Content-Length"] = str(len(body))
    if trailer:
        request.headers["X-Amz-Trailer"] = "x-amz-checksum-crc32"

    class Streaming(botocore.auth.S3SigV4Auth):
        def payload(self, _):
            return "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")

        def _modify_request_before_signing(self, request):
            super()._modify_request_before_signing(request)
            request.headers.replace_header("X-Amz-Content-SHA256", self.payload(request))

    Streaming(*where).add_auth(request)
    authorization = request.headers["Authorization"]
    wire = encode(case, body, time, authorization.rsplit("Signature=")[1], trailer)
    return f"{authorization} {hashlib.sha256(wire).hexdigest()}"


def encode(case, body, time, previous, trailer):
    date = time.strftime("%Y%m%dT%H%M%SZ")
    scope = [date[:8], case["region"], case["service"], "aws4_request"]
    key = b"AWS4" + case["secret"].encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")

    def signature(algorithm, *hashes):
        nonlocal previous
        text = "\n".join([algorithm, date, "/".join(scope), previous, *hashes])
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        return previous

    def sha256(data):
        return hashlib.sha256(data).hexdigest()

    wire = b""
    for start in [*range(0, len(body), CHUNK), len(body)]:
        data = body[start : start + CHUNK]
        wire += b"%x;chunk-signature=" % len(data)
        wire += signature("AWS4-HMAC-SHA256-PAYLOAD", sha256(b""), sha256(data)).encode() + b"\r\n" + data
        if data:
            wire += b"\r\n"
    if trailer:
        line = b"x-amz-checksum-crc32:" + base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))
        signed = signature("AWS4-HMAC-SHA256-TRAILER", sha256(line + b"\n")).encode()
        wire += line + b"\r\nx-amz-trailer-signature:" + signed + b"\r\n"
    return wire + b"\r\n"


if __name__ == "__main__":
    main()
