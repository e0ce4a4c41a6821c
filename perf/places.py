"""Where the content of a comparison lies: directories in memory, random files, and what of a file the page cache holds."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import fail

MIB = 1 << 20


@contextlib.contextmanager
def memory_dir(size, huge="always"):
    """A directory in memory with room for `size` bytes, and its kind in words."""
    prefix = f"{Path(sys.argv[0]).name}."
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory(prefix=prefix, dir="/dev/shm") as path:
            if shutil.disk_usage(path).free < size:
                fail(f"/dev/shm has not the {size / 1e9:.1f} GB that are needed: try --quick")
            yield Path(path), "/dev/shm"
        return
    with tempfile.TemporaryDirectory(prefix=prefix) as path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"huge={huge},size={size}", prefix.rstrip("."), path], check=True)
        try:
            yield Path(path), f"tmpfs, huge={huge}"
        finally:
            subprocess.run(["umount", path], check=True)


def write_random(path, length):
    with open("/dev/urandom", "rb") as source, open(path, "wb") as target:
        for _ in range(length // (16 * MIB)):
            target.write(source.read(16 * MIB))


def warm(path, length):
    """Makes the host give its memory before it counts."""
    zeros = bytes(16 * MIB)
    with open(path, "wb") as target:
        for _ in range(length // len(zeros)):
            target.write(zeros)
    path.unlink()
