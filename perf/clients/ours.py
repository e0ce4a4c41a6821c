"""ringtide, and the yardsticks: a bare seed and bare leeches without protocol state, the floor under every figure."""

import json

from clients.base import Client, Staying, UntilEnd, start, started, told_by_itself
from programs import TARGET

RELEASE = TARGET / "release"


class Ringtide(Client):
    name = "ringtide"

    def __init__(self, program, arguments=(), seed_arguments=()):
        """With more arguments for its leech, and for its seed."""
        self.program, self.arguments, self.seed_arguments = program, arguments, seed_arguments

    def leech(self, job):
        command = [self.program, "get", job.torrent, "-o", job.dir, "--listen", job.listen, "--json"]
        peers = [word for peer in job.peers for word in ("--peer", peer)]
        return UntilEnd(start([*command, *peers, *self.arguments], job), job)

    def seed(self, job):
        command = [self.program, "seed", job.torrent, "-d", job.dir, "--listen", job.listen, "--json"]
        return started([*command, *self.seed_arguments], job, has_checked, "checked content")

    def stay(self, job):
        command = [self.program, "get", job.tracked, "-o", job.dir, "--listen", job.listen, "--json", "--seed-for", "1h"]
        program = start([*command, *self.arguments], job)
        return Staying(program, lambda: b"complete; seeding" in program.noted())

    def told_at_end(self, program):
        """The last of its lines."""
        lines = program.said().splitlines() or [b"{}"]
        told = json.loads(lines[-1])
        return {name: told[name] for name in ("uploaded", "downloaded", "wasted") if name in told}


class Sharded(Ringtide):
    """ringtide with so many shards, threads that carry peers, in place of as many as it would choose."""

    def __init__(self, program, arguments, count):
        super().__init__(program, (*arguments, "--shards", str(count)))
        self.name = shards(count)


def shards(count):
    return f"{count} shard" if count == 1 else f"{count} shards"


def has_checked(program):
    lines = (json.loads(line) for line in program.said().splitlines(keepends=True) if line.endswith(b"\n"))
    return any(line.get("event") == "checked" for line in lines)


class BareSeed(Client):
    """Gives at all addresses: it stands for as many seeds as are asked for."""

    name = "bare seed"
    leeches = False
    program = RELEASE / "bare_seed"

    def version(self):
        return "yardstick"

    def seed(self, job):
        image = next(path for path in job.dir.iterdir() if path.is_file())
        command = [self.program, "--image", image, "--torrent", job.torrent, "--listen", f"0.0.0.0:{job.port}"]
        return started(command, job, lambda program: b"listening" in program.said(), "listener")


class BareLeech(Client):
    """Receives only; or hashes, too; or writes, too."""

    seeds = listens = False
    clock = "connect to end"
    program = RELEASE / "bare_leech"

    def __init__(self, mode):
        self.mode, self.name, self.keeps = mode, f"floor: {mode}", mode == "write"

    def version(self):
        return "yardstick"

    def leech(self, job):
        command = [self.program, "--torrent", job.torrent, "--mode", self.mode, "--json"]
        peers = [word for peer in job.peers for word in ("--peer", peer)]
        out = ["--out", job.dir / "image"] if self.mode == "write" else []
        out += ["--direct"] if out and job.on_disk else []
        return UntilEnd(start([*command, *peers, *out], job), job, told_by_itself)
