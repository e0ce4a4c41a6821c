"""aria2c (Debian: aria2). It takes no peers by hand, and unchokes in rounds of ten seconds.

Space is not allocated ahead: on tmpfs that costs as much as the download.
"""

import shutil

from clients.base import Client, Staying, UntilMarked, marker_script, start, started

OFF = ("enable-dht", "enable-dht6", "bt-enable-lpd", "enable-peer-exchange", "bt-require-crypto")


class Aria2(Client):
    name = "aria2"
    clock = "first payload to complete"
    from_first_byte = True
    program = "aria2c"

    def missing(self):
        return None if shutil.which(self.program) else "aria2c is not installed"

    def leech(self, job):
        marker, script = marker_script(job)
        return UntilMarked(start([*self.command(job), f"--on-bt-download-complete={script}", job.tracked], job), job, marker)

    def stay(self, job):
        marker, script = marker_script(job)
        program = start([*self.command(job), f"--on-bt-download-complete={script}", job.tracked], job)
        return Staying(program, marker.exists)

    def seed(self, job):
        _, script = marker_script(job)
        command = [*self.command(job), "--check-integrity=true", f"--on-bt-download-complete={script}", job.tracked]
        return started(command, job, lambda program: (job.scratch / "complete").exists(), "checked content")

    def command(self, job):
        options = [f"--{name}=false" for name in OFF]
        options += ["--no-conf=true", "--file-allocation=none", "--allow-overwrite=true", "--bt-min-crypto-level=plain"]
        options += ["--seed-ratio=0.0", "--bt-tracker-interval=3", "--summary-interval=0", "--console-log-level=error"]
        return [self.program, *options, f"--listen-port={job.port}", f"--interface={job.address}", "--dir", job.dir]
