"""libtorrent (PyPI: libtorrent), steered by scripts of ours that tell what it took without Python's own start."""

import os
import subprocess

from clients.base import Client, Staying, UntilEnd, start, started, told_by_itself
from programs import ROOT, VENV_PYTHON


class Libtorrent(Client):
    name = "libtorrent"
    clock = "added to flushed"
    program = VENV_PYTHON

    def __init__(self, settings=()):
        self.settings = [f"--set={setting}" for setting in settings]

    def missing(self):
        command = [VENV_PYTHON, "-c", "import libtorrent"]
        if os.access(VENV_PYTHON, os.X_OK) and subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
            return None
        return "no Python environment that has it"

    def version(self):
        command = [VENV_PYTHON, "-c", "import libtorrent; print(libtorrent.__version__)"]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()

    def command(self, script, job):
        words = [VENV_PYTHON, ROOT / "perf" / script, job.torrent, "--dir", job.dir, "--listen", job.listen]
        return [*words, *self.settings]

    def leech(self, job):
        peers = [f"--peer={peer}" for peer in job.peers]
        return UntilEnd(start(self.command("libtorrent_leech.py", job) + peers, job), job, told_by_itself)

    def stay(self, job):
        command = self.command("libtorrent_leech.py", job)
        program = start([*command, "--stay"], job)
        return Staying(program, lambda: b"complete" in program.said())

    def seed(self, job):
        command = self.command("libtorrent_seed.py", job)
        return started(command, job, lambda program: b"seeding" in program.said(), "checked content")
