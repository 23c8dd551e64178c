#!/usr/bin/python3
"""Accuracy as a promise, by the commands of the README: labels, goad-sim calibrate, a goad that promises what they bear out, a fleet that rates
its answers, goadctl promise. The LLM server is a fake that is wrong whatever it is asked, so the promise is broken, and that has to be seen.

  promise_test.py BUILD_DIR
"""
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request

BUILD = os.path.abspath(sys.argv[1])
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/support")
from programs import check, until  # noqa: E402


class Llm(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        self.reply('{"object":"list","data":[{"id":"llm","object":"model"}]}', "application/json")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply('data: {"choices":[{"text":"wrong","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n', "text/event-stream")


llm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Llm)
threading.Thread(target=llm.serve_forever, daemon=True).start()


def run(program, *words, expect=0):
    done = subprocess.run([f"{BUILD}/{program}", *words], capture_output=True, text=True, timeout=120)
    check(done.returncode == expect, f"{program} {' '.join(words[:3])} ends with {expect} {done.stderr if done.returncode != expect else ''}")
    return done


with tempfile.TemporaryDirectory() as folder:
    config, decisions = f"{folder}/goad.yaml", f"{folder}/decisions.jsonl"
    questions = open(f"{SOURCE}/deploy/llm/workload.jsonl").readlines()
    open(f"{folder}/first.jsonl", "w").writelines(questions[:1000])
    open(f"{folder}/second.jsonl", "w").writelines(questions[1000:])
    run("goad-loadgen", "--workload", f"{folder}/first.jsonl", "--labels", f"{folder}/labels.jsonl")
    run("goad-sim", "calibrate", f"{folder}/labels.jsonl", "--accuracy", "0.75", "--confidence", "0.9", "--out", f"{folder}/calibration.json")
    certificate = json.load(open(f"{folder}/calibration.json"))["certificate"]
    kinds = sorted({json.loads(line)["kind"] for line in open(f"{folder}/labels.jsonl")})

    def write(policy):
        with open(config + ".new", "w") as out:
            out.write(f"""listen: {{address: "127.0.0.1:0"}}
admin: {{address: "unix:{folder}/admin.sock"}}
metrics: {{address: "127.0.0.1:0"}}
policy: {{{policy}}}
kinds: [{", ".join(kinds)}]
sites: [{{name: cell-a, backends: [{{url: "http://127.0.0.1:{llm.server_address[1]}", slots: 64}}]}}]
decision_log: {{path: {decisions}, snapshots: all}}
drain_timeout: 1s
""")
        os.rename(config + ".new", config)

    promised = f"calibration: {folder}/calibration.json, accuracy: 0.75, confidence: 0.9"
    write(promised)
    goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], stderr=open(f"{folder}/log", "w"))
    try:
        def log():
            return open(f"{folder}/log").read()

        def ctl(*words):
            return subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{folder}/admin.sock", *words], capture_output=True, text=True, timeout=60)

        def promise():
            return json.loads(ctl("--json", "promise").stdout)

        def metric(name):
            page = urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5).read().decode()
            return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))

        until(lambda: "ready listen" in log(), "goad starts")
        port, metrics_port = re.search(r" port=(\d+) metrics_port=(\d+)", log()).groups()
        until(lambda: metric("goad_backend_up{") == 1, "its LLM server is up")

        status = json.loads(ctl("--json", "status").stdout)
        check(status["tau"] == certificate["value_tau"] and status["tau_of_values"], "tau is the certified one")
        check(status["certificate"]["labels"] == 500 and status["certificate"]["share"] == certificate["share"], "status has labels and price")
        words = ctl("status").stdout
        check("of the value of offloading" in words and "promise  75.0 % right, with confidence 0.9, for at least" in words, "for people, too")
        fresh = promise()
        check(fresh["evidence"] == 1 and abs(fresh["alarm_at"] - 10) < 1e-9 and not fresh["broken"], "nothing speaks against it yet")
        check(len(fresh["taus"]) == 1 + len(kinds), "what tau means in uncertainty, by kind")
        check("nobody knows" in ctl("promise").stdout, "nor for it")

        run("goad-loadgen", "--address", f"127.0.0.1:{port}", "--workload", f"{folder}/second.jsonl", "--kinds", "--devices", "10", "--questions", "400",
            "--rate", "80", "--device_factor", "1")
        after = promise()
        rated = {row["by"]: row for row in after["rated"]}
        check(after["decisions"] == 400, "every question is decided")
        left = 400 - rated["edge"]["answers"] - rated["device"]["answers"]  # a client that closes takes what it has not sent yet with it
        check(0 <= left <= 10 and 0 <= after["offloaded"] - rated["edge"]["answers"] <= left, f"and rated, but for {left} of the last")
        check(rated["edge"]["error"] == rated["edge"]["answers"], "the edge is always wrong")
        check(after["forced"] - after["forced_local"] <= after["offloaded"], "what had to go went, or is counted as missed")
        check(after["broken"] and after["evidence"] > 10, f"the promise is broken (evidence {after['evidence']:.3g})")
        words = ctl("promise").stdout
        check("BROKEN" in words and "BELOW what is promised  (95 %" in words and "that apps chose to rate" in words, "and says so")
        check(metric("goad_promise_broken") == 1 and metric("goad_promised_accuracy") == 0.75, "metrics, too")

        logged = [json.loads(line) for line in open(decisions)]
        lines = [line for line in logged if line["kind"] == "decision"]
        check(lines and all(0 <= line["value"] <= 1 and line["value"] != line["uncertainty"] for line in lines), "the log has value and uncertainty")
        run("goad-sim", "replay", decisions)
        why = json.loads(ctl("--json", "explain", lines[-1]["query_id"]).stdout)
        check(why["value"] == lines[-1]["value"] and why["uncertainty"] == lines[-1]["uncertainty"] and why["tau"] == certificate["value_tau"],
              "explain has both")
        check(re.search(r"value 0\.\d{4} (>|<=) tau 0\.\d{4} \(uncertainty ", ctl("explain", lines[-1]["query_id"]).stdout), "for people, too")

        def refused(policy, problem):
            write(policy)
            checked = ctl("check", config)
            done = ctl("reload")
            check(done.returncode == 1 and re.search(problem, done.stderr) and re.search(problem, checked.stderr), f"refused: {problem}")

        refused(f"calibration: {folder}/calibration.json, tau: 0.8", "policy.calibration: needs policy.accuracy or policy.value_tau")
        refused(promised.replace("0.75", "0.99"), r"policy.accuracy: 0.99 is held by no tau with confidence 0.9 .*; the best is 0\.8")
        write(promised + ", tau: 0.5")
        check(ctl("reload").returncode == 0 and promise()["broken"], "a reload of the same promise forgives nothing")
        ctl("tau", "0.9")
        check("set by hand" in ctl("promise").stdout, "a tau set by hand is not the certified one")
        write(promised.replace("0.75", "0.7"))
        check(ctl("reload").returncode == 0 and promise()["evidence"] == 1 and promise()["decisions"] == 0, "another promise starts anew")
        write("tau: 0.8")
        check(ctl("reload").returncode == 0 and "no accuracy is promised" in ctl("promise").stdout, "and without one there is none")
        goad.terminate()
        check(goad.wait(20) == 0, "goad stops")
    except SystemExit:
        print(open(f"{folder}/log").read()[-4000:], file=sys.stderr)
        raise
    finally:
        goad.kill()
        goad.wait()
print("promise_test.py: passed")
