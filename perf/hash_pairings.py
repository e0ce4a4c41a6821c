"""Checking and making of torrents in the terms of the other pairings; the runs are those of hash-compare."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import hash_suites
from pairings import GB
from programs import VENV_PYTHON, fail
from summary import MEASURES, MEMORY

FLOOR = "floor: best hash"


@dataclass
class Hash:
    """A suite of hash-compare, with a side more: the best of one bench on one core, times the cores, that reads nothing."""

    name: str
    title: str
    sides: tuple
    ringtide: object
    needs: tuple
    floor: str = FLOOR
    subject = "both"

    def measure(self, options):
        """The runs of each side, as figures."""
        for program in self.needs:
            if not os.access(program, os.X_OK) and not shutil.which(program):
                fail(f"{program} is not installed: run perf/rivals/install")
        cores = len(os.sched_getaffinity(0))
        same = {"size": options.size, "pairs": options.rounds, "set": options.set, "order_seed": options.order_seed}
        given = SimpleNamespace(**same, threads=cores, ringtide=self.ringtide, dir=None, files=0)
        suite = hash_suites.SUITES[self.name](hash_suites.Bench(given, {**MEASURES, **MEMORY}, sys.stderr))
        runs = {side: [] for side in self.sides}
        for run in suite.runs:
            if run["side"] in runs:
                runs[run["side"]].append(figures(run, options.size))
        if FLOOR in runs:
            runs[FLOOR].append(bare_hashing(self.ringtide, options.size, cores))
        return suite.place, runs


def figures(run, length):
    gb = length / GB
    parts = {f"{name}_per_gb": run[name] / gb for name in ("user_s", "sys_s")}
    kept = ("wall_s", "gb_per_s", "cpu_s_per_gb", "peak_rss_bytes", "peak_anon_bytes", "context_switches")
    return {**{name: run[name] for name in kept}, **parts}


def bare_hashing(ringtide, length, cores):
    """The best that the engine's choice of kernels hashed out of memory on one core, as if all cores did: a bound from
    one run, where the other sides have medians of several.
    """
    command = [ringtide, "bench", "hash", "--size", "256MiB", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        fail(f"ringtide bench hash: {done.stderr[-300:]}")
    rates = [row["gb_per_s"] for row in json.loads(done.stdout)["rows"] if is_of_interest(row)]
    rate, cpu = max(rates) * cores, 1 / max(rates)
    return {"wall_s": length / GB / rate, "gb_per_s": rate, "cpu_s_per_gb": cpu, "user_s_per_gb": cpu, "sys_s_per_gb": 0.0}


def is_of_interest(row):
    return row["algorithm"] == "sha1" and row["kernel"] == "auto" and row["memory"] == "dram"


def hash_pairings(ringtide):
    return [
        Hash("verify", "Checking content in memory, 1 MiB pieces", (FLOOR, "ringtide", "libtorrent"), ringtide, (VENV_PYTHON,)),
        Hash("create", "Making a torrent of content in memory, 1 MiB pieces", (FLOOR, "ringtide", "mktorrent"), ringtide, ("mktorrent",)),
    ]
