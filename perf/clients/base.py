"""What a comparison asks of every client: fetch this torrent from these peers, or give it."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from process import Program
from programs import fail

# From its start to its end, whatever a program does besides.
WHOLE = "whole process"


@dataclass
class Job:
    """One torrent for one client, and where on the network and on the disk it is to work on it."""

    torrent: Path
    # The same torrent, announced to our tracker: for clients that take no peers by hand.
    tracked: Path
    # Where the content lies or is to lie.
    dir: Path
    # For settings, sessions and logs; on a disk.
    scratch: Path
    address: str
    port: int
    peers: list
    # Seconds, past which it hangs.
    limit: float
    # Whether the directory is on a disk, so that writing around the page cache may pay.
    on_disk: bool = False
    # What comes before its command, where it runs in a network namespace of its own.
    enter: tuple = ()

    @property
    def listen(self):
        return f"{self.address}:{self.port}"


class UntilEnd:
    """A leech that ends once it has everything."""

    def __init__(self, program, job, told=lambda said: {}):
        self.program, self.job, self.told = program, job, told

    def finish(self):
        """Waits until everything is in its file, and returns what it took."""
        run = self.program.wait(self.job.limit)
        return {**run, "ended": self.program.ended, **self.told(self.program.said())}

    def kill(self):
        self.program.kill()

    def stop(self):
        self.program.stop()


class UntilMarked:
    """A leech that goes on when it has everything, and says so by making a file."""

    def __init__(self, program, job, marker, begun=None):
        self.program, self.job, self.marker = program, job, marker
        self.begun = begun or program.begun

    def finish(self):
        self.program.wait_until(self.marker.exists, self.job.limit, "complete download")
        ended = time.monotonic()
        return {"wall_s": ended - self.begun, "ended": ended, **self.program.usage()}

    def kill(self):
        self.program.kill()

    def stop(self):
        self.program.stop()


@dataclass
class Staying:
    """A leech that finds its peers by the tracker, and goes on giving when it has everything."""

    program: Program
    # Whether it has everything.
    is_complete: Callable[[], bool]


class Client:
    """One that gives and fetches, unless it says otherwise. What it cannot do is said by `missing`."""

    name = ""
    # How its wall time as a leech is taken.
    clock = WHOLE
    leeches = seeds = True
    # Whether what it fetched is in a file.
    keeps = True
    # Whether it takes peers that come to it while it fetches.
    listens = True
    # Whether the slow start of a daemon (announces, rounds of ten seconds) is left out of its wall time.
    from_first_byte = False
    # The program that tells its version, and what must be there.
    program = None
    version_option = "--version"

    def missing(self):
        """Why it cannot run here, or nothing."""
        return None if os.access(self.program, os.X_OK) else f"{self.program} is not there"

    def version(self):
        done = subprocess.run([self.program, self.version_option], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.search(r"\d+\.\d+[\w.]*", done.stdout)
        return found[0].rstrip(".") if found else "unknown"

    def appetite(self, piece_length):
        """Bytes of memory that one process may take, where they are so many that they must be there."""
        return 0

    def leech(self, job):
        raise NotImplementedError

    def seed(self, job):
        raise NotImplementedError

    def stay(self, job):
        """Starts a leech that stays, as in a swarm."""
        raise NotImplementedError

    def told_at_end(self, program):
        """What it says it moved, once it was asked to end (SIGINT) and has ended: `uploaded`, `downloaded` and `wasted`, as
        far as it tells.
        """
        return {}

    def content(self, directory, name):
        """Where below its directory the content of a torrent lies."""
        return directory / name

    def lay(self, directory, image):
        """Puts an image where the client gives it from."""
        target = self.content(directory, image.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(image, target)


def start(command, job, **options):
    return Program(command, job.enter, cwd=job.scratch, **options)


def started(command, job, is_ready, what, **options):
    """A seed that is ready."""
    program = start(command, job, **options)
    try:
        program.wait_until(lambda: is_ready(program), job.limit, what)
    except BaseException:
        program.stop()
        raise
    return program


def told_by_itself(said):
    """The times of a leech that takes and prints them itself."""
    told = json.loads(said)
    return {name: told[name] for name in ("wall_s", "user_s", "sys_s")}


def marker_script(job):
    """A file that does not exist, and a program that makes it: a few milliseconds of a shell."""
    marker, script = job.scratch / "complete", job.scratch / "mark"
    script.write_text(f"#!/bin/sh\n: > '{marker}'\n")
    script.chmod(0o755)
    return marker, script


def refused(name, answer):
    fail(f"{name} refused: {answer}")
