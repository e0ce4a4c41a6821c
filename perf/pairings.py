"""What is paired with what: each pairing opens what it needs and runs one side at a time."""

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass

import network
from bench import DISK, MEMORY, Cut
from clients.ours import shards
from places import MIB
from programs import fail

RIVALS = ("libtorrent", "transmission", "aria2", "rtorrent", "rqbit", "vortex")
FLOORS = ("floor: receive", "floor: hash", "floor: write")
FLOOR = "floor: write"
GB = 1e9


@dataclass
class Leech:
    """One fast seed, or several, to leeches of each kind."""

    name: str
    title: str
    sides: tuple
    piece_length: int = MIB
    kind: str = MEMORY
    seeds: int = 1
    leechers: int = 1
    floor: str = FLOOR
    subject = "leech"

    @contextlib.contextmanager
    def open(self, bench):
        with bench.seed("bare seed", self.piece_length) as (program, job):
            seeds = [network.peer(number, job.port) for number in range(1, self.seeds + 1)]
            yield lambda side: self.run(bench, side, seeds, program)

    def run(self, bench, side, seeds, program):
        if side == "fio":
            return write_with_fio(bench)
        return bench.fetch(side, self.piece_length, self.kind, seeds, program, self.leechers)

    def copies(self):
        return self.leechers if self.kind == MEMORY else 0


class SeedOfEach:
    """A pairing with one seed for each side. Those that were needed stay up, idle but for one."""

    kind = MEMORY

    @contextlib.contextmanager
    def open(self, bench):
        with contextlib.ExitStack() as stack:
            ready = {}
            yield lambda side: self.run(bench, side, ready, stack)

    def copies(self):
        return 1


@dataclass
class Seed(SeedOfEach):
    """Each kind of seed to one leech that discards what it receives. All seeds are up at once, idle but for one."""

    name: str
    title: str
    sides: tuple
    piece_length: int = MIB
    floor: str = "bare seed"
    subject = "seed"

    def run(self, bench, side, ready, stack):
        """The first one, which warms the seed, is not counted, unless it takes too long: then it is all there is."""
        if isinstance(ready.get(side), Cut):
            fail(f"one run, cut short: {ready[side]}")
        if side not in ready:
            ready[side] = stack.enter_context(bench.seed(side, self.piece_length))
            try:
                self.fetch(bench, side, *ready[side])
            except Cut as cut:
                ready[side] = cut
                return self.part(cut)
        return self.fetch(bench, side, *ready[side])

    def part(self, cut):
        if not cut.bytes:
            raise cut
        return {"wall_s": cut.seconds, "bytes": cut.bytes, "leech": {}, "seed": cut.seed}

    def fetch(self, bench, side, program, job):
        run = bench.fetch("floor: receive", self.piece_length, MEMORY, [job.listen], program)
        if bench.clients[side].from_first_byte and run["first"]:
            run["wall_s"] = run["ended"] - run["first"]
        return run


@dataclass
class Pair(SeedOfEach):
    """A seed and a leech of the same kind, two processes: both count."""

    name: str
    title: str
    sides: tuple
    piece_length: int = MIB
    floor: str = "floor"
    subject = "both"

    def run(self, bench, side, ready, stack):
        giver, taker = ("bare seed", FLOOR) if side == "floor" else (side, side)
        if side not in ready:
            ready[side] = stack.enter_context(bench.seed(giver, self.piece_length))
            bench.fetch("floor: receive", self.piece_length, MEMORY, [ready[side][1].listen])
        program, job = ready[side]
        return bench.fetch(taker, self.piece_length, MEMORY, [job.listen], program)


def write_with_fio(bench):
    """The rate at which fio writes the disk around the page cache, with the CPU time of its one job."""
    if not shutil.which("fio"):
        fail("fio is not installed: run perf/rivals/install")
    target = bench.disk / "fio"
    command = ["fio", "--name=write", f"--filename={target}", "--rw=write", "--direct=1", "--bs=1M", "--iodepth=32"]
    command += ["--ioengine=io_uring", f"--size={bench.length}", "--fallocate=posix", "--end_fsync=1", "--output-format=json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    target.unlink(missing_ok=True)
    if done.returncode:
        fail(f"fio: {done.stderr[-300:]}")
    job = json.loads(done.stdout)["jobs"][0]
    wall = bench.length / job["write"]["bw_bytes"]
    cpu = {"user_s": wall * job["usr_cpu"] / 100, "sys_s": wall * job["sys_cpu"] / 100}
    return {"wall_s": wall, "bytes": bench.length, "leech": {**cpu, "context_switches": job["ctx"]}, "seed": {}}


def figures(run, subject):
    """A run in the figures that are told of it: seconds per GB of the subject, and of each end apart."""
    gb = run["bytes"] / GB
    ends = {end: run[end] for end in ("leech", "seed") if run.get(end)}
    told = {"wall_s": run["wall_s"], "gb_per_s": gb / run["wall_s"]}
    mine = [ends[end] for end in (ends if subject == "both" else [subject])]
    told["user_s_per_gb"] = sum(usage["user_s"] for usage in mine) / gb
    told["sys_s_per_gb"] = sum(usage["sys_s"] for usage in mine) / gb
    told["cpu_s_per_gb"] = told["user_s_per_gb"] + told["sys_s_per_gb"]
    for end, usage in ends.items():
        parts = {f"{end}_{part}_s_per_gb": usage[f"{part}_s"] / gb for part in ("user", "sys")}
        told |= {**parts, f"{end}_cpu_s_per_gb": sum(parts.values())}
    for name in ("peak_rss_bytes", "peak_anon_bytes", "context_switches"):
        values = [usage[name] for usage in mine if name in usage]
        if values:
            told[name] = sum(values) if name == "context_switches" else max(values)
    if "cached_bytes" in run:
        told["cached_bytes"] = run["cached_bytes"]
    return told


def shard_counts():
    """One, two, four and so on, up to as many as there are CPUs, and two where there is one only."""
    most = min(16, max(2, os.cpu_count()))
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]


MIB_16 = 16 * MIB
EVERYBODY = ("ringtide", *RIVALS)
TWO = ("ringtide", "libtorrent")


def pairings(quick):
    """All that there are, or the main ones: those that there are goals for."""
    some = TWO if quick else EVERYBODY
    alike = TWO if quick else (*TWO, "rqbit", "vortex")
    main = [
        Leech("leech", "One fast seed to each leech, tmpfs, 1 MiB pieces", (*FLOORS, *EVERYBODY)),
        Leech("leech-four", "Four fast seeds to one leech, tmpfs, 1 MiB pieces", (FLOOR, *some), seeds=4),
        Seed("seed", "Each seed to one fast leech, tmpfs, 1 MiB pieces", ("bare seed", *EVERYBODY)),
        Pair("pair", "Seed and leech of the same kind, tmpfs, 1 MiB pieces", ("floor", *alike)),
        Leech("leech-disk", "One fast seed to each leech, disk, 1 MiB pieces", ("fio", FLOOR, *some), kind=DISK),
        Leech("leech-16MiB", "One fast seed to each leech, tmpfs, 16 MiB pieces", (FLOOR, *some), MIB_16),
    ]
    if quick:
        return main
    sharded = tuple(shards(count) for count in shard_counts())
    return main + [
        Leech("shards", "Four fast seeds to ringtide with so many shards, tmpfs, 1 MiB pieces", (FLOOR, *sharded), seeds=4),
        Leech("leech-disk-16MiB", "One fast seed to each leech, disk, 16 MiB pieces", ("fio", FLOOR, *some), MIB_16, DISK),
        Seed("seed-16MiB", "Each seed to one fast leech, tmpfs, 16 MiB pieces", ("bare seed", *EVERYBODY), MIB_16),
        Leech("swarm", "One fast seed to four leeches that know each other, 1 MiB pieces", (FLOOR, *EVERYBODY), leechers=4),
    ]
