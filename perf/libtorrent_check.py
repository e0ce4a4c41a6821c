#!/usr/bin/env python3
"""Checks the content of one torrent with libtorrent and ends once every piece was hashed. Run by hash-compare.

Prints one JSON object: what the check took, from adding the torrent without resume data to the torrent-checked alert,
without Python's start, the reading of the torrent file and libtorrent's end; user_s and sys_s are this process's in that
time. Ends with an error when a piece is not good.
"""

import argparse
import json
import resource
import sys
import time

import libtorrent
from libtorrent_leech import parameters, settings


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, an integer")
    return parser.parse_args()


def wait_until_checked(session):
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, (libtorrent.torrent_error_alert, libtorrent.file_error_alert)):
                sys.exit(alert.message())
            if isinstance(alert, libtorrent.torrent_checked_alert):
                return


def main():
    options = arguments()
    session = libtorrent.session(settings(options.set))
    params = parameters(options)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    handle = session.add_torrent(params)
    wait_until_checked(session)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    good, pieces = handle.status().num_pieces, params.ti.num_pieces()
    if good != pieces:
        sys.exit(f"libtorrent found {good} of {pieces} pieces good")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    told = {"wall_s": wall, "user_s": user, "sys_s": system, "good": good, "version": libtorrent.__version__}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
