"""What hash-compare compares: each suite makes its content, lets its sides work on it in turns, and returns the runs."""

import json
import os
import re
import statistics
from dataclasses import dataclass, field

from order import orders
from places import MIB, bring_into_cache, dir_below, drop_from_cache, memory_dir, write_random, write_small_files
from process import run_measured
from programs import ROOT, TARGET, VENV_PYTHON, fail, per_gb
from summary import heading, row

PIECE_LENGTH = MIB
SHAPES = {"16 KiB": 16 << 10, "256 KiB": 256 << 10, "1 MiB": MIB, "16 MiB": 16 * MIB}
# What fio is tried with before it counts. Registered buffers halve its CPU time and read up to twice as fast on a virtual
# disk, but only root may pin as much.
FIO_SHAPES = ("--bs=1M --iodepth=32", "--bs=256k --iodepth=32")
FIO_SHAPES_OF_ROOT = ("--bs=1M --iodepth=32 --fixedbufs", "--bs=4M --iodepth=8 --fixedbufs")
SPARE = 64 * MIB


@dataclass
class Suite:
    """A finished suite. The goals are what the ratio of ringtide to the rival is to be, by measure."""

    place: str
    about: dict
    runs: list
    rival: str = ""
    goals: dict = field(default_factory=dict)


class Bench:
    """The options, and the programs as they are called."""

    def __init__(self, options, columns, log):
        self.options, self.columns, self.log = options, columns, log
        self.length, self.threads = options.size, options.threads
        self.ringtide = options.ringtide or TARGET / "release" / "ringtide"

    def place(self, size, huge="always"):
        """Where content lies that is to be warm."""
        return dir_below(self.options.dir, size) if self.options.dir else memory_dir(size, huge)

    def in_turns(self, sides):
        """Each side once without counting (files mapped, memory had from the host), then all of them in shuffled turns. The
        runs are returned by side.
        """
        print(heading(self.columns, 24), file=self.log)
        for side in sides.values():
            side()
        runs = []
        for turn in orders(sides, self.options.pairs, self.options.order_seed):
            for name in turn:
                runs.append({"side": name, **sides[name]()})
                print(row(name, runs[-1], self.columns, 24), file=self.log, flush=True)
        names = list(sides)
        return sorted(runs, key=lambda run: names.index(run["side"]))

    def create(self, content, torrent, piece_length, length):
        torrent.unlink(missing_ok=True)
        run, _ = run_measured([self.ringtide, "create", content, "-o", torrent, "--piece-length", piece_length])
        return per_gb(run, length)

    def verify(self, content, torrent, length):
        run, printed = run_measured([self.ringtide, "verify", torrent, content, "--json"])
        report = json.loads(printed)
        if report["good"] != report["pieces"]:
            fail(f"ringtide found {report['good']} of {report['pieces']} pieces of {content} good")
        return per_gb(run, length)

    def check_with_libtorrent(self, image, torrent):
        command = [VENV_PYTHON, ROOT / "perf" / "libtorrent_check.py", torrent, "--dir", image.parent]
        threads = f"--set=hashing_threads={self.threads}"
        run, printed = run_measured([*command, threads, *(f"--set={setting}" for setting in self.options.set)])
        told = json.loads(printed)
        return per_gb({**run, **told}, self.length)

    def create_with_mktorrent(self, image, torrent):
        torrent.unlink(missing_ok=True)
        command = ["mktorrent", "-t", self.threads, "-l", PIECE_LENGTH.bit_length() - 1, "-a", "http://127.0.0.1/"]
        run, _ = run_measured([*command, "-o", torrent, image])
        return per_gb(run, self.length)

    def read_with_fio(self, image, shape):
        """As fio tells it: without its start, and with the CPU time of its one job."""
        command = ["fio", "--name=read", f"--filename={image}", "--readonly", "--rw=read", "--direct=1"]
        run, printed = run_measured([*command, "--ioengine=io_uring", *shape.split(), "--output-format=json"])
        job = json.loads(printed)["jobs"][0]
        if job["error"] or job["read"]["io_bytes"] != self.length:
            fail(f"fio read {job['read']['io_bytes']} bytes of {image}, error {job['error']}")
        wall = self.length / job["read"]["bw_bytes"]
        told = {"wall_s": wall, "user_s": wall * job["usr_cpu"] / 100, "sys_s": wall * job["sys_cpu"] / 100}
        return per_gb({**run, **told}, self.length)


# The suites


def verify(bench):
    with bench.place(bench.length + SPARE) as (place, where):
        image, torrent = warm_image(bench, place)
        sides = {
            "ringtide": lambda: bench.verify(image, torrent, bench.length),
            "libtorrent": lambda: bench.check_with_libtorrent(image, torrent),
        }
        runs = bench.in_turns(sides)
    about = {"libtorrent": runs[-1]["version"], "piece_length": PIECE_LENGTH}
    return Suite(where, about, runs, rival="libtorrent", goals={"gb_per_s": (">=", 2.5), "cpu_s": ("<=", 0.3)})


def create(bench):
    with bench.place(bench.length + SPARE) as (place, where):
        image, torrent = warm_image(bench, place)
        rivals = place / "mktorrent.torrent"
        sides = {
            "ringtide": lambda: bench.create(image, torrent, PIECE_LENGTH, bench.length),
            "mktorrent": lambda: bench.create_with_mktorrent(image, rivals),
        }
        runs = bench.in_turns(sides)
        if piece_hashes(torrent) != piece_hashes(rivals):
            fail("ringtide and mktorrent disagree about the hashes of the pieces")
    return Suite(where, {"piece_length": PIECE_LENGTH}, runs, rival="mktorrent", goals={"gb_per_s": (">=", 2.5)})


def cold(bench):
    with dir_below(bench.options.dir or TARGET / "perf", bench.length + SPARE) as (place, where):
        if where in ("tmpfs", "ramfs"):
            fail(f"{place.parent} is in memory: name a directory on a disk with --dir")
        image, torrent = warm_image(bench, place)

        def from_disk(work):
            drop_from_cache(image)
            return work()

        def fio(shape):
            return from_disk(lambda: bench.read_with_fio(image, shape))

        tried = FIO_SHAPES + (FIO_SHAPES_OF_ROOT if os.geteuid() == 0 else ())
        fastest = max(tried, key=lambda shape: statistics.median(fio(shape)["gb_per_s"] for _ in range(3)))
        sides = {
            "ringtide": lambda: from_disk(lambda: bench.verify(image, torrent, bench.length)),
            "fio": lambda: fio(fastest),
        }
        runs = bench.in_turns(sides)
    about = {"fio": fastest, "piece_length": PIECE_LENGTH}
    return Suite(where, about, runs, rival="fio", goals={"gb_per_s": (">=", 0.9)})


def shapes(bench):
    """Pages of 4 KiB throughout: huge ones would make the large file faster, and small files cannot have them."""
    count = bench.options.files
    with bench.place(2 * bench.length + count * 4096 + SPARE, huge="never") as (place, where):
        image, _ = warm_image(bench, place)
        small = place / "small"
        small_length = write_small_files(image, small, count)
        contents = {name: (image, piece_length, bench.length) for name, piece_length in SHAPES.items()}
        contents[f"{count:,} files"] = (small, PIECE_LENGTH, small_length)
        sides = {}
        for name, content in contents.items():
            sides |= shape_sides(bench, name, content, place / f"{name}.torrent")
        runs = bench.in_turns(sides)
    return Suite(where, {"file_bytes": small_length // count, "their_piece_length": PIECE_LENGTH}, runs)


def shape_sides(bench, name, content, torrent):
    path, piece_length, length = content
    return {
        f"create, {name}": lambda: bench.create(path, torrent, piece_length, length),
        f"verify, {name}": lambda: bench.verify(path, torrent, length),
    }


SUITES = {"verify": verify, "create": create, "cold": cold, "shapes": shapes}


def warm_image(bench, place):
    """Random bytes in the page cache, and their torrent."""
    image, torrent = place / "image", place / "image.torrent"
    write_random(image, bench.length)
    bench.create(image, torrent, PIECE_LENGTH, bench.length)
    bring_into_cache(image)
    return image, torrent


def piece_hashes(torrent):
    """The keys are sorted and no other is called so: what follows the first `6:pieces` is the hashes."""
    found = re.search(rb"6:pieces(\d+):", data := torrent.read_bytes())
    return data[found.end() : found.end() + int(found[1])]
