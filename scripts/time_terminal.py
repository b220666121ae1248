#!/usr/bin/env python
"""How long it takes to look whether a terminal holds anything, while another process writes to it now and then.

    scripts/time_terminal.py [--seconds 11] [--ordinary]

By SCHED_FIFO, where that is allowed and without --ordinary: read that does not block, poll with a time-out of 0, and
FIONREAD with a read where there is something. Nobody wants to wait in any of them. The kernel does in the first two,
for the worker that hands a terminal's bytes over (docs/buses.md). Tells most on a machine whose processors are busy.
"""

import argparse
import fcntl
import os
import select
import struct
import termios
import time
import tty


def look(how, seconds, is_ordinary):
    one, other = os.openpty()
    tty.setraw(other)
    os.set_blocking(other, False)
    first = lambda priority: None if is_ordinary else os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    until = time.monotonic() + seconds
    child = os.fork()
    if child == 0:
        first(85)
        while time.monotonic() < until:
            time.sleep(0.004)
            os.write(one, b"x" * 40)
        os._exit(0)
    first(70)
    polled = select.poll()
    polled.register(other, select.POLLIN)

    def read(length):
        try:
            os.read(other, length)
        except BlockingIOError:
            pass

    took = []
    while time.monotonic() < until:
        begin = time.monotonic()
        if how == "read":
            read(512)
        elif how == "poll":
            polled.poll(0)
        elif waiting := struct.unpack("i", fcntl.ioctl(other, termios.FIONREAD, bytes(4)))[0]:
            read(min(waiting, 512))
        took.append((time.monotonic() - begin) * 1e3)
        if how == "poll":
            read(512)
        time.sleep(0.0003)
    os.waitpid(child, 0)
    os.close(one), os.close(other)
    took.sort(reverse=True)
    print(f"{how:8} {len(took)} looks; the longest {', '.join(f'{ms:.2f}' for ms in took[:5])} ms; {sum(ms > 2 for ms in took)} over 2 ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=11, help="for each (default: %(default)s)")
    parser.add_argument("--ordinary", action="store_true", help="without SCHED_FIFO")
    args = parser.parse_args()
    for how in ("read", "poll", "FIONREAD"):
        look(how, args.seconds, args.ordinary)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
