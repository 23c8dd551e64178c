#!/usr/bin/python3
"""Alerts for which goad itself has to be harmed, each caused for real and ended as its page in the runbook (deploy/README.md) says, on a real Prometheus: threads that stand
still, a number in its memory that cannot be, more users than it can decide about, a promise that is not kept. What comes from outside: alerts_test.py.

  faults_test.py BUILD_DIR [PART...]      parts: stuck, held, deaf, corrupted, crowd, promise; all by default
"""
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [f"{SOURCE}/tests/fakes", f"{SOURCE}/tests/support"]
import alerts_rig as rig  # noqa: E402
from alerts_rig import BUILD, SITE, Goad, ends, fires, folder, holds, until  # noqa: E402
from harm import Standstill, overwrite  # noqa: E402
from moody_llm import Llm  # noqa: E402
from programs import fail  # noqa: E402

WORKLOAD = f"{SOURCE}/deploy/llm/workload.jsonl"


def ready(goad):
    goad.start()
    until("its servers are up", lambda: all(line.endswith(" 1") for line in goad.page().splitlines() if line.startswith("goad_backend_up{")))
    return goad


def stuck(llm):
    """The engine's thread stands still. As a service its watchdog would end goad after 10 s; in a container nobody does."""
    goad = ready(Goad("stuck", SITE.format(llm.url)))
    rig.scrape_all()
    goad.fleet(20)
    until("it decides", lambda: "goad_epochs_total 0" not in goad.page())
    standstill = Standstill(goad.process.pid, "goad-engine")
    fires(goad, "GoadNoDecisions")
    holds(goad.ctl("--timeout", "2s", "status", ok=False), "goad does not answer")
    standstill.end()
    goad.kill()
    goad.start().fleet(20)
    ends(goad, "GoadNoDecisions")


def held(llm):
    """Uncertain queries that may wait for an hour, and no slot."""
    llm.mode = "hangs"
    goad = ready(Goad("held", "policy: {tau: 0}\nlimits: {mandatory_wait: 1h}\n" + SITE.format(llm.url).replace("slots: 40", "slots: 1")))
    rig.scrape_all()
    goad.fleet(20)
    fires(goad, "GoadNoDecisions")
    holds(re.sub(" +", " ", goad.ctl("sites")), "cell-a up 1 1 0")  # its one slot is taken
    goad.change("mandatory_wait: 1h", "mandatory_wait: 200ms")
    ends(goad, "GoadNoDecisions")


def deaf(llm):
    """The thread that lets devices in stands still."""
    goad = ready(Goad("deaf", SITE.format(llm.url)))
    rig.scrape_all()
    standstill = Standstill(goad.process.pid, "goad-acceptor")
    fires(goad, "GoadDeaf")
    until("it ends by itself", standstill.ended)
    if goad.process.wait() != 1:
        fail(f"status {goad.process.returncode}")
    holds(goad.log(), "the device port is deaf; stopping")
    goad.start()  # as systemd does
    until("it hears", lambda: 'goad_listener_up{listener="devices"} 1' in goad.page())
    ends(goad, "GoadDeaf")


def corrupted(llm):
    """A number in goad's memory is another than what was read and checked."""
    rate = 4321.987654321
    goad = ready(Goad("corrupted", SITE.format(llm.url).replace("uplink:", f"compute: {{learn: false, prefill_rate: {rate}}}, uplink:")))
    rig.scrape_all()
    goad.fleet(20)
    until("it decides", lambda: "goad_epochs_total 0" not in goad.page())
    if not overwrite(goad.process.pid, rate, float("nan")):
        fail(f"{rate} is nowhere in goad's memory")
    fires(goad, "GoadSnapshotFault")
    holds(goad.log(), "snapshot fault: sites[0].prefill_tokens_per_s: nan is not finite")
    goad.stop()
    goad.start().fleet(20)
    ends(goad, "GoadSnapshotFault")


def crowd(llm):
    """More users than goad can decide about in an epoch, all of them uncertain and all sites full."""
    llm.mode = "seconds"
    llms = [Llm() for _ in range(8)]
    for one in llms:
        one.mode = "seconds"
    sites = "sites: [" + ", ".join(f'{{name: cell-{k}, uplink: {{model: shannon}}, backends: [{{url: "{one.url}", slots: 1}}]}}' for k, one in enumerate(llms)) + "]\n"
    goad = ready(Goad("crowd", "policy: {name: goa-relocate, tau: 0}\nlimits: {mandatory_wait: 10s}\n" + sites))
    rig.scrape_all()
    goad.fleet(700, 1000)
    fires(goad, "GoadEpochOverrun")
    goad.ctl("policy", "goa")
    ends(goad, "GoadEpochOverrun")


def run(program, *words, expect=0):
    done = subprocess.run([f"{BUILD}/{program}", *words], capture_output=True, text=True, timeout=60)
    if done.returncode != expect:
        fail(f"{program} {words}: {done.returncode} {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def promise(llm):
    """An accuracy that labels bear out and an edge that is always wrong; then one with too few slots."""
    questions = open(WORKLOAD).readlines()
    for name, part in (("first", questions[:1000]), ("second", questions[1000:])):
        open(f"{folder}/{name}.jsonl", "w").writelines(part)
    run("goad-loadgen", "--workload", f"{folder}/first.jsonl", "--labels", f"{folder}/labels.jsonl")
    run("goad-sim", "calibrate", f"{folder}/labels.jsonl", "--accuracy", "0.75", "--out", f"{folder}/calibration.json")
    labels = [json.loads(line) for line in open(f"{folder}/labels.jsonl")]
    promised = f"calibration: {folder}/calibration.json, accuracy: 0.75"
    goad = ready(Goad("promise", f"policy: {{{promised}}}\nkinds: [{', '.join(sorted({label['kind'] for label in labels}))}]\n" + SITE.format(llm.url)))
    rig.scrape_all()
    goad.fleet(40, 10, "--workload", f"{folder}/second.jsonl", "--kinds", "--device_factor", "1")
    fires(goad, "GoadPromiseBroken")
    holds(goad.ctl("promise"), "edge 0.0 %")
    goad.ctl("tau", "0")
    # Labelled anew, nothing can be promised of such an edge.
    with open(f"{folder}/labels.jsonl", "w") as out:
        out.writelines(json.dumps({**label, "edge_correct": False}) + "\n" for label in labels)
    holds(run("goad-sim", "calibrate", f"{folder}/labels.jsonl", "--accuracy", "0.75", "--out", f"{folder}/other.json", expect=1), "Not certified")
    goad.change(promised, "tau: 0.8")
    ends(goad, "GoadPromiseBroken")
    llm.mode = "seconds"
    goad.change("slots: 40", "slots: 1")
    goad.change("tau: 0.8", promised)
    fires(goad, "GoadPromiseMissed")
    if not re.search(r'^goad_decisions_total{reason="TAU_INFEASIBLE".*} [1-9]', goad.page(), re.M):
        fail("no slot is not the reason")
    llm.mode = "good"
    goad.change("slots: 1", "slots: 40")
    ends(goad, "GoadPromiseMissed")


PARTS = {part.__name__: part for part in (stuck, held, deaf, corrupted, crowd, promise)}
for name in sys.argv[2:] or PARTS:
    print(f"-- {name}", flush=True)
    PARTS[name](Llm())
    for goad in rig.goads:
        goad.stop()
rig.report()
print("faults_test.py: passed")
