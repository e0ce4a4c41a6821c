"""The report in text: rows on stderr as they are measured, and the table on stdout at the end."""

import sys

from ezio import EZIO, SOURCE

WIDTH = 20
# Title, measure, width and format of each column of the table behind rate and CPU time.
COLUMNS = (
    ("wall s", "wall_s", 9, "{:.3f}"),
    ("user", "user_s_per_gb", 8, "{:.3f}"),
    ("sys", "sys_s_per_gb", 8, "{:.3f}"),
    ("leech", "leech_cpu_s_per_gb", 8, "{:.3f}"),
    ("seed", "seed_cpu_s_per_gb", 8, "{:.3f}"),
    ("RSS MB", "peak_rss_bytes", 8, "{:.0f}"),
    ("anon MB", "peak_anon_bytes", 9, "{:.0f}"),
    ("switches", "context_switches", 10, "{:.0f}"),
)
STOPPED = "Stopped before its end: this is what was measured until then."
SUBJECTS = {"leech": "of the leech", "seed": "of the seed", "both": "of all that works"}


def say(text):
    print(text, file=sys.stderr, flush=True)


# While it runs


def announce(name, title):
    say(f"\n{name}: {title}")


def tell(side, reason):
    say(f"  {side:<{WIDTH}} {reason}")


def tell_run(side, run):
    rate = f"{run['gb_per_s']:6.2f} GB/s {run['wall_s']:8.3f} s"
    memory = f"{run.get('peak_anon_bytes', 0) / 1e6:6.0f} MB anon"
    say(f"  {side:<{WIDTH}} {rate} {run['cpu_s_per_gb']:7.3f} CPU s/GB {memory}")


def print_list(pairings):
    for pairing in pairings:
        print(f"{pairing.name}: {pairing.title}")
        print(f"    {', '.join(pairing.sides)}")


# At the end


def print_report(told):
    print(machine_lines(told))
    if told["stopped"]:
        print(STOPPED)
    for result in told["pairings"]:
        print_pairing(result)
    print_quoted()
    print_targets(told["targets"])
    for name, reason in told["missing"].items():
        print(f"missing: {name}: {reason}")


def machine_lines(told):
    machine = told["machine"]
    where = ", ".join(result["place"] for result in distinct_places(told["pairings"]))
    versions = {name: own["version"] for name, own in told["clients"].items()}
    return "\n".join(
        (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB, Linux {machine['kernel']}",
            f"governor {machine['governor']}, virtual machine: {machine['hypervisor']}, TCP {machine['congestion_control']}, "
            f"huge pages {machine['huge_pages']}, scheduling {machine['scheduling']}; {where}",
            f"ringtide {machine['commit']}, {told['bytes'] / 1e9:.2f} GB, medians of {told['rounds']} (min to max), order seed {told['order_seed']}; "
            + ", ".join(f"{name} {version}" for name, version in versions.items() if version not in (None, "yardstick")),
        )
    )


def distinct_places(results):
    return list({result["place"]: result for result in results}.values())


def print_pairing(result):
    print(f"\n{result['name']}: {result['title']} ({result['place']})")
    head = f"{'':<{WIDTH}}{'GB/s':>22}{'CPU s/GB':>27}" + "".join(f"{title:>{width}}" for title, _, width, _ in COLUMNS)
    print(f"{head}{'speed/floor':>13}{'CPU/floor':>11}")
    print(f"{'':<{WIDTH}}{'':>22}{SUBJECTS[result['subject']]:>27}")
    for side, own in result["sides"].items():
        print(f"  {side:<{WIDTH - 2}}{cells(own)}")


def cells(own):
    if "spread" not in own:
        return "  " + status(own)
    spread = own["spread"]
    text = f"{ranged(spread['gb_per_s'], 2):>22}{ranged(spread['cpu_s_per_gb'], 3):>27}"
    for _, measure, width, shape in COLUMNS:
        text += f"{cell(spread.get(measure), measure, shape):>{width}}"
    if floor := own.get("of_floor"):
        text += f"{floor['gb_per_s']:>13.2f}{floor['cpu']:>11.2f}"
    return text + ("  " + status(own) if status(own) else "")


def status(own):
    if "missing" in own:
        return f"missing: {own['missing']}"
    if "failed" in own:
        return own["failed"] if "spread" in own else f"failed: {own['failed']}"
    return "" if "spread" in own else "not measured"


def ranged(spread, digits):
    return f"{spread['median']:.{digits}f} ({spread['min']:.{digits}f} to {spread['max']:.{digits}f})"


def cell(spread, measure, shape):
    if spread is None:
        return "-"
    return shape.format(spread["median"] / (1e6 if measure.endswith("_bytes") else 1))


def print_quoted():
    print(f"\nEZIO, quoted and not measured here ({SOURCE}):")
    for what, figure, where in EZIO:
        print(f"  {what}: {figure} ({where})")


def print_targets(goals):
    print(f"\n{'goals of ringtide':<52}{'goal':>12}{'measured':>12}")
    for goal in goals:
        print(f"  {goal['about']:<50}{goal['goal']:>12}{measured(goal):>12}  {verdict(goal)}")


def measured(goal):
    if goal["measured"] is None:
        return "-"
    return f"{goal['measured'] / (1 << 20):.0f} {goal['unit']}" if goal["unit"] else f"{goal['measured']:.2f}"


def verdict(goal):
    if goal["failed"]:
        return "open: a side failed"
    if goal["met"] is None:
        return "not measured" if goal["measured"] is None else ""
    return "met" if goal["met"] else "not met"
