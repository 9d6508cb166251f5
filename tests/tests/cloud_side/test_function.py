"""agent/cloud/function.py against moto, which keeps the table and its stream and takes what is published."""

import base64
import importlib.util
import json
import os
import pathlib
import random
import time
import unittest

os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
os.environ |= {"TABLE": "ioto"}

import boto3
from moto import mock_aws
from moto.iotdata.models import iotdata_backends

SOURCE = pathlib.Path(__file__).resolve().parents[3] / "agent/cloud/function.py"


def op(number):
    return base64.b64encode(number.to_bytes(16, "big")).decode()


class Context:
    left = 60_000

    def get_remaining_time_in_millis(self):
        return self.left


class Bench(unittest.TestCase):
    def setUp(self):
        self.aws = mock_aws()
        self.aws.start()
        self.addCleanup(self.aws.stop)
        specification = importlib.util.spec_from_file_location("function", SOURCE)
        self.function = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.function)
        self.dynamodb = boto3.client("dynamodb")
        self.dynamodb.create_table(
            TableName="ioto",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk", "gpk", "_ts")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "changes",
                    "KeySchema": [
                        {"AttributeName": "gpk", "KeyType": "HASH"},
                        {"AttributeName": "_ts", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        self.streams = boto3.client("dynamodbstreams", endpoint_url="https://streams.dynamodb.us-east-1.amazonaws.com")
        arn = self.streams.list_streams(TableName="ioto")["Streams"][0]["StreamArn"]
        shard = self.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        self.iterator = self.streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        self.topics = []

    def published(self):
        """What was published since the last call, as topic and body."""
        messages = iotdata_backends["123456789012"]["us-east-1"].published_payloads
        found = [(topic, json.loads(payload)) for topic, payload in messages]
        for _, payload in messages:
            self.assertLessEqual(len(payload), 128 * 1024)
        messages.clear()
        return found

    def send(self, body, thing="lamp", client=None, topic=None, context=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        event = {
            "data": base64.b64encode(data).decode(),
            "topic": topic or f"sync/{thing}/up",
            "client": client or thing,
        }
        self.function.handler(event, context or Context())
        found = self.published()
        for topic, _ in found:
            self.assertEqual(topic, f"sync/{thing}/ack")
        return [body for _, body in found]

    def push(self, *changes, thing="lamp", site="s1"):
        body = {"v": 1, "type": "push", "id": "b1", "site": site, "schema": "1.0", "changes": list(changes)}
        answers = self.send(body, thing)
        self.assertEqual([a["part"] for a in answers], list(range(len(answers))))
        results = [result for a in answers for result in a["results"]]
        self.assertEqual([r.pop("i") for r in results], list(range(len(changes))))
        return results

    def item(self, key="r1", partition="lamp#Reading"):
        key = {"pk": {"S": partition}, "sk": {"S": key}}
        return self.dynamodb.get_item(TableName="ioto", Key=key, ConsistentRead=True).get("Item")

    def cloud_write(self, expression, values, key="r1", partition="lamp#Reading", names=None):
        self.dynamodb.update_item(
            TableName="ioto",
            Key={"pk": {"S": partition}, "sk": {"S": key}},
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            **({"ExpressionAttributeNames": names} if names else {}),
        )

    def edit(self, number, value, key="r1", partition="lamp#Reading", ts="2026-01-01T00:00:00.000000Z"):
        """By the rules."""
        item = self.item(key, partition) or {}
        version = int(item.get("_v", {"N": "0"})["N"]) + 1
        self.cloud_write(
            "SET #v=:v, #op=:op, #w=:w, gpk=:g, #ts=:ts, reading=:r",
            {
                ":v": {"N": str(version)},
                ":op": {"B": base64.b64decode(op(number))},
                ":w": {"S": "cloud:app"},
                ":g": {"S": partition.split("#")[0]},
                ":ts": {"S": ts},
                ":r": {"S": value},
            },
            key,
            partition,
            {"#v": "_v", "#op": "_op", "#w": "_w", "#ts": "_ts"},
        )

    def stream(self):
        """What the stream would hand over, in the JSON of events."""
        answer = self.streams.get_records(ShardIterator=self.iterator)
        self.iterator = answer["NextShardIterator"]
        plain = lambda value: base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
        return json.loads(json.dumps(answer["Records"], default=plain))

    def settle(self):
        """Hands over the stream until it is empty; returns the hints."""
        hints = []
        while records := self.stream():
            self.assertEqual(self.function.handler({"Records": records}, Context()), {"batchItemFailures": []})
            hints += self.published()
        return hints


def change(number, base=0, key="r1", value="x", over=None, **more):
    over = over or ("known" if base else "nothing")
    fields = {"reading": {"S": value}}
    return {"model": "Reading", "sk": key, "base": base, "over": over, "op": op(number), "n": number, "set": fields} | more


class Push(Bench):
    def test_a_change_is_stored_with_the_stamps_of_its_writer(self):
        blob = {"reading": {"S": "x"}, "blob": {"M": {"in": {"L": [{"B": "AAEC"}]}}}, "_._v": {"N": "5"}}
        self.assertEqual(self.push(change(7, set=blob, remove=["other"])), [{"status": "stored"}])
        expected = {
            "pk": {"S": "lamp#Reading"},
            "sk": {"S": "r1"},
            "_v": {"N": "1"},
            "_op": {"B": base64.b64decode(op(7))},
            "_w": {"S": "lamp"},
            "_dn": {"N": "7"},
            "_ds": {"S": "s1"},
            "_d": {"BOOL": False},
            "_s": {"S": "1.0"},
            "reading": {"S": "x"},
            "blob": {"M": {"in": {"L": [{"B": b"\0\1\2"}]}}},
            "_._v": {"N": "5"},
        }
        self.assertEqual(self.item(), expected)

    def test_a_repeated_or_late_batch_changes_nothing_and_shows_what_is_there(self):
        first, second = change(1), change(2, base=1, value="y")
        self.assertEqual(self.push(first, second), [{"status": "stored"}] * 2)
        before = self.item()
        for late in (first, second):
            [result] = self.push(late)
            self.assertEqual(result["status"], "differs")
            self.assertEqual(result["item"]["_op"], {"B": op(2)})
        self.assertEqual(self.item(), before)

    def test_a_cloud_edit_is_not_overwritten_and_comes_back(self):
        self.push(change(1))
        self.edit(99, "theirs")
        [result] = self.push(change(2, base=1))
        self.assertEqual((result["status"], result["item"]["reading"]), ("differs", {"S": "theirs"}))
        self.assertEqual(self.push(change(2, base=2)), [{"status": "stored"}])
        self.assertFalse({"gpk", "_ts", "ttl"} & self.item().keys())

    def test_a_missing_item_and_one_without_a_version_are_told_apart(self):
        self.assertEqual(self.push(change(1, base=3)), [{"status": "differs"}])
        self.assertIsNone(self.item())
        self.cloud_write("SET reading=:r", {":r": {"S": "console"}})
        self.assertEqual(self.push(change(1))[0]["status"], "differs")
        self.assertEqual(self.push(change(1, over="unversioned")), [{"status": "stored"}])

    def test_one_bad_change_does_not_hold_up_the_others(self):
        bad = [
            change(1, set={"_v": {"N": "9"}}),
            change(1, set={"pk": {"S": "a"}}),
            change(1, remove=["_dn"]),
            change(1, set={"a": {"S": "1"}}, remove=["a"]),
            change(1, set={"a": "text"}),
            change(1, set={"a": {"B": "no base64"}}),
            change(1, set={"a": {"N": 5}}),
            change(1, set={"a": {"X": "5"}}),
            change(1, key=""),
            change(1, key="k" * 1025),
            change(1, base=-1),
            change(1, base=True),
            change(1, base=2**62),
            change(1, op="AAAA"),
            change(1, over="anything"),
            change(1, model=5),
            "text",
            None,
        ]
        results = self.push(*bad, change(2))
        self.assertEqual([r["status"] for r in results], ["refused"] * len(bad) + ["stored"])
        self.assertEqual(self.dynamodb.scan(TableName="ioto")["Count"], 1)

    def test_answers_of_any_size_fit_in_messages(self):
        for number in range(5):
            self.cloud_write("SET big=:b", {":b": {"S": "é" * 20_000}}, key=f"r{number}")
        self.cloud_write("SET big=:b", {":b": {"S": "x" * 200_000}}, key="huge")
        results = self.push(*(change(i + 1, key=key) for i, key in enumerate(["r0", "r1", "r2", "r3", "r4", "huge"])))
        self.assertEqual([r["status"] for r in results], ["differs"] * 6)
        self.assertNotIn("cut", results[0])
        self.assertEqual((results[5]["cut"], sorted(results[5]["item"])), (True, ["pk", "sk"]))

    def test_throttling_stops_the_batch_and_lost_time_fails_the_rest(self):
        def throttled(**_):
            raise self.function.ClientError({"Error": {"Code": "ThrottlingException"}}, "UpdateItem")

        self.function.dynamodb.update_item = throttled
        self.assertEqual([r["status"] for r in self.push(change(1), change(2, key="r2"))], ["throttled"] * 2)
        late = Context()
        late.left = 1000
        body = {"v": 1, "type": "push", "id": "b", "site": "s", "schema": "1", "changes": [change(1)]}
        self.assertEqual(self.send(body, context=late)[0]["results"][0]["status"], "failed")

    def test_batches_lost_repeated_and_reordered_end_in_the_last_value_exactly_once(self):
        seed = random.randrange(2**32)
        print("seed", seed)
        chance = random.Random(seed)
        for run in range(6):
            key, base, pending, late, number, accepted = f"k{run}", 0, None, [], 0, 0
            last = None
            for _ in range(25):
                if pending is None or chance.random() < 0.3:
                    number += 1
                    last = f"v{number}"
                    pending = change(number, base, key, last)
                pending |= {"base": base, "over": "known" if base else "nothing"}
                late.append(dict(pending))
                for each in [chance.choice(late) for _ in range(chance.randrange(3))] + [pending]:
                    [result] = self.push(each)
                    accepted += result["status"] == "stored"
                if chance.random() < 0.3:
                    continue  # The answer is lost.
                if result["status"] == "stored":
                    base, pending = base + 1, None
                else:
                    base = int(result["item"]["_v"]["N"])
                    pending = None if result["item"]["_op"]["B"] == pending["op"] else pending
            while pending:
                [result] = self.push(pending | {"base": base, "over": "known" if base else "nothing"})
                accepted += result["status"] == "stored"
                if result["status"] == "stored" or result["item"]["_op"]["B"] == pending["op"]:
                    break
                base = int(result["item"]["_v"]["N"])
            item = self.item(key)
            self.assertEqual((item["reading"]["S"], int(item["_v"]["N"])), (last, accepted), f"seed {seed} run {run}")


class Identity(Bench):
    def test_who_a_device_is_decides_the_broker_alone(self):
        self.push(change(1), thing="lamp")
        body = {"v": 1, "type": "push", "id": "b", "site": "s", "schema": "1", "changes": [change(5, base=1)]}
        before = self.item()
        forged = body | {"thing": "lamp", "topic": "sync/lamp/up", "client": "lamp"}
        self.send(forged, thing="other")
        self.assertEqual(self.item(), before)
        for topic, client in [
            ("sync/lamp/up", "other"),
            ("sync/lamp/down", "lamp"),
            ("x/lamp/up", "lamp"),
            ("sync/a#b/up", "a#b"),
            ("sync//up", ""),
            ("sync/lamp/up/more", "lamp"),
            (None, None),
        ]:
            event = {"data": base64.b64encode(json.dumps(body).encode()).decode(), "topic": topic, "client": client}
            self.function.handler(event, Context())
            self.assertEqual(self.published(), [], (topic, client))
        self.assertEqual(self.item(), before)

    def test_a_model_cannot_lead_out_of_the_things_rows(self):
        self.push(change(1, model="x#lamp"), thing="other")
        [item] = self.dynamodb.scan(TableName="ioto")["Items"]
        self.assertEqual(item["pk"]["S"], "other#x#lamp")

    def test_another_things_rows_are_not_read(self):
        self.edit(1, "secret", partition="lamp#Reading")
        self.edit(2, "secret", key="r9", partition="lamp#Reading")
        for request in [
            {"type": "pull", "since": "2"},
            {"type": "all", "model": "Reading"},
            {"type": "all", "model": "Reading", "next": {"pk": "lamp#Reading", "sk": "r1"}},
            {"type": "pull", "since": "2", "next": {"pk": "lamp#Reading", "sk": "r1", "_ts": "2026"}},
        ]:
            [answer] = self.send({"v": 1, "id": "q"} | request, thing="other")
            self.assertNotIn("secret", json.dumps(answer))
            is_foreign = request["type"] == "pull" and "next" in request
            self.assertEqual(answer["type"], "error" if is_foreign else "page")
        # An item that a cloud writer put under a wrong index key.
        self.cloud_write("SET gpk=:g", {":g": {"S": "other"}})
        [answer] = self.send({"v": 1, "id": "q", "type": "pull", "since": "2"}, thing="other")
        self.assertEqual(answer["items"], [])

    def test_what_is_not_in_the_protocol_is_answered_or_dropped_but_never_breaks(self):
        good = {"v": 1, "type": "push", "id": "b", "site": "s", "schema": "1", "changes": [change(1)]}
        for body in [
            b"", b"\xff", b"[]", b"null", b"[" * 100_000, json.dumps(good | {"v": 2}).encode(),
            *(json.dumps(good | more).encode() for more in [
                {"type": "drop"}, {"type": []}, {"id": 5}, {"id": ""}, {"id": "\ud800"}, {"id": "x" * 65}, {"changes": []},
                {"changes": {}}, {"changes": [change(1)] * 501}, {"site": ""}, {"schema": None},
                {"type": "pull"}, {"type": "pull", "since": 5}, {"type": "all"}, {"type": "all", "model": "M", "next": 5},
            ]),
        ]:
            answers = self.send(body)
            self.assertEqual(len(answers), 1, body[:80])
        self.function.handler({"data": 5, "topic": "sync/lamp/up", "client": "lamp"}, Context())
        self.assertEqual(len(self.published()), 1)
        self.function.handler({}, Context())


class Pull(Bench):
    def pages(self, request):
        items, following = [], None
        for _ in range(100):
            [page] = self.send({"v": 1, "id": "q", "next": following} | request)
            self.assertEqual(page["type"], "page", page)
            items += page["items"]
            following = page["next"]
            if following is None:
                return items
        self.fail("no end")

    def test_changes_since_a_watermark_come_in_order_and_in_pages(self):
        for number in range(30):
            self.edit(number + 1, "x" * 15_000, key=f"r{29 - number}", ts=f"2026-01-{number + 1:02}T00:00:00.000000Z")
        found = self.pages({"type": "pull", "since": "2026-01-06T00:00:00.000000Z"})
        times = [entry["item"]["_ts"]["S"] for entry in found]
        self.assertEqual((len(times), times), (25, sorted(times)))
        [page] = self.send({"v": 1, "id": "q", "type": "pull", "since": "0", "newest": True, "next": None})
        self.assertEqual([entry["item"]["_ts"]["S"] for entry in page["items"]], times[-1:])
        self.push(change(77, base=1, key="r0"))
        self.assertEqual(len(self.pages({"type": "pull", "since": "2026-01-06T00:00:00.000000Z"})), 24, "an echo")

    def test_all_items_of_a_model_come_with_tombstones(self):
        self.push(*(change(i + 1, key=f"r{i:03}", value="y" * 900) for i in range(300)))
        self.push(change(400, base=1, key="r000", **{"del": True, "set": {}, "remove": ["reading"]}))
        found = self.pages({"type": "all", "model": "Reading"})
        self.assertEqual([entry["item"]["sk"]["S"] for entry in found], [f"r{i:03}" for i in range(300)])
        self.assertEqual(found[0]["item"]["_d"], {"BOOL": True})


class Stream(Bench):
    def test_a_batch_gives_each_thing_one_hint_and_own_writes_none(self):
        self.push(change(1), change(2, key="r2"))
        self.assertEqual(self.settle(), [])
        for number in range(5):
            self.edit(10 + number, "x", ts=f"2026-01-0{number + 1}T00:00:00.000000Z")
        self.edit(20, "x", partition="lamp#Setting")
        self.edit(21, "x", partition="other#Setting")
        hints = dict(self.settle())
        self.assertEqual(sorted(hints), ["sync/lamp/dirty", "sync/other/dirty"])
        expected = {"v": 1, "models": ["Reading", "Setting"], "ts": "2026-01-05T00:00:00.000000Z", "removed": False}
        self.assertEqual(hints["sync/lamp/dirty"], expected)

    def test_a_write_without_the_rules_is_stamped_and_arrives(self):
        self.push(change(1))
        self.settle()
        self.cloud_write("SET reading=:r", {":r": {"S": "console"}})
        [(topic, _)] = self.settle()
        self.assertEqual(topic, "sync/lamp/dirty")
        item = self.item()
        self.assertEqual((item["_v"], item["_w"], item["gpk"]), ({"N": "2"}, {"S": "cloud:unsigned"}, {"S": "lamp"}))
        self.dynamodb.put_item(TableName="ioto", Item={"pk": {"S": "lamp#Reading"}, "sk": {"S": "r1"}, "a": {"S": "put"}})
        self.assertEqual(len(self.settle()), 1)
        item = self.item()
        self.assertEqual((item["_v"], item["_dn"], item["_ds"]), ({"N": "3"}, {"N": "1"}, {"S": "s1"}))
        [page] = self.send({"v": 1, "id": "q", "type": "pull", "since": "2"})
        self.assertEqual(page["items"][0]["item"]["a"], {"S": "put"})

    def test_a_device_that_writes_before_the_stamp_is_not_overwritten(self):
        self.dynamodb.put_item(TableName="ioto", Item={"pk": {"S": "lamp#Reading"}, "sk": {"S": "r1"}})
        self.push(change(1, over="unversioned"))
        before = self.item()
        self.settle()
        self.assertEqual(self.item(), before)

    def test_tombstones_get_their_end_and_that_is_no_news(self):
        self.push(change(1), change(2, base=1, **{"del": True, "set": {}, "remove": ["reading"]}))
        days = (int(self.item()["ttl"]["N"]) - time.time()) / 86400
        self.assertTrue(89.9 < days <= 90, days)
        self.assertEqual(self.settle(), [])
        # Made anew by the device, and removed by one that speaks with DynamoDB itself.
        self.push(change(3, base=2))
        self.assertNotIn("ttl", self.item())
        self.cloud_write(
            "SET #v=:v, #op=:op, #d=:d",
            {":v": {"N": "4"}, ":op": {"B": base64.b64decode(op(4))}, ":d": {"BOOL": True}},
            names={"#v": "_v", "#op": "_op", "#d": "_d"},
        )
        self.assertEqual(self.settle(), [])
        self.assertEqual((self.item()["_v"], self.item()["_w"]), ({"N": "4"}, {"S": "lamp"}))
        self.assertIn("ttl", self.item())

    def test_a_cloud_writers_tombstone_gets_its_end_and_is_told_once(self):
        self.edit(1, "x")
        self.settle()
        self.edit(2, "y")
        self.cloud_write("SET #d=:d", {":d": {"BOOL": True}}, names={"#d": "_d"})
        hints = self.settle()
        self.assertTrue(hints and all(not hint["removed"] for _, hint in hints))
        self.assertIn("ttl", self.item())
        self.assertEqual(self.settle(), [])

    def test_items_that_are_gone_are_told_and_expired_tombstones_are_not(self):
        key = {"pk": {"S": "lamp#Reading"}, "sk": {"S": "r1"}}
        self.push(change(1))
        self.dynamodb.delete_item(TableName="ioto", Key=key)
        [(_, hint)] = self.settle()
        self.assertTrue(hint["removed"])
        self.push(change(2, **{"del": True}))
        self.dynamodb.delete_item(TableName="ioto", Key=key)
        self.assertEqual(self.settle(), [])

    def test_what_failed_is_reported_and_what_never_works_is_passed_over(self):
        def fail(code):
            def call(**_):
                raise self.function.ClientError({"Error": {"Code": code}}, "Call")

            return call

        self.edit(1, "x")
        records = self.stream()
        self.function.mqtt.publish = fail("ThrottlingException")
        failures = self.function.handler({"Records": records}, Context())["batchItemFailures"]
        # moto has a record of its own for the birth of an item, before the one for its attributes.
        self.assertEqual(failures, [{"itemIdentifier": records[-1]["dynamodb"]["SequenceNumber"]}])
        self.cloud_write("SET reading=:r", {":r": {"S": "console"}}, key="r2")
        records = self.stream()
        for code, expected in [("ValidationException", False), ("InternalServerError", True)]:
            self.function.dynamodb.update_item = fail(code)
            failures = self.function.handler({"Records": records}, Context())["batchItemFailures"]
            self.assertEqual(bool(failures), expected, code)

    def test_items_that_are_nobodys_are_left_alone(self):
        for partition in ("plain", "a/b#M", "lamp#"):
            self.cloud_write("SET reading=:r", {":r": {"S": "x"}}, partition=partition)
        self.cloud_write("SET #v=:v", {":v": {"N": "1.5"}}, names={"#v": "_v"})
        self.assertEqual([topic for topic, _ in self.settle()], ["sync/lamp/dirty"])


if __name__ == "__main__":
    unittest.main()
