#!/usr/bin/python3
"""How soon goad's predictions are right about servers and links that nobody described to it. Prints figures, asserts nothing.

  tests/learning.py [BUILD_DIR]        build by default; about four minutes, most of which are waits for what must be forgotten

LLM servers and links are emulated (tests/fakes/emulated_llm.py, and a TCP proxy that holds bytes back); goad, its decisions and all timings
are real. The configuration says nothing of compute, and the devices report no link.
"""
import asyncio
import collections
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build"))
WORK = tempfile.mkdtemp(prefix="goad-learning-")
LIMIT_S = 30
started = []


def start(args, log):
    with open(os.path.join(WORK, log), "wb") as out:
        started.append(subprocess.Popen(args, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT))
    return started[-1]


def wait_for(what, condition):
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {LIMIT_S} s; logs are in {WORK}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Goad:
    """goad before emulated servers, one a site, and what its decision log says."""

    def __init__(self, name, sites, seconds_per_token):
        self.log = f"{WORK}/{name}.jsonl"
        self.servers, entries = {}, []
        for site in sites:
            port = free_port()
            self.servers[site] = start(["/usr/bin/python3", "tests/fakes/emulated_llm.py", str(port), "4", str(seconds_per_token), "0"],
                                       f"{name}-{site}.log")
            entries.append({"name": site, "uplink": {"model": "measured"},
                            "backends": [{"url": f"http://127.0.0.1:{port}", "slots": 4}]})
        config = {"listen": {"address": "127.0.0.1:0"}, "admin": {"address": f"unix:{WORK}/{name}.sock"},
                  "metrics": {"address": "127.0.0.1:0"}, "lock_file": f"{WORK}/{name}.lock", "limits": {"prompt": "1MiB"},
                  "decision_log": {"path": self.log, "snapshots": "none"}, "sites": entries}
        with open(f"{WORK}/{name}.yaml", "w") as out:
            json.dump(config, out)  # JSON is YAML
        self.process = start([f"{BUILD}/goad", "--config", f"{WORK}/{name}.yaml"], f"{name}.log")
        ready = wait_for("goad", lambda: re.search(r"ready .* port=(\d+)", open(f"{WORK}/{name}.log").read()))
        self.port = int(ready.group(1))
        wait_for("its servers", lambda: self.accepting() == len(sites))

    def accepting(self):
        name = os.path.basename(self.log).removesuffix(".jsonl")
        sites = subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{WORK}/{name}.sock", "--json", "sites"], capture_output=True, text=True)
        return sites.stdout.count('"accepting": true') + sites.stdout.count('"accepting":true')

    def lines(self, kind):
        with open(self.log) as log:
            return [line for line in map(json.loads, (text for text in log if text.endswith("\n"))) if line["kind"] == kind]

    def outcomes(self, least):
        """All so far, of which there will be at least so many."""
        return wait_for(f"{least} outcomes", lambda: (lines := self.lines("outcome")) and len(lines) >= least and lines)


def stubs():
    subprocess.run(["/usr/bin/python3", "-m", "grpc_tools.protoc", f"-I{ROOT}/proto", f"--python_out={WORK}", f"--grpc_python_out={WORK}",
                    "goad/v1/offload.proto"], check=True)
    sys.path.insert(0, WORK)
    import grpc
    from goad.v1 import offload_pb2, offload_pb2_grpc
    return grpc, offload_pb2, offload_pb2_grpc


GRPC, PB, PB_GRPC = stubs()


def ask_many(stub, until, random_tokens, each_s):
    """Four callers, each a question every each_s or as soon as its last is answered, until(); an answer is as long as its maximum."""
    def call():
        while not until():
            began = time.monotonic()
            query = PB.Query(max_output_tokens=random_tokens(), expected_output_tokens=0, inline_prompt=PB.Prompt(text="why? " * random.randint(1, 100)))
            query.expected_output_tokens = query.max_output_tokens
            list(stub.Ask(PB.AskRequest(query=query), timeout=LIMIT_S))
            time.sleep(max(0.0, each_s - (time.monotonic() - began)))
    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def errors(outcomes):
    return [(o["predicted_compute_s"] - o["compute_s"]) / o["compute_s"] for o in outcomes if o["ended"] == "completed" and o["compute_s"]]


def row(what, values):
    if values:
        print(f"  {what:<44} {100 * statistics.median(map(abs, values)):8.1f} % {100 * statistics.mean(values):+8.1f} %   {len(values):5}", flush=True)


def speeds():
    print("\nCompute: 2 emulated servers, 10 ms a token, that take twice as long from the 200th answer on\n"
          f"  {'answers of a site':<44} {'median':>10} {'bias':>10}   {'count':>5}")
    goad = Goad("speeds", ["cell-a", "cell-b"], 0.01)
    stub = PB_GRPC.OffloadStub(GRPC.insecure_channel(f"127.0.0.1:{goad.port}"))
    lengths = lambda: random.randint(2, 32)
    ask_many(stub, lambda: len(goad.lines("outcome")) >= 200, lengths, 0)
    before = goad.outcomes(200)
    for server in goad.servers.values():
        server.send_signal(signal.SIGUSR1)
    ask_many(stub, lambda: len(goad.lines("outcome")) >= len(before) + 300, lengths, 0)
    outcomes = goad.outcomes(len(before) + 300)
    for site in goad.servers:
        early = [o for o in outcomes[:len(before)] if o["site"] == site]
        late = [o for o in outcomes[len(before) + 8:] if o["site"] == site]  # not those that ran when it changed
        row(f"{site}, the first 10", errors(early[:10]))
        row(f"{site}, from the 51st on", errors(early[50:]))
        row(f"{site}, the first 10 after the change", errors(late[:10]))
        row(f"{site}, the 51st to the 100th after it", errors(late[50:100]))


def slow_minute():
    print("\nA site that was slow: cell-a takes 8 times as long for a minute, beside cell-b which does not")
    goad = Goad("slow", ["cell-a", "cell-b"], 0.005)
    stub = PB_GRPC.OffloadStub(GRPC.insecure_channel(f"127.0.0.1:{goad.port}"))
    def play(seconds):
        end = time.monotonic() + seconds
        ask_many(stub, lambda: time.monotonic() >= end, lambda: random.randint(8, 32), 0.5)
        return time.monotonic()
    def shares(since):
        counts = collections.Counter(line["site"] for line in goad.lines("decision")[since:] if line.get("verdict") == "OFFLOAD")
        total = sum(counts.values())
        return ", ".join(f"{site} {100 * counts[site] / max(1, total):.0f} %" for site in goad.servers), len(goad.lines("decision"))
    play(10)
    text, seen = shares(0)
    print(f"  both as fast: {text}", flush=True)
    for _ in range(3):
        goad.servers["cell-a"].send_signal(signal.SIGUSR1)
        time.sleep(0.1)  # signals of one kind merge
    play(60)
    text, seen = shares(seen)
    print(f"  cell-a slow:  {text}", flush=True)
    goad.servers["cell-a"].send_signal(signal.SIGUSR2)
    good, found = time.monotonic(), threading.Event()
    def until():
        if time.monotonic() - good > 90 or any(line.get("site") == "cell-a" for line in goad.lines("decision")[seen:]):
            found.set()
        return found.is_set()
    ask_many(stub, until, lambda: random.randint(8, 32), 0.5)
    print(f"  cell-a is used again {time.monotonic() - good:.0f} s after it was well")


async def hold_back(reader, writer, delay_s, bps):
    """Bytes leave no faster than bps and delay_s late; at most 64 KiB wait, as in a modem."""
    queue, free_at = asyncio.Queue(4), 0.0
    async def forward():
        while (item := await queue.get()) is not None:
            due, data = item
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(data)
            await writer.drain()
    forwarding = asyncio.create_task(forward())
    try:
        while data := await reader.read(16384):
            free_at = max(free_at, time.monotonic()) + (8 * len(data) / bps if bps else 0)
            await asyncio.sleep(max(0.0, free_at - time.monotonic()))
            await queue.put((free_at + delay_s, data))
        await queue.put(None)
        await forwarding
    except ConnectionError:
        pass
    finally:
        forwarding.cancel()
        writer.close()


def link(to_port, round_trip_s, bps):
    """The port of a link to goad: half the round trip each way, the rate on the way up."""
    ready, result = threading.Event(), {}
    async def serve():
        async def connection(reader, writer):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", to_port)
            await asyncio.gather(hold_back(reader, up_writer, round_trip_s / 2, bps), hold_back(up_reader, writer, round_trip_s / 2, 0))
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        result["port"] = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()
    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return result["port"]


def links():
    print("\nUploads: a device that reports no link, prompts of 500 bytes to 200 kB, over emulated links\n"
          f"  {'':<44} {'median':>10} {'bias':>10}   {'count':>5}")
    for round_trip_ms, mbps in ((30, 5), (80, 1)):
        goad = Goad(f"link{round_trip_ms}", ["cell-a"], 0.001)
        stub = PB_GRPC.OffloadStub(GRPC.insecure_channel(f"127.0.0.1:{link(goad.port, round_trip_ms / 1e3, mbps * 1e6)}"))
        frames = __import__("queue").Queue()
        frames.put(PB.DeviceFrame(hello=PB.Hello(protocol_version=1, device_name="silent", local_model="none", uncertainty_metric=PB.UNCERTAINTY_METRIC_MARGIN, uncertainty_version=1)))
        stream = stub.Session(iter(frames.get, None), timeout=300)
        next(stream)
        reasons = collections.Counter()
        for number in range(50):
            text = "x" * int(500 * 400 ** random.random())
            frames.put(PB.DeviceFrame(query=PB.Query(query_id=str(number), must_offload=True, prompt_bits=8 * len(text), prompt_tokens=10,
                                                     max_output_tokens=2)))
            decision = next(stream).decision
            reasons[PB.Reason.Name(decision.reason)] += 1
            if decision.verdict != PB.VERDICT_OFFLOAD:
                continue
            frames.put(PB.DeviceFrame(prompt=PB.Prompt(query_id=str(number), text=text)))
            while not next(stream).HasField("completed"):
                pass
        frames.put(None)
        uploads = [(o["predicted_upload_s"] - o["upload_s"]) / o["upload_s"] for o in goad.outcomes(50 - sum(v for k, v in reasons.items() if k != "REASON_UNCERTAIN"))]
        row(f"{round_trip_ms} ms and {mbps} Mbit/s, the first 10", uploads[:10])
        row(f"{round_trip_ms} ms and {mbps} Mbit/s, from the 11th on", uploads[10:])
        print("    decided:", ", ".join(f"{name} {count}" for name, count in reasons.items()))


try:
    seed = int(os.environ.get("GOAD_TEST_SEED", "1"))
    random.seed(seed)
    print(f"Emulated: LLM servers, links. Real: goad, its decisions, all timings. Seed {seed}. Errors are (predicted - measured) / measured.")
    speeds()
    links()
    slow_minute()
finally:
    for process in started:
        process.terminate()
    for process in started:
        process.wait()
