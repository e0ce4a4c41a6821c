"""What is told of the runs: the machine they were made on, how the measures spread, and rows of a table."""

import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

from programs import ROOT, fail

MEASURES = {"wall_s": "wall s", "gb_per_s": "GB/s", "cpu_s": "CPU s", "cpu_s_per_gb": "CPU s/GB", "user_s": "user s", "sys_s": "sys s"}
MEMORY = {"peak_rss_bytes": "RSS MB", "peak_anon_bytes": "anon MB"}


def machine():
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    family = re.search(r"^cpu family\s*: (.*)$", cpuinfo, re.MULTILINE)
    number = re.search(r"^model\s*: (.*)$", cpuinfo, re.MULTILINE)
    name = model[1] if model else platform.machine()
    if family and number:
        name += f" (family {family[1]}, model {number[1]})"
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), **surroundings()}


def surroundings():
    """What else of a machine decides how fast it is."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    policies = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "FIFO", os.SCHED_RR: "round robin"}
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    return {
        "memory_bytes": int(memory[1]) * 1024,
        "governor": setting("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "not visible"),
        "hypervisor": "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) else "no",
        "congestion_control": setting("/proc/sys/net/ipv4/tcp_congestion_control", "unknown"),
        "huge_pages": setting("/sys/kernel/mm/transparent_hugepage/enabled", "unknown"),
        "scheduling": policies.get(policy, str(policy)) + (f" {priority}" if priority else ""),
    }


def commit():
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return found.stdout.strip() or "no commit"


def available_memory():
    """Bytes that programs may take without harm."""
    return int(re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)[1]) * 1024


def setting(path, otherwise):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return otherwise


def machine_line(about):
    return f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}"


def make_sure_of(path):
    """Makes a file that is written at the end: better now than after an hour it is seen that this cannot be."""
    try:
        path.open("a").close()
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")


def spread(runs, names):
    """Of each measure the least, the median and the most."""
    return {
        name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name in names
        for values in [[run[name] for run in runs]]
    }


def cell(name, value):
    if name.endswith("_bytes"):
        return f"{value / 1e6:.0f}"
    return f"{value:.0f}" if name == "context_switches" else f"{value:.2f}"


def heading(columns, width=12):
    return " " * width + "".join(f"{title:>12}" for title in columns.values())


def row(title, run, columns, width=12):
    return f"{title:<{width}}" + "".join(f"{cell(name, run[name]):>12}" for name in columns)


def spread_rows(spread_of, columns, width=12):
    """Three rows: the least, the medians and the most of each measure by itself."""
    for of in ("min", "median", "max"):
        yield row(f"  {of}", {name: spread_of[name][of] for name in columns}, columns, width)
