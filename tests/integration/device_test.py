#!/usr/bin/python3
"""goad-device with what is around it in the field: a real llama-server on the device, two at the edge, goad, apps that behave and apps that do not.
Usage: device_test.py BUILD_DIR [PART...]. GOAD_TEST_SEED replays. Exit status 77 (with a loud line) where the engine cannot be had.
"""
import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import device_apps
import device_rig
from device_apps import ask, long_request, question_request
from device_rig import peak_rss_mb, questions
from programs import check, free_port, get, metric, wait_for

SEED = int(os.environ.get("GOAD_TEST_SEED", time.time_ns() % 1000000))
ASKED, KILLS, APPS = 1000, 36, 4  # questions while goad is killed so many times, from so many apps
DECISION_BUDGET_S = 0.5  # goad-device's own default
SMALL_S = 0.5  # a machine under test has other things to do
TAU = 0.8
ALL = questions()
SURE = [q for q in ALL if q["slm"]["alpha"] < 0.3]
UNSURE = [q for q in ALL if q["slm"]["alpha"] > 0.9]


class Field:
    """All processes, and one goad-device with the usual flags."""

    def __init__(self, build):
        self.rig = device_rig.Rig(build, "device")
        self.small_s = 5 if self.rig.sanitized else SMALL_S
        self.local_process, self.local = self.rig.llama("slm", "local", 4)
        self.edges = [self.rig.llama("llm", f"edge-{k}", 4)[1] for k in range(2)]
        # The edge is said to be slow, so that only who is unsure is offloaded.
        self.rig.write_goad_config([{"name": f"cell-{api}", "compute": {"learn": False, "token_time": "200ms"}, "backends": [{"url": url, "api": api, "model": "llm"}]}
                                    for api, url in zip(("completions", "chat"), self.edges)], policy={"name": "goa", "tau": TAU})
        self.start_goad()
        self.device, self.url = self.start_device("device.log")

    def start_goad(self):
        self.goad = self.rig.goad()
        self.rig.wait_for_backends(2)

    def start_device(self, log, *flags):
        process, url = self.rig.device("--local", self.local, *flags, log=log)
        wait_for("the local server is found", lambda: metric(url + "/metrics", "goad_device_local_found") == 1 and "candidates" in self.rig.log(log))
        self.wait_connected(url)
        return process, url

    def wait_connected(self, url):
        wait_for("goad-device is greeted", lambda: metric(url + "/metrics", "goad_device_goad_connected") == 1)

    def wait_idle(self, what):
        begin = time.monotonic()
        wait_for(f"slots free after {what}", lambda: sum(slot["is_processing"] for server in (self.local, *self.edges)
                                                         for slot in json.loads(get(server + "/slots"))) == 0, 5)
        wait_for("nothing runs", lambda: metric(self.url + "/metrics", "goad_device_running_requests") == 0, 5)
        return time.monotonic() - begin


def who_answers(field):
    for stream in (False, True):
        how = "streamed" if stream else "whole"
        answer = ask(field.url, question_request(SURE[0], stream))
        check(answer.text == SURE[0]["slm"]["text"] and answer.goad["answered_by"] == "local" and answer.goad["reason"] == "NO_GAIN",
              f"{how}: a sure question is answered locally: {answer.goad}")
        check(answer.header == "local NO_GAIN", f"{how}: x-goad: {answer.header}")
        answer = ask(field.url, question_request(UNSURE[0], stream))
        check(answer.text == UNSURE[0]["llm"]["text"] and answer.goad["answered_by"] == "edge" and answer.goad["site"].startswith("cell-"),
              f"{how}: an unsure one by the edge: {answer.goad}")
        check(answer.header == f"edge {answer.goad['site']} UNCERTAIN", f"{how}: x-goad: {answer.header}")
    for what, headers, model in (("header", {"x-goad-offload": "never"}, "auto"), ("model", {}, "local")):
        answer = ask(field.url, question_request(UNSURE[0], model=model), headers)
        check(answer.header == "local LOCAL_ONLY" and answer.text == UNSURE[0]["slm"]["text"], f"never offloaded, by {what}")
    answer = ask(field.url, question_request(SURE[0], model="edge"))
    check(answer.goad["answered_by"] == "edge" and answer.model == "edge", f"model edge: {answer.header}")
    answer = ask(field.url, question_request(UNSURE[0], model="slm"))
    check(answer.goad["answered_by"] == "edge", "the local server's own name is decided, too")
    answer = ask(field.url, question_request(SURE[0]), {"x-goad-offload": "perhaps"})
    check(answer.status == 400 and answer.error["param"] == "x-goad-offload", f"a header that is none: {answer.error['message']}")
    answer = ask(field.url, question_request(SURE[0], model="edge"), {"x-goad-offload": "never"})
    check(answer.status == 400, f"edge, but never: {answer.error['message']}")


def at_once(field):
    """64 apps that connect and ask in the same moment; a connection that found no room in the kernel's queue would come again after a second."""
    longest = 0
    with concurrent.futures.ThreadPoolExecutor(64) as apps:
        for _ in range(5):
            together = threading.Barrier(64)

            def app(k):
                together.wait()
                return ask(field.url, question_request(SURE[k], k % 2 == 1))
            answers = list(apps.map(app, range(64)))
            check_all = [a for a in answers if a.status != 200 or a.ends != 1 or not a.text]
            if check_all:
                raise AssertionError(f"refused or lost: {check_all}")
            longest = max(longest, *(a.took_s for a in answers))

        def goes_on(k):  # on a new connection as soon as it has its answer
            return [ask(field.url, question_request(SURE[k], True, "local")).status for _ in range(15)]
        statuses = [status for of_one in apps.map(goes_on, range(64)) for status in of_one]
    check(set(statuses) == {200}, f"64 that ask without a pause, {len(statuses)} questions: {statuses.count(429)} refused")
    check(longest < 2 * field.small_s and (field.rig.sanitized or peak_rss_mb(field.device) < 60), f"5 times 64 at once: none refused, none lost, longest answer {longest * 1e3:.0f} ms, {peak_rss_mb(field.device):.1f} MB at most")


def leaving(field):
    for model in ("local", "edge", "auto"):
        with device_apps.begun(field.url, long_request(model, True, UNSURE[0])) as connection:
            connection.recv(2000)  # something is shown
        took = field.wait_idle(f"an app that left in mid-stream ({model})")
        print(f"  {model}: left in mid-stream, all free after {took * 1e3:.0f} ms")
        with device_apps.begun(field.url, long_request(model, False, UNSURE[0])):
            wait_for("it runs", lambda: metric(field.url + "/metrics", "goad_device_running_requests") == 1, 5)
        took = field.wait_idle(f"an app that left before anything was shown ({model})")
        print(f"  {model}: left before anything was shown, all free after {took * 1e3:.0f} ms")
    check(True, "what an app asked for ends when it leaves")


def killed_goad(field):
    """kill -9 of goad at any moment of 1,000 questions. Every tenth one is long, so that some are broken off while edge text is shown."""
    dice = random.Random(SEED)
    alone = []
    for question in dice.sample(ALL, 50):
        alone.append(ask(field.url, question_request(question, stream=True), {"x-goad-offload": "never"}).took_s)
    alone_long = [ask(field.url, long_request("local", True, UNSURE[0])).took_s for _ in range(5)]
    plan = [(k % 10 == 9, dice.choice(UNSURE if k % 10 == 9 else ALL), dice.random() < 0.5, dice.random() * 0.1) for k in range(ASKED)]
    answers, next_one, lock = [None] * ASKED, iter(range(ASKED)), threading.Lock()

    def app():
        while True:
            with lock:
                k = next(next_one, None)
            if k is None:
                return
            is_long, question, stream, pause_s = plan[k]
            time.sleep(pause_s)  # people think
            answers[k] = ask(field.url, long_request("auto", stream, question) if is_long else question_request(question, stream))

    apps = [threading.Thread(target=app) for _ in range(APPS)]
    for thread in apps:
        thread.start()
    kills = 0
    while any(thread.is_alive() for thread in apps):
        if kills < KILLS:
            field.goad.send_signal(signal.SIGKILL)
            field.goad.wait()
            kills += 1
            field.start_goad()
        time.sleep(dice.random() * 0.5)
    for thread in apps:
        thread.join()
    broken, took, took_long = 0, [0.0], [0.0]
    sources, foreign = {}, []
    for (is_long, question, stream, _), answer in zip(plan, answers):
        check_one(answer, question, is_long, foreign)
        broken += answer.broken
        if answer.broken:
            continue
        who = answer.goad["answered_by"] + " " + answer.goad["reason"]
        sources[who] = sources.get(who, 0) + 1
        if answer.goad["answered_by"] == "local":
            (took_long if is_long else took).append(answer.took_s)
    # One in twenty may have met a busy machine; no one may have waited for a budget of seconds.
    usual, usual_long = (sorted(times)[len(times) * 19 // 20] for times in (took, took_long))
    print(f"  {ASKED} questions, {kills} kills, seed {SEED}: {dict(sorted(sources.items()))}, broken off after edge text {broken}, neither's text {len(foreign)}")
    print(f"  local answers: 19 of 20 within {usual * 1e3:.0f} ms, the longest {max(took) * 1e3:.0f} ms; of long ones {usual_long * 1e3:.0f} and {max(took_long) * 1e3:.0f} ms; alone at most {max(alone) * 1e3:.0f} ms and {max(alone_long) * 1e3:.0f} ms")
    check(kills >= 24, f"{kills} kills")
    check(len(foreign) <= ASKED // 100, f"answers are the local model's or the edge's (ties of the models but for), seen {foreign[:3]}")
    check(any("edge" in who for who in sources) and len(sources) > 2, "both answered, goad there and not")
    check(usual < max(alone) + field.small_s and usual_long < max(alone_long) + field.small_s and max(took + took_long) < 4,
          "an answer of the local model took what it takes, plus at most half a second")
    check(field.device.poll() is None, "goad-device lives")
    field.wait_connected(field.url)


def check_one(answer, question, is_long, foreign):
    """Exactly one whole answer, or a clean break after edge text."""
    if answer.broken:
        if not (answer.text and answer.stream and answer.error["type"] and answer.finish_reason == "error" and answer.ends == 0):
            raise AssertionError(f"broken off without edge text: {answer}")
        return
    if answer.status != 200 or answer.error or answer.ends != 1 or answer.finish_reason not in ("stop", "length"):
        raise AssertionError(f"no whole answer: {answer}")
    if is_long:
        if not answer.text.lstrip().startswith("[") or answer.text.count("[") != 1:
            raise AssertionError(f"a mixture: {answer}")
    elif answer.text not in (question["slm"]["text"], question["llm"]["text"]):
        foreign.append(answer.text)


def stopped_goad(field):
    alone = max(ask(field.url, question_request(q), {"x-goad-offload": "never"}).took_s for q in UNSURE[:10])
    field.goad.send_signal(signal.SIGSTOP)
    answers = [ask(field.url, question_request(q, k % 2 == 1)) for k, q in enumerate(UNSURE[:10])]
    field.goad.send_signal(signal.SIGCONT)
    check(all(a.status == 200 and a.goad["answered_by"] == "local" for a in answers), f"goad is stopped: answered locally, {answers[0].header}")
    longest = max(a.took_s for a in answers)
    print(f"  longest {longest * 1e3:.0f} ms, alone {alone * 1e3:.0f} ms, reasons {sorted({a.goad['reason'] for a in answers})}")
    check(longest < alone + DECISION_BUDGET_S + field.small_s, "none waited longer than --decision-budget on top")
    wait_for("goad is asked again", lambda: ask(field.url, question_request(UNSURE[0])).goad["answered_by"] == "edge")
    check(True, "goad goes on: it is asked again")


def killed_local(field):
    port = int(field.local.rsplit(":", 1)[1])
    field.local_process.kill()
    field.local_process.wait()
    for stream in (False, True):
        answer = ask(field.url, question_request(SURE[1], stream))
        check(answer.status == 200 and answer.goad["answered_by"] == "edge" and answer.text == SURE[1]["llm"]["text"], f"no local server: the edge answers, {answer.header}")
    answer = ask(field.url, question_request(SURE[1]), {"x-goad-offload": "never"})
    check(answer.status == 502 and answer.error["code"] == "LOCAL_FAILED" and answer.header == "none LOCAL_FAILED", f"never offload: {answer.error['message']}")
    field.goad.send_signal(signal.SIGKILL)
    field.goad.wait()
    for stream in (False, True):
        answer = ask(field.url, question_request(SURE[1], stream))
        check(answer.status in (502, 503) and answer.error["type"] == "api_error" and answer.error["message"], f"both gone: {answer.status} {answer.error['message']}")
        check(answer.took_s < 2, f"and that at once ({answer.took_s * 1e3:.0f} ms)")
    answer = ask(field.url, question_request(SURE[1], model="edge"))
    check(answer.status == 503, f"model edge: {answer.status} {answer.error['message']}")
    field.local_process, _ = field.rig.llama("slm", "local", 4, port)
    answer = ask(field.url, question_request(UNSURE[1]))
    check(answer.goad["answered_by"] == "local" and answer.text == UNSURE[1]["slm"]["text"], f"the local server is back, goad is not: {answer.header}")
    field.start_goad()
    field.wait_connected(field.url)
    check(ask(field.url, question_request(UNSURE[1])).goad["answered_by"] == "edge", "goad is back")


def door(field):
    _, url = field.rig.device(log="door.log")
    field.wait_connected(url)
    answer = ask(url, question_request(SURE[2]))
    check(answer.goad["answered_by"] == "edge" and answer.text == SURE[2]["llm"]["text"], f"without --local: {answer.header}")
    for what, headers, model in (("model local", {}, "local"), ("never", {"x-goad-offload": "never"}, "auto")):
        answer = ask(url, question_request(SURE[2], model=model), headers)
        check(answer.status == 400 and "no local model" in answer.error["message"], f"without --local, {what}: {answer.error['message']}")
    models = [entry["id"] for entry in json.loads(get(url + "/v1/models"))["data"]]
    check(models == ["auto", "edge"], f"its models are {models}")


def keys(field):
    path = f"{field.rig.work}/app-key"
    with open(path, "w") as out:
        out.write("secret-of-apps\n")
    _, url = field.rig.device("--local", field.local, "--api-key-file", path, log="keys.log")
    for given in (None, "wrong", "secret-of-app", "secret-of-appsx", "secret-of-apps"):
        answer = ask(url, question_request(SURE[0]), {} if given is None else {"Authorization": f"Bearer {given}"})
        right = given == "secret-of-apps"
        check(answer.status == (200 if right else 401) and (right or answer.error["code"] == "invalid_api_key"), f"key {given}: {answer.status}")
    check("ok" in get(url + "/health"), "/health asks for no key")
    check(device_apps.status_of(url, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") == 401, "/metrics does")


def looks(field):
    def run(*flags):
        done = subprocess.run([f"{field.rig.build}/goad-device", *flags], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr
    edge = ("--edge", f"127.0.0.1:{field.rig.goad_port}")
    code, out, _ = run(*edge, "--local", field.local, "--check")
    print("  " + out.rstrip().replace("\n", "\n  "))
    check(code == 0 and "llama-server, 1 model: slm; 10 candidates a token" in out and "goad, 2 sites" in out and "cell-chat: measured uplink, takes chat" in out,
          "--check: all is well, 0")
    nobody = f"127.0.0.1:{free_port()}"
    code, out, _ = run("--edge", nobody, "--local", field.local, "--check")
    check(code == 1 and "no goad answers" in out and "candidates" in out, f"--check without goad: {code}")
    code, out, _ = run(*edge, "--local", f"http://{nobody}", "--check")
    check(code == 1 and "no answer at" in out and "goad, 2 sites" in out, f"--check without the local server: {code}")
    code, out, _ = run(*edge, "--check")
    check(code == 0 and "none (--local)" in out, f"--check as a door: {code}")
    for flags, words in ((("--local", "https://x"), "--local"), (("--max-requests", "0"), "--max_requests"), (("--listen", "nowhere"), "--listen"),
                         (("--api-key-file", "/nowhere"), "--api_key_file"), (("--hedge-tokens", "-1"), "--hedge_tokens"), (("more",), "flags only")):
        code, _, err = run(*flags)
        check(code == 2 and words in err, f"{' '.join(flags)}: 2, {err.strip()}")
    code, _, err = run("--listen", field.url.split("//")[1])
    check(code == 3 and "in use" in err, f"a port that is taken: 3, {err.strip()}")
    for _ in range(10):
        process = subprocess.Popen([f"{field.rig.build}/goad-device", *edge, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
        process.stderr.readline()
        process.terminate()
        check_exit = process.wait(10)
        if check_exit != 0:
            raise AssertionError(f"SIGTERM as soon as it is ready: {check_exit}")
    check(True, "SIGTERM as soon as it says that it is ready: 0, ten times")


def stopping(field):
    """SIGTERM while the local server hangs: after ten seconds whoever still waits is told so."""
    device, url = field.start_device("stopping.log")
    field.local_process.send_signal(signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(2) as apps:
        waiting = [apps.submit(ask, url, question_request(SURE[0], stream, "local")) for stream in (False, True)]
        wait_for("both run", lambda: metric(url + "/metrics", "goad_device_running_requests") == 2)
        device.terminate()
        answers = [one.result() for one in waiting]
    check(device.wait(15) == 0, "SIGTERM with answers under way: 0")
    field.local_process.send_signal(signal.SIGCONT)
    for answer in answers:
        check(answer.status == 503 and answer.error["code"] == "stopping" and 9 < answer.took_s < 12, f"they were told: {answer.status} {answer.error['message']}")


def live_margins(field):
    """All 2,000 questions as they are now beside what was recorded of them, and how many of the answers are right."""
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(APPS) as apps:
        answers = list(apps.map(lambda q: ask(field.url, question_request(q)), ALL))
    worst, other_side, ties = 0, [], 0
    for question, answer in zip(ALL, answers):
        recorded, live = question["slm"]["alpha"], answer.goad["uncertainty"]
        worst = max(worst, abs(live - recorded))
        if (live > TAU) != (recorded > TAU):
            ties += 1
            if abs(recorded - TAU) > 1e-3:
                other_side.append((question["id"], recorded, live))
    right = sum(answer.text.strip().lower() == question["answer"] for question, answer in zip(ALL[:500], answers))
    recorded_right = sum(question["llm" if question["slm"]["alpha"] > TAU else "slm"]["correct"] for question in ALL[:500]) / 500
    half = 1.96 * (recorded_right * (1 - recorded_right) / 500) ** 0.5
    print(f"  {len(ALL)} margins in {time.monotonic() - begin:.1f} s: largest difference {worst:.6f}, on the other side of tau {len(other_side)} {other_side[:5]}, ties {ties}; "
          f"500 answers: {right / 5:.1f} % right, recorded {recorded_right:.1%} +- {half:.1%}")
    check(not other_side, "every live margin is on its recorded side of tau")
    check(abs(right / 500 - recorded_right) <= half, "accuracy is within the recorded run's interval")


PARTS = {"who_answers": who_answers, "at_once": at_once, "bad_apps": device_apps.bad_apps, "leaving": leaving, "looks": looks, "door": door, "keys": keys, "stopping": stopping, "live_margins": live_margins,
         "stopped_goad": stopped_goad, "killed_goad": killed_goad, "killed_local": killed_local}


def main():
    device_rig.need_engine()
    field = Field(sys.argv[1])
    for name in sys.argv[2:] or PARTS:
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        PARTS[name](field)
        print(f"   {name}: {time.monotonic() - begin:.1f} s", flush=True)
    print(f"goad-device: {peak_rss_mb(field.device):.1f} MB at most")
    check(field.device.poll() is None, "goad-device still runs")
    field.device.terminate()
    check(field.device.wait(15) == 0, "SIGTERM ends it with 0")


if __name__ == "__main__":
    main()
