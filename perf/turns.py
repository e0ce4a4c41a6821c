"""The turns of a swarm: one client's seed and leeches, each on its host, until all have everything."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clients.base import Job
from lan import HERE, Lan, bits_per_second, running
from places import MIB, dir_below, memory_dir, write_random
from process import run_measured
from programs import TARGET, fail
from summary import available_memory

IMAGE = "image"
TRACKER = f"{HERE}:6969"
FIRST_PORT = 6881
# What a client takes beside its files, with room: all of them together must fit.
OWN = 200 * MIB
# A turn that takes so many times as long as the slowest link needs hangs.
PATIENCE = 10
# How long clients may take to say what they moved, and to take leave of the tracker.
LEAVING_S = 15


class Bench:
    """Made once; `open` it around all turns."""

    def __init__(self, options):
        self.options, self.number = options, 0
        slowest = min(bits_per_second(options.rate), bits_per_second(options.seed_rate)) / 8
        self.limit = 60 + PATIENCE * options.size / slowest

    @contextlib.contextmanager
    def open(self):
        with contextlib.ExitStack() as stack:
            self.place, self.where = stack.enter_context(self.room())
            self.scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perf-swarm.")))
            self.image, self.torrent = self.place / "give" / IMAGE, self.scratch / "image.torrent"
            self.image.parent.mkdir()
            write_random(self.image, self.options.size)
            create = [self.options.ringtide, "create", self.image, "-o", self.torrent, "-a", f"http://{TRACKER}/announce"]
            run_measured([*create, "--piece-length", self.options.piece_length], self.limit)
            self.lan = Lan(self.options.seed_rate, [self.options.rate] * self.options.hosts)
            yield self

    def room(self):
        """In memory, where all copies and programs fit; else on a disk."""
        hosts = 1 + self.options.hosts
        content = hosts * self.options.size + 64 * MIB
        if self.options.dir is None and available_memory() > content + hosts * OWN:
            return memory_dir(content)
        return dir_below(self.options.dir or TARGET / "perf", content)

    def turn(self, client):
        """One turn: when each host was complete, and what it took."""
        # Other ports each time: what a killed program listened at may outlive it for a moment.
        self.number += 1
        with tempfile.TemporaryDirectory(prefix="turn.", dir=self.scratch) as scratch, tempfile.TemporaryDirectory(prefix="turn.", dir=self.place) as place:
            client.lay(Path(place) / "0", self.image)
            jobs = [self.job(host, number, Path(place), Path(scratch)) for number, host in enumerate(self.lan.hosts)]
            with contextlib.ExitStack() as stack:
                run = self.run(client, jobs, stack)
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda job: self.compare(client.content(job.dir, IMAGE)), jobs[1:]))
        return run

    def job(self, host, number, place, scratch):
        directory, own = place / str(number), scratch / str(number)
        directory.mkdir(exist_ok=True)
        own.mkdir()
        port = FIRST_PORT + self.number
        return Job(self.torrent, self.torrent, directory, own, host.address, port, [], self.limit, enter=tuple(host.enter))

    def run(self, client, jobs, stack):
        tracker = stack.enter_context(self.tracker())
        seed = client.seed(jobs[0])
        stack.callback(seed.stop)
        tracker.wait_until_known(self.limit)
        sent, seed_cpu, begun = self.lan.seed.sent(), sum(seed.cpu()), time.monotonic()
        leeches = []
        for job in jobs[1:]:
            leeches.append(client.stay(job))
            stack.callback(leeches[-1].program.stop)
        times = self.wait_for_all(leeches, begun)
        run = {"bytes": self.options.size, "times_s": times, "seed_bytes": self.lan.seed.sent() - sent}
        programs = [leech.program for leech in leeches]
        run |= {"seed_cpu_s": sum(seed.cpu()) - seed_cpu, "leech_cpu_s": sum(sum(program.cpu()) for program in programs)}
        told = told_at_end(client, [seed, *programs])
        return {**run, "told_by_seed": told[0], "told_by_leeches": told[1:]}

    @contextlib.contextmanager
    def tracker(self):
        """ringtide's; it has the torrent itself and takes calls from nobody."""
        command = [self.options.ringtide, "seed", self.torrent, "-d", self.image.parent, "--track", TRACKER, "--json"]
        with running([*command, "--listen", "127.0.0.1:0", "--shards", "1"]) as program:
            tracker = Tracker(program)
            program.wait_until(lambda: b"checked" in program.said() and tracker.known() == 1, self.limit, "tracker that answers")
            yield tracker

    def wait_for_all(self, leeches, begun):
        """Seconds until each has everything, by the start of its own process."""
        times, waiting = {}, dict(enumerate(leeches))
        while waiting:
            for number, leech in list(waiting.items()):
                if leech.is_complete():
                    times[number] = time.monotonic() - leech.program.begun
                    del waiting[number]
                elif leech.program.has_ended():
                    fail(f"{leech.program.name} ended before it was complete: {leech.program.complained()}")
            if time.monotonic() > begun + self.limit:
                fail(f"{len(waiting)} of {len(leeches)} hosts are not complete within {self.limit:.0f} s; one says: {next(iter(waiting.values())).program.complained()}")
            time.sleep(0.01)
        return [times[number] for number in range(len(leeches))]

    def compare(self, download):
        if subprocess.run(["cmp", self.image, download]).returncode != 0:
            fail(f"{download} differs from the image")

    def simulate(self, goodput):
        """What ringtide simulate says of the same swarm, on links that carry what was measured."""
        _, shown = run_measured([self.options.ringtide, "show", self.torrent, "--json"])
        links = {"--link": min(goodput["up"] + goodput["down"]), "--seed-link": goodput["seed_up"]}
        command = [self.options.ringtide, "simulate", "--size", self.options.size, "--hosts", self.options.hosts, "--json"]
        command += [word for option, carries in links.items() for word in (option, f"{carries * 8 / 1e6:.0f}Mbit")]
        command += ["--pieces", json.loads(shown)["pieces"]]
        _, said = run_measured(command, self.limit)
        return json.loads(said)


class Tracker:
    """Who is known to it, asked by scrapes (BEP 48)."""

    def __init__(self, program):
        self.program = program

    def known(self):
        seeding = next((line for line in self.program.said().splitlines() if b'"seeding"' in line), None)
        if seeding is None:
            return 0
        info_hash = bytes.fromhex(json.loads(seeding)["torrents"][0]["info_hash_v1"])
        escaped = "".join(f"%{byte:02x}" for byte in info_hash)
        with urllib.request.urlopen(f"http://{TRACKER}/scrape?info_hash={escaped}", timeout=5) as answer:
            return sum(number_after(answer_body, b"complete") for answer_body in [answer.read()])

    def wait_until_known(self, limit):
        """A seed has announced itself, beside the tracker's own."""
        self.program.begun = time.monotonic()
        self.program.wait_until(lambda: self.known() == 2, limit, "announce of the seed")


def number_after(body, key):
    """The integer of a bencoded dictionary's key."""
    text = b"%d:%s" % (len(key), key)
    found = body.find(text + b"i")
    return int(body[found + len(text) + 1:].split(b"e", 1)[0]) if found >= 0 else 0


def told_at_end(client, programs):
    """Asks all to end, and says of each what it told of itself; who does not end in time is killed."""
    for program in programs:
        program.kill(signal.SIGINT)
    last = time.monotonic() + LEAVING_S
    while time.monotonic() < last and not all(program.has_ended() for program in programs):
        time.sleep(0.02)
    for program in programs:
        program.reap() if program.has_ended() else program.stop()
    return [client.told_at_end(program) for program in programs]
