"""Vortex (crates.io: vortex-bittorrent), through a driver of ours that perf/rivals/install builds: its command takes no
peers. It keeps a torrent of one file in a directory of the same name.
"""

from clients.base import Client, UntilEnd, start, started
from programs import RIVALS, ROOT


class Vortex(Client):
    name = "vortex"
    program = RIVALS / "bin" / "vortex_driver"

    def version(self):
        manifest = (ROOT / "perf" / "rivals" / "vortex" / "Cargo.toml").read_text()
        return "vortex-bittorrent " + manifest.partition('vortex-bittorrent = "=')[2].partition('"')[0]

    def appetite(self, piece_length):
        """It sets up 256 buffers for pieces, and twice as many for reading; more than this was seen."""
        return max(2_500_000_000, 550 * piece_length)

    def leech(self, job):
        return UntilEnd(start(self.command(job), job), job)

    def seed(self, job):
        return started(self.command(job), job, lambda program: b"seeding" in program.said(), "checked content")

    def command(self, job):
        peers = [word for peer in job.peers for word in ("--peer", peer)]
        return [self.program, job.torrent, "--dir", job.dir, "--listen", job.listen, *peers]

    def content(self, directory, name):
        return directory / name / name
