#!/usr/bin/env python3
"""One stream of TCP, where there is no iperf3: to an address for some seconds, or received at one. Run by perf/swarm.

Whoever sends prints one JSON object: bytes and seconds, as the other end counted them.
"""

import argparse
import json
import socket
import time

CHUNK = 256 * 1024


def arguments():
    parser = argparse.ArgumentParser()
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--listen", nargs=2, metavar=("ADDRESS", "PORT"))
    end.add_argument("--to", nargs=2, metavar=("ADDRESS", "PORT"))
    parser.add_argument("--time", type=float, default=3, metavar="SECONDS")
    parser.add_argument("--omit", type=float, default=0, metavar="SECONDS", help="do not count what is received in the first ones")
    return parser.parse_args()


def receive(address, omit):
    with socket.create_server(address) as listener:
        print("listening", flush=True)
        connection, _ = listener.accept()
    with connection:
        count, begun, buffer = 0, time.monotonic() + omit, bytearray(CHUNK)
        while length := connection.recv_into(buffer):
            count += length if time.monotonic() > begun else 0
        connection.sendall(json.dumps({"bytes": count, "seconds": time.monotonic() - begun}).encode())


def send(address, seconds):
    zeros, last = bytes(CHUNK), time.monotonic() + seconds
    with socket.create_connection(address) as connection:
        while time.monotonic() < last:
            connection.sendall(zeros)
        connection.shutdown(socket.SHUT_WR)
        print(connection.makefile().read())


def main():
    options = arguments()
    host, port = options.listen or options.to
    if options.listen:
        receive((host, int(port)), options.omit)
    else:
        send((host, int(port)), options.time)


if __name__ == "__main__":
    main()
