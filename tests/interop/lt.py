#!/usr/bin/env python3
"""A libtorrent client for the tests: one torrent, plain TCP, no discovery but the tracker and the peers given.

Prints one JSON object per line: {"event": "complete"} once all that is wanted is verified and in the files, {"event": "stats", ...}
four times a second, {"event": "error", "message": ...}. Runs until it is killed.
"""

import argparse
import json
import sys
import time

import libtorrent as lt


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
    parser.add_argument("--peer", action="append", default=[], help="ADDRESS:PORT to dial")
    parser.add_argument("--first-files", type=int, help="want only so many files, the first of the torrent")
    parser.add_argument("--upload-limit", type=int, default=0, help="bytes per second")
    return parser.parse_args()


def settings(listen):
    return {
        "listen_interfaces": listen,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "in_enc_policy": int(lt.enc_policy.disabled),
        "out_enc_policy": int(lt.enc_policy.disabled),
        "allow_multiple_connections_per_ip": True,
        "min_announce_interval": 2,
        "alert_mask": int(lt.alert.category_t.error_notification)
        | int(lt.alert.category_t.status_notification)
        | int(lt.alert.category_t.storage_notification),
    }


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def report_alerts(session, state):
    """Reports errors; a cache-flushed alert after the end of the download means that the files are whole."""
    for alert in session.pop_alerts():
        if isinstance(alert, lt.cache_flushed_alert):
            if state["flushing"] and not state["complete"]:
                state["complete"] = True
                say("complete")
        elif isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert, lt.listen_failed_alert)):
            say("error", message=alert.message())


def main():
    options = arguments()
    session = lt.session(settings(options.listen))
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(options.torrent)
    params.save_path = options.dir
    if options.first_files is not None:
        params.file_priorities = [4 if i < options.first_files else 0 for i in range(params.ti.num_files())]
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    params.flags |= lt.torrent_flags.disable_dht | lt.torrent_flags.disable_lsd | lt.torrent_flags.disable_pex
    handle = session.add_torrent(params)
    # The limits of a session spare peers on local networks; a torrent's do not.
    handle.set_upload_limit(options.upload_limit or -1)
    for peer in options.peer:
        address, port = peer.rsplit(":", 1)
        handle.connect_peer((address.strip("[]"), int(port)))
    state = {"flushing": False, "complete": False}
    last = 0.0
    while True:
        session.wait_for_alert(50)
        report_alerts(session, state)
        status = handle.status()
        if status.is_finished and not state["flushing"]:
            state["flushing"] = True
            handle.flush_cache()
        if time.monotonic() - last >= 0.25:
            last = time.monotonic()
            say(
                "stats",
                state=str(status.state),
                progress=status.progress,
                peers=status.num_peers,
                uploaded=status.total_payload_upload,
                downloaded=status.total_payload_download,
                hash_failures=status.total_failed_bytes,
            )


if __name__ == "__main__":
    sys.exit(main())
