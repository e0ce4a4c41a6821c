"""The programs that a comparison runs: where they are, how missing ones are had, and what a run of one takes."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
VENV_PYTHON = TARGET / "interop" / "venv" / "bin" / "python"
# Every program is given longer than anyone needs; past it something hangs.
TIMEOUT_S = 120


def fail(message):
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


# What is needed


def build(*packages):
    command = ["cargo", "build", "--quiet", "--release"]
    subprocess.run(command + [word for name in packages for word in ("-p", name)], cwd=ROOT, check=True)


def install_libtorrent():
    """As tests/run does, and the version that it names."""
    if VENV_PYTHON.exists() and subprocess.run([VENV_PYTHON, "-c", "import libtorrent"], stderr=subprocess.DEVNULL).returncode == 0:
        return
    requirement = re.search(r"^libtorrent=(\S+)$", (ROOT / "tests" / "run").read_text(), re.MULTILINE)[1]
    subprocess.run([sys.executable, "-m", "venv", VENV_PYTHON.parent.parent], check=True)
    subprocess.run([VENV_PYTHON, "-m", "pip", "install", "--quiet", requirement], check=True)


def install_packages(names):
    """Debian packages that hold one program of the same name each: what is missing is installed by root, else named."""
    missing = [name for name in names if not shutil.which(name)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        fail(f"install {' and '.join(missing)} (so the Debian packages are called), or leave out what needs them")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


# The processes


class AnonWatch(threading.Thread):
    """Follows the anonymous memory of a process until it ends: the peak, as seen twenty times a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status, self.peak, self.done = Path(f"/proc/{pid}/status"), 0, threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.05):
            with contextlib.suppress(OSError):
                found = re.search(r"^RssAnon:\s+(\d+) kB$", self.status.read_text(), re.MULTILINE)
                self.peak = max(self.peak, int(found[1]) * 1024 if found else 0)

    def stop(self):
        self.done.set()
        self.join()
        return self.peak


def run_measured(command):
    """Runs a program to its end and measures it from outside; also returns what it printed. Its failure is ours."""
    begun = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watch, killer = AnonWatch(process.pid), threading.Timer(TIMEOUT_S, process.kill)
    killer.start()
    complaints = []
    drain = threading.Thread(target=lambda: complaints.append(process.stderr.read()))
    drain.start()
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    killer.cancel()
    drain.join()
    if process.returncode != 0:
        said = complaints[0].decode(errors="replace")[-2000:]
        fail(f"{Path(command[0]).name} ended with {process.returncode}:\n{said}")
    run = {
        "wall_s": wall,
        "user_s": usage.ru_utime,
        "sys_s": usage.ru_stime,
        "context_switches": usage.ru_nvcsw + usage.ru_nivcsw,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "peak_anon_bytes": watch.stop(),
    }
    return run, printed


def per_gb(run, length):
    """A run and what follows from its times and the bytes it worked on. GB are 10^9 bytes."""
    cpu, gb = run["user_s"] + run["sys_s"], length / 1e9
    return {**run, "cpu_s": cpu, "cpu_s_per_gb": cpu / gb, "gb_per_s": gb / run["wall_s"]}
