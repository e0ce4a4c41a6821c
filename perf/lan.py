"""Hosts on one LAN: a network namespace each, joined by a bridge in this one, and shaped in both directions.

What a link carries is measured, not believed: by iperf3, or by a stream of TCP of our own (stream.py).
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import network
from process import Program
from programs import ROOT, fail

BRIDGE = "lan"
# This namespace's own: the tracker.
HERE = "10.79.255.254"
PREFIX = 16
# Rates in tc's words, in bits per second (tc-units(7)).
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
# A burst is what may pass at once: two of the largest packets (64 KiB), so that none has to be cut. What waits longer than 20
# ms is dropped, as by a switch with deep buffers.
SHAPE = "burst 128kb latency 20ms"
# Of an Ethernet frame of TCP over IPv4 with timestamps, what is not payload.
HEADERS = 14 + 20 + 32
PORT = 5201
# What a stream does before it counts: it begins with a burst, and too fast for its link.
OMIT_S = 1
STREAM = ROOT / "perf" / "stream.py"


def bits_per_second(rate):
    for unit, bits in UNITS.items():
        number = rate.removesuffix(unit)
        if number != rate and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number) * bits
    raise ValueError(f"{rate!r} is no rate; write it like 200mbit or 1gbit")


class Host:
    """One of them. Its device is eth0 there, and its end of the pair a port of the bridge here."""

    def __init__(self, number, rate):
        self.address, self.rate, self.device = f"10.79.{number // 250}.{number % 250 + 1}", rate, f"host{number}"
        self.space = network.Namespace()
        self.enter = self.space.enter
        pair = f"link add eth0 type veth peer name {self.device} netns {os.getpid()}"
        self.space.ip(pair, f"address add {self.address}/{PREFIX} dev eth0", "link set lo up", "link set eth0 up")
        network.run_ip([f"link set {self.device} master {BRIDGE}", f"link set {self.device} up"])
        self.shape("eth0", self.enter)
        self.shape(self.device)

    def shape(self, device, at=()):
        command = f"tc qdisc add dev {device} root tbf rate {self.rate} {SHAPE}"
        subprocess.run([*at, *command.split()], check=True)

    def sent(self):
        """Bytes that have left it, without the headers of Ethernet, IP and TCP: a packet that was not cut yet has them once."""
        counted = counters(self.device)
        return counted["rx_bytes"] - HEADERS * counted["rx_packets"]


class Lan:
    """The seed first, and the leechers."""

    def __init__(self, seed_rate, rates):
        network.run_ip([f"link add {BRIDGE} type bridge", f"address add {HERE}/{PREFIX} dev {BRIDGE}", "link set lo up",
                        f"link set {BRIDGE} up"])
        self.hosts = [Host(number, rate) for number, rate in enumerate([seed_rate, *rates])]

    @property
    def seed(self):
        return self.hosts[0]

    @property
    def leechers(self):
        return self.hosts[1:]

    def goodput(self, with_iperf3, seconds):
        """Bytes of payload per second, up and down for each leecher: of all at once, in a ring, where each sends to the next
        while it receives from the one before, then the other way round. And up from the seed, to as many leechers as its
        rate feeds, twice. The better of two counts, for a stream may fall short of its link.
        """
        fed = min(len(self.leechers), int(bits_per_second(self.seed.rate) // bits_per_second(self.leechers[0].rate)) + 1)
        ways = [[(self.seed, host) for host in some] for some in (self.leechers[:fed], self.leechers[-fed:])]
        seed = max(sum(measure(pairs, with_iperf3, seconds)) for pairs in ways)
        told = {"by": "iperf3" if with_iperf3 else "stream.py", "seed_up": seed}
        if len(self.leechers) == 1:
            return {**told, "up": [seed], "down": [seed]}
        carried = [each for step in (1, -1) for each in self.ring(step, with_iperf3, seconds)]
        best = lambda host, end: max(rate for *ends, rate in carried if ends[end] is host)
        return {**told, "up": [best(host, 0) for host in self.leechers], "down": [best(host, 1) for host in self.leechers]}

    def ring(self, step, with_iperf3, seconds):
        """Sender, receiver and rate of each pair."""
        receivers = self.leechers[step:] + self.leechers[:step]
        rates = measure(list(zip(self.leechers, receivers)), with_iperf3, seconds)
        return list(zip(self.leechers, receivers, rates))


def lower_bound(length, goodput):
    """Seconds that no swarm can stay below: the seed gives each byte once, each host fetches all of them, and everything that
    is fetched is given by somebody."""
    ups, hosts = goodput["seed_up"] + sum(goodput["up"]), len(goodput["up"])
    return max(length / goodput["seed_up"], length / min(goodput["down"]), hosts * length / ups)


def measure(pairs, with_iperf3, seconds):
    """Bytes per second from one host to the other, of all pairs at once."""
    with contextlib.ExitStack() as stack:
        run = lambda command, host: stack.enter_context(running(command, host.enter))
        servers = [run(server(with_iperf3, to), to) for _, to in pairs]
        for program in servers:
            program.wait_until(lambda program=program: b"istening" in program.said(), 10, "listener")
        clients = [run(client(with_iperf3, to, seconds), frm) for frm, to in pairs]
        return [carried(program, with_iperf3, seconds) for program in clients]


def server(with_iperf3, host):
    if with_iperf3:
        return ["iperf3", "--server", "--one-off", "--forceflush", "--bind", host.address, "--port", PORT]
    return [sys.executable, STREAM, "--listen", host.address, PORT, "--omit", OMIT_S]


def client(with_iperf3, host, seconds):
    if with_iperf3:
        return ["iperf3", "--client", host.address, "--port", PORT, "--time", seconds, "--omit", OMIT_S, "--json"]
    return [sys.executable, STREAM, "--to", host.address, PORT, "--time", OMIT_S + seconds]


def carried(program, with_iperf3, seconds):
    program.wait(30 + OMIT_S + seconds)
    told = json.loads(program.said())
    received = told["end"]["sum_received"] if with_iperf3 else told
    if not received["bytes"]:
        fail("nothing crosses the links: is there a firewall between the namespaces?")
    return received["bytes"] / received["seconds"]


@contextlib.contextmanager
def running(command, enter=()):
    program = Program(command, enter)
    try:
        yield program
    finally:
        program.stop()


def counters(device):
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == device:
            counts = [int(count) for count in counts.split()]
            return {"rx_bytes": counts[0], "rx_packets": counts[1]}
    fail(f"there is no device {device}")
