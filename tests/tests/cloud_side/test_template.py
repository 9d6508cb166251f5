"""agent/cloud/template.yaml: what devices, the rule and the function may do, and that it holds the function as it is."""

import importlib.util
import pathlib
import unittest

import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "agent/cloud"


class Loader(yaml.SafeLoader):
    """Short forms of CloudFormation's functions become objects, as `!Ref x` {"Ref": x}."""


def function(loader, tag, node):
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    return {tag: loader.construct_sequence(node, deep=True)}


Loader.add_multi_constructor("!", function)
TEMPLATE = yaml.load((FOLDER / "template.yaml").read_text(), Loader)
RESOURCES = {name: resource.get("Properties", {}) for name, resource in TEMPLATE["Resources"].items()}


def many(value):
    return value if isinstance(value, list) else [value]


def statements():
    """Each statement of each policy, with the resource that has it."""
    for name, properties in RESOURCES.items():
        documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in documents:
            for statement in document["Statement"]:
                yield name, statement


def place(resource):
    """The resource of a statement as a text."""
    return resource if isinstance(resource, str) else str(next(iter(resource.values())))


class Template(unittest.TestCase):
    def test_it_holds_the_function_as_it_is(self):
        specification = importlib.util.spec_from_file_location("embed", FOLDER / "embed.py")
        embed = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(embed)
        text = (FOLDER / "template.yaml").read_text()
        self.assertEqual(embed.embedded(), text, "run agent/cloud/embed.py")
        self.assertEqual(RESOURCES["Function"]["Code"]["ZipFile"], (FOLDER / "function.py").read_text())
        self.assertLess(len(text), 51_200, "CloudFormation takes no larger template without a bucket")

    def test_no_policy_allows_more_than_it_names(self):
        wild = set()
        for name, statement in statements():
            for action in many(statement["Action"]):
                self.assertNotIn("*", action, name)
            for resource in map(place, many(statement["Resource"])):
                self.assertNotEqual(resource, "*", name)
                if "*" in resource:
                    wild.add((name, many(statement["Action"])[0], resource.split(":")[-1]))
        # A thing's name and a stream's date are not known beforehand.
        expected = {
            ("FunctionRole", "iot:Publish", "topic/sync/*/ack"),
            ("FunctionRole", "iot:Publish", "topic/sync/*/dirty"),
            ("FunctionRole", "dynamodb:ListStreams", "${Table.Arn}/stream/*"),
        }
        self.assertEqual(wild, expected)

    def test_a_device_reaches_its_own_rows_and_topics_only(self):
        rows = [statement for name, statement in statements() if name == "DeviceRole"]
        keys = []
        for statement in rows:
            self.assertEqual(statement["Condition"]["Null"], {"dynamodb:LeadingKeys": "false"})
            [(_, condition)] = [pair for pair in statement["Condition"].items() if pair[0] != "Null"]
            keys += condition["dynamodb:LeadingKeys"]
            for action in many(statement["Action"]):
                self.assertNotIn(action, ("dynamodb:Scan", "dynamodb:DeleteItem", "dynamodb:PutItem"))
        self.assertEqual(keys, ["${credentials-iot:ThingName}#*", "${credentials-iot:ThingName}"])
        for name, statement in statements():
            if name == "DevicePolicy" and many(statement["Action"]) != ["iot:AssumeRoleWithCertificate"]:
                for resource in map(place, many(statement["Resource"])):
                    self.assertIn("${!iot:Connection.Thing.ThingName}", resource)

    def test_the_device_policy_has_the_topics_of_the_protocol(self):
        protocol = (FOLDER / "PROTOCOL.md").read_text()
        for topic in ("$aws/rules/NAME_sync/sync/THING/up", "sync/THING/ack", "sync/THING/dirty"):
            self.assertIn(topic, protocol)
        places = "\n".join(place(r) for name, s in statements() if name == "DevicePolicy" for r in many(s["Resource"]))
        thing = "${!iot:Connection.Thing.ThingName}"
        for end in (f"_sync/sync/{thing}/up", f"topicfilter/sync/{thing}/ack", f"topic/sync/{thing}/dirty"):
            self.assertIn(end + "\n", places + "\n")

    def test_the_table_is_what_device_and_function_ask_for(self):
        table = RESOURCES["Table"]
        names = {key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]}
        self.assertEqual(names, {"HASH": "pk", "RANGE": "sk"})
        [index] = table["GlobalSecondaryIndexes"]
        names = {key["KeyType"]: key["AttributeName"] for key in index["KeySchema"]}
        self.assertEqual((index["IndexName"], names), ("changes", {"HASH": "gpk", "RANGE": "_ts"}))
        self.assertEqual(table["StreamSpecification"], {"StreamViewType": "NEW_AND_OLD_IMAGES"})
        self.assertEqual(RESOURCES["Stream"]["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        self.assertEqual(TEMPLATE["Resources"]["Table"]["DeletionPolicy"], "Retain")

    def test_identity_comes_from_the_broker(self):
        sql = RESOURCES["Rule"]["TopicRulePayload"]["Sql"]
        for part in ("encode(*, 'base64') AS data", "topic() AS topic", "clientid() AS client"):
            self.assertIn(part, sql)


if __name__ == "__main__":
    unittest.main()
