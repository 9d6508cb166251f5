"""The cloud's half of ioto's replication, see PROTOCOL.md: applies what devices send over MQTT, and tells them of changes.

It is invoked by the topic rule, with what a device published, and by the table's stream, with what was written.
"""

import base64
import binascii
import datetime
import json
import os
import re

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

TABLE = os.environ["TABLE"]
INDEX = "changes"
# A device waits for the answer: rather none than a late one.
LIMITS = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
dynamodb = boto3.client("dynamodb", config=LIMITS)
mqtt = boto3.client("iot-data", config=LIMITS)

# AWS IoT Core takes 128 KB a message.
MESSAGE = 120 * 1024
CHANGES = 500
# A device that was away for longer reads everything.
TOMBSTONE_DAYS = 90
THING = re.compile(r"[A-Za-z0-9:_-]{1,128}")
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TransactionConflictException",
}
REFUSED = {"ValidationException", "SerializationException", "ItemCollectionSizeLimitExceededException"}
STAMPS = ("pk", "sk", "_v", "_op", "_w", "_dn", "_ds", "_d", "_s", "_ts", "gpk")


class Malformed(Exception):
    """The device sent what is not in the protocol."""


def handler(event, context):
    if "Records" in event:
        return changed(event["Records"])
    return received(event, context)


# From a device


def received(event, context):
    """`topic` and `client` are what the broker knows; `data` is the device's word, and decides nothing about who it is."""
    place = str(event.get("topic")).split("/")
    thing = place[1] if len(place) == 3 and place[0] == "sync" and place[2] == "up" else ""
    if not THING.fullmatch(thing) or event.get("client") != thing:
        print(f"refused: topic {event.get('topic')!r} from client {event.get('client')!r}")
        return
    request = {}
    try:
        request = parse(event.get("data"))
        kinds = {"push": push, "pull": pull, "all": everything}
        kind = request.get("type")
        if not isinstance(kind, str) or kind not in kinds:
            raise Malformed("type is none of push, pull, all")
        kinds[kind](thing, request, context)
    except Malformed as error:
        answer(thing, request, {"type": "error", "retry": False, "reason": str(error)[:300]})
    except ClientError as error:
        is_final = code(error) in REFUSED
        answer(thing, request, {"type": "error", "retry": not is_final, "reason": str(error)[:300]})
    except BotoCoreError as error:
        answer(thing, request, {"type": "error", "retry": True, "reason": str(error)[:300]})


def parse(data):
    try:
        request = json.loads(base64.b64decode(data, validate=True))
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed(f"the message is not JSON: {error}") from None
    if not isinstance(request, dict) or request.get("v") != 1:
        raise Malformed("the message is not an object with v: 1")
    text(request, "id", 64)
    return request


def push(thing, request, context):
    """Writes each change on its condition, in order, and answers all of them, in as many parts as it takes."""
    site = text(request, "site", 256)
    schema = text(request, "schema", 256)
    changes = request.get("changes")
    if not isinstance(changes, list) or not 0 < len(changes) <= CHANGES:
        raise Malformed(f"changes is not a list of 1 to {CHANGES}")
    results, throttled = [], None
    for change in changes:
        if throttled:
            result = throttled
        elif context.get_remaining_time_in_millis() < 15_000:
            result = {"status": "failed", "reason": "the time is over"}
        else:
            result = write(thing, site, schema, change)
            throttled = result if result["status"] == "throttled" else None
        results.append({"i": len(results), **result})
    parts = pages(results)
    for number, part in enumerate(parts):
        answer(thing, request, {"type": "ack", "part": number, "parts": len(parts), "results": part})


def write(thing, site, schema, change):
    """The same request as the device's own, agent/src/sync/item.rs."""
    try:
        update = expression(thing, site, schema, change)
    except Malformed as error:
        return {"status": "refused", "reason": str(error)[:300]}
    try:
        dynamodb.update_item(TableName=TABLE, ReturnValuesOnConditionCheckFailure="ALL_OLD", **update)
        return {"status": "stored"}
    except ClientError as error:
        if code(error) == "ConditionalCheckFailedException":
            item = error.response.get("Item")
            return {"status": "differs", **fitting(item)} if item else {"status": "differs"}
        status = "throttled" if code(error) in THROTTLED else "refused" if code(error) in REFUSED else "failed"
        return {"status": status, "reason": str(error)[:300]}
    except BotoCoreError as error:
        # Values of wrong types do not get as far as the network; everything else may have been stored.
        status = "refused" if type(error).__name__ == "ParamValidationError" else "failed"
        return {"status": status, "reason": str(error)[:300]}


def expression(thing, site, schema, change):
    if not isinstance(change, dict):
        raise Malformed("the change is not an object")
    model, key = text(change, "model", 1024), text(change, "sk", 1024)
    base, counter = number(change, "base"), number(change, "n")
    try:
        op = base64.b64decode(text(change, "op", 24), validate=True)
    except binascii.Error:
        op = b""
    if len(op) != 16:
        raise Malformed("op is not the base64 of 16 bytes")
    over, removed = change.get("over"), change.get("del", False)
    fields, gone = change.get("set", {}), change.get("remove", [])
    if not isinstance(removed, bool) or not isinstance(fields, dict) or not isinstance(gone, list):
        raise Malformed("del, set and remove are not a boolean, an object and a list")
    if not all(map(is_field, [*fields, *gone])) or len({*fields, *gone}) != len(fields) + len(gone):
        raise Malformed("set and remove name an attribute twice, or one that is the protocol's own")
    sets = {
        "_v": {"N": str(base + 1)},
        "_op": {"B": op},
        "_w": {"S": thing},
        "_dn": {"N": str(counter)},
        "_ds": {"S": site},
        "_d": {"BOOL": removed},
        "_s": {"S": schema},
        **{name: unpack(value) for name, value in fields.items()},
        **({"ttl": lifetime()} if removed else {}),
    }
    removes = [*gone, "_ts", "gpk", *([] if removed else ["ttl"])]
    names = {f"#{i}": name for i, name in enumerate([*sets, *removes])}
    values = {f":{i}": value for i, value in enumerate(sets.values())}
    if over == "nothing":
        condition = "attribute_not_exists(pk)"
    elif over == "known":
        condition, values[":base"] = "#0 = :base", {"N": str(base)}
    elif over == "unversioned":
        condition = "attribute_exists(pk) AND attribute_not_exists(#0)"
    else:
        raise Malformed("over is none of nothing, known, unversioned")
    assign = ",".join(f"#{i}=:{i}" for i in range(len(sets)))
    remove = ",".join(f"#{i}" for i in range(len(sets), len(names)))
    return {
        "Key": {"pk": {"S": f"{thing}#{model}"}, "sk": {"S": key}},
        "UpdateExpression": f"SET {assign} REMOVE {remove}",
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def is_field(name):
    if not isinstance(name, str) or name in ("", "pk", "sk", "gpk", "ttl"):
        return False
    return not name.startswith("_") or name.startswith("_.")


def pull(thing, request, _):
    """A page of what others changed since a watermark, oldest first; or the newest of that alone."""
    since = text(request, "since", 64)
    newest = {"ScanIndexForward": False, "Limit": 1} if request.get("newest") is True else {}
    query = {
        **newest,
        "IndexName": INDEX,
        "KeyConditionExpression": "gpk = :thing AND #ts >= :since",
        "ExpressionAttributeNames": {"#ts": "_ts"},
        "ExpressionAttributeValues": {":thing": {"S": thing}, ":since": {"S": since}},
    }
    page(thing, request, query, lambda last: {"gpk": thing, "_ts": text(last, "_ts", 64)})


def everything(thing, request, _):
    """A page of all items of a model."""
    partition = f"{thing}#{text(request, 'model', 1024)}"
    query = {
        "ConsistentRead": True,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": partition}},
    }
    page(thing, request, query, lambda _: {"pk": partition})


def page(thing, request, query, place):
    last = request.get("next")
    if last is not None:
        if not isinstance(last, dict):
            raise Malformed("next is not the object of the last page")
        start = {"pk": text(last, "pk", 2048), "sk": text(last, "sk", 1024), **place(last)}
        if not start["pk"].startswith(f"{thing}#"):
            raise Malformed("next is not of this thing")
        query["ExclusiveStartKey"] = {name: {"S": value} for name, value in start.items()}
    found = dynamodb.query(**{"TableName": TABLE, "Limit": 200, **query})
    # An index entry of another thing's row would be a cloud writer's mistake: it is not shown.
    items = [item for item in found["Items"] if item["pk"]["S"].startswith(f"{thing}#")]
    first = pages([fitting(item) for item in items])[0]
    if len(first) < len(items):
        end = items[len(first) - 1]
    else:
        end = found.get("LastEvaluatedKey")
    after = {name: end[name]["S"] for name in ("pk", "sk", "_ts") if name in end} if end else None
    answer(thing, request, {"type": "page", "items": first, "next": after})


def fitting(item):
    """The item as the device reads it; of one that no message holds, the stamps alone."""
    if size(item) <= MESSAGE - 4096:
        return {"item": item}
    return {"item": {name: item[name] for name in STAMPS if name in item}, "cut": True}


def pages(entries):
    """Groups that fit in a message each; at least one group."""
    groups, room = [[]], MESSAGE - 1024
    for entry in entries:
        needed = size(entry) + 1
        if groups[-1] and needed > room:
            groups.append([])
            room = MESSAGE - 1024
        groups[-1].append(entry)
        room -= needed
    return groups


def size(value):
    return len(dump(value))


def dump(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=plain).encode(errors="replace")


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def unpack(value):
    """A value of DynamoDB's JSON as boto3 takes it: bytes where base64 stands for them."""
    if not isinstance(value, dict) or len(value) != 1:
        raise Malformed("a value is not of the form {TYPE: VALUE}")
    [(kind, inner)] = value.items()
    try:
        if kind == "B":
            return {kind: base64.b64decode(inner, validate=True)}
        if kind == "BS":
            return {kind: [base64.b64decode(each, validate=True) for each in inner]}
        if kind == "L":
            return {kind: [unpack(each) for each in inner]}
        if kind == "M":
            return {kind: {name: unpack(each) for name, each in inner.items()}}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Malformed(f"a value of type {kind} is spoiled") from None
    return value


def text(of, name, longest):
    value = of.get(name)
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) <= longest:
        raise Malformed(f"{name} is not a text of 1 to {longest} bytes")
    return value


def number(of, name):
    value = of.get(name)
    if type(value) is not int or not 0 <= value < 2**62:
        raise Malformed(f"{name} is not a number that counts")
    return value


def answer(thing, request, body):
    identity = request.get("id")
    publish(thing, "ack", {"v": 1, "id": identity if isinstance(identity, str) else None, **body})


def publish(thing, topic, body):
    mqtt.publish(topic=f"sync/{thing}/{topic}", qos=1, payload=dump(body))


def code(error):
    return error.response.get("Error", {}).get("Code", "")


# From the stream


def changed(records):
    """Stamps what was written without the rules, and hints each thing once. What could not be done is reported."""
    hints, failed = {}, []
    for record in records:
        change, sequence = record["dynamodb"], record["dynamodb"]["SequenceNumber"]
        old, new = change.get("OldImage"), change.get("NewImage")
        thing, _, model = change["Keys"]["pk"].get("S", "").partition("#")
        if not THING.fullmatch(thing) or not model:
            continue
        try:
            stamp_or_hint(thing, model, change["Keys"], old, new, hints, sequence)
        except (ClientError, BotoCoreError) as error:
            # What will never work must not hold up those behind it.
            print(f"{change['Keys']}: {error}")
            if not isinstance(error, ClientError) or code(error) not in REFUSED:
                failed.append(sequence)
    for thing, (sequence, hint) in hints.items():
        try:
            publish(thing, "dirty", {"v": 1, **hint, "models": sorted(hint["models"])[:50]})
        except (ClientError, BotoCoreError) as error:
            print(f"hint to {thing}: {error}")
            failed.append(sequence)
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in failed]}


def stamp_or_hint(thing, model, keys, old, new, hints, sequence):
    if new is None:
        # Of tombstones that expire the device need not know.
        if not (old or {}).get("_d", {}).get("BOOL"):
            hint(hints, thing, model, sequence)["removed"] = True
        return
    if old and {**old, "ttl": None} == {**new, "ttl": None}:
        return
    # A device leaves that to others: its clock may be wrong.
    ends = {"ttl": lifetime()} if new.get("_d", {}).get("BOOL") and "ttl" not in new else {}
    stamps = missing(thing, old or {}, new)
    if stamps or ends:
        stamp(keys, new, {**stamps, **ends})
    if stamps:
        # The stream brings the stamped item again, and then there is a hint.
        return
    if new["_w"].get("S") != thing:
        entry = hint(hints, thing, model, sequence)
        entry["ts"] = max(entry["ts"], new["_ts"]["S"])


def lifetime():
    """When a tombstone of now is deleted."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=TOMBSTONE_DAYS)
    return {"N": str(int(end.timestamp()))}


def hint(hints, thing, model, sequence):
    entry = hints.setdefault(thing, (sequence, {"models": set(), "ts": "", "removed": False}))[1]
    entry["models"].add(model)
    return entry


def missing(thing, old, new):
    """The attributes that whoever wrote `new` over `old` should have set."""
    stamps = {}
    is_signed = "_op" in new and "_v" in new and "_w" in new and new["_op"] != old.get("_op")
    if not is_signed:
        version = max(map(version_of, (old, new)))
        stamps |= {"_v": {"N": str(version + 1)}, "_op": {"B": os.urandom(16)}, "_w": {"S": "cloud:unsigned"}}
        # They tell which of the device's changes came before this one.
        stamps |= {name: old[name] for name in ("_dn", "_ds") if name in old and name not in new}
    elif new["_w"].get("S") == thing:
        return {}
    if stamps or new.get("gpk") != {"S": thing} or "S" not in new.get("_ts", {}):
        now = datetime.datetime.now(datetime.timezone.utc)
        stamps |= {"gpk": {"S": thing}, "_ts": {"S": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}}
    return stamps


def version_of(image):
    try:
        version = int(image.get("_v", {}).get("N", "0"))
    except ValueError:
        return 0
    # Higher ones count as spoiled on the device too.
    return version if 0 <= version < 2**62 else 0


def stamp(keys, seen, stamps):
    """On the condition that nobody wrote in the meantime: that write comes through the stream as well."""
    names = {f"#{i}": name for i, name in enumerate(stamps)}
    values = {f":{i}": stream_value(value) for i, value in enumerate(stamps.values())}
    conditions = ["attribute_exists(pk)"]
    for place, name in (("v", "_v"), ("op", "_op")):
        names[f"#{place}"] = name
        if name in seen:
            values[f":{place}"] = stream_value(seen[name])
            conditions.append(f"#{place} = :{place}")
        else:
            conditions.append(f"attribute_not_exists(#{place})")
    try:
        dynamodb.update_item(
            TableName=TABLE,
            Key=keys,
            UpdateExpression="SET " + ",".join(f"#{i}=:{i}" for i in range(len(stamps))),
            ConditionExpression=" AND ".join(conditions),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )
    except ClientError as error:
        if code(error) != "ConditionalCheckFailedException":
            raise


def stream_value(value):
    """Events write bytes in base64."""
    return {"B": base64.b64decode(value["B"])} if isinstance(value.get("B"), str) else value
