#!/usr/bin/env python3
"""Fetches one torrent with libtorrent and ends once the data is in the files. Run by leech-compare.

Prints one JSON object: what the download took, from adding the torrent to the cache flush, without Python's start and
libtorrent's end; user_s and sys_s are this process's in that time. With --stay it goes on giving instead (perf/swarm).
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import libtorrent

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
import lt as interop  # noqa: E402 (lives beside the tests)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--peer", action="append", default=[], help="ADDRESS:PORT; may be repeated; else the tracker's")
    parser.add_argument("--listen", default="127.0.0.1:0", help="ADDRESS:PORT, which is connected from, too")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, an integer")
    parser.add_argument("--stay", action="store_true", help="say complete when the data is in the files, and go on giving")
    return parser.parse_args()


def settings(extra, listen="127.0.0.1:0"):
    """Those of the tests, and the threads that suit two cores.

    A longer request queue than the default of 500, more bytes queued for the disk, fixed socket buffers and other numbers
    of threads were tried and brought nothing.
    """
    chosen = interop.settings(listen)
    chosen.update(aio_threads=2, hashing_threads=2)
    for setting in extra:
        name, value = setting.split("=")
        chosen[name] = int(value)
    return chosen


def parameters(options):
    """The torrent and where it lies; nothing is looked for elsewhere."""
    params = libtorrent.add_torrent_params()
    params.ti = libtorrent.torrent_info(options.torrent)
    params.save_path = options.dir
    flags = libtorrent.torrent_flags
    params.flags &= ~(flags.auto_managed | flags.paused)
    params.flags |= flags.disable_dht | flags.disable_lsd | flags.disable_pex
    return params


def add(session, options):
    handle = session.add_torrent(parameters(options))
    for peer in options.peer:
        address, port = peer.rsplit(":", 1)
        handle.connect_peer((address, int(port)))
    return handle


def wait_until_flushed(session, handle):
    """Finished is said before the data is in the file: only the flushed cache is the end."""
    flushing = False
    while True:
        session.wait_for_alert(20)
        for alert in session.pop_alerts():
            if isinstance(alert, (libtorrent.torrent_error_alert, libtorrent.file_error_alert)):
                sys.exit(alert.message())
            if isinstance(alert, libtorrent.torrent_finished_alert) and not flushing:
                flushing = True
                handle.flush_cache()
            if isinstance(alert, libtorrent.cache_flushed_alert) and flushing:
                return


def stay(session):
    """Goes on giving until it is killed."""
    print("complete", flush=True)
    while True:
        session.wait_for_alert(60_000)
        session.pop_alerts()


def main():
    options = arguments()
    session = libtorrent.session(settings(options.set, options.listen))
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    handle = add(session, options)
    wait_until_flushed(session, handle)
    if options.stay:
        stay(session)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    print(json.dumps({"wall_s": wall, "user_s": user, "sys_s": system, "version": libtorrent.__version__}))


if __name__ == "__main__":
    main()
