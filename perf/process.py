"""A program at work: started, waited for, stopped, and measured from outside."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from programs import fail

# Every program is given longer than anyone needs; past it something hangs.
TIMEOUT_S = 120

POLICY, PRIORITY = os.sched_getscheduler(0), os.sched_getparam(0)
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Stopped(SystemExit):
    """Somebody pressed Ctrl-C or sent SIGTERM. Its code is the one that shells give to that."""


def stop_on_signals():
    """Both signals raise Stopped, once: what is being measured ends, and what was measured can be told in peace."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number, _):
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(128 + number)

    for number in numbers:
        signal.signal(number, stop)


def as_a_child():
    """Run between fork and exec: it ends with us, and Ctrl-C at a terminal is ours to answer; it has the priority that we
    were started with, and when memory runs out it goes before everything else on the machine.
    """
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.sched_setscheduler(0, POLICY, PRIORITY)


def go_before_children():
    """Under a real-time policy: looks at clocks and files on time although the programs keep all cores busy."""
    if POLICY in (os.SCHED_RR, os.SCHED_FIFO):
        os.sched_setscheduler(0, POLICY, os.sched_param(PRIORITY.sched_priority + 1))


class MemoryWatch(threading.Thread):
    """Follows the memory of a process until it ends, as seen fifty times a second: its peaks, resident and anonymous.

    The kernel's own figure at the end (ru_maxrss) would count what its parent had when it was forked.
    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status, self.done = Path(f"/proc/{pid}/status"), threading.Event()
        self.peak = self.peak_anon = 0
        self.start()

    def run(self):
        ended = False
        while not ended:
            with contextlib.suppress(OSError):
                self.look()
            ended = self.done.wait(0.02)

    def look(self):
        found = dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB$", self.status.read_text(), re.MULTILINE))
        self.peak = max(self.peak, int(found.get("VmHWM", 0)) * 1024)
        self.peak_anon = max(self.peak_anon, int(found.get("RssAnon", 0)) * 1024)

    def stop(self):
        self.done.set()
        self.join()

    def peaks(self):
        return {"peak_rss_bytes": self.peak, "peak_anon_bytes": self.peak_anon}


class Program:
    """A started program. What it says goes to files of no name, what it takes is read from outside.

    It dies with the thread that started it, and is to be waited for or stopped once; meanwhile any thread may kill it.
    """

    def __init__(self, command, enter=(), **options):
        """`enter` comes before the command, where it is to run in another namespace."""
        self.name = Path(command[0]).name
        self.out, self.complaints = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.begun, self.ended, self.reaping = time.monotonic(), None, threading.Lock()
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.out, "stderr": self.complaints}
        words = [str(word) for word in (*enter, *command)]
        self.process = subprocess.Popen(words, preexec_fn=as_a_child, **streams, **options)
        self.pid, self.watch = self.process.pid, MemoryWatch(self.process.pid)

    def said(self):
        return os.pread(self.out.fileno(), 1 << 20, 0)

    def noted(self):
        """What it said beside its results."""
        return os.pread(self.complaints.fileno(), 1 << 20, 0)

    def complained(self):
        """The end of what it said of its troubles, or else of what it said at all."""
        kept = 2000
        for file in (self.complaints, self.out):
            length = os.fstat(file.fileno()).st_size
            if text := os.pread(file.fileno(), kept, max(0, length - kept)).decode(errors="replace").strip():
                return text
        return "it said nothing"

    def cpu(self):
        """User and system seconds so far: their sum is exact, their parts are as fine as the kernel's ticks."""
        total = time.clock_gettime((~self.pid << 3) | 2)
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])
        share = user / (user + system) if user + system else 0.5
        return total * share, total * (1 - share)

    def usage(self):
        """What it took so far, still running. The switches of threads that ended are not in it."""
        user, system = self.cpu()
        switches = 0
        for status in Path(f"/proc/{self.pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                switches += sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", status.read_text()))
        return {"user_s": user, "sys_s": system, "context_switches": switches, **self.watch.peaks()}

    def wait_until(self, is_so, limit, what):
        """Looks until `is_so`; a program that ends or hangs instead is a failure."""
        last = self.begun + limit
        while not is_so():
            if self.has_ended():
                fail(f"{self.name} ended before {what}: {self.complained()}")
            if time.monotonic() > last:
                fail(f"{self.name}: no {what} within {limit:.0f} s")
            time.sleep(0.002)

    def has_ended(self):
        return self.ended is not None or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, limit=TIMEOUT_S):
        """Waits for its end, which must be a good one, and returns what it took."""
        hung = threading.Event()
        killer = threading.Timer(limit, lambda: (hung.set(), self.kill()))
        killer.start()
        try:
            run = self.reap()
        finally:
            killer.cancel()
        if hung.is_set():
            fail(f"{self.name} did not end within {limit:.0f} s")
        if self.process.returncode != 0:
            fail(f"{self.name} ended with {self.process.returncode}: {self.complained()}")
        return run

    def stop(self):
        if self.ended is None:
            self.kill()
            self.reap()

    def kill(self, number=signal.SIGKILL):
        """Not by subprocess, which would reap it. As long as it is not reaped the number is its own."""
        with self.reaping:
            if self.ended is None:
                os.kill(self.pid, number)

    def reap(self):
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self.reaping:
            _, status, usage = os.wait4(self.pid, 0)
            self.ended = time.monotonic()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.watch.stop()
        switches = usage.ru_nvcsw + usage.ru_nivcsw
        cpu = {"user_s": usage.ru_utime, "sys_s": usage.ru_stime}
        return {"wall_s": self.ended - self.begun, **cpu, "context_switches": switches, **self.watch.peaks()}


def run_measured(command, limit=TIMEOUT_S):
    """Runs a program to its end and measures it from outside; also returns what it printed. Its failure is ours."""
    program = Program(command)
    try:
        return program.wait(limit), program.said()
    finally:
        program.stop()
