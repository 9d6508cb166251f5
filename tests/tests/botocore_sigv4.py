"""Signs requests with botocore: one JSON object a line in, the signature a line out. See sigv4.rs."""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def main():
    for line in sys.stdin:
        print(sign(json.loads(line)))


def sign(case):
    time = datetime.datetime.fromtimestamp(case["time"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda *_: time
    request = AWSRequest(case["method"], case["url"], data=case["body"].encode() or None)
    for name, value in case["headers"]:
        request.headers[name] = value
    credentials = Credentials(case["id"], case["secret"], case["token"])
    where = (credentials, case["service"], case["region"])
    if case["form"] == "query":
        auth = botocore.auth.S3SigV4QueryAuth if case["s3"] else botocore.auth.SigV4QueryAuth
        auth(*where, expires=case["expires"]).add_auth(request)
        return request.url.rsplit("X-Amz-Signature=")[1]
    auth = botocore.auth.S3SigV4Auth if case["s3"] else botocore.auth.SigV4Auth
    auth(*where).add_auth(request)
    return request.headers["Authorization"]


if __name__ == "__main__":
    main()
