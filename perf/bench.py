"""The bench: an image and its torrents, places in memory and on a disk, addresses; and single measured downloads."""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import network
from clients.base import Job
from places import MIB, dir_below, memory_dir, resident_bytes, warm, write_random
from programs import TARGET, Failed, fail
from summary import available_memory

IMAGE = "image"
# What a client takes beside its files is warmed, too: buffers of its own and of its sockets.
OWN = 384 * MIB
SPARE = 64 * MIB + OWN
# Bytes per second that the slowest client is given, after a start: past it, it hangs.
SLOWEST, START_S = 50e6, 20
# Where everything in memory lies, and where a disk is meant.
MEMORY, DISK = "tmpfs", "disk"


class Cut(Failed):
    """A transfer that took too long, and what came of it until then."""

    def __init__(self, reason, watch):
        super().__init__(f"{reason}{watch.in_words()}")
        self.bytes, self.seconds = watch.so_far()


class Bench:
    """Made once; `open` it around all pairings."""

    def __init__(self, options, clients):
        self.options, self.clients, self.length = options, clients, options.size
        self.ringtide = clients["ringtide"].program
        self.limit = START_S + self.length / SLOWEST
        self.numbers = itertools.cycle(range(10, network.TRACKER))

    @contextlib.contextmanager
    def open(self, copies, on_disk):
        """`copies` of the image have room beside it in memory."""
        with contextlib.ExitStack() as stack:
            room = (1 + copies) * self.length + SPARE
            self.memory, self.memory_kind = stack.enter_context(memory_dir(room))
            self.disk = None
            if on_disk:
                below = self.options.dir or TARGET / "perf"
                self.disk, self.disk_kind = stack.enter_context(dir_below(below, 2 * self.length + SPARE))
            self.scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perf-run.")))
            self.tracker = network.Tracker()
            self.image = self.memory / IMAGE
            write_random(self.image, self.length)
            yield

    def place(self, kind):
        return self.memory if kind == MEMORY else self.disk

    def place_in_words(self, kind):
        return self.memory_kind if kind == MEMORY else self.disk_kind

    def torrents(self, piece_length):
        """The torrent, and the same with our tracker."""
        made = [self.scratch / f"{piece_length}.torrent", self.scratch / f"{piece_length}.tracked.torrent"]
        for path, words in zip(made, ([], ["-a", network.announce_url()])):
            if not path.exists():
                command = [self.ringtide, "create", self.image, "-o", path, "--piece-length", str(piece_length), *words]
                command = [str(word) for word in command]
                done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                if done.returncode:
                    fail(f"ringtide create: {done.stderr}")
        return made

    def job(self, piece_length, directory, peers=()):
        """Work for one client, at an address and a port of its own."""
        number = next(self.numbers)
        torrent, tracked = self.torrents(piece_length)
        scratch = Path(tempfile.mkdtemp(dir=self.scratch))
        return Job(torrent, tracked, directory, scratch, network.host(number), 6900 + number, list(peers), self.limit)

    # Seeds

    @contextlib.contextmanager
    def seed(self, name, piece_length):
        """A seed of the image in memory that is ready: its program, and where it listens."""
        directory = Path(tempfile.mkdtemp(prefix="seed.", dir=self.memory))
        client, job = self.clients[name], self.job(piece_length, directory)
        need_memory(name, client.appetite(piece_length))
        client.lay(directory, self.image)
        program = client.seed(job)
        try:
            yield program, job
        finally:
            program.stop()
            shutil.rmtree(directory)

    # Leeches

    def fetch(self, name, piece_length, kind, seeds, seed=None, leechers=1):
        """Downloads by so many leeches of one kind at once, from a clean start, compared byte for byte."""
        client = self.clients[name]
        need_memory(name, leechers * (client.appetite(piece_length) + (self.length if kind == MEMORY else 0)))
        directories = [Path(tempfile.mkdtemp(prefix="leech.", dir=self.place(kind))) for _ in range(leechers)]
        try:
            warm(self.memory / "warm", OWN + (leechers * self.length if kind == MEMORY and client.keeps else 0))
            jobs = self.jobs(client, piece_length, directories, seeds, kind)
            with measured(seed) as took:
                runs, first = self.leech(client, jobs)
            if not client.keeps:
                return self.summed(runs, took, first, client)
            results = [client.content(job.dir, IMAGE) for job in jobs]
            flushing = sum(flush(path) for path in results) if kind == DISK else 0
            run = self.summed(runs, took, first, client, flushing)
            run["cached_bytes"] = sum(resident_bytes(path) for path in results)
            for path in results:
                if subprocess.run(["cmp", "--silent", self.image, path]).returncode != 0:
                    fail(f"what {name} fetched differs from the image")
            return run
        finally:
            for directory in directories:
                shutil.rmtree(directory)

    def jobs(self, client, piece_length, directories, seeds, kind):
        """Several leeches know each other, too."""
        jobs = [self.job(piece_length, directory) for directory in directories]
        listening = [job.listen for job in jobs] if client.listens and len(jobs) > 1 else []
        for job in jobs:
            job.peers = seeds + [peer for peer in listening if peer != job.listen]
            job.on_disk = kind == DISK
        self.tracker.peers = seeds + listening
        return jobs

    def leech(self, client, jobs):
        """Starts all, waits for all; also returns when the first payload came."""
        watch, leeches = network.ByteWatch(), []
        try:
            leeches.extend(client.leech(job) for job in jobs)
            with ThreadPoolExecutor(len(jobs)) as pool, killed_on_failure(leeches):
                return list(pool.map(lambda leech: leech.finish(), leeches)), watch.stop()
        except Failed as reason:
            raise Cut(reason, watch) from None
        finally:
            watch.stop()
            for leech in leeches:
                leech.stop()

    def summed(self, runs, seed, first, client, flushing=0.0):
        """The figures of one transfer: as long as its slowest leech, with the CPU time of all of them."""
        wall = max(run["wall_s"] for run in runs)
        if client.from_first_byte and first:
            wall = max(run["ended"] for run in runs) - first
        return {
            "wall_s": wall + flushing,
            "flush_s": flushing,
            "bytes": self.length * len(runs),
            "leech": {
                **{name: sum(run[name] for run in runs) for name in ("user_s", "sys_s", "context_switches")},
                **{name: max(run[name] for run in runs) for name in ("peak_rss_bytes", "peak_anon_bytes")},
            },
            "seed": dict(seed),
            "ended": max(run["ended"] for run in runs),
            "first": first,
        }


@contextlib.contextmanager
def killed_on_failure(leeches):
    """Whoever leaves a pool waits for its threads, and these wait for the leeches."""
    try:
        yield
    except BaseException:
        for leech in leeches:
            leech.kill()
        raise


def need_memory(name, count):
    """A machine without memory kills what it likes, or stands still."""
    free = available_memory() - 1e9
    if count > free:
        there = f"of which {max(0.0, free) / 1e9:.1f} GB are free"
        fail(f"{name} may need {count / 1e9:.1f} GB of memory, {there}: try a smaller --size")


@contextlib.contextmanager
def measured(seed):
    """What a seed takes meanwhile, known afterwards. Its peaks are those since it was started."""
    took, peaks = {}, ("peak_rss_bytes", "peak_anon_bytes")
    before = seed.usage() if seed else {}
    try:
        yield took
    except Cut as cut:
        if seed and seed.has_ended():
            fail(f"{seed.name} ended: {seed.complained()}")
        cut.seed = took
        raise
    finally:
        after = seed.usage() if seed and not seed.has_ended() else {}
        # The parts of CPU time are rounded, and may seem to go back a little.
        took.update({name: max(0, after[name] - (0 if name in peaks else before[name])) for name in after})


def flush(path):
    """Seconds until a file is on its disk: none where a client wrote around the page cache, or flushed."""
    begun = time.monotonic()
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
    return time.monotonic() - begun
