"""rqbit (crates.io), as built by perf/rivals/install."""

import json
import urllib.request

from clients.base import Client, UntilEnd, start, started
from programs import RIVALS

API_PORT = 3030


class Rqbit(Client):
    name = "rqbit"
    program = RIVALS / "bin" / "rqbit"

    def leech(self, job):
        return UntilEnd(start([*self.command(job), "--exit-on-finish", job.torrent], job), job)

    def seed(self, job):
        return started([*self.command(job), job.torrent], job, lambda program: is_finished(job), "checked content")

    def command(self, job):
        off = ["--disable-dht", "--disable-lsd", "--disable-trackers", "--disable-upnp-port-forward"]
        network = ["--listen-ip", job.address, "--listen-port", job.port]
        api = ["--http-api-listen-addr", f"{job.address}:{API_PORT}"]
        peers = ["--initial-peers", ",".join(job.peers)] if job.peers else []
        return [self.program, "-v", "error", *off, *network, *api, "download", "--overwrite", "-o", job.dir, *peers]


def is_finished(job):
    try:
        with urllib.request.urlopen(f"http://{job.address}:{API_PORT}/torrents/0/stats/v1", timeout=5) as response:
            return json.load(response)["finished"]
    except OSError:
        return False
