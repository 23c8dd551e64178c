#!/usr/bin/python3
"""goad as systemd runs it, by a fake notify socket: READY, RELOADING, WATCHDOG, STOPPING; a stuck engine starves the watchdog.

  service_test.py BUILD_DIR
"""
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(sys.argv[1])
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WATCHDOG_S = 4.0
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


def check(condition, what):
    if not condition:
        sys.exit(f"service_test.py: FAILED: {what}")
    print(f"ok: {what}")


class Notify:
    """What systemd would hear."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)

    def next(self, timeout):
        self.socket.settimeout(timeout)
        try:
            return self.socket.recv(4096).decode()
        except socket.timeout:
            return None

    def drain(self):  # what came while nobody looked
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass

    def until(self, wanted, timeout=20):
        heard = []
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            message = self.next(left)
            if message is None:
                break
            heard.append(message)
            if wanted in message.split("\n"):
                return message
        sys.exit(f"service_test.py: FAILED: {wanted} was not heard within {timeout} s, but {heard}")


def thread_of(pid, name):
    end = time.monotonic() + 20
    while time.monotonic() < end:  # a thread names itself when it first runs
        for task in os.listdir(f"/proc/{pid}/task"):
            if open(f"/proc/{pid}/task/{task}/comm").read().strip() == name:
                return int(task)
    sys.exit(f"service_test.py: FAILED: no thread {name}")


def stop_thread(libc, pid, name):
    """Its number; None where this machine does not let us."""
    thread = thread_of(pid, name)
    if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0 or libc.ptrace(PTRACE_INTERRUPT, thread, None, None) != 0:
        print("SKIPPED: this machine does not let us stop one thread: " + os.strerror(ctypes.get_errno()))
        return None
    os.waitpid(thread, 0x40000000)  # __WALL: the thread has stopped
    return thread


with tempfile.TemporaryDirectory() as directory:
    config = f"{directory}/goad.yaml"

    def write(tau):
        with open(config, "w") as out:
            out.write(f"""listen: {{address: "127.0.0.1:0"}}
admin: {{address: "unix:{directory}/admin.sock"}}
metrics: {{address: "127.0.0.1:0"}}
policy: {{tau: {tau}}}
sites: [{{name: a, backends: [{{url: "http://127.0.0.1:9"}}]}}]
drain_timeout: 1s
""")

    write(0.8)
    notify = Notify(f"{directory}/notify")
    environment = dict(os.environ, NOTIFY_SOCKET=f"{directory}/notify", WATCHDOG_USEC=str(int(WATCHDOG_S * 1e6)))
    goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], env=environment, stderr=open(f"{directory}/log", "w"))
    try:
        ready = notify.until("READY=1")
        check("STATUS=0 sessions, 0 queries running, configuration 1" in ready, "READY=1 with a status line")

        for _ in range(3):
            notify.until("WATCHDOG=1", WATCHDOG_S / 2)
        check(True, "WATCHDOG=1 comes at least twice in WATCHDOG_USEC")

        write(0.5)
        goad.send_signal(signal.SIGHUP)
        reloading = notify.until("RELOADING=1")
        check("MONOTONIC_USEC=" in reloading, "RELOADING=1 with MONOTONIC_USEC")
        check("configuration 2" in notify.until("READY=1"), "READY=1 again, configuration 2")
        write(7)
        goad.send_signal(signal.SIGHUP)
        notify.until("RELOADING=1")
        check("configuration 2" in notify.until("READY=1"), "a refused reload is READY=1 again, configuration 2")

        ctl = [f"{BUILD}/goadctl", "--address", f"unix:{directory}/admin.sock"]
        status = subprocess.run(ctl + ["status"], capture_output=True, text=True)
        check(status.returncode == 0 and "tau      0.5" in status.stdout, "goadctl status over the unix socket")
        refused = subprocess.run(ctl + ["reload"], capture_output=True, text=True)
        check(refused.returncode == 1 and "policy.tau: 7 is not in 0..1" in refused.stderr, "goadctl reload says what is wrong")
        port = re.search(r"ready .*? port=(\d+)", open(f"{directory}/log").read()).group(1)
        health = subprocess.run([f"{BUILD}/goadctl", "--address", f"127.0.0.1:{port}", "health"], capture_output=True, text=True)
        check(health.returncode == 0 and health.stdout == "serving\n", "goadctl health on the device listener")
        check(subprocess.run(ctl + ["check", f"{SOURCE}/deploy/goad.yaml"], capture_output=True).returncode == 0, "goadctl check")

        libc = ctypes.CDLL(None, use_errno=True)
        engine = stop_thread(libc, goad.pid, "goad-engine")
        if engine is not None:
            notify.drain()
            end = time.monotonic() + WATCHDOG_S
            fed = 0
            while (left := end - time.monotonic()) > 0:
                message = notify.next(left)
                fed += message is not None and "WATCHDOG=1" in message.split("\n")
            libc.ptrace(PTRACE_DETACH, engine, None, None)
            check(fed <= 1, "a stopped engine thread starves the watchdog within WATCHDOG_USEC (systemd would restart goad)")
            notify.until("WATCHDOG=1")
            check(True, "an engine that turns again feeds it again")

        goad.send_signal(signal.SIGTERM)
        stopping = notify.until("STOPPING=1")
        check("EXTEND_TIMEOUT_USEC=" in stopping, "STOPPING=1 asks for the time a drain may take")
        check(goad.wait(20) == 0, "exit status 0 after a drain")

        # The same where no watchdog is there to end it, as in a container.
        write(0.8)
        goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], stderr=open(f"{directory}/log", "w"))
        end = time.monotonic() + 60
        while " ready " not in open(f"{directory}/log").read() and time.monotonic() < end:
            time.sleep(0.1)
        engine = stop_thread(libc, goad.pid, "goad-engine")
        if engine is not None:
            while "the engine stands still" not in open(f"{directory}/log").read() and time.monotonic() < end:
                time.sleep(0.1)
            libc.ptrace(PTRACE_DETACH, engine, None, None)
            check("the engine stands still" in open(f"{directory}/log").read(), "without a watchdog: the log says that the engine stands still")
            check(goad.wait(60) == 1, "and the exit status is 1")
        goad.kill()
        goad.wait()

        # A listener that accepts nobody any more, though all else is well.
        goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], env=environment, stderr=open(f"{directory}/log", "w"))
        notify.until("READY=1")
        acceptor = stop_thread(libc, goad.pid, "goad-acceptor")
        if acceptor is not None:
            end = time.monotonic() + 60
            while "the device port is deaf" not in open(f"{directory}/log").read() and time.monotonic() < end:
                notify.next(1)
            check("the device port is deaf" in open(f"{directory}/log").read(), "a stopped acceptor: the log says that the port is deaf")
            libc.ptrace(PTRACE_DETACH, acceptor, None, None)
            check(goad.wait(60) == 1, "and the exit status is 1, so that goad is started again")
    finally:
        goad.kill()
        goad.wait()
print("service_test.py: passed")
