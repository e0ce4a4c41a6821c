"""The goals of ringtide, held against what was measured."""

from dataclasses import dataclass

from places import MIB


# The relation of a figure that has no bound but is to be told.
STATED = "stated"


@dataclass
class Goal:
    """A figure of ringtide, as such or as a part of another side's, that is to be at most or at least a bound, or told.

    Whether it is met stays open where a side failed: its other runs say too little.
    """

    about: str
    pairing: str
    measure: str
    relation: str
    bound: float
    rival: str = ""

    def check(self, by_name):
        """With what was measured, or without where a side is missing."""
        sides = by_name.get(self.pairing, {}).get("sides", {})
        ours, rivals = sides.get("ringtide", {}), sides.get(self.rival, {})
        measured, failed = value_of(ours, self.measure), "failed" in ours or "failed" in rivals
        if self.rival and measured is not None:
            rival = value_of(rivals, self.measure)
            measured = measured / rival if rival else None
        told = {"about": self.about, "measured": measured, "goal": self.goal(), "unit": self.unit()}
        return {**told, "met": None if failed else self.is_met(measured), "failed": failed}

    def goal(self):
        if self.relation == STATED:
            return STATED
        bound = f"{self.bound / MIB:.0f} {self.unit()}" if self.unit() else f"{self.bound:.2f}"
        return f"{self.relation} {bound}"

    def unit(self):
        return "MiB" if self.measure.endswith("_bytes") and not self.rival else ""

    def is_met(self, measured):
        if measured is None or self.relation == STATED:
            return None
        return measured <= self.bound if self.relation == "<=" else measured >= self.bound


def value_of(side, measure):
    """The median, but of bytes the most: what is to stay below a bound is to do so in every run."""
    return side.get("spread", {}).get(measure, {}).get("max" if measure.endswith("_bytes") else "median")


LT, WRITE = "libtorrent", "floor: write"
CPU, WALL, RATE = "cpu_s_per_gb", "wall_s", "gb_per_s"
GOALS = (
    Goal("1. leech: CPU per GB / libtorrent's", "leech", CPU, "<=", 0.40, LT),
    Goal("1. leech: wall / libtorrent's", "leech", WALL, "<=", 0.60, LT),
    Goal("1. leech: speed / receive + hash + write", "leech", RATE, ">=", 0.80, WRITE),
    Goal("1. four seeds: CPU per GB / libtorrent's", "leech-four", CPU, "<=", 0.40, LT),
    Goal("1. four seeds: wall / libtorrent's", "leech-four", WALL, "<=", 0.60, LT),
    Goal("1. four seeds: speed / receive + hash + write", "leech-four", RATE, ">=", 0.80, WRITE),
    Goal("2. seed: CPU per GB / libtorrent's", "seed", CPU, "<=", 0.60, LT),
    Goal("2. seed: speed / libtorrent's", "seed", RATE, ">=", 1.30, LT),
    Goal("3. disk: CPU per GB / libtorrent's", "leech-disk", CPU, "<=", 0.45, LT),
    Goal("3. disk: speed / fio's writing (or the next)", "leech-disk", RATE, ">=", 0.90, "fio"),
    Goal("3. disk: wall / libtorrent's (or the last)", "leech-disk", WALL, "<=", 0.60, LT),
    Goal("3. disk: content left in the page cache", "leech-disk", "cached_bytes", "<=", 64 * MIB),
    Goal("4. anonymous memory, 1 MiB pieces", "leech", "peak_anon_bytes", "<=", 128 * MIB),
    Goal("4. anonymous memory, 16 MiB pieces", "leech-16MiB", "peak_anon_bytes", STATED, 0),
    Goal("5. pair: CPU per GB of both / libtorrent's", "pair", CPU, "<=", 0.40, LT),
)


def targets(results):
    by_name = {result["name"]: result for result in results}
    return [goal.check(by_name) for goal in GOALS]
