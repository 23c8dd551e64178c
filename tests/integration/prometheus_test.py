#!/usr/bin/python3
"""The monitoring that is shipped, on the real Prometheus: rules and alerts by promtool, then a live fleet on two emulated LLM servers is
scraped and every query of the dashboard and of the console page must return data; then a second goad, whose LLM servers have a good health
page and fail every question, must fire the alerts that are for it.

  prometheus_test.py BUILD_DIR [--keep]     --keep: go on until interrupted, and say where the console is
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

BUILD = os.path.abspath(sys.argv[1])
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{SOURCE}/tests/fakes")
sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, f"{SOURCE}/tests/support")
from moody_llm import Llm  # noqa: E402
from programs import fail, free_port, get, wait_for  # noqa: E402

SHIPPED = f"{SOURCE}/deploy/prometheus"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


run("promtool", "check", "config", f"{SHIPPED}/prometheus.yml")
run("promtool", "check", "rules", f"{SHIPPED}/rules.yml", f"{SHIPPED}/alerts.yml")
run("promtool", "test", "rules", f"{SHIPPED}/alerts-test.yml")
print("ok: promtool check config, check rules, test rules")

# Each alert names its page, which is there; promtool tries each both ways, the calm one with every metric that an alert asks for.
alerts_text = open(f"{SHIPPED}/alerts.yml").read()
runbook = open(f"{SOURCE}/deploy/README.md").read()
anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", runbook, re.M)}
calm, wrong = open(f"{SHIPPED}/alerts-test.yml").read().split("  - name: ")[1:3]
for text in re.split(r"\n +- alert: ", alerts_text)[1:]:
    alert = re.match(r"\w+", text).group()
    page = re.search(r'runbook_url: "file:///usr/share/doc/goad/runbook.md#(\S+)"', text)
    if not page or page.group(1) not in anchors or page.group(1) != re.sub("Slowly$", "", alert).lower():
        fail(f"{alert}: runbook_url names {page and page.group(1)}, no heading of its own in deploy/README.md")
    if f'alertname="{alert}"' not in wrong:
        fail(f"alerts-test.yml: {alert} is not among what fires when everything is wrong")
    silent_in = [metric for metric in re.findall(r"\b(?:goad|process)_\w+", text.split("labels:")[0]) if metric not in calm]
    if silent_in:
        fail(f"alerts-test.yml: {alert} cannot fire in the calm test for want of {silent_in}")
pages = re.findall(r"^### (Goad\w+)$", runbook, re.M)
if sorted(pages) != sorted(alert for alert in re.findall(r"alert: (\w+)", alerts_text) if not alert.endswith("Slowly")):
    fail(f"pages without an alert, or twice: {pages}")
print(f"ok: {len(pages)} pages of the runbook, each named by its alerts, which promtool tries both ways")

made = run("/usr/bin/python3", f"{SOURCE}/deploy/grafana/make_dashboard.py")
if made != open(f"{SOURCE}/deploy/grafana/goad-dashboard.json").read():
    fail("deploy/grafana/goad-dashboard.json is not what make_dashboard.py writes; run it again")
queries = [(panel["title"], target["expr"]) for panel in json.loads(made)["panels"] for target in panel.get("targets", [])]
page = open(f"{SHIPPED}/consoles/goad.html").read()
panels = json.loads(re.search(r"const PANELS = (\[.*?\n\]);", page, re.S).group(1))
queries += [(f"console: {title}", query) for title, _, rows in panels for _, query in rows]
queries += [(f"recorded: {name}", name) for name in re.findall(r"record: (\S+)", open(f"{SHIPPED}/rules.yml").read())]

# Of several goads the sum of these means nothing.
ONE_EACH = ("goad_tau", "goad_uplink_round_trip_seconds", "goad_uplink_bytes_per_second", "goad_service_seconds", "goad_service_samples",
            "goad_config_version", "goad_config_last_reload_successful", "goad_config_last_reload_success_timestamp_seconds",
            "goad_certificate_expiry_timestamp_seconds", "goad_listener_up", "goad_backend_up", "goad_memory_limit_bytes",
            "process_resident_memory_bytes", "process_open_fds", "process_max_fds")
added = [f"{title}: {query}" for title, query in queries
         if re.search(rf"\b(sum|max|avg) *(by \((?![^)]*instance)[^)]*\) *)?\((rate\()?({'|'.join(ONE_EACH)})\b", query)]
if added:
    fail("over several goads this means nothing:\n  " + "\n  ".join(added))
print("ok: what does not add up is shown by instance")

processes = []
directory = tempfile.mkdtemp()
try:
    def start(*command):
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(f"{directory}/log", "a")))
        return processes[-1]

    sites = ""
    for site in ("cell-a", "cell-b"):
        port = free_port()
        start("/usr/bin/python3", f"{SOURCE}/tests/fakes/emulated_llm.py", str(port), "10", "0.2")
        sites += f"""  - name: {site}
    uplink: {{model: shannon, bandwidth: 100MHz}}
    compute: {{model: batching, prefill_rate: 5000, token_time: 50ms, token_time_per_query: 0.1ms}}
    backends: [{{url: "http://127.0.0.1:{port}", slots: 10}}]
"""
    listen, metrics, web = free_port(), free_port(), free_port()
    with open(f"{directory}/goad.yaml", "w") as out:
        out.write(f"""listen: {{address: "127.0.0.1:{listen}"}}
admin: {{address: "unix:{directory}/admin.sock"}}
metrics: {{address: "127.0.0.1:{metrics}"}}
sites:
{sites}""")
    goad = start(f"{BUILD}/goad", "--config", f"{directory}/goad.yaml")
    wait_for("both sites up", lambda: len(re.findall(r"^goad_backend_up{.*} 1$", get(f"http://127.0.0.1:{metrics}/metrics"), re.M)) == 2)
    families = re.findall(r"^# TYPE (goad_\w+)", get(f"http://127.0.0.1:{metrics}/metrics"), re.M)
    used = made + "".join(open(f"{SHIPPED}/{name}").read() for name in ("rules.yml", "alerts.yml"))
    unseen = [family for family in families if not re.search(rf"\b{family}(_bucket|_count|_sum)?\b", used)]
    if unseen or len(families) < 30:
        fail(f"no panel and no alert asks for {unseen} of {len(families)} families")
    print(f"ok: each of {len(families)} families is in a panel or an alert")
    start(f"{BUILD}/goad-loadgen", "--address", f"127.0.0.1:{listen}", "--workload", f"{SOURCE}/deploy/llm/workload.jsonl",
          "--devices", "50", "--rate", "110", "--questions", "1000000", "--device_factor", "8")

    for name in ("rules.yml", "alerts.yml"):
        shutil.copy(f"{SHIPPED}/{name}", directory)
    config = open(f"{SHIPPED}/prometheus.yml").read()
    for what, test in (("scrape_interval: 5s", "scrape_interval: 1s"), ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                       ("127.0.0.1:9464", f"127.0.0.1:{metrics}")):
        if what not in config:
            fail(f"prometheus.yml has no {what}")
        config = config.replace(what, test)
    open(f"{directory}/prometheus.yml", "w").write(config)
    start("prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
          f"--web.listen-address=127.0.0.1:{web}", f"--web.console.templates={SHIPPED}/consoles")
    base = f"http://127.0.0.1:{web}"

    def data(query):
        query = query.replace("$__rate_interval", "30s").replace("$r", "30s").replace("$instance", ".+")
        answer = json.loads(get(f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": query})))
        return [row for row in answer["data"]["result"] if row["value"][1] != "NaN"]

    def silent():  # which queries return nothing, still
        return [f"{title}: {query}" for title, query in queries if not data(query)]

    wait_for("Prometheus answers", lambda: get(f"{base}/-/ready"))
    # Left local for a stale link and the like are 0 in a healthy run, and 0 is data; only what a rate of 0 divides is not.
    left = []

    def all_there():
        left[:] = silent()
        return not left
    try:
        wait_for("every query returns data", all_there, 60)
    except SystemExit:
        fail("no data for\n  " + "\n  ".join(left))
    print(f"ok: {len(queries)} queries of the dashboard, the console and the recording rules return data of a live fleet")
    # What a panel would draw: each label that a legend names is there, and no two lines of a panel are called the same.
    unread = []
    for panel in json.loads(made)["panels"]:
        lines = []
        for target in panel.get("targets", []):
            legend = target["legendFormat"]
            for row in data(target["expr"]):
                unread += [f"{panel['title']}: no {label} for {legend}" for label in re.findall(r"{{(\w+)}}", legend) if label not in row["metric"]]
                lines.append(re.sub(r"{{(\w+)}}", lambda label: row["metric"].get(label.group(1), ""), legend))
        unread += [f"{panel['title']}: {len(lines)} lines, {len(set(lines))} names: {lines}"] if len(set(lines)) < len(lines) else []
    if unread:
        fail("legends\n  " + "\n  ".join(sorted(set(unread))))
    print("ok: each line of a panel has a name of its own")
    if "PANELS" not in get(f"{base}/consoles/goad.html"):
        fail("the console page is not served")
    print("ok: /consoles/goad.html is served")
    firing = data('ALERTS{alertstate="firing"}')
    if firing:
        fail(f"a calm fleet fires {firing}")
    if goad.poll() is not None:
        fail("goad has ended")
    print("ok: no alert fires")
    if "--keep" in sys.argv:
        print(f"{base}/consoles/goad.html", flush=True)
        processes[-1].wait()

    # A second goad beside the first. The alert of the failing server waits 30 s as it is shipped; 3 s here (promtool, above, knows the 30).
    failing, refusing = Llm(), Llm()
    failing.mode, refusing.mode = "fails", "refuses"
    listen, second = free_port(), free_port()
    with open(f"{directory}/second.yaml", "w") as out:
        out.write(f"""listen: {{address: "127.0.0.1:{listen}"}}
admin: {{address: "unix:{directory}/second.sock"}}
metrics: {{address: "127.0.0.1:{second}"}}
sites:
  - {{name: cell-f, uplink: {{model: shannon}}, backends: [{{url: "{failing.url}", slots: 10}}]}}
  - {{name: cell-r, uplink: {{model: shannon}}, backends: [{{url: "{refusing.url}", slots: 10}}]}}
""")
    rules = open(f"{SHIPPED}/alerts.yml").read()
    short = re.sub(r"(alert: GoadBackendRequestsFail\n(?: +(?!- alert).*\n)*? +for: )30s", r"\g<1>3s", rules)
    if short == rules:
        fail("alerts.yml: GoadBackendRequestsFail has no `for: 30s`")
    open(f"{directory}/alerts.yml", "w").write(short)
    open(f"{directory}/prometheus.yml", "w").write(config.replace(f'"127.0.0.1:{metrics}"', f'"127.0.0.1:{metrics}", "127.0.0.1:{second}"'))
    prometheus = processes[-1]
    start(f"{BUILD}/goad", "--config", f"{directory}/second.yaml")
    wait_for("the second goad takes its servers for good", lambda: len(re.findall(r"^goad_backend_up{.*} 1$", get(f"http://127.0.0.1:{second}/metrics"), re.M)) == 2)
    prometheus.send_signal(signal.SIGHUP)
    wait_for("it is scraped", lambda: data(f'goad_backend_requests_total{{instance="127.0.0.1:{second}"}}'))
    begun = time.monotonic()
    start(f"{BUILD}/goad-loadgen", "--address", f"127.0.0.1:{listen}", "--workload", f"{SOURCE}/deploy/llm/workload.jsonl",
          "--devices", "10", "--rate", "20", "--questions", "1000000")
    for alert, site in (("GoadBackendRefusesAll", "cell-r"), ("GoadBackendRequestsFail", "cell-f")):
        wait_for(f"{alert} fires for {site}", lambda: data(f'ALERTS{{alertname="{alert}",alertstate="firing",site="{site}"}}'))
        print(f"ok: {alert} fires {time.monotonic() - begun:.1f} s after the first question")
    health = failing.healthy, refusing.healthy
    wait_for("health pages are good all the while", lambda: failing.healthy > health[0] and refusing.healthy > health[1])
    if not (failing.asked >= 3 and refusing.asked > 5):
        fail(f"asked {failing.asked} and {refusing.asked} times")
    if data(f'ALERTS{{alertstate="firing",instance="127.0.0.1:{metrics}"}}'):
        fail("the calm goad fires, too")
    print(f"ok: beside health pages that were good {failing.healthy} and {refusing.healthy} times; the calm goad fires nothing")
finally:
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        process.wait()
    shutil.rmtree(directory, ignore_errors=True)
print("prometheus_test.py: passed")
