"""What tests of whole programs share: ports that are free, pages that are read, and what is waited for and checked. Polls of other processes, which have no event to wait
for, are the only sleeps.
"""
import os
import re
import socket
import sys
import time
import urllib.request


def fail(what):
    """An exception, which a thread of a pool hands on."""
    raise AssertionError(f"{os.path.basename(sys.argv[0])}: FAILED: {what}")


def check(condition, what):
    if not condition:
        fail(what)
    print(f"ok: {what}", flush=True)


def wait_for(what, condition, limit_s=60):
    """The first value of `condition` that is true; a connection refused or a page half written is none yet."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    fail(f"{what}: not within {limit_s} s")


def until(condition, what, seconds=20):
    wait_for(what, condition, seconds)
    check(True, what)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def metric(url, name, *labels):
    """The sum of the series of that name that have all these labels, as 'site="a"'."""
    total = 0.0
    for line in get(url).splitlines():
        if re.match(name + r"[{ ]", line) and all(label in line for label in labels):
            total += float(line.rsplit(" ", 1)[1])
    return total
