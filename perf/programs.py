"""The programs that a comparison runs: where they are, and how missing ones are had."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
VENV_PYTHON = TARGET / "interop" / "venv" / "bin" / "python"
# Where perf/rivals/install puts what it builds, and says what would not install and why.
RIVALS = TARGET / "rivals"
NOT_INSTALLED = RIVALS / "not-installed.json"


class Failed(SystemExit):
    """Why it does not go on: ends a script with this message and 1, unless it is caught and told in a row."""


def fail(message):
    raise Failed(f"{Path(sys.argv[0]).name}: {message}")


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


# Debian packages whose program is called otherwise.
PACKAGES = {"aria2c": "aria2"}


def install_packages(programs):
    """Installs the Debian packages of programs that are missing where this runs as root, else names them."""
    missing = [PACKAGES.get(name, name) for name in programs if not shutil.which(name)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        fail(f"install {' and '.join(missing)} (so the Debian packages are called), or leave out what needs them")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


# What a run comes to


def per_gb(run, length):
    """A run and what follows from its times and the bytes it worked on. GB are 10^9 bytes."""
    cpu, gb = run["user_s"] + run["sys_s"], length / 1e9
    return {**run, "cpu_s": cpu, "cpu_s_per_gb": cpu / gb, "gb_per_s": gb / run["wall_s"]}
