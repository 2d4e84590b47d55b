"""A cable between two network interfaces that delays every packet: delayed_link.py FIRST SECOND MILLISECONDS PID PID.

Makes two TAP interfaces, hands each to the network namespace of a process, and passes what goes into one on to the other.
For scripts/two_hosts.sh: not every kernel has the traffic control that could delay packets by itself.
"""

import collections
import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

SET_INTERFACE, TAP, NO_HEADER = 0x400454CA, 0x0002, 0x1000  # from linux/if_tun.h
FRAME = 1 << 16


def make_tap(name: str, keeper: str) -> int:
    """Make an interface in the namespace of the process `keeper`, and return the file that its frames come from."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, SET_INTERFACE, struct.pack("16sH22x", name.encode(), TAP | NO_HEADER))
    subprocess.run(["ip", "link", "set", name, "netns", keeper], check=True)
    return tap


def relay(first: int, second: int, delay: float) -> None:
    """Pass frames on, each `delay` seconds after it came; for ever."""
    other = {first: second, second: first}
    waiting: collections.deque[tuple[float, int, bytes]] = collections.deque()
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for tap in select.select([first, second], [], [], patience)[0]:
            waiting.append((time.monotonic() + delay, other[tap], os.read(tap, FRAME)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, tap, frame = waiting.popleft()
            # An interface that is not up, or whose queue is full, loses the packet, as a cable does.
            with contextlib.suppress(OSError):
                os.write(tap, frame)


if __name__ == "__main__":
    one, two, milliseconds, keeper_one, keeper_two = sys.argv[1:]
    taps = make_tap(one, keeper_one), make_tap(two, keeper_two)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    relay(*taps, delay=float(milliseconds) / 1000)
