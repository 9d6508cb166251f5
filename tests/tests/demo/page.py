"""A visitor of the device's page in Chromium, and a program in the cloud that uses boto3. Takes orders, one a line:
`cloud VALUE`, `console VALUE` and `page VALUE` set the setting of that name; `shown NAME VALUE` waits for it on the page, `stored NAME
VALUE` in DynamoDB. The answer to each is the time that it took, in seconds."""

import os
import pathlib
import signal
import sys
import time

import boto3

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "interop"), str(TESTS.parents[1] / "ci")]

import cloud
from browser import Browser
from checks import place

# The test that gives the orders knows how long it takes.
signal.alarm(0)
table = boto3.resource(
    "dynamodb",
    endpoint_url=place.cloud["endpoint"],
    region_name=place.cloud["region"],
    aws_access_key_id=place.cloud["access_key_id"],
    aws_secret_access_key=place.cloud["secret_access_key"],
).Table(place.cloud["table"])


def key(name):
    return {"pk": f"{place.thing}#Setting", "sk": name}


def shows(page, name, value):
    rows = page.run("[...document.querySelectorAll('#settings tr')].map((row) => [...row.cells].map((cell) => cell.textContent))")
    return any(row[:2] == [name, value] for row in rows)


def stored(name, value):
    item = table.get_item(Key=key(name), ConsistentRead=True).get("Item", {})
    return item.get("value") == value and item.get("_w") == place.thing


def wait(is_there, *arguments):
    while not is_there(*arguments):
        time.sleep(0.01)


def work(page, order, *words):
    match order, words:
        case "cloud", [value]:
            cloud.edit(place.cloud, place.thing, "Setting", "cloud", {"value": value})
        case "console", [value]:
            table.put_item(Item={**key("console"), "value": value})
        case "page", [value]:
            page.run(
                "form = document.getElementById('setting'), form.elements.name.value = 'page', "
                f"form.elements.value.value = '{value}', form.requestSubmit()"
            )
        case "shown", [name, value]:
            wait(shows, page, name, value)
        case "stored", [name, value]:
            wait(stored, name, value)


with Browser() as browser:
    page = browser.page(place.plain + "/")
    page.until("!document.getElementById('settings-section').hidden")
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        work(page, *line.split())
        print(f"{time.monotonic() - began:.3f}", flush=True)
# Whatever of boto3 is under way is of no use any more.
os._exit(0)
