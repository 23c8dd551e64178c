#!/usr/bin/python3
"""What an operator does every day, by the commands that the runbook prints: change the file, hear of a refusal, see what is in force, who
changed what, ask one question, read the log, see what a tenant was refused.

  daily_acts_test.py BUILD_DIR
"""
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import grpc
from grpc_tools import protoc

BUILD = os.path.abspath(sys.argv[1])
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/support")
from programs import check, until  # noqa: E402


class Llm(http.server.BaseHTTPRequestHandler):
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
        self.reply('data: {"choices":[{"text":"In the\\tbarn\\u001b[7m"}]}\n\ndata: {"choices":[{"text":".","finish_reason":"stop"}]}\n\n'
                   'data: [DONE]\n\n', "text/event-stream")


SHOWN = "In the\tbarn\\x1b[7m.\n"  # what the model wrote could turn the terminal's colours

llm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Llm)
threading.Thread(target=llm.serve_forever, daemon=True).start()

with tempfile.TemporaryDirectory() as folder:
    config, tokens, decisions = f"{folder}/goad.yaml", f"{folder}/tokens", f"{folder}/decisions.jsonl"

    def write(path, text):
        with open(path + ".new", "w") as out:
            out.write(text)
        os.rename(path + ".new", path)

    def yaml(tau=0.8):
        return f"""listen: {{address: "127.0.0.1:0"}}
admin: {{address: "unix:{folder}/admin.sock"}}
metrics: {{address: "127.0.0.1:0"}}
policy: {{tau: {tau}}}
auth: {{tokens_file: {tokens}, required: true}}
tenants: [{{name: acme}}, {{name: slow, queries_per_second: 0.01}}, {{name: none, max_offloaded_share: 0}}]
sites: [{{name: cell-a, backends: [{{url: "http://127.0.0.1:{llm.server_address[1]}", slots: 3}}]}}]
decision_log: {{path: {decisions}, snapshots: all}}
drain_timeout: 1s
"""

    token_rows = "".join(f"{tenant}:{hashlib.sha256(f'{tenant}-token'.encode()).hexdigest()}\n" for tenant in ("acme", "slow", "none"))
    for tenant in ("acme", "slow", "none", "wrong"):
        write(f"{folder}/{tenant}.token", f"{tenant}-token\n")
    write(tokens, token_rows)
    write(config, yaml())
    stderr = open(f"{folder}/log", "w")
    goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], stderr=stderr)
    try:
        def log():
            return open(f"{folder}/log").read()

        def ctl(*words, env=None):
            return subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{folder}/admin.sock", *words], capture_output=True, text=True,
                                  timeout=60, env=dict(os.environ, **(env or {})))

        def metric(name):
            page = urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5).read().decode()
            return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))

        until(lambda: "ready listen" in log(), "goad starts")
        port, metrics_port = re.search(r" port=(\d+) metrics_port=(\d+)", log()).groups()
        until(lambda: metric("goad_backend_up{") == 1, "its LLM server is up")

        # --- changing it
        check("NOT IN FORCE" not in ctl("status").stdout, "status is silent about a file that is in force")
        first = metric("goad_config_last_reload_success_timestamp_seconds")
        check(metric("goad_config_last_reload_successful") == 1 and time.time() - first < 60, "a start is a good load, and has its time")
        command = re.search(r"^ExecReload=(.*)$", open(f"{SOURCE}/deploy/systemd/goad.service").read(), re.M).group(1).split()
        check(command[0] == "/usr/bin/goadctl", "systemctl reload runs goadctl, whose exit status it has")

        def reload():  # as systemd does it, but for the places
            return ctl(*command[1:])

        write(config, yaml(tau=7))
        check(f"NOT IN FORCE: {config} has changed" in ctl("status").stdout, "status says that the file differs from what runs")
        refused = reload()
        check(refused.returncode == 1 and "policy.tau: 7 is not in 0..1" in refused.stderr, "a refused reload fails, and says why")
        status = ctl("status").stdout
        check(re.search(rf"operator reload refused, .* by=uid={os.getuid()} pid=\d+", log()), "and the log, with who asked")
        check(re.search(r"the last reload, \S+ ago, was refused:\n.*policy.tau: 7 is not in 0..1", status), "status repeats it")
        check(metric("goad_config_last_reload_successful") == 0, "the gauge says so, for as long as it lasts")
        write(config, yaml(tau=0.6))
        check(reload().returncode == 0 and ctl("tau").stdout == "0.6\n", "the mended file comes into force")
        check(metric("goad_config_last_reload_successful") == 1 and metric("goad_config_last_reload_success_timestamp_seconds") >= first,
              "and the gauge is well again")
        status = ctl("status").stdout
        check("refused" not in status and "NOT IN FORCE" not in status, "and status, too")
        write(tokens, token_rows + "# another\n")
        check(f"NOT IN FORCE: {tokens} has changed" in ctl("status").stdout, "a file that it names counts, too")
        check(reload().returncode == 0, "until the reload")

        ctl("tau", "0.7", env={"SUDO_USER": "alice"})
        ctl("policy", "min-delay")
        status = ctl("status").stdout
        check("tau      0.7  (set by hand, until the next reload; the file says 0.6)" in status, "status says what tau hides")
        check("policy   min-delay  (set by hand, until the next reload; the file says goa)" in status, "and the policy")
        by = rf"by=uid={os.getuid()} pid=\d+"
        check(re.search(rf"operator set tau=0.7 was=0.6 {by} says=alice\n", log()), "who set tau is one line")
        check(re.search(rf"operator set policy=min-delay was=goa {by}", log()), "and the policy")
        for verb, done in (("drain", "drained"), ("resume", "resumed")):
            ctl("site", "cell-a", verb)
            check(re.search(rf"operator {done} site=cell-a {by}", log()), f"and to {verb} a site")
        before = len(log())
        for _ in range(5):
            ctl("policy", "goa", "--for", "1m")
        check(log()[before:].count("operator set policy=goa") == 1, "who renews a trial is told of once")
        check(reload().returncode == 0 and re.search(rf"operator reloaded .* {by}", log()), "and who reloaded")
        goad.send_signal(signal.SIGHUP)
        until(lambda: f"by=SIGHUP uid={os.getuid()} pid={os.getpid()}\n" in log(), "and by which signal of whom")

        # --- finding out
        asked = ctl("--token_file", f"{folder}/acme.token", "ask", "Where is Anna?")
        check(asked.returncode == 0 and asked.stdout == SHOWN and "cell-a cell-a/0: 2 tokens" in asked.stderr, "goadctl ask, end to end")
        for _ in range(40):
            wrong = ctl("--token_file", f"{folder}/wrong.token", "ask", "Where is Anna?")
        check(wrong.returncode == 1 and "the bearer token is not known here" in wrong.stderr, "a wrong token is told so")
        told = log().count("unauthenticated peer=ipv4:127.0.0.1:")
        check(1 <= told <= 30, f"and is logged, not each time ({told} lines of 40)")
        check("wrong-token" not in log() and "acme-token" not in log(), "without a token in the log")

        protoc.main(["protoc", f"-I{SOURCE}/proto", f"--python_out={folder}", f"{SOURCE}/proto/goad/v1/offload.proto"])
        sys.path.insert(0, folder)
        from goad.v1 import offload_pb2 as pb
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_stream("/goad.v1.Offload/Ask", pb.AskRequest.SerializeToString, pb.ServerFrame.FromString)
            request = pb.AskRequest(query=pb.Query(query_id="traced", uncertainty=0.9, inline_prompt=pb.Prompt(text="Where?")))
            frames = list(call(request, metadata=[("authorization", "Bearer acme-token"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01")]))
            check(frames[-1].HasField("completed"), "a question with a trace is answered")
            for _ in range(3):
                list(call(pb.AskRequest(query=pb.Query(uncertainty=0.9, inline_prompt=pb.Prompt(text="Where?"))),
                          metadata=[("authorization", "Bearer slow-token")]))
            list(call(pb.AskRequest(query=pb.Query(uncertainty=0.1, local_delay_s=60, inline_prompt=pb.Prompt(text="Where?"))),
                      metadata=[("authorization", "Bearer none-token")]))

        def lines(*words):
            done = ctl("log", *words)
            check(done.returncode == 0, f"goadctl log {' '.join(words)}")
            return done.stdout.splitlines()

        until(lambda: len(ctl("log", "--since", "10m", "--tenant", "acme").stdout.splitlines()) == 4, "goadctl log has acme's two decisions and two outcomes")
        traced = [json.loads(line) for line in lines("--json", "--tenant", "acme") if "traced" in line]
        check([line["kind"] for line in traced] == ["decision", "outcome"], "a decision and an outcome")
        check(all(line["trace_id"] == trace and line["tenant"] == "acme" and line["device"] == "token of acme/" for line in traced),
              "each with tenant, device and trace")
        check(all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in traced), "and wall time, UTC")
        kinds = [json.loads(line)["kind"] for line in open(decisions) if "time" in json.loads(line)]
        check("snapshot" in kinds and len(kinds) == len(open(decisions).readlines()), "and so has every line")
        check(all(" acme " in line and re.match(r"20\d\d-", line) for line in lines("--tenant", "acme")), "for people, too")
        check(lines("--since", "2999-01-01") == [] and lines("--tenant", "nobody") == [], "none from tomorrow on, none of nobody")
        check(len(lines("--limit", "1")) == 1, "the last line alone")
        check(ctl("log", "--since", "soon").returncode == 2, "a time that is none is refused")
        with open(f"{folder}/long.jsonl", "w") as out:
            for query in ("a" * 10_000_000, "short"):
                json.dump({"time": "2026-11-26T14:00:00.000Z", "kind": "decision", "query_id": query}, out)
                out.write("\n")
        check(["short" in line for line in lines(f"{folder}/long.jsonl")] == [True], "a line without end is passed over, and not what follows it")
        remote = subprocess.run([f"{BUILD}/goadctl", "--address", "127.0.0.1:1", "log"], capture_output=True, text=True)
        check(remote.returncode == 2 and "log FILE" in remote.stderr, "the log of another machine is not looked for on this one")
        replayed = subprocess.run([f"{BUILD}/goad-sim", "replay", "--policy", "goa", decisions], capture_output=True, text=True)
        check(replayed.returncode == 0, "goad-sim replays it")

        rows = {row["name"]: row for row in json.loads(ctl("--json", "tenants").stdout)["tenants"]}
        check(list(rows) == ["default", "acme", "slow", "none"], "goadctl tenants")
        check(rows["acme"]["offloaded"] == 2 and rows["acme"]["refused"] == [], "what was given")
        check(rows["slow"]["refused"] == [{"limit": "queries_per_second", "queries": 2}], "what was refused at the door, and by which limit")
        check(rows["none"]["refused"] == [{"limit": "max_offloaded_share", "queries": 1}], "and by the engine")
        check(metric('goad_tenant_refused_total{limit="queries_per_second",tenant="slow"}') == 2, "metrics count them, too")
        check("queries_per_second 2" in ctl("tenants").stdout, "for people, too")

        status = json.loads(ctl("--json", "status").stdout)
        check(isinstance(status["epochs"], int) and isinstance(status["config_version"], int) and status["tau"] == 0.6, "--json: numbers are numbers")
        for words in (["sites"], ["sessions"], ["epochs"], ["tenants"], ["tau"], ["policy"], ["tau", "0.5"], ["policy", "goa"], ["reload"],
                      ["site", "cell-a", "drain"], ["site", "cell-a", "resume"], ["check", config], ["check", "/nowhere"], ["top", "--limit", "1"],
                      ["explain", "traced"]):
            check(isinstance(json.loads(ctl("--json", *words).stdout), dict), f"--json {' '.join(words)}")
        health = subprocess.run([f"{BUILD}/goadctl", "--json", "--address", f"127.0.0.1:{port}", "health"], capture_output=True, text=True)
        check(json.loads(health.stdout) == {"serving": True}, "--json health")

        check(metric('goad_site_slots{site="cell-a"}') == 3, "slots are a gauge")
        for name in ("goad_request_ttft_seconds_count", "goad_request_tpot_seconds_count", 'goad_request_duration_seconds_count{outcome="completed",',
                     'goad_prediction_error_seconds_count{part="compute",'):
            site = name + ('site="cell-a"}' if name.endswith(",") else '{site="cell-a"}')
            check(metric(site) >= 2, f"{name} has its site")

        # --- the log moved away
        for tau in (0.6, 7):  # whatever becomes of the configuration
            os.rename(decisions, f"{folder}/put-away")
            write(config, yaml(tau))
            goad.send_signal(signal.SIGHUP)
            until(lambda: os.path.exists(decisions), "SIGHUP opens the decision log anew" + (", though it is refused" if tau == 7 else ""))

        goad.send_signal(signal.SIGTERM)
        check(goad.wait(20) == 0, "goad stops")

        # --- the journal
        write(config, yaml())
        journal = open(f"{folder}/journal", "w")
        where = os.fstat(journal.fileno())
        goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], stderr=journal, env=dict(os.environ, JOURNAL_STREAM=f"{where.st_dev}:{where.st_ino}"))
        until(lambda: "<6>ready listen" in open(f"{folder}/journal").read(), "in the journal an event is an info without a time")
        write(config, yaml(tau=7) + "nonsense: 1\n")
        goad.send_signal(signal.SIGHUP)
        until(lambda: "nonsense" in open(f"{folder}/journal").read(), "a refusal of two problems")
        entries = open(f"{folder}/journal").read().splitlines()
        check(all(re.match(r"<[3-7]>", line) for line in entries), "every line has its priority")
        check(all(line.startswith("<3>") for line in entries if "policy.tau" in line or "nonsense" in line), "a refusal's lines are errors")
        early = entries[:[k for k, line in enumerate(entries) if "ready listen" in line][0] + 1]
        loud = [line for line in early if line < "<6>" and "raise LimitNOFILE=" not in line]  # this machine's limit
        check(loud == [], f"no noise at the start {loud}")
        goad.send_signal(signal.SIGTERM)
        goad.wait(20)

        # --- with client certificates
        tls = f"{SOURCE}/tests/data/tls"
        write(config, yaml().replace('"127.0.0.1:0"}', f'"127.0.0.1:0", tls: {{certificate: {tls}/server.pem, key: {tls}/server.key, client_ca: {tls}/ca.pem}}}}', 1)
              .replace("{name: acme}", '{name: acme, certificates: ["device.test"]}'))
        goad = subprocess.Popen([f"{BUILD}/goad", "--config", config], stderr=open(f"{folder}/log", "w"))
        until(lambda: "ready listen" in log(), "goad starts with mTLS")
        port, metrics_port = re.search(r" port=(\d+) metrics_port=(\d+)", log()).groups()
        until(lambda: metric("goad_backend_up{") == 1, "its LLM server is up")
        bare = ctl("ask", "Where?")
        check(bare.returncode == 2 and "the device listener speaks TLS: --ca FILE" in bare.stderr, "goadctl ask without --ca is told what is missing")
        mine = ["--ca", f"{tls}/ca.pem", "--certificate", f"{tls}/device.pem", "--key", f"{tls}/device.key"]
        asked = ctl(*mine, "ask", "Where is Anna?")
        check(asked.returncode == 0 and asked.stdout == SHOWN, "goadctl ask with a certificate")
        fleet = [f"{BUILD}/goad-loadgen", "--address", f"127.0.0.1:{port}", "--workload", f"{SOURCE}/deploy/llm/workload.jsonl", "--devices", "2",
                 "--questions", "5", "--rate", "50", "--device_factor", "1"]
        played = subprocess.run(fleet + mine, capture_output=True, text=True, timeout=60)
        check(played.returncode == 0 and metric('goad_tenant_decisions_total{tenant="acme"') >= 5, "goad-loadgen with a certificate is of its tenant")
        half = subprocess.run(fleet + mine[:4], capture_output=True, text=True, timeout=60)
        check(half.returncode == 3 and "key_file" in half.stderr, "and without its key is told so")
        goad.send_signal(signal.SIGTERM)
        goad.wait(20)
    except SystemExit:
        print(open(f"{folder}/log").read()[-4000:], file=sys.stderr)
        raise
    finally:
        goad.kill()
        goad.wait()
print("daily_acts_test.py: passed")
