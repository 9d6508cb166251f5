#!/usr/bin/env python3
"""The AWS simulator of `ci/run --cloud` and of the tests: moto, with signatures and policies enforced.

cloud.py serve --port PORT [--table NAME] [--allow ACTIONS] [--stream] [--stdin | --ask] [--dynalite PROGRAM]
    Starts moto on loopback with one DynamoDB table and one user who may use it, or carry out other ACTIONS, as `s3:*,logs:*`.
    Prints a line of JSON that says how to get in, and serves until SIGTERM, or with --stdin until standard input ends (so
    that it dies with the test that started it). With --stream the table has a stream of its changes, for ci/function.py.
    With --ask each line of standard input is answered: `count` with how many items there are, `keys` with their sort keys.
    Port 0 is any that is free. With --dynalite that program has the table, and nobody looks at signatures.
cloud.py scan FILE
    Prints the items of the table, one line of JSON each; FILE holds the line that `serve` printed (`-`: standard input).
cloud.py edit FILE THING MODEL KEY [JSON]
    Changes the fields of an item as a cloud writer does it, with version, operation, writer and the keys of the index of changes;
    without JSON it removes the item, with a tombstone.
cloud.py delete FILE PK SK
    Deletes an item for good, as the console does.
"""

import argparse
import ctypes
import datetime
import decimal
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import boto3
import boto3.dynamodb.types
from boto3.dynamodb.conditions import Attr

REGION = "us-east-1"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("serve")
    verb.add_argument("--port", type=int, required=True)
    verb.add_argument("--table", default="ioto")
    verb.add_argument("--allow", default="dynamodb:*")
    verb.add_argument("--stream", action="store_true")
    verb.add_argument("--stdin", action="store_true")
    verb.add_argument("--ask", action="store_true")
    verb.add_argument("--dynalite")
    verb = verbs.add_parser("scan")
    verb.add_argument("file", type=argparse.FileType())
    verb = verbs.add_parser("delete")
    verb.add_argument("file", type=argparse.FileType())
    verb.add_argument("pk")
    verb.add_argument("sk")
    verb = verbs.add_parser("edit")
    verb.add_argument("file", type=argparse.FileType())
    for name in ["thing", "model", "key"]:
        verb.add_argument(name)
    verb.add_argument("fields", type=lambda text: json.loads(text, parse_float=decimal.Decimal), nargs="?")
    arguments = parser.parse_args()
    if arguments.verb == "serve":
        whose_end = answer_questions if arguments.ask else sys.stdin.read if arguments.stdin else None
        if arguments.dynalite:
            sys.exit(serve_dynalite(arguments.dynalite, arguments.port, arguments.table))
        serve(arguments.port, arguments.table, arguments.allow.split(","), arguments.stream, whose_end)
    elif arguments.verb == "scan":
        scan(json.load(arguments.file))
    elif arguments.verb == "delete":
        delete(json.load(arguments.file), arguments.pk, arguments.sk)
    else:
        edit(json.load(arguments.file), arguments.thing, arguments.model, arguments.key, arguments.fields)


def serve(port, table, actions, has_stream, whose_end):
    import moto.server

    # One request at a time: DynamoDB's conditions hold whatever else is going on, moto's do not.
    turn, whole = threading.Lock(), moto.server.DomainDispatcherApplication.__call__

    def one_at_a_time(*request):
        with turn:
            return whole(*request)

    moto.server.DomainDispatcherApplication.__call__ = one_at_a_time
    # moto waits for ever for a server that could not bind.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            port = probe.getsockname()[1]
        except OSError as error:
            sys.exit(f"127.0.0.1:{port}: {error.strerror}")
    # A line a request is too much.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = moto.server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    print(json.dumps(set_up(f"http://127.0.0.1:{port}", table, actions, has_stream)), flush=True)
    if whose_end:
        threading.Thread(target=lambda: (whose_end(), ended.set()), daemon=True).start()
    ended.wait()
    # Requests that still run are of no use to anyone.
    os._exit(0)


def serve_dynalite(program, port, table):
    """Until standard input ends."""
    command = [program, "--host", "127.0.0.1", "--port", str(port), "--createTableMs", "0"]
    # It ends with this process, however that ends (PR_SET_PDEATHSIG).
    bound = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=bound)
    try:
        endpoint, begun = f"http://127.0.0.1:{port}", time.monotonic()
        while not is_listening(port) and child.poll() is None and time.monotonic() < begun + 10:
            time.sleep(0.05)
        dynamodb = client("dynamodb", endpoint, "setup", "setup")
        create_table(dynamodb, table)
        dynamodb.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1})
        print(json.dumps(way_in(endpoint, table, "device", "secret")), flush=True)
        sys.stdin.read()
    finally:
        child.kill()
        child.wait()


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answer_questions():
    """What the tables have, without a request that would take the time of others."""
    from moto.dynamodb.models import dynamodb_backends

    for question in sys.stdin:
        [backend] = [regions[REGION] for _, regions in dynamodb_backends.items() if regions[REGION].tables]
        items = [partition for table in backend.tables.values() for partition in list(table.items.values())]
        if question.strip() == "count":
            print(sum(map(len, items)), flush=True)
        else:
            print(json.dumps([key.value for partition in items for key in list(partition)]), flush=True)


def set_up(endpoint, table, actions, has_stream):
    """The table, a user who may do this and nothing else, and from then on no request without a valid signature."""
    stream = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}
    create_table(client("dynamodb", endpoint, "setup", "setup"), table, **(stream if has_stream else {}))
    # moto does not look for the table in a DynamoDB request, so that it matches no resource but `*`.
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    iam = client("iam", endpoint, "setup", "setup")
    iam.create_user(UserName="device")
    iam.put_user_policy(
        UserName="device",
        PolicyName="table",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    key = iam.create_access_key(UserName="device")["AccessKey"]
    # The type matters: moto takes a form for something else.
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(endpoint + "/moto-api/reset-auth", b"0", plain)).close()
    return way_in(endpoint, table, key["AccessKeyId"], key["SecretAccessKey"])


def way_in(endpoint, table, key, secret):
    access = {"access_key_id": key, "secret_access_key": secret}
    return {"endpoint": endpoint, "region": REGION, "table": table, **access}


def create_table(dynamodb, table, **more):
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=keys("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ["pk", "sk", "gpk", "_ts"]],
        GlobalSecondaryIndexes=[
            {"IndexName": "changes", "KeySchema": keys("gpk", "_ts"), "Projection": {"ProjectionType": "ALL"}}
        ],
        **more,
    )


def keys(partition, sort):
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def edit(cloud, thing, model, key, fields):
    """Reads the item and writes it on the condition that it is still what was read, until that succeeds."""
    resource = boto3.resource(
        "dynamodb",
        endpoint_url=cloud["endpoint"],
        region_name=REGION,
        aws_access_key_id=cloud["access_key_id"],
        aws_secret_access_key=cloud["secret_access_key"],
    )
    table, place = resource.Table(cloud["table"]), {"pk": f"{thing}#{model}", "sk": key}
    while True:
        version = table.get_item(Key=place, ConsistentRead=True).get("Item", {}).get("_v")
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        stamps = {"_v": (version or 0) + 1, "_op": os.urandom(16), "_w": "cloud:edit", "_d": fields is None}
        values = {**(fields or {}), **stamps, "gpk": thing, "_ts": now}
        names = {f"#{number}": name for number, name in enumerate(values)}
        condition = Attr("_v").eq(version) if version else Attr("_v").not_exists()
        try:
            table.update_item(
                Key=place,
                UpdateExpression="SET " + ", ".join(f"{name} = :{name[1:]}" for name in names),
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={f":{number}": value for number, value in enumerate(values.values())},
            )
            return
        except resource.meta.client.exceptions.ConditionalCheckFailedException:
            continue


def delete(cloud, pk, sk):
    dynamodb = client("dynamodb", cloud["endpoint"], cloud["access_key_id"], cloud["secret_access_key"])
    dynamodb.delete_item(TableName=cloud["table"], Key={"pk": {"S": pk}, "sk": {"S": sk}})


def scan(cloud):
    dynamodb = client("dynamodb", cloud["endpoint"], cloud["access_key_id"], cloud["secret_access_key"])
    decode = boto3.dynamodb.types.TypeDeserializer().deserialize
    for page in dynamodb.get_paginator("scan").paginate(TableName=cloud["table"], ConsistentRead=True):
        for item in page["Items"]:
            print(json.dumps({name: decode(value) for name, value in item.items()}, default=plain_value))


def plain_value(value):
    """What DynamoDB has and JSON has not."""
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, set):
        return sorted(value)
    return bytes(value).hex()


def client(service, endpoint, key, secret):
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret
    )


if __name__ == "__main__":
    main()
