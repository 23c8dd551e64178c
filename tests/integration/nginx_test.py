#!/usr/bin/python3
"""nginx before goad and behind it, on the configurations of deploy/nginx: in front of the device port, with an attacker beside an honest
device; and as the gateway to two emulated LLM servers, over HTTPS with a private authority and a key that changes.

  nginx_test.py BUILD_DIR
"""
import concurrent.futures
import itertools
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/support")
import nginx  # noqa: E402

BUILD = os.path.abspath(sys.argv[1])
WORK = tempfile.mkdtemp(prefix="goad-nginx-")
subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}/proto", f"--python_out={WORK}", f"--grpc_python_out={WORK}",
                "goad/v1/offload.proto"], check=True)
sys.path.insert(0, WORK)
import grpc  # noqa: E402
from goad.v1 import offload_pb2 as pb  # noqa: E402
from goad.v1 import offload_pb2_grpc as rpc  # noqa: E402

LIMIT_S = 20  # nothing takes this long unless it is broken
CA = f"{nginx.TLS}/ca.pem"
stops = []  # of what was started, last first


def check(condition, what):
    if not condition:
        sys.exit(f"nginx_test.py: FAILED: {what}")
    print(f"ok: {what}", flush=True)


def until(condition, what):
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        try:
            if condition():
                return check(True, what)
        except OSError:
            pass
        time.sleep(0.05)  # between polls of another process
    check(False, f"{what} (not within {LIMIT_S} s)")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def stop(process):
    process.kill()
    process.wait()


def start_llm(port, seconds, tokens):
    process = subprocess.Popen(["/usr/bin/python3", f"{ROOT}/tests/fakes/emulated_llm.py", str(port), "8", str(seconds), str(tokens)])
    stops.append(lambda: stop(process))
    until(lambda: listens(port), "an emulated LLM server listens")
    return process


def start_nginx(name, site, port):
    server = nginx.Nginx(f"{WORK}/{name}", site)
    stops.append(server.stop)
    until(lambda: listens(port), f"nginx ({name}) listens")
    return server


class Goad:
    def __init__(self, name, backend, more=""):
        self.folder = f"{WORK}/run-{name}"
        os.makedirs(self.folder)
        with open(f"{self.folder}/goad.yaml", "w") as out:
            out.write(f"""listen: {{address: "127.0.0.1:0"}}
admin: {{address: "unix:{self.folder}/admin.sock"}}
metrics: {{address: "127.0.0.1:0"}}
{more}
sites:
  - name: cell-a
    uplink: {{model: shannon}}
    backends: [{{{backend}}}]
""")
        self.process = subprocess.Popen([f"{BUILD}/goad", "--config", f"{self.folder}/goad.yaml"], stderr=open(f"{self.folder}/log", "w"))
        stops.append(lambda: stop(self.process))
        until(lambda: "ready listen" in self.log(), f"goad ({name}) starts")
        self.port, self.metrics_port = (int(port) for port in re.search(r" port=(\d+) metrics_port=(\d+)", self.log()).groups())

    def log(self):
        return open(f"{self.folder}/log").read()

    def ctl(self, *words):
        return subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{self.folder}/admin.sock", *words], capture_output=True, text=True).stdout

    def metric(self, name, *labels):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5).read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
                   if re.match(name + r"[{ ]", line) and all(label in line for label in labels))


numbers = itertools.count()


def ask(channel, prompt="why?"):
    """One Ask: its frames with the seconds from the question to each."""
    begun = time.monotonic()
    call = rpc.OffloadStub(channel).Ask(pb.AskRequest(query=pb.Query(
        query_id=f"ask-{next(numbers)}", max_output_tokens=64, inline_prompt=pb.Prompt(text=prompt))), timeout=LIMIT_S)
    return [(time.monotonic() - begun, frame) for frame in call]


def text_of(frames):
    return "".join(frame.tokens.text for _, frame in frames if frame.HasField("tokens"))


def is_whole(frames, words):
    return frames[-1][1].HasField("completed") and text_of(frames) == words


class Device:
    """A session that asks one question at a time."""

    def __init__(self, channel, token=None):
        self.channel, self.frames = channel, queue.Queue()
        self.stream = rpc.OffloadStub(channel).Session(iter(self.frames.get, None), metadata=[("authorization", f"Bearer {token}")] if token else None)
        self.frames.put(pb.DeviceFrame(hello=pb.Hello(protocol_version=1, device_name=f"device-{next(numbers)}")))
        self.heard = (frame for frame in self.stream if not frame.HasField("sites"))  # which tell what servers can, once they said so
        self.welcome = next(self.heard).welcome

    def is_answered(self):  # an easy question: goad's decision is the answer
        name = f"easy-{next(numbers)}"
        self.frames.put(pb.DeviceFrame(query=pb.Query(query_id=name, uncertainty=0.1, prompt_bits=800, local_delay_s=0.001)))
        return next(self.heard).decision.query_id == name


def code_of(call):
    try:
        call()
        return None
    except grpc.RpcError as error:
        return error.code()


def in_front():
    llm, front = free_port(), free_port()
    start_llm(llm, 0.4, 8)
    words = "this answer is emulated " * 2
    with open(f"{WORK}/tokens", "w") as out:  # the SHA-256 of "sesame"
        out.write("acme:" + subprocess.run("printf sesame | sha256sum", shell=True, capture_output=True, text=True).stdout.split()[0] + "\n")
    goad = Goad("goad", f'url: "http://127.0.0.1:{llm}", slots: 8',
                f"""auth: {{tokens_file: "{WORK}/tokens"}}
tenants: [{{name: acme}}]
drain_timeout: 1s
limits: {{sessions_per_identity: 10000, connections_per_address: 100000}}""")
    until(lambda: goad.metric("goad_backend_up") == 1, "its backend is up")
    few = nginx.front(front, goad.port, **{"keepalive_requests 1000;": "keepalive_requests 4;"})
    door = start_nginx("front", few, front)

    def channel():
        return grpc.secure_channel(f"127.0.0.1:{front}", grpc.ssl_channel_credentials(open(CA, "rb").read()))

    # --- what devices see ----------------------------------------------------------------------------------------------------
    shared = channel()
    device = Device(shared, token="sesame")
    check(device.welcome.sites[0].name == "cell-a" and device.is_answered(), "a device's session goes through nginx")
    check("acme" in goad.ctl("sessions"), "its token names its tenant")
    wrong = rpc.OffloadStub(shared).Session(iter([]), metadata=[("authorization", "Bearer wrong")])
    check(code_of(lambda: next(wrong)) == grpc.StatusCode.UNAUTHENTICATED and "goad-error-bin" in dict(wrong.trailing_metadata()),
          "a wrong token is refused by goad, its error in the trailer")
    frames = ask(shared)
    at = [seconds for seconds, frame in frames if frame.HasField("tokens")]
    check(is_whole(frames, words) and len(at) == 8 and at[-1] - at[0] > 0.2, f"tokens arrive one by one: {['%.2f' % s for s in at]} s")
    health = shared.unary_unary("/grpc.health.v1.Health/Check")
    check(health(b"", timeout=LIMIT_S) == b"\x08\x01", "health checks pass: SERVING")
    nowhere = shared.unary_unary("/goad.v1.Offload/Nowhere")
    check(code_of(lambda: nowhere(b"", timeout=LIMIT_S)) == grpc.StatusCode.UNIMPLEMENTED, "what goad has not is UNIMPLEMENTED, by nginx")
    check(goad.metric("goad_sessions") == 1, "goad has one session")

    # After 4 calls this connection has had its GOAWAY: the session goes on there, other calls have taken another one.
    connections = [line.split()[2:4] for table in ("tcp", "tcp6") for line in open(f"/proc/net/{table}")]
    mine = [1 for peer, state in connections if peer.endswith(f":{front:04X}") and state == "01"]
    check(len(mine) == 2 and device.is_answered(), f"a connection that has had its requests: its session stays, the next calls take another ({len(mine)})")
    door.reload(nginx.front(front, goad.port))
    until(lambda: "gracefully shutting down" in door.log(), "nginx is reloaded")
    check(device.is_answered() and Device(channel()).is_answered(), "sessions outlive a reload of nginx, and new ones come in")
    silent_since = time.monotonic()
    crowd = [Device(channel()) for _ in range(8)]
    health = crowd[0].channel.unary_unary("/grpc.health.v1.Health/Check")
    check(health(b"", timeout=LIMIT_S) == b"\x08\x01", "health checks have bounds of their own: SERVING beside 9 sessions of the same address")
    watches = [channel().unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=LIMIT_S) for _ in range(4)]
    check(all(next(watch) == b"\x08\x01" for watch in watches) and code_of(lambda: health(b"", timeout=LIMIT_S)) == grpc.StatusCode.UNAVAILABLE,
          "4 of them at once, a fifth is UNAVAILABLE")
    for call in [*watches, *(device.stream for device in crowd)]:
        call.cancel()

    # --- with an attacker ----------------------------------------------------------------------------------------------------
    refused = goad.metric("goad_connections_refused_total")
    peers = subprocess.run([sys.executable, f"{ROOT}/tests/fakes/hostile_peers.py", str(front), str(front), str(goad.process.pid), "2",
                            str(goad.metrics_port), CA, "header block|many headers|rapid reset|PING"], capture_output=True, text=True, timeout=60)
    print(peers.stdout, end="")
    check(peers.returncode == 0, f"an honest device beside header blocks, rapid resets and pings: nothing lost {peers.stderr[-500:]}")
    rows = {line[:28].strip(): line[28:].split() for line in peers.stdout.splitlines()[1:-1]}  # peak, p50, p99, max, refused, CPU
    attacks = [row for name, row in rows.items() if re.search("header|rapid reset|PING", name)]
    check(len(attacks) == 4 and all(float(row[1]) < 250 for row in attacks), "its median wait is that of a calm port")
    check(all(int(row[4]) == 0 and int(row[5]) < 50 for row in attacks) and goad.metric("goad_connections_refused_total") == refused,
          "goad sees nothing of it: nothing to refuse, no CPU")
    for words_of_nginx in ("client sent too large header", "limiting requests", "http2 flood detected"):
        check(words_of_nginx in door.log(), f"nginx has: {words_of_nginx}")
    return goad, device, channel, silent_since


def goad_goes(goad, device, channel, silent_since):
    silent_s = time.monotonic() - silent_since
    check(silent_s > 15 and device.is_answered(), f"a session that was silent for longer than goad's pings wait is still there ({silent_s:.0f} s)")
    goad.process.send_signal(signal.SIGTERM)
    check(next(device.heard).HasField("goodbye"), "a drain's Goodbye comes through")
    device.frames.put(None)
    goad.process.wait(LIMIT_S)
    check(code_of(lambda: Device(channel())) == grpc.StatusCode.UNAVAILABLE, "without goad calls are UNAVAILABLE: devices answer locally")


def behind():
    ports = [free_port(), free_port()]
    servers = [start_llm(port, 0.6, 6) for port in ports]
    words = "this answer is emulated this answer "
    gateway = free_port()

    def site(keys=("first",), to=ports, **changes):
        both = {f"server 127.0.0.1:{old} ": f"server 127.0.0.1:{new} " for old, new in zip((8082, 8083), to)}
        return nginx.shipped("llm-gateway.conf", {
            **both, "listen 8443 ": f"listen 127.0.0.1:{gateway} ", "/etc/nginx/llm.": f"{nginx.TLS}/server.",
            '"Bearer CHANGE-ME" 1;': " ".join(f'"Bearer {key}" 1;' for key in keys), **changes})

    proxy = start_nginx("gateway", site(), gateway)
    with open(f"{WORK}/key", "w") as out:
        out.write("first\n")
    goad = Goad("goad-behind", f'url: "https://127.0.0.1:{gateway}", gateway: true, slots: 16, api_key_file: "{WORK}/key", ca_file: "{CA}"',
                "dispatch: {probe_period: 200ms}")
    channel = grpc.insecure_channel(f"127.0.0.1:{goad.port}")
    up = lambda: goad.metric("goad_backend_up") == 1
    failures = lambda fault: goad.metric("goad_backend_failures_total", f'fault="{fault}"')
    until(up, "the gateway is up, over HTTPS with a private authority and a key")

    pool = concurrent.futures.ThreadPoolExecutor(8)

    def ask_many():
        return [pool.submit(ask, channel) for _ in range(8)]

    def reloaded(new):
        before = proxy.log().count("gracefully shutting down")  # said by a worker that takes nothing new
        proxy.reload(new)
        until(lambda: proxy.log().count("gracefully shutting down") == before + 2, "nginx takes the change")

    answers = [answer.result() for answer in ask_many()]
    check(all(is_whole(frames, words) for frames in answers), "8 answers at once come word for word")
    check(all(re.search(rf"POST /v1/completions 200 by 127.0.0.1:{port}\b", proxy.requests()) for port in ports), "from both servers")

    # --- buffering -------------------------------------------------------------------------------------------------------------
    first_of = lambda frames: next(seconds for seconds, frame in frames if frame.HasField("tokens"))
    calm = ask(channel)
    reloaded(site(**{"proxy_buffering off;": "proxy_buffering on;"}))
    lumps = ask(channel)
    check(is_whole(lumps, words) and first_of(lumps) > 0.55 and first_of(calm) < 0.4,
          f"with proxy_buffering on the first token comes with the last, {first_of(lumps):.2f} s; off: {first_of(calm):.2f} s")

    # --- what is too large, what is too slow -----------------------------------------------------------------------------------
    reloaded(site(**{"client_max_body_size 8m;": "client_max_body_size 1k;"}))
    last = ask(channel, "long " * 1000)[-1][1]
    check(last.HasField("failed") and "413" in last.failed.error.message, f"413 is told to its device: {last.failed.error.message}")
    check((failures("prompt"), failures("backend"), failures("configuration")) == (1, 0, 0) and up(), "as its prompt's fault: the gateway stays up")
    check(is_whole(ask(channel), words), "and answers the next")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, by its backlog, and says nothing; its health page is good
        reloaded(site(to=silent.getsockname()[1:] * 2, **{
            "proxy_read_timeout 60s;": "proxy_read_timeout 200ms;", "  location / {": "  location = /health { return 200 ok; }\n  location / {"}))
        last = ask(channel)[-1][1]
        check(last.failed.answer_locally and failures("backend") >= 1 and failures("prompt") == 1,
              f"504 is the backend's fault: {last.failed.error.message}")
        until(lambda: "504" in goad.ctl("sites"), "goadctl sites says 504")
    reloaded(site())
    until(lambda: is_whole(ask(channel), words), "and it answers again when the time is long enough")
    until(up, "and is up")

    # --- a key changes ----------------------------------------------------------------------------------------------------------
    reloaded(site(keys=("first", "second")))
    running = ask_many()
    with open(f"{WORK}/key", "w") as out:
        out.write("second\n")
    goad.ctl("reload")
    check(all(is_whole(answer.result(), words) for answer in running + ask_many()), "a key is replaced under answers that run")
    reloaded(site(keys=("second",)))
    check(all(is_whole(answer.result(), words) for answer in ask_many()), "and the old one taken away")
    reloaded(site(keys=("third",)))
    until(lambda: not up() and "401" in goad.ctl("sites"), "a key that is taken away too early: goadctl sites says 401")
    with open(f"{WORK}/key", "w") as out:
        out.write("third\n")
    goad.ctl("reload")
    until(up, "a reload with the new key brings it back")
    until(lambda: is_whole(ask(channel), words), "and it answers")

    # --- a server dies, then both -------------------------------------------------------------------------------------------------
    running = ask_many()
    until(lambda: goad.metric("goad_running_queries") == 8, "8 answers run")
    time.sleep(0.25)  # into the middle of them
    stop(servers[0])
    ended = [answer.result() for answer in running]
    cut = [frames for frames in ended if not is_whole(frames, words)]
    check(all(frames[-1][1].HasField("failed") and frames[-1][1].failed.answer_locally and words.startswith(text_of(frames)) for frames in cut) and
          len(cut) < 8, f"one of two servers dies: {8 - len(cut)} answers are whole, {len(cut)} end as failed and say what was sent")
    check(all(is_whole(answer.result(), words) for answer in ask_many()) and up(), "8 more come whole: nginx goes to the other")
    stop(servers[1])
    until(lambda: not up() and "502" in goad.ctl("sites"), "both are dead: down, and goadctl sites says 502")
    print("    " + next(line for line in goad.ctl("sites").splitlines() if "502" in line).strip())
    last = ask(channel)[-1][1]
    check(last.decision.reason == pb.REASON_NO_SITE or last.HasField("failed"), f"nobody waits for it: {pb.Reason.Name(last.decision.reason)}")
    start_llm(ports[1], 0.6, 6)
    until(up, "one comes back: up")
    check(is_whole(ask(channel), words), "and answers")


try:
    front = in_front()
    behind()
    goad_goes(*front)
finally:
    for undo in reversed(stops):
        undo()
    shutil.rmtree(WORK, ignore_errors=True)
print("nginx_test.py: passed")
