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
        try:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"huge={huge},size={size}", prefix.rstrip("."), path], check=True)
            yield Path(path), f"tmpfs, huge={huge}"
        finally:
            # A signal may come between the mount and here.
            if os.path.ismount(path):
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


@contextlib.contextmanager
def dir_below(parent, size):
    """A directory of our own below `parent`, with room for `size` bytes, and its filesystem in words."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{Path(sys.argv[0]).name}.", dir=parent) as path:
        if shutil.disk_usage(path).free < size:
            fail(f"{parent} has not the {size / 1e9:.1f} GB that are needed: name another with --dir, or try --quick")
        yield Path(path), filesystem(path)


def filesystem(path):
    command = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(path)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def write_small_files(image, directory, count):
    """Cuts the image into `count` files of equal size in directories of a thousand; returns the bytes they hold."""
    size = image.stat().st_size // count
    with open(image, "rb") as source:
        for number in range(count):
            path = directory / f"{number // 1000:03}" / f"{number % 1000:03}"
            if number % 1000 == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(source.read(size))
    return size * count


def resident_bytes(path):
    """How much of a file the page cache holds."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def bring_into_cache(path):
    """A file in memory is there already; one on a disk is written out first, lest that happen later."""
    os.sync()
    with open(path, "rb") as file:
        while file.read(16 * MIB):
            pass
    if resident_bytes(path) < path.stat().st_size:
        fail(f"{path} does not stay in the page cache: is there memory for it?")


def drop_from_cache(path):
    """Makes the next read of a file come from its disk, and sees that it will."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    left = resident_bytes(path)
    if left:
        fail(f"{left} bytes of {path} stay in the page cache: is it on a disk, and does nobody else read it?")
