#!/usr/bin/env python3
"""agent/cloud/function.py as AWS would run it, between the simulator of ci/cloud.py and an MQTT broker.

function.py FILE --broker HOST:PORT [--endpoint URL] [--thing THING] [--stream] [--stdin] [--seed N]
    Calls the function with what devices publish on $aws/rules/TABLE_sync/sync/THING/up, in place of the topic rule, and with
    --stream for what was written to the table, in place of the event source; what it publishes goes to the broker. FILE holds the
    line that `cloud.py serve` printed (`-`: the first line of standard input). --endpoint: another way to DynamoDB. --thing: of
    this one only. The broker is spoken to by mosquitto_sub and mosquitto_pub. A broker does not tell who sent a message: the
    thing of the topic is taken for the client, which AWS IoT knows.
    Prints `ready`, and works until SIGTERM. With --stdin until that ends, and takes orders there: `trouble N`, from now on so many
    messages of 100 are lost, repeated or late, in both directions; `calm`, none are, and `calm` is printed once nothing is
    under way; `end`.
"""

import argparse
import base64
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
import traceback

import boto3

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "agent/cloud/function.py"
# Of the template.
SECONDS = 60
# How often the stream is looked at; AWS looks four times a second.
PAUSE = 0.1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--broker", required=True)
    parser.add_argument("--endpoint")
    parser.add_argument("--thing", default="+")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--stdin", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cloud = json.loads(sys.stdin.readline() if arguments.file == "-" else pathlib.Path(arguments.file).read_text())
    work = Work(cloud, arguments)
    if arguments.stream:
        threading.Thread(target=work.follow, args=[cloud], daemon=True).start()
    threading.Thread(target=work.listen, args=[cloud["table"], arguments.thing], daemon=True).start()
    if not arguments.stdin:
        threading.Event().wait()
    for line in sys.stdin:
        order, *words = line.split()
        if order == "end":
            break
        work.trouble = int(words[0]) if order == "trouble" else 0
        if order == "calm":
            work.quiet()
            print("calm", flush=True)
    work.end()


class Context:
    def __init__(self):
        self.end = time.monotonic() + SECONDS

    def get_remaining_time_in_millis(self):
        return int((self.end - time.monotonic()) * 1000)


class Work:
    def __init__(self, cloud, arguments):
        self.host, self.port = arguments.broker.rsplit(":", 1)
        self.trouble, self.random = 0, random.Random(arguments.seed)
        self.busy, self.done = 0, threading.Condition()
        self.subscriber, self.hears = None, False
        # Lambda runs as many as are needed.
        self.pool = concurrent.futures.ThreadPoolExecutor(16)
        os.environ |= {
            "TABLE": cloud["table"],
            "AWS_DEFAULT_REGION": cloud["region"],
            "AWS_ACCESS_KEY_ID": cloud["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": cloud["secret_access_key"],
            "AWS_ENDPOINT_URL_DYNAMODB": arguments.endpoint or cloud["endpoint"],
        }
        specification = importlib.util.spec_from_file_location("function", SOURCE)
        self.function = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.function)
        self.function.mqtt = self

    # In place of the client for iot-data

    def publish(self, topic, qos, payload):
        self.pass_on(self.send, topic, qos, payload)

    def send(self, topic, qos, payload):
        command = ["mosquitto_pub", "-h", self.host, "-p", self.port, "-q", str(qos), "-t", topic, "-s"]
        subprocess.run(command, input=payload, timeout=10)

    # In place of the topic rule

    def listen(self, table, thing):
        wanted, echo = f"$aws/rules/{table}_sync/sync/{thing}/up", f"function/{os.getpid()}"
        command = ["mosquitto_sub", "-h", self.host, "-p", self.port, "-q", "1", "-t", wanted, "-t", echo, "-F", "%t %x"]
        self.subscriber = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.call, args=[echo], daemon=True).start()
        for line in self.subscriber.stdout:
            topic, _, payload = line.rstrip("\n").partition(" ")
            if topic != echo:
                self.pass_on(self.receive, topic.split("/", 3)[3], bytes.fromhex(payload))
            elif not self.hears:
                self.hears = True
                print("ready", flush=True)

    def call(self, echo):
        """Until it is heard: then what devices publish is heard as well."""
        while not self.hears:
            self.send(echo, 1, b"?")
            time.sleep(0.1)

    def receive(self, topic, payload):
        event = {"topic": topic, "client": topic.split("/")[1], "data": base64.b64encode(payload).decode()}
        self.function.handler(event, Context())

    # In place of the event source

    def follow(self, cloud):
        streams = boto3.client("dynamodbstreams", endpoint_url=cloud["endpoint"])
        arn = streams.list_streams(TableName=cloud["table"])["Streams"][0]["StreamArn"]
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        place = {"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        iterator = streams.get_shard_iterator(**place)["ShardIterator"]
        while True:
            found = streams.get_records(ShardIterator=iterator, Limit=100)
            iterator, records = found["NextShardIterator"], found["Records"]
            for _ in range(3):
                records = self.changed(records)
            time.sleep(PAUSE)

    def changed(self, records):
        """Returns what is to be tried again: the first that failed, and all behind it."""
        if not records:
            return []
        # Events have bytes in base64, and times as numbers.
        plain = lambda value: base64.b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()
        try:
            answer = self.function.handler({"Records": json.loads(json.dumps(records, default=plain))}, Context())
        except Exception:
            traceback.print_exc()
            return records
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        first = next((at for at, record in enumerate(records) if record["dynamodb"]["SequenceNumber"] in failed), None)
        return [] if first is None else records[first:]

    # Trouble

    def pass_on(self, what, *arguments):
        """Has something done: once and now, if there is no trouble."""
        if self.random.random() * 100 >= self.trouble:
            waits = [0]
        else:
            waits = self.random.choice([[], [0, 0], [0, self.random.random() * 4], [self.random.random() * 4], [0.3]])
        for wait in waits:
            with self.done:
                self.busy += 1
            self.pool.submit(self.do, wait, what, *arguments)

    def do(self, wait, what, *arguments):
        try:
            time.sleep(wait)
            what(*arguments)
        except Exception:
            traceback.print_exc()
        finally:
            with self.done:
                self.busy -= 1
                self.done.notify_all()

    def quiet(self):
        with self.done:
            self.done.wait_for(lambda: self.busy == 0)

    def end(self):
        if self.subscriber:
            self.subscriber.kill()
        # Nobody waits for what is under way.
        os._exit(0)


if __name__ == "__main__":
    main()
