#!/usr/bin/env python3
"""Gives one torrent with libtorrent. Prints `seeding` once all of its content was checked and found good, and runs until
it is killed. The check is the full one: in its seed mode libtorrent would hash each piece when it is first asked for.
"""

import argparse
import sys

import libtorrent
from libtorrent_leech import parameters, settings


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, an integer")
    return parser.parse_args()


# More bytes that wait to be sent to a peer than the usual 512 KiB bring four times the rate to one fast leech; half or four
# times as many as these, and larger socket buffers, are slower again.
FAST = ("send_buffer_watermark=4194304", "send_buffer_low_watermark=1048576")


def main():
    options = arguments()
    session = libtorrent.session(settings([*FAST, *options.set], options.listen))
    handle = session.add_torrent(parameters(options))
    while True:
        session.wait_for_alert(60_000)
        for alert in session.pop_alerts():
            if isinstance(alert, (libtorrent.torrent_error_alert, libtorrent.file_error_alert, libtorrent.listen_failed_alert)):
                sys.exit(alert.message())
            if isinstance(alert, libtorrent.torrent_checked_alert):
                if not handle.status().is_seeding:
                    sys.exit(f"{options.dir} does not hold the whole content")
                print("seeding", flush=True)


if __name__ == "__main__":
    main()
