#!/usr/bin/env python3
"""Checks licences, bans and sources of all dependencies against deny.toml, offline (the offline half of `cargo deny check`)."""

import json
import re
import subprocess
import sys
import tomllib

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allowed = set(rules["licenses"]["allow"])
    banned = {ban["crate"]: ban for ban in rules["bans"]["deny"]}
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    for target in rules["graph"]["targets"]:
        command += ["--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = metadata["packages"]
    faults = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not permits(package["license"] or "", allowed):
            faults.append(f"{name}: licence {package['license']} is not among those allowed")
        if ban := banned.get(package["name"]):
            wrong = users(package["id"], metadata) - set(ban.get("wrappers", []))
            faults += [f"{name}: banned: {ban['reason']}; used by {user}" for user in sorted(wrong)]
        if package["source"] not in (None, REGISTRY):
            faults.append(f"{name}: comes from {package['source']}")
    print("\n".join(faults) or f"{len(packages)} packages: licences, bans and sources are as deny.toml wants them")
    sys.exit(bool(faults))


def users(package, metadata):
    """The names of the packages that depend on that one directly."""
    ids = {node["id"] for node in metadata["resolve"]["nodes"] if package in node["dependencies"]}
    return {found["name"] for found in metadata["packages"] if found["id"] in ids}


def permits(expression, allowed):
    """Whether an SPDX expression can be satisfied by the allowed licences; `/` is crates.io's old `OR`."""
    tokens = re.findall(r"[()]|[^\s()/]+", expression.replace("/", " OR "))
    tokens = [{"OR": "or", "AND": "and"}.get(token, token) for token in tokens]
    if "WITH" in tokens:
        # An exception only ever adds permissions.
        tokens = [token for at, token in enumerate(tokens) if token != "WITH" and tokens[at - 1 : at] != ["WITH"]]
    python = " ".join(token if token in ("(", ")", "or", "and") else str(token in allowed) for token in tokens)
    return bool(tokens) and eval(python, {"__builtins__": {}})


if __name__ == "__main__":
    main()
