#!/usr/bin/env python3
"""Puts function.py into template.yaml, so that deploying takes no bucket. Run it after each change of function.py."""

import pathlib

here = pathlib.Path(__file__).parent
template = here / "template.yaml"
BEGIN, END = "        ZipFile: |\n", "      # End of function.py\n"


def embedded():
    head, rest = template.read_text().split(BEGIN)
    tail = rest.split(END)[1]
    lines = (here / "function.py").read_text().splitlines()
    body = "".join(f"{' ' * 10}{line}\n" if line else "\n" for line in lines)
    return head + BEGIN + body + END + tail


if __name__ == "__main__":
    template.write_text(embedded())
