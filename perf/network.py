"""The network of a comparison: one of our own, where every client has an address and a tracker names those we choose.

Everything runs in a network namespace, over its loopback device: nothing leaves the machine, ports are free, and the
addresses are not in 127/8, whose peers some clients ignore. The mounts of a run are in a namespace of its own, too, so
that none outlives it.
"""

import ctypes
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from programs import fail

INSIDE = "RINGTIDE_PERF_NETWORK"
PORT = 6881
ADDRESSES = 64
TRACKER = 63


def is_outside():
    return INSIDE not in os.environ


def enter():
    """Starts this script once more in namespaces of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    try:
        sys.stdout.flush()
        os.execvpe("unshare", ["unshare", "--net", "--mount", *user, "--", *sys.orig_argv], {**os.environ, INSIDE: "1"})
    except OSError as error:
        fail(f"cannot run unshare (Debian: util-linux): {error}")


def lay():
    lines = [f"address add {host(number)}/32 dev lo" for number in range(1, ADDRESSES)]
    run_ip([*lines, "link set lo up"])


class Namespace:
    """A network namespace beside this one. It is gone with this process and those that were started in it."""

    CLONE_NEWNET = 0x40000000
    OURS = "/proc/thread-self/ns/net"

    def __init__(self):
        libc, ours = ctypes.CDLL(None, use_errno=True), os.open(self.OURS, os.O_RDONLY)
        self.check(libc.unshare(self.CLONE_NEWNET))
        try:
            self.file = os.open(self.OURS, os.O_RDONLY)
        finally:
            self.check(libc.setns(ours, self.CLONE_NEWNET))
            os.close(ours)
        # What comes before a command that is to run there.
        self.enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.file}", "--"]

    def ip(self, *lines):
        run_ip(lines, self.enter)

    @staticmethod
    def check(result):
        if result:
            fail(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")


def run_ip(lines, enter=()):
    """Commands of ip, one a line."""
    subprocess.run([*enter, "ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def host(number):
    return f"10.77.0.{number}"


def peer(number, port=PORT):
    return f"{host(number)}:{port}"


def announce_url():
    return f"http://{peer(TRACKER, 6969)}/announce"


class Tracker:
    """Names the peers that were set, to everybody who asks (BEP 3, BEP 23)."""

    def __init__(self):
        self.peers = []
        tracker = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = tracker.answer(urllib.parse.urlsplit(self.path))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((host(TRACKER), 6969), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, url):
        if url.path != "/announce":
            return b"d14:failure reason15:only announces.e"
        packed = b"".join(pack(peer) for peer in self.peers)
        return b"d8:intervali1800e5:peers%d:%be" % (len(packed), packed)


def pack(peer):
    address, port = peer.rsplit(":", 1)
    return socket.inet_aton(address) + int(port).to_bytes(2, "big")


class ByteWatch(threading.Thread):
    """Sees when the first payload crosses the loopback device: to 2 ms, if it is let."""

    # More than handshakes, bitfields and announces of all peers together, and less than one pipeline.
    FEW = 128 * 1024

    def __init__(self):
        super().__init__(daemon=True)
        self.base, self.first, self.done = loopback_bytes(), None, threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.002):
            if loopback_bytes() - self.base > self.FEW:
                self.first = time.monotonic()
                return

    def stop(self):
        self.done.set()
        self.join()
        return self.first

    def so_far(self):
        """Bytes since the first payload, and seconds."""
        if not self.first:
            return 0, 0.0
        return loopback_bytes() - self.base, time.monotonic() - self.first

    def in_words(self):
        count, seconds = self.so_far()
        return f"; it came at {count / seconds / 1e6:.0f} MB/s until then" if seconds else "; no payload came"


def loopback_bytes():
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    return 0
