#!/usr/bin/python3
"""What the runbook says to write; what goes wrong around a running goad, and what its operator is told: files that are no files, LLM servers that cannot serve, a
metrics port that somebody sits on, too few descriptors or too little memory.

  operator_test.py BUILD_DIR
"""
import http.server
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

BUILD = os.path.abspath(sys.argv[1])
TLS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "tls")
sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/support")
from programs import check, until  # noqa: E402


class Server:
    """An LLM server on loopback. `pages`: path -> (status, body); POST answers `post` (status, body) or a stream."""

    def __init__(self, pages, post=None, tls=None):
        server = self
        self.pages, self.post, self.keys, self.posts = pages, post, [], 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def reply(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self):
                server.keys.append(self.headers.get("Authorization"))
                status, body = server.pages.get(self.path, (404, '{"error":{"message":"not found"}}'))
                self.reply(status, body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                server.posts += 1
                if server.post:
                    return self.reply(*server.post)
                self.reply(200, 'data: {"choices":[{"text":"hi"}]}\n\ndata: {"choices":[{"text":"","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
                           "text/event-stream")

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{TLS}/{tls}.pem", f"{TLS}/{tls}.key")
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


class Goad:
    def __init__(self, backends, more="", root=""):
        self.folder = tempfile.mkdtemp()
        self.config = f"{self.folder}/goad.yaml"
        rows = "\n".join(f"      - {{{backend}}}" for backend in backends)
        self.yaml = f"""listen: {{address: "127.0.0.1:0"}}
admin: {{address: "unix:{self.folder}/admin.sock"}}
metrics: {{address: "127.0.0.1:0"}}
drain_timeout: 0s
dispatch: {{probe_period: 100ms}}
{root}
sites:
  - name: cell-a
    uplink: {{model: shannon}}
    backends:
{rows}
{more}"""
        self.write(self.yaml)
        self.process = subprocess.Popen([f"{BUILD}/goad", "--config", self.config], stderr=open(f"{self.folder}/log", "w"))
        until(lambda: "ready listen" in self.log(), "goad starts")
        self.port, self.metrics_port = re.search(r" port=(\d+) metrics_port=(\d+)", self.log()).groups()

    def write(self, yaml):
        open(self.config + ".new", "w").write(yaml)
        os.rename(self.config + ".new", self.config)

    def log(self):
        return open(f"{self.folder}/log").read()

    def lines(self, what):
        return [line for line in self.log().splitlines() if what in line]

    def reload(self):
        before = len(self.lines("reload"))
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while len(self.lines("reload")) == before and time.monotonic() < end:
            time.sleep(0.02)  # between polls of another process
        check(self.process.poll() is None, "goad goes on after SIGHUP")

    def ctl(self, *words):
        return subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{self.folder}/admin.sock", *words], capture_output=True, text=True)

    def page(self, timeout=5):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=timeout).read().decode()

    def ask(self, prompt="Where?"):
        return subprocess.run([f"{BUILD}/client_sdk/examples/goad-quickstart", f"127.0.0.1:{self.port}", prompt], capture_output=True,
                              text=True, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            shutil.rmtree(self.folder, ignore_errors=True)


# --- the runbook's words -------------------------------------------------------------------------------------------------
runbook = open(os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "deploy", "README.md")).read()
pages = re.findall(r"^### (.+?)\n\n```yaml\n(.+?)```", runbook, re.M | re.S)
check(len(pages) >= 8 and len(pages) == runbook.count("```yaml"), f"the runbook has a page for each of {len(pages)} kinds of LLM server")
folder = tempfile.mkdtemp()
for title, backend in pages + [("all of them in one site", "".join(backend for _, backend in pages))]:
    for name in re.findall(r"/etc/goad/(\S+)", backend):
        if name.endswith(".pem"):
            shutil.copy(f"{TLS}/ca.pem", f"{folder}/{name}")
        else:
            open(f"{folder}/{name}", "w").write("a-key\n")
    with open(f"{folder}/goad.yaml", "w") as out:
        out.write("sites:\n  - name: cell-a\n    backends:\n" + re.sub(r"(?m)^", "      ", backend.replace("/etc/goad", folder)).rstrip(" "))
    checked = subprocess.run([f"{BUILD}/goad", "--config", f"{folder}/goad.yaml", "--check"], capture_output=True, text=True, timeout=30)
    said = [line for line in checked.stdout.splitlines() if not re.search(r"warning: .*\.url: \S+ is not found: ", line)]  # without a net
    good = said == [f"{folder}/goad.yaml: good"] and checked.stderr == ""
    check(good, f"what it says to write passes --check: {title}{'' if good else checked.stdout + checked.stderr}")

# What an operator gets wrong in a start's own matters, one line each.
for words, more in (("lock_file: /nowhere/x/lock: its folder cannot be written", "lock_file: /nowhere/x/lock"),
                    (f"lock_file: {folder}: is a directory, want a regular file", f"lock_file: {folder}"),
                    ("decision_log.path: /dev/full: is a device, want a regular file", "decision_log: {path: /dev/full}"),
                    ('listen.address: "goad-no-such-host.invalid:1" names a host that is not found', 'listen: {address: "goad-no-such-host.invalid:1"}'),
                    ('admin.address: "unix:/nowhere/x/admin.sock" has no folder to be in', 'admin: {address: "unix:/nowhere/x/admin.sock"}'),
                    ('metrics.address: "127.0.0.1:7443" clashes with listen.address "0.0.0.0:7443"', 'metrics: {address: "127.0.0.1:7443"}')):
    with open(f"{folder}/goad.yaml", "w") as out:
        out.write(f'sites: [{{name: a, backends: [{{url: "http://10.0.0.5:1"}}]}}]\n{more}\n')
    checked = subprocess.run([f"{BUILD}/goad", "--config", f"{folder}/goad.yaml", "--check"], capture_output=True, text=True, timeout=30)
    lines = checked.stderr.splitlines()
    check(checked.returncode == 2 and len(lines) == 2 and lines[1].startswith(f"{folder}/goad.yaml:2:") and words in lines[1], f"--check, one line: {words}")
shutil.rmtree(folder)

GOOD = {"/health": (200, '{"status":"ok"}'), "/props": (200, '{"total_slots": 2}')}

# --- files ---------------------------------------------------------------------------------------------------------------
server = Server(GOOD)
keys = tempfile.mkdtemp()
open(f"{keys}/key", "w").write("first\n")
with Goad([f'url: "{server.url}", api_key_file: "{keys}/key"'], "auth: {required: false}\ntenants: [{name: acme}]\n") as goad:
    until(lambda: "Bearer first" in server.keys, "the key of api_key_file is sent")
    check("Bearer first" not in goad.log(), "and not logged")
    open(f"{keys}/key", "w").write("second\n")
    goad.reload()
    server.keys.clear()
    until(lambda: "Bearer second" in server.keys, "a key that was replaced is sent after a reload")
    until(lambda: server.keys[-5:] == ["Bearer second"] * 5, "and the old one no more")

    def refused(what, words):
        goad.reload()
        check(words in goad.lines("reload refused")[-1] or words in goad.log().split("reload refused")[-1], f"{what}: {words}")

    open(f"{keys}/key", "w").write("third\r\nX-Injected: 1\n")
    refused("a key with a line end in it", "byte 6 of the key is a blank, a line end")
    os.remove(f"{keys}/key")
    os.mkdir(f"{keys}/key")
    refused("a directory for a key", "is a directory, want a regular file")
    os.rmdir(f"{keys}/key")
    os.mkfifo(f"{keys}/key")
    refused("a FIFO for a key", "is a FIFO")
    os.remove(f"{keys}/key")
    refused("no key", "cannot be opened: No such file")
    server.keys.clear()
    until(lambda: "Bearer second" in server.keys, "what ran goes on with the key that it has")
    open(f"{keys}/key", "w").write("second\n")

    os.rename(goad.config, goad.config + ".away")
    for make, words in ((os.mkdir, "is a directory"), (os.mkfifo, "is a FIFO"), (lambda path: os.symlink("/dev/zero", path), "is a device")):
        make(goad.config)
        refused("the configuration", words)
        (os.rmdir if os.path.isdir(goad.config) else os.remove)(goad.config)
    open(goad.config, "w").write(goad.yaml[: goad.yaml.index("url:") + 10])
    refused("half a configuration", "YAML: ")
    goad.write(goad.yaml + "---\nauth: {required: true}\n")
    refused("two documents", "2 YAML documents")
    goad.write(goad.yaml[: goad.yaml.index("auth:")])
    goad.reload()
    check(goad.lines("tenants that are listed no more, their limits with them: acme"), "a reload that takes a tenant away names it")
    goad.write(goad.yaml)
    goad.reload()
    goad.write(goad.yaml[: goad.yaml.index("auth:")])
    check("warning: tenants that are listed no more" in goad.ctl("reload").stdout, "goadctl reload says so, too")

# --- backends that cannot serve -------------------------------------------------------------------------------------------
silent = socket.create_server(("127.0.0.1", 0))
closed = socket.create_server(("127.0.0.1", 0))
closed_port = closed.getsockname()[1]
closed.close()
servers = {
    "refused": f"http://127.0.0.1:{closed_port}",
    "no name": "http://goad-no-such-host.invalid:1",
    "no TLS": server.url.replace("http://", "https://"),
    "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
    "key": Server({"/health": (401, ""), "/v1/models": (401, '{"error":{"message":"invalid api key"}}')}).url,
    "moved": Server({"/health": (302, ""), "/v1/models": (302, "go\x1b[31m\nthere")}).url,
    "loading": Server({"/health": (503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}')}).url,
    "models only": Server({"/v1/models": (200, '{"data":[{"id":"other"}]}'), "/health": (403, "")}).url,
    "nginx": Server({path: (200, "<html><title>Welcome to nginx!</title></html>") for path in ("/health", "/v1/models", "/props", "/metrics")}).url,
    "nothing pulled": Server({"/health": (404, ""), "/v1/models": (200, '{"object":"list","data":null}')}).url,
    "204": Server({"/health": (204, "")}).url,
    "wrong key": Server({"/health": (200, ""), "/v1/models": (401, '{"error":{"message":"bad key"}}')}).url,
}
began = time.monotonic()
with Goad([f'url: "{url}"' for url in servers.values()]) as goad:
    def line(name):
        return next((line for line in goad.log().splitlines() if f"url={servers[name]} state=" in line), "")

    for name, words in (("refused", "refused|connect to"), ("no name", "resolve"), ("no TLS", "SSL|TLS"), ("silent", "no answer within 4s"),
                        ("key", "GET /v1/models: HTTP 401 invalid api key"), ("moved", "HTTP 302 go.*31m there"),
                        ("loading", "state=loading cause=.*Loading model"), ("models only", "state=up"), ("204", "state=up")):
        until(lambda: re.search(words, line(name)), f"{name}: one line says {words}", 8)
    check(time.monotonic() - began < 8, "all of it within some seconds of the start")
    check(len(goad.lines(f"url={servers['refused']} state=")) == 1, "and one line only, however often it is asked again")
    check(goad.lines('model="llm" is not among the 1 that its /v1/models lists: other'), "a model that the server does not list is a warning")
    until(lambda: goad.lines(f"url={servers['nginx']} answers, but does not look like an OpenAI server: GET /v1/models: HTTP 200 Welcome to nginx!"),
          "a web server's page is a warning", 8)
    until(lambda: goad.lines(f"url={servers['nothing pulled']} model=\"llm\" is not among the 0 that its /v1/models lists: nothing is loaded there"),
          "and so is a server with no model", 8)
    check(goad.lines(f"url={servers['wrong key']} GET /v1/models: HTTP 401 bad key: its requests will be refused"),
          "a key that /v1/models refuses is told at the start though /health is open")
    sites = goad.ctl("sites")
    check(re.search(r"loading\s", sites.stdout) and "Loading model" in sites.stdout and "invalid api key" in sites.stdout,
          "goadctl sites shows states and errors")
    check('"lastError"' in goad.ctl("--json", "sites").stdout or '"last_error"' in goad.ctl("--json", "sites").stdout, "goadctl --json sites, too")

# A key that has expired: probes are good, every request fails.
expired = Server(GOOD, post=(401, '{"error":{"message":"the API key has expired"}}'))
with Goad([f'url: "{expired.url}", slots: 8']) as goad:
    until(lambda: 'goad_backend_up{backend="%s",site="cell-a"} 1' % expired.url in goad.page(), "it is up by its probes")
    until(lambda: goad.lines("slots=8 are configured and the server has 2 (/props): 2 are in force"), "slots: configured and reported differ")
    for _ in range(8):
        goad.ask()
        if goad.lines("state=half-open"):
            break
    until(lambda: re.search(r'warning backend=cell-a/0 .*state=half-open cause="POST .*the API key has expired', goad.log()), "its requests open the circuit, said in one line")
    page = goad.page()
    check(re.search(r'goad_backend_failures_total{backend="[^"]*",fault="(configuration|backend)",site="cell-a"} [1-9]', page), "and are counted, by whose fault it is")
    check("half-open" in goad.ctl("sites").stdout, "goadctl sites says half-open")
    expired.post = None
    until(lambda: goad.ask() and goad.lines("state=up")[1:], "one whole answer closes it", 30)
    sites = goad.ctl("sites").stdout
    check("warning: slots: 8 are configured, the server says 2; 2 are in force" in sites and "last error" in sites, "goadctl sites keeps the last error")

# One device's prompt, which the server repeats in its error, takes it from nobody.
repeats = Server(GOOD, post=(400, '{"error":{"message":"cannot parse: why is it an incorrect api key (at 7)","type":"invalid_request_error"}}'))
with Goad([f'url: "{repeats.url}"']) as goad:
    until(lambda: goad.lines("state=up"), "it is up")
    said = [goad.ask("why is it an incorrect api key").stderr for _ in range(8)]
    check(any("BACKEND_REFUSED" in words and "cannot parse: why is it an incorrect api key" in words for words in said), "the device is told what the server says of its prompt")
    check(not goad.lines("state=half-open"), "and nobody else suffers from it")
    check(goad.lines("refused 3 requests in a row") and "incorrect api key" not in goad.log() + goad.ctl("sites").stdout, "an operator is shown no prompt")
    repeats.post = None
    until(lambda: "hi" in goad.ask().stdout, "the next question is answered")

# A server whose health page is good while it loads its model: it is shown as loading, and not every question tries it.
loads = Server(GOOD, post=(503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'))
with Goad([f'url: "{loads.url}"']) as goad:
    until(lambda: goad.lines("state=up"), "it is up by its probes")
    goad.ask()
    until(lambda: goad.lines('state=loading cause="POST HTTP 503: Loading model"'), "one request that is told of loading: said in one line")
    check(not goad.lines("state=down") and not goad.lines("state=half-open"), "and it is not down")
    sites = goad.ctl("sites").stdout
    check(re.search(r"loading\s", sites) and "Loading model" in sites and not re.search("half-open|DOWN", sites), "goadctl sites says loading, and why")
    check(re.search(r'"state": ?"loading"', goad.ctl("--json", "sites").stdout), "goadctl --json sites, too")
    loads.posts = 0
    for _ in range(20):
        goad.ask()
    check(loads.posts <= 8, f"20 questions make {loads.posts} tries: pauses that double")
    loads.post = None
    until(lambda: goad.ask() and goad.lines("state=up")[1:], "one whole answer ends it", 40)

# HTTPS with a private authority; then somebody puts another one into the file.
private = Server(GOOD, tls="server")
folder = tempfile.mkdtemp()
shutil.copy(f"{TLS}/stranger.pem", f"{folder}/ca.pem")
with Goad([f'url: "{private.url}", ca_file: "{folder}/ca.pem"']) as goad:
    until(lambda: re.search(r'state=down cause="GET /health: SSL certificate problem', goad.log()), "a certificate of an unknown authority is told")
    shutil.copy(f"{TLS}/ca.pem", f"{folder}/ca.pem")
    goad.reload()
    until(lambda: goad.lines("state=up"), "its authority takes effect with a reload")
    ask = goad.ask()
    check("hi" in ask.stdout, "and questions are answered over HTTPS")
shutil.rmtree(folder)

# --- the metrics port, and what the process uses ------------------------------------------------------------------------------
with Goad([f'url: "{server.url}"']) as goad:
    for name in ("process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds",
                 "process_threads"):
        check(re.search(rf"^{name} [0-9.e+]+$", goad.page(), re.M), name)
    sitting = [socket.create_connection(("127.0.0.1", int(goad.metrics_port))) for _ in range(6)]
    for half in sitting[3:]:
        half.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
    began = time.monotonic()
    for _ in range(10):
        goad.page()
    check(time.monotonic() - began < 1.5, "silent and half connections cost nobody a scrape")

# --- too little to start with -------------------------------------------------------------------------------------------------
with Goad([f'url: "{server.url}"']) as goad:
    config = goad.yaml.replace("admin.sock", "other.sock")
    open(f"{goad.folder}/other.yaml", "w").write(config)
    sanitized = b"san.so" in subprocess.run(["ldd", f"{BUILD}/goad"], capture_output=True).stdout  # needs terabytes of address space
    for which, limit, words in ((resource.RLIMIT_NOFILE, 40, "descriptors are to be had"), (resource.RLIMIT_AS, 300 << 20, "of address space are to be had")):
        if sanitized and which == resource.RLIMIT_AS:
            print("SKIPPED: address space, under a sanitizer")
            continue
        poor = subprocess.run([f"{BUILD}/goad", "--config", f"{goad.folder}/other.yaml"], capture_output=True, text=True, timeout=30,
                              preexec_fn=lambda: resource.setrlimit(which, (limit, limit)))
        check(poor.returncode == 1 and words in poor.stderr, f"exit status 1 and: {words}")

shutil.rmtree(keys, ignore_errors=True)
print("operator_test.py: passed")
