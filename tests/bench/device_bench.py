#!/usr/bin/python3
"""What goad-device costs an app, on two real llama-servers, one run, each question one after the other in turn:

  LOCAL     the whole answer through goad-device, beside the same request straight to the local server
  OFFLOAD   the first edge token at the app, beside what the SDK within goad-device saw of the same answer, and the local
            first token that it waited for (without which no uncertainty is known)
  64        that many streams at once from one app: refused, lost, and goad-device's memory

Usage: device_bench.py BUILD_DIR [QUESTIONS]. Prints; asserts nothing.
"""
import concurrent.futures
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(sys.argv[1])
QUESTIONS = int(sys.argv[2]) if len(sys.argv) > 2 else 300
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, f"{ROOT}/tests/support")
from programs import free_port, get, wait_for  # noqa: E402

WORK = tempfile.mkdtemp(prefix="goad-device-bench-")
MIN_PERIOD_MS = 2.0  # epoch.min_period of the configuration below
started = []


def start(args, log):
    out = open(os.path.join(WORK, log), "wb")
    started.append(subprocess.Popen(args, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT))
    return started[-1]


class App:
    """An app with a connection for each request: llama-server closes after some."""

    def __init__(self, port):
        self.port = port

    def post(self, body):
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if body.get("stream"):
            first = None
            chunks = []
            for line in response:
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    if first is None and chunk.get("choices") and chunk["choices"][0].get("text"):
                        first = time.monotonic() - begin
                    chunks.append(chunk)
            return response.status, first, chunks
        answer = json.loads(response.read())
        return response.status, time.monotonic() - begin, answer


def p50(values):
    return 1e3 * statistics.median(values)


def main():
    subprocess.run([f"{ROOT}/deploy/llm/engine.sh", "setup"], check=True, capture_output=True)
    local, edge, listen, metrics, device = (free_port() for _ in range(5))
    start([f"{ROOT}/deploy/llm/engine.sh", "exec", "deploy/llm/slm.gguf", str(local), "2"], "slm.log")
    start([f"{ROOT}/deploy/llm/engine.sh", "exec", "deploy/llm/llm.gguf", str(edge), "2"], "llm.log")
    for port in (local, edge):
        wait_for("llama-server", lambda: "ok" in get(f"http://127.0.0.1:{port}/health"))
    with open(f"{WORK}/goad.yaml", "w") as out:
        json.dump({"listen": {"address": f"127.0.0.1:{listen}"}, "admin": {"address": f"unix:{WORK}/admin.sock"},
                   "metrics": {"address": f"127.0.0.1:{metrics}"}, "lock_file": f"{WORK}/lock",
                   "epoch": {"period": "20ms", "min_period": f"{MIN_PERIOD_MS:g}ms"}, "policy": {"name": "goa", "tau": 0.8},
                   "sites": [{"name": "cell", "uplink": {"model": "measured"},
                              "backends": [{"url": f"http://127.0.0.1:{edge}", "api": "completions"}]}]}, out)
    start([f"{BUILD}/goad", "--config", f"{WORK}/goad.yaml"], "goad.log")
    process = start([f"{BUILD}/goad-device", "--edge", f"127.0.0.1:{listen}", "--local", f"http://127.0.0.1:{local}",
                     "--listen", f"127.0.0.1:{device}"], "device.log")
    wait_for("goad-device", lambda: len(re.findall(r"^goad_device_(?:goad_connected|local_found) 1$", get(f"http://127.0.0.1:{device}/metrics"), re.M)) == 2)

    questions = [json.loads(line) for line in open(f"{ROOT}/deploy/llm/workload.jsonl")][:QUESTIONS]
    straight, through = App(local), App(device)
    direct_s, added_s, overhead_s, sdk_s = [], [], [], []
    for question in questions:
        body = {"prompt": question["prompt"], "max_tokens": 8, "temperature": 0}
        direct = dict(body, logprobs=10, stream=True)
        _, first_direct, _ = straight.post(direct)
        _, whole_direct, _ = straight.post(dict(body, logprobs=10))
        status, first, chunks = through.post(dict(body, model="auto", stream=True))
        goad = chunks[-1]["goad"]
        if goad["answered_by"] == "edge":
            sdk_s.append(goad["first_token_s"])
            overhead_s.append(first - first_direct - goad["first_token_s"])
        elif goad["reason"] == "NO_GAIN":
            _, whole, answer = through.post(dict(body, model="auto"))
            if answer["goad"]["answered_by"] == "local":
                direct_s.append(whole_direct)
                added_s.append(whole - whole_direct)
    print(f"{len(questions)} questions one by one, real llama-servers and goad on this machine, no radio between")
    print(f"LOCAL    {len(added_s)} answers: the local server's own {p50(direct_s):.2f} ms, through goad-device "
          f"{p50(added_s):+.2f} ms (p50; goal: round trip + min_period {MIN_PERIOD_MS:g} ms + 2 ms)")
    print(f"OFFLOAD  {len(overhead_s)} answers: the SDK's first token after {p50(sdk_s):.2f} ms; at the app "
          f"{p50(overhead_s):+.2f} ms beyond that and the local first token (p50; goal: 3 ms)")

    def one(k):
        question = questions[k % len(questions)]
        status, first, chunks = App(device).post({"prompt": question["prompt"], "max_tokens": 8, "temperature": 0, "stream": True})
        return status, any("goad" in chunk for chunk in chunks)
    with concurrent.futures.ThreadPoolExecutor(64) as apps:
        answers = list(apps.map(one, range(640)))
    refused = sum(status != 200 for status, _ in answers)
    memory = re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{process.pid}/status").read()).group(1)
    print(f"64       640 streams, 64 at once: {refused} refused, {sum(not whole for _, whole in answers)} not whole; "
          f"goad-device at most {int(memory) / 1024:.0f} MiB (goal: 60)")


try:
    main()
finally:
    for process in reversed(started):
        process.terminate()
    for process in started:
        process.wait(timeout=30)
