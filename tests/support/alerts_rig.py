"""goads, and a real Prometheus with the rules that are shipped, for tests that cause alerts: alerts_test.py and faults_test.py. The windows of the rules are seconds
here (SHORT); promtool (prometheus_test.py) knows the real ones. A program has one folder and one Prometheus, so they are this module's own.
"""
import atexit
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from programs import fail, free_port

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHIPPED = f"{SOURCE}/deploy/prometheus"
SHORT = {"1m": "5s", "2m": "6s", "5m": "6s", "10m": "8s", "30m": "8s", "1h": "10s", "6h": "12s", "3d": "15s"}
SITE = 'sites: [{{name: cell-a, uplink: {{model: shannon}}, backends: [{{url: "{0}", slots: 40}}]}}]\n'
BUILD = os.path.abspath(sys.argv[1])

folder = tempfile.mkdtemp()
goads, caused, prometheus = [], set(), None
base = f"http://127.0.0.1:{free_port()}"


def until(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.2)  # between polls of another process
    fail(f"not within {seconds} s: {what}\n{trouble()}")


class Goad:
    def __init__(self, name, config, limit=None, wrapper=()):
        self.name, self.config, self.limit, self.wrapper = name, config, limit, wrapper
        self.port, self.metrics, self.process, self.fleets = free_port(), free_port(), None, []
        self.instance = f"127.0.0.1:{self.metrics}"
        self.write()
        goads.append(self)

    def write(self):
        with open(f"{folder}/{self.name}.yaml", "w") as out:
            out.write(f'admin: {{address: "unix:{folder}/{self.name}.sock"}}\nmetrics: {{address: "{self.instance}"}}\ndrain_timeout: 1s\n'
                      + (self.config if "listen:" in self.config else f'listen: {{address: "127.0.0.1:{self.port}"}}\n' + self.config))

    def start(self):
        def limits():
            if self.limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.limit))
        self.process = subprocess.Popen([*self.wrapper, f"{BUILD}/goad", "--config", f"{folder}/{self.name}.yaml"],
                                        stderr=open(f"{folder}/{self.name}.log", "a"), preexec_fn=limits)
        until(f"{self.name} answers", lambda: self.page())
        return self

    def page(self):
        return urllib.request.urlopen(f"http://{self.instance}/metrics", timeout=5).read().decode()

    def log(self):
        return open(f"{folder}/{self.name}.log").read()

    def ctl(self, *words, ok=True):
        done = subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{folder}/{self.name}.sock", "--timeout", "30s", *words],
                              capture_output=True, text=True, timeout=60)
        if ok and done.returncode:
            fail(f"goadctl {words}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def change(self, old, new):
        if old not in self.config:
            fail(f"{self.name}: no {old}")
        self.config = self.config.replace(old, new)
        self.write()
        self.ctl("reload")

    def fleet(self, rate, devices=10, *more):
        self.fleets.append(subprocess.Popen(
            [f"{BUILD}/goad-loadgen", "--address", f"127.0.0.1:{self.port}", "--workload", f"{SOURCE}/deploy/llm/workload.jsonl", "--devices",
             str(devices), "--rate", str(rate), "--questions", "1000000", *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def quiet(self):
        for fleet in self.fleets:
            fleet.terminate()
        for fleet in self.fleets:
            fleet.wait()
        self.fleets = []

    def kill(self):
        self.stop(signal.SIGKILL)

    def stop(self, how=signal.SIGTERM):
        self.quiet()
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


def data(query):
    answer = urllib.request.urlopen(f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": query}), timeout=5).read()
    return json.loads(answer)["data"]["result"]


def firing(alert, goad):
    return data(f'ALERTS{{alertname="{alert}",alertstate="firing",instance="{goad.instance}"}}')


def trouble():
    lines = [f"{row['metric']} {row['value'][1]}" for row in data("ALERTS")]
    for goad in goads:
        if os.path.exists(f"{folder}/{goad.name}.log"):
            lines += [goad.name] + open(f"{folder}/{goad.name}.log").read().splitlines()[-5:]
    return "\n".join(lines)


def fires(goad, *alerts, seconds=60):
    for alert in alerts:
        until(f"{alert} fires for {goad.name}", lambda: firing(alert, goad), seconds)
        caused.add(alert)
        print(f"ok: {alert} fires", flush=True)


def ends(goad, *alerts, seconds=60):
    for alert in alerts:
        until(f"{alert} ends for {goad.name}", lambda: not firing(alert, goad), seconds)
        print(f"ok: {alert} ends", flush=True)


def holds(text, word):
    if word not in text:
        fail(f"no {word!r} in what the page has the operator ask: {text}")


def write_prometheus(targets):
    for name in ("rules.yml", "alerts.yml"):
        rules = open(f"{SHIPPED}/{name}").read()
        rules = re.sub(r"\[(\w+)\]", lambda window: f"[{SHORT[window.group(1)]}]", rules)
        open(f"{folder}/{name}", "w").write(re.sub(r"for: \w+", "for: 1s", rules))
    config = re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 1s", open(f"{SHIPPED}/prometheus.yml").read())
    if '["127.0.0.1:9464"]' not in config:
        fail("prometheus.yml does not scrape 127.0.0.1:9464")
    open(f"{folder}/prometheus.yml", "w").write(config.replace('["127.0.0.1:9464"]', json.dumps(targets)))


def scrape_all():
    """Every goad that there is by now, whether it runs or not."""
    global prometheus
    write_prometheus([goad.instance for goad in goads])
    if prometheus:
        return prometheus.send_signal(signal.SIGHUP)
    prometheus = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                                   f"--web.listen-address={base[7:]}"], stdout=subprocess.DEVNULL, stderr=open(f"{folder}/prometheus.log", "w"))
    until("Prometheus answers", lambda: urllib.request.urlopen(f"{base}/-/ready", timeout=5))


def report():
    every = set(re.findall(r"alert: (\w+)", open(f"{SHIPPED}/alerts.yml").read()))
    print(f"caused {len(caused)} of {len(every)} alerts; not: {', '.join(sorted(every - caused))}")


@atexit.register
def stop_all():
    for goad in goads:
        goad.stop(signal.SIGKILL)
    if prometheus:
        prometheus.terminate()
        prometheus.wait()
    shutil.rmtree(folder, ignore_errors=True)
