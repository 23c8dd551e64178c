#!/usr/bin/python3
"""Each alert that a live goad can be brought to is caused for real, and ended as its page in the runbook (deploy/README.md) says, on a real
Prometheus. Its windows are seconds (support/alerts_rig.py). Those for which goad itself has to be harmed: faults_test.py.

  alerts_test.py BUILD_DIR [PART...]      parts: servers, slots, predictions, readers, door, files, memory, down; all by default. memory needs root
"""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
from grpc_tools import protoc

sys.dont_write_bytecode = True  # the source tree stays as it is
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [f"{SOURCE}/tests/fakes", f"{SOURCE}/tests/support"]
import alerts_rig as rig  # noqa: E402
from alerts_rig import SITE, Goad, data, ends, fires, firing, folder, holds, until, write_prometheus  # noqa: E402
from moody_llm import Llm  # noqa: E402
from programs import fail, free_port  # noqa: E402

PARTS = sys.argv[2:] or ["servers", "slots", "predictions", "readers", "door", "files", "memory", "down"]


def servers():
    """A site with a server that misbehaves, and one beside it."""
    goad, (bad, good) = all_goads["servers"], llms["servers"]
    goad.start().fleet(20)
    until("both are up", lambda: goad.page().count('state="up"} 1') == 2)
    bad.mode = good.mode = "down"
    fires(goad, "GoadBackendDown", "GoadSiteDown")
    holds(goad.ctl("sites"), "DOWN")
    holds(goad.ctl("sites"), "CUDA error")
    bad.mode = good.mode = "good"
    ends(goad, "GoadBackendDown", "GoadSiteDown")
    bad.mode = "loading"
    fires(goad, "GoadBackendLoads")
    holds(goad.ctl("sites"), "loading")
    bad.mode = "good"
    ends(goad, "GoadBackendLoads")
    bad.mode = "every other"
    fires(goad, "GoadFailovers")
    holds(goad.page(), 'fault="backend"')
    goad.ctl("backend", "cell-a", bad.url, "drain")
    ends(goad, "GoadFailovers")
    bad.mode = "good"
    goad.ctl("backend", "cell-a", bad.url, "resume")
    bad.mode = good.mode = "breaks"
    fires(goad, "GoadAnswersLost", "GoadAnswersLostSlowly")
    holds(goad.ctl("sites"), "broken" if "broken" in goad.ctl("sites") else "half-open")
    bad.mode = good.mode = "good"
    ends(goad, "GoadAnswersLost", "GoadAnswersLostSlowly")
    bad.mode = good.mode = "slow"
    fires(goad, "GoadFirstTokenLate", "GoadFirstTokenLateSlowly")
    bad.mode = good.mode = "good"
    ends(goad, "GoadFirstTokenLate", "GoadFirstTokenLateSlowly")
    bad.key = good.key = "right"
    fires(goad, "GoadBackendRequestsFail")
    holds(goad.ctl("sites"), "Incorrect API key")
    with open(f"{folder}/key", "w") as out:
        out.write("right\n")
    goad.ctl("reload")
    ends(goad, "GoadBackendRequestsFail")
    bad.mode = good.mode = "refuses"
    fires(goad, "GoadBackendRefusesAll")
    holds(goad.ctl("sites"), "context size")
    bad.mode = good.mode = "good"
    ends(goad, "GoadBackendRefusesAll")
    goad.stop()


def slots():
    """One slot, a slow server, and more questions than it can take."""
    goad, (server,) = all_goads["slots"], llms["slots"]
    server.mode = "seconds"
    goad.start().fleet(40, 40)
    fires(goad, "GoadOverload", "GoadTauInfeasible", "GoadDecisionsLate", "GoadDecisionsLateSlowly")
    goad.change("mandatory_wait: 1s", "mandatory_wait: 100ms")
    ends(goad, "GoadDecisionsLate", "GoadDecisionsLateSlowly")
    goad.ctl("tau", "1")
    ends(goad, "GoadTauInfeasible")
    server.mode = "good"
    goad.change("slots: 1", "slots: 40")
    ends(goad, "GoadOverload")
    goad.change("link_max_age: 2s", "link_max_age: 1ms")
    fires(goad, "GoadStaleLinks")
    goad.change("link_max_age: 1ms", "link_max_age: 2s")
    ends(goad, "GoadStaleLinks")
    goad.quiet()
    goad.stop()


def predictions():
    """Numbers of a site that are wrong, and not learned."""
    goad, (server,) = all_goads["predictions"].start(), llms["predictions"]
    server.mode = "seconds"
    goad.fleet(10)
    fires(goad, "GoadPredictionError")
    holds(goad.ctl("sites"), "compute configured")
    goad.change("overhead: 0ms, token_time: 500ms", "overhead: 1s, token_time: 0.1ms")
    ends(goad, "GoadPredictionError")
    goad.stop()


def readers():
    """Callers that ask for long answers and read nothing of them."""
    goad, (server,) = all_goads["readers"].start(), llms["readers"]
    until("its server is up", lambda: 'state="up"} 1' in goad.page())
    protoc.main(["protoc", f"-I{SOURCE}/proto", f"--python_out={folder}", f"{SOURCE}/proto/goad/v1/offload.proto"])
    sys.path.insert(0, folder)
    from goad.v1 import offload_pb2 as pb
    server.mode = "floods"
    channel = grpc.insecure_channel(f"127.0.0.1:{goad.port}")
    call = channel.unary_stream("/goad.v1.Offload/Ask", pb.AskRequest.SerializeToString, pb.ServerFrame.FromString)
    asked = []

    def ask():
        asked.append(call(pb.AskRequest(query=pb.Query(query_id=f"unread-{len(asked)}", must_offload=True, inline_prompt=pb.Prompt(text="Why?")))))
        return firing("GoadSlowConsumers", goad)
    until("GoadSlowConsumers fires", ask)
    fires(goad, "GoadSlowConsumers")
    for one in asked:
        one.cancel()
    server.mode = "good"
    channel.close()
    ends(goad, "GoadSlowConsumers")
    goad.stop()


def door():
    """Tokens, tenants, connections and descriptors."""
    goad = all_goads["door"].start()
    stop = threading.Event()

    def knock():  # without a token
        while not stop.is_set():
            goad.ctl("ask", "Where is Anna?", "--device", f"127.0.0.1:{goad.port}", "--token_file", f"{folder}/wrong.token", ok=False)
    knocking = [threading.Thread(target=knock, daemon=True) for _ in range(3)]
    for thread in knocking:
        thread.start()
    fires(goad, "GoadUnauthenticated")
    holds(open(f"{folder}/door.log").read(), "unauthenticated")
    stop.set()
    for thread in knocking:
        thread.join()
    ends(goad, "GoadUnauthenticated")
    goad.fleet(20, 5, "--token_file", f"{folder}/slow.token")
    fires(goad, "GoadTenantAtQuota")
    holds(goad.ctl("tenants"), "slow")
    goad.change("queries_per_second: 1", "queries_per_second: 1000")
    ends(goad, "GoadTenantAtQuota")
    goad.quiet()
    goad.fleet(20, 75, "--token_file", f"{folder}/slow.token")
    fires(goad, "GoadDescriptorsShort")
    goad.stop()
    goad.limit = 1024
    goad.start().fleet(20, 75, "--token_file", f"{folder}/slow.token")
    until("all are back for a while", lambda: data(f'min_over_time(goad_sessions{{instance="{goad.instance}"}}[4s]) == 75'))
    ends(goad, "GoadDescriptorsShort")
    goad.quiet()
    stop.clear()

    def flood():
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", goad.port), timeout=1):
                    pass
            except OSError:
                pass
            stop.wait(0.005)
    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    fires(goad, "GoadConnectionsRefused")
    stop.set()
    flooding.join()
    ends(goad, "GoadConnectionsRefused")
    goad.stop()


def certificate(days):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days), "-subj", "/CN=goad",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.pem"],
                   check=True, capture_output=True)


def files():
    """What lies on the disk: certificate, configuration, decision log. mTLS, so that the container's health check is tried, too."""
    certificate(3)
    goad = all_goads["files"].start()
    goad.fleet(10, 5, "--ca", f"{folder}/tls.pem", "--certificate", f"{folder}/tls.pem", "--key", f"{folder}/tls.key")
    containerfile = open(f"{SOURCE}/deploy/container/Containerfile").read()
    check = json.loads(re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", containerfile, re.M).group(1))
    if check[0] != "goadctl" or "serving" not in goad.ctl(*check[1:]):
        fail(f"{check} does not work with mTLS")
    print("ok: the container's health check says serving, with mTLS", flush=True)
    fires(goad, "GoadCertificateExpires")
    certificate(300)
    goad.ctl("reload")
    ends(goad, "GoadCertificateExpires")
    good = goad.config
    goad.config += "nonsense: 1\n"
    goad.write()
    holds(goad.ctl("reload", ok=False), "nonsense")
    fires(goad, "GoadReloadFailed")
    holds(goad.ctl("status"), "nonsense")
    goad.config = good
    goad.write()
    goad.ctl("reload")
    ends(goad, "GoadReloadFailed")
    goad.quiet()
    goad.fleet(10, 5, "--ca", f"{folder}/tls.pem", "--certificate", f"{folder}/tls.pem", "--key", f"{folder}/tls.key")
    shutil.rmtree(f"{folder}/decisions")
    fires(goad, "GoadDecisionLogLost")
    holds(open(f"{folder}/files.log").read(), "decision_log.path")
    os.mkdir(f"{folder}/decisions")
    ends(goad, "GoadDecisionLogLost")
    goad.stop()


def memory():
    """The limit is a file of this test's, seen by goad as its control group's: the kernel does not enforce it."""
    if os.geteuid() != 0:
        return print("memory: SKIPPED: needs root for a mount of its own", flush=True)
    goad = all_goads["memory"].start()
    fires(goad, "GoadMemoryShort")
    goad.stop()
    goad.wrapper = [word.replace("24000000", "900000000") for word in goad.wrapper]  # MemoryMax= up
    goad.start()
    ends(goad, "GoadMemoryShort")
    goad.stop()


def down():
    goad = all_goads["down"].start()
    until("it is scraped", lambda: data(f'up{{instance="{goad.instance}"}} == 1'))
    ends(goad, "GoadDown")
    goad.stop(signal.SIGKILL)
    fires(goad, "GoadDown")
    goad.start()
    ends(goad, "GoadDown")
    goad.stop()
    write_prometheus([])
    rig.prometheus.send_signal(signal.SIGHUP)
    until("GoadDown fires for nobody", lambda: data('ALERTS{alertname="GoadDown",alertstate="firing",instance=""}'))
    print("ok: GoadDown fires where Prometheus scrapes none", flush=True)


os.mkdir(f"{folder}/decisions")
tokens = {"slow": "a", "wrong": "b"}
for tenant, token in tokens.items():
    open(f"{folder}/{tenant}.token", "w").write(token + "\n")
open(f"{folder}/tokens", "w").write(f"slow:{hashlib.sha256(b'a').hexdigest()}\n")
open(f"{folder}/key", "w").write("wrong\n")
llms = {"servers": [Llm(), Llm()], "slots": [Llm()], "predictions": [Llm()], "readers": [Llm()], "door": [Llm()]}
certificate(3)
port = free_port()
all_goads = {
    "calm": Goad("calm", SITE.format(llms["door"][0].url)),
    "servers": Goad("servers", "dispatch: {probe_period: 500ms}\nsites: [{name: cell-a, uplink: {model: shannon}, backends: [" + ", ".join(
        f'{{url: "{llm.url}", slots: 40, api_key_file: {folder}/key}}' for llm in llms["servers"]) + "]}]\n"),
    "slots": Goad("slots", f"""limits: {{mandatory_wait: 1s, link_max_age: 2s}}
sites: [{{name: cell-a, uplink: {{model: shannon}}, compute: {{learn: false, overhead: 0ms, token_time: 500ms}},
     backends: [{{url: "{llms['slots'][0].url}", slots: 1}}]}}]
"""),
    "predictions": Goad("predictions", f"""sites: [{{name: cell-a, compute: {{learn: false, overhead: 0ms, token_time: 500ms}},
         backends: [{{url: "{llms['predictions'][0].url}", slots: 40}}]}}]
"""),
    "readers": Goad("readers", "limits: {slow_consumer: 1s}\n" + SITE.format(llms["readers"][0].url)),
    "door": Goad("door", f"""auth: {{tokens_file: {folder}/tokens, required: true}}
tenants: [{{name: slow, queries_per_second: 1}}]
limits: {{connections: 100, connections_per_address: 100}}
""" + SITE.format(llms["door"][0].url), limit=256),
    "files": Goad("files", f"""listen: {{address: "127.0.0.1:{port}", tls: {{certificate: {folder}/tls.pem, key: {folder}/tls.key, client_ca: {folder}/tls.pem}}}}
decision_log: {{path: {folder}/decisions/decisions.jsonl}}
""" + SITE.format(llms["door"][0].url)),
    "memory": Goad("memory", SITE.format(llms["door"][0].url), wrapper=[
        "unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /sys/fs/cgroup && echo 24000000 > /sys/fs/cgroup/memory.max && exec "$@"', "sh"]),
    "down": Goad("down", SITE.format(llms["door"][0].url)),
}
all_goads["files"].port = port
rig.scrape_all()
calm = all_goads["calm"].start()
until("the calm goad is scraped", lambda: data(f'up{{instance="{calm.instance}"}} == 1'))
ends(calm, "GoadDown")
began = time.monotonic()
calm.fleet(5)
for part in (servers, slots, predictions, readers, door, files, memory, down):
    if part.__name__ in PARTS:
        print(f"-- {part.__name__}", flush=True)
        if part is down:  # after which nobody is scraped
            # But for predictions, which are to be wrong for 15 minutes: here the first ones suffice, from which they are learned; and
            # for the times of epochs and decisions, of which on a busy machine one among the few of some seconds is too late.
            noise = data('count by (alertname) (count_over_time(ALERTS{alertname!~"GoadPredictionError|GoadEpochOverrun|GoadDecisionsLateSlowly",'
                         f'alertstate="firing",instance="{calm.instance}"}}[{int(time.monotonic() - began)}s]))')
            if noise:
                fail(f"the calm goad fires {noise}")
            print("ok: the calm goad beside them fired nothing", flush=True)
        part()
rig.report()
print("alerts_test.py: passed")
