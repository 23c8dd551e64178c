"""A device and its edge as they are in the field, for tests: real llama-servers (slm.gguf on the device, llm.gguf at two sites), goad, goad-device. All of it on loopback,
on ports that were free, each process known by its own id.
"""
import atexit
import json
import os
import re
import subprocess
import sys
import tempfile

from programs import free_port, get, metric, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 60  # nothing takes this long unless it is broken
ENGINE = f"{ROOT}/deploy/llm/engine.sh"
# Longer answers than the pair was trained for, so that there is something to break off.
CONTEXT_TOKENS = 4096


def need_engine():
    """Ends the program with 77, and loudly, where llama-server cannot be had."""
    setup = subprocess.run([ENGINE, "setup"], capture_output=True, text=True)
    if setup.returncode != 0:
        skip("llama-server cannot be had here, so nothing of this was tested on the real engine:", setup.stderr.strip())
    print(setup.stdout.strip())


def skip(*why):
    print("=" * 100, "SKIPPED: " + "\n".join(why), "=" * 100, sep="\n", flush=True)
    sys.exit(77)


class Rig:
    def __init__(self, build, name):
        self.build = os.path.abspath(build)
        # Sanitizers take memory and time of their own.
        self.sanitized = re.search(r"^GOAD_SANITIZE:\w+=.+$", open(f"{self.build}/CMakeCache.txt").read(), re.M) is not None
        self.work = tempfile.mkdtemp(prefix=f"goad-{name}-")
        self.started = []
        atexit.register(self.stop_all)

    def start(self, args, log):
        out = open(f"{self.work}/{log}", "ab")
        process = subprocess.Popen(args, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT)
        self.started.append(process)
        return process

    def log(self, name):
        return open(f"{self.work}/{name}", errors="replace").read()

    def stop_all(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(18)  # SIGCONT, for one that is stopped
                process.terminate()
        for process in self.started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()

    def llama(self, model, name, slots, port=None):
        """A llama-server of deploy/llm/MODEL.gguf: its process and its URL, once it serves."""
        port = port or free_port()
        process = self.start([ENGINE, "exec", f"deploy/llm/{model}.gguf", str(port), str(slots), "--ctx-size", str(CONTEXT_TOKENS * slots), "--jinja",
                              "--chat-template-file", "tests/data/tools.jinja"], f"{name}.log")
        url = f"http://127.0.0.1:{port}"
        wait_for(f"llama-server {name} (log: {self.work}/{name}.log)", lambda: "ok" in get(url + "/health"))
        return process, url

    def write_goad_config(self, sites, **more):
        self.goad_port = free_port()  # the same for each goad that follows
        config = {"listen": {"address": f"127.0.0.1:{self.goad_port}"}, "admin": {"address": ""}, "metrics": {"address": "127.0.0.1:0"}, "sites": sites, **more}
        with open(f"{self.work}/goad.yaml", "w") as out:
            json.dump(config, out)  # JSON is YAML

    def goad(self):
        """Starts goad; its process, once it listens and its backends are up."""
        before = len(re.findall(r"ready .* port=\d+ metrics_port=\d+", self.log("goad.log"))) if os.path.exists(f"{self.work}/goad.log") else 0
        process = self.start([f"{self.build}/goad", "--config", f"{self.work}/goad.yaml"], "goad.log")

        def ready():
            found = re.findall(r"ready .* port=\d+ metrics_port=(\d+)", self.log("goad.log"))
            if process.poll() is not None:
                raise AssertionError(f"goad ended: {self.log('goad.log')[-500:]}")
            return len(found) > before and found[-1]
        self.goad_metrics = f"http://127.0.0.1:{wait_for('goad', ready)}/metrics"
        return process

    def wait_for_backends(self, count):
        wait_for("goad's backends", lambda: metric(self.goad_metrics, "goad_backend_up") == count)

    def device(self, *flags, log="device.log"):
        """Starts goad-device on a free port; its process and its URL without /v1, once it listens."""
        process = self.start([f"{self.build}/goad-device", "--edge", f"127.0.0.1:{self.goad_port}", "--listen", "127.0.0.1:0", *flags], log)

        def ready():
            if process.poll() is not None:
                raise AssertionError(f"goad-device ended: {self.log(log)[-500:]}")
            found = re.findall(r"ready at (http://127\.0\.0\.1:\d+)/v1", self.log(log))
            return found and found[-1]
        return process, wait_for("goad-device", ready)


def rss_mb(process):
    return int(re.search(r"VmRSS:\s+(\d+) kB", open(f"/proc/{process.pid}/status").read()).group(1)) / 1024


def peak_rss_mb(process):
    return int(re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{process.pid}/status").read()).group(1)) / 1024


def questions():
    return [json.loads(line) for line in open(f"{ROOT}/deploy/llm/workload.jsonl")]
