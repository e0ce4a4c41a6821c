"""rtorrent (Debian) as a daemon without a terminal. It takes its peers from the tracker, and says what it did by touching
files. Fetching from a libtorrent seed it stalls: it is given a bare one.
"""

import shutil

from clients.base import Client, UntilMarked, start, started

SETTINGS = """\
system.daemon.set = true
dht.mode.set = disable
protocol.pex.set = no
trackers.use_udp.set = no
protocol.encryption.set = none
network.port_random.set = no
pieces.hash.on_completion.set = no
network.port_range.set = {port}-{port}
network.bind_address.set = {address}
session.path.set = {scratch}/session
directory.default.set = "{dir}"
method.set_key = event.download.finished,finished,"execute2={{touch,{scratch}/finished}}"
method.set_key = event.download.hash_done,hashed,"execute2={{touch,{scratch}/hashed}}"
schedule2 = add,0,0,"load.start=\\"{tracked}\\""
"""


class Rtorrent(Client):
    name = "rtorrent"
    clock = "first payload to complete"
    from_first_byte = True
    program = "rtorrent"
    version_option = "-h"

    def missing(self):
        return None if shutil.which(self.program) else "rtorrent is not installed"

    def leech(self, job):
        return UntilMarked(start(self.command(job), job), job, job.scratch / "finished")

    def seed(self, job):
        return started(self.command(job), job, lambda program: (job.scratch / "hashed").exists(), "checked content")

    def command(self, job):
        (job.scratch / "session").mkdir()
        places = {"port": job.port, "address": job.address, "scratch": job.scratch, "dir": job.dir, "tracked": job.tracked}
        settings = job.scratch / "rtorrent.rc"
        settings.write_text(SETTINGS.format(**places))
        return [self.program, "-n", "-o", f"import={settings}"]
