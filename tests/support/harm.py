"""Harm to a running process that nothing from outside could do: one thread of it stands still while the others go on, a number in its memory is another. Needs its owner or
root, and kernel.yama.ptrace_scope = 0 where there is Yama.
"""
import atexit
import ctypes
import os
import struct

from programs import fail

ATTACH, DETACH, ANY_THREAD = 16, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4


class Standstill:
    """The thread of that name stands, as under a debugger, until end(). To be made and ended on one thread."""

    def __init__(self, pid, name):
        self.tid = next((tid for tid in map(int, os.listdir(f"/proc/{pid}/task")) if open(f"/proc/{pid}/task/{tid}/comm").read().strip() == name), None)
        if self.tid is None:
            fail(f"process {pid} has no thread {name}")
        if libc.ptrace(ATTACH, self.tid, 0, 0):
            fail(f"ptrace of {name}: {os.strerror(ctypes.get_errno())}")
        os.waitpid(self.tid, ANY_THREAD)
        atexit.register(self.end)

    def end(self):
        """The thread goes on, or, when its process is ending, lets it end."""
        if self.tid and libc.ptrace(DETACH, self.tid, 0, 0):
            os.waitpid(self.tid, ANY_THREAD)
        self.tid = None
        atexit.unregister(self.end)

    def ended(self):
        """Whether the thread is gone with its process."""
        if self.tid and os.waitpid(self.tid, ANY_THREAD | os.WNOHANG)[0]:
            self.tid = None
        return self.tid is None


def overwrite(pid, old, new):
    """Each double `old` in what the process may write becomes `new`. How many these were."""
    old, new, found = struct.pack("d", old), struct.pack("d", new), 0
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in open(f"/proc/{pid}/maps"):
            span, mode = line.split()[:2]
            begin, end = (int(at, 16) for at in span.split("-"))
            if not mode.startswith("rw") or "[v" in line or end - begin > 1 << 30:  # a sanitizer's shadow
                continue
            memory.seek(begin)
            try:
                held = memory.read(end - begin)
            except OSError:  # what no page stands behind
                continue
            at = held.find(old)
            while at >= 0:
                memory.seek(begin + at)
                memory.write(new)
                found, at = found + 1, held.find(old, at + 8)
    return found
