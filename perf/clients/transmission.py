"""transmission-daemon (Debian), steered over its RPC port.

It takes no peers by hand, ignores those in 127/8, and unchokes only in rounds of ten seconds: its time counts from the
first payload.
"""

import json
import shutil
import time
import urllib.error
import urllib.request

from clients.base import Client, UntilMarked, marker_script, refused, start

SESSION = "X-Transmission-Session-Id"
RPC_PORT = 9091
# `status` of a torrent that seeds (its rpc-spec).
SEEDING = 6


class Transmission(Client):
    name = "transmission"
    clock = "first payload to complete"
    from_first_byte = True
    program = "transmission-daemon"

    def missing(self):
        return None if shutil.which(self.program) else "transmission-daemon is not installed"

    def leech(self, job):
        marker, script = marker_script(job)
        program = self.run(job, {"script-torrent-done-enabled": True, "script-torrent-done-filename": str(script)})
        begun = time.monotonic()
        add(job)
        return UntilMarked(program, job, marker, begun)

    def seed(self, job):
        program = self.run(job, {})
        add(job)
        program.wait_until(lambda: has_everything(job), job.limit, "checked content")
        return program

    def run(self, job, extra):
        (job.scratch / "settings.json").write_text(json.dumps({**settings(job), **extra}))
        program = start([self.program, "--foreground", "--config-dir", job.scratch], job)
        program.wait_until(lambda: answers(job), job.limit, "control port")
        return program


def settings(job):
    """Nothing is looked for and nothing is limited. A larger cache than the usual 4 MB makes it slower."""
    off = ("dht", "lpd", "pex", "utp", "port-forwarding", "ratio-limit", "idle-seeding-limit")
    off += ("rpc-whitelist", "rpc-host-whitelist")
    return {
        **{f"{name}-enabled": False for name in off},
        "rpc-authentication-required": False,
        "rpc-bind-address": job.address,
        "rpc-port": RPC_PORT,
        "bind-address-ipv4": job.address,
        "peer-port": job.port,
        "encryption": 0,
        "preallocation": 0,
        "message-level": 1,
    }


def add(job):
    added = call(job, "torrent-add", {"filename": str(job.tracked), "download-dir": str(job.dir), "paused": False})
    if "torrent-added" not in added:
        refused("transmission", added)


def has_everything(job):
    fields = {"fields": ["status", "leftUntilDone", "percentDone"]}
    torrent = call(job, "torrent-get", fields)["torrents"][0]
    return torrent["leftUntilDone"] == 0 and torrent["percentDone"] == 1 and torrent["status"] == SEEDING


def answers(job):
    try:
        call(job, "session-get", {})
    except OSError:
        return False
    return True


def call(job, method, arguments):
    """The first request is always refused with 409 and the header that the second needs."""
    url = f"http://{job.address}:{RPC_PORT}/transmission/rpc"
    body = json.dumps({"method": method, "arguments": arguments}).encode()
    try:
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=5).close()
        session = ""
    except urllib.error.HTTPError as refusal:
        session = refusal.headers.get(SESSION, "")
    request = urllib.request.Request(url, body, {SESSION: session})
    with urllib.request.urlopen(request, timeout=5) as response:
        answer = json.load(response)
    if answer["result"] != "success":
        refused("transmission", answer["result"])
    return answer["arguments"]
