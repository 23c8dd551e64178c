#!/usr/bin/python3
"""The official OpenAI client (npm) against goad-device, and the same suite against the plain llama-servers behind it: what a user of the client sees is compared field by
field. Usage: openai_npm_test.py BUILD_DIR. Exit status 77 (with a loud line) where the engine, npm or its registry cannot be had.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import device_rig
import npm
from device_rig import ROOT, peak_rss_mb, questions, rss_mb
from openai_npm import differences
from programs import check, metric, wait_for

SUITE = f"{ROOT}/tests/integration/openai_npm"
KEY = "key-of-the-app"


def suite(folder, name, url, model, slots, own_model, key=""):
    """Runs all cases; {case: what was seen}. Those that fail fail the test, with their words."""
    environment = {**os.environ, "SLOT_URLS": " ".join(slots), "QUESTION": questions()[0]["prompt"], "OWN_MODEL": own_model, "KEY": key,
                   # llama-server closes a connection now and then as the next request comes on it. goad-device must not.
                   "RETRIES": "0" if key else "2"}
    done = subprocess.run(["node", "suite.mjs", url + "/v1", model], cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    seen, failed = {}, {}
    for line in done.stdout.splitlines():
        case = json.loads(line)
        (failed if "failed" in case else seen)[case["name"]] = case.get("failed", case.get("seen"))
    print(f"{name}: {len(seen)} cases passed, {len(failed)} failed")
    print(done.stderr.rstrip())
    for case, words in failed.items():
        if (name, case) not in differences.CANNOT:
            print(f"  FAILED {case}: {words}")
    return seen, failed


def main():
    build = os.path.abspath(sys.argv[1])
    device_rig.need_engine()
    folder = npm.install(SUITE, f"{build}/openai_npm", "goad-device was not tested with the official OpenAI client")
    rig = device_rig.Rig(build, "openai-npm")
    _, local = rig.llama("slm", "local", 4)
    edges = [rig.llama("llm", f"edge-{k}", 4)[1] for k in range(2)]
    rig.write_goad_config([{"name": f"cell-{api}", "backends": [{"url": url, "api": api, "model": "llm"}]}
                           for api, url in zip(("completions", "chat"), edges)], limits={"max_output_tokens": 4000})
    rig.goad()
    rig.wait_for_backends(2)
    with open(f"{rig.work}/key", "w") as out:
        out.write(KEY + "\n")
    device, url = rig.device("--local", local, "--api-key-file", f"{rig.work}/key")
    wait_for("goad-device finds both", lambda: "candidates a token" in rig.log("device.log"))

    runs = {"llama-server slm": (local, "slm", "", "slm", [local]), "goad-device local": (url, "local", KEY, "slm", [local]),
            "llama-server llm": (edges[1], "llm", "", "llm", edges), "goad-device edge": (url, "edge", KEY, "slm", [local, *edges]),
            "goad-device auto": (url, "auto", KEY, "slm", [local, *edges])}
    seen, failures = {}, []
    for name, (base, model, key, own_model, slots) in runs.items():
        seen[name], failed = suite(folder, name, base, model, slots, own_model, key)
        failures += [f"{name}: {case}" for case in failed if (name, case) not in differences.CANNOT]
    check(not failures, f"all cases pass, but those that cannot: {failures}")
    unexplained = differences.compare(seen["llama-server slm"], seen["goad-device local"], "local")
    unexplained += differences.compare(seen["llama-server llm"], seen["goad-device edge"], "edge")
    check(not unexplained, f"{len(unexplained)} differences without a reason")
    print(f"goad-device: {rss_mb(device):.1f} MB after all, {peak_rss_mb(device):.1f} MB at most")
    check(peak_rss_mb(device) < 60, "goad-device is below 60 MB, 64 requests at once among them")
    check(device.poll() is None, "goad-device still runs")


if __name__ == "__main__":
    main()
