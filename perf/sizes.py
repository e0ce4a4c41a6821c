"""Sizes as they are typed."""

import argparse
import re

from places import MIB

UNITS = {"": 1, "MiB": MIB, "GiB": 1 << 30}
# What write_random writes at a time.
GRAIN = 16 * MIB


def size(text):
    found = re.fullmatch(r"(\d+)(MiB|GiB|)", text)
    length = int(found[1]) * UNITS[found[2]] if found else 0
    if length == 0 or length % GRAIN:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of 16MiB; write it like 512MiB or 2GiB")
    return length
