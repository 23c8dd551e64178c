#!/usr/bin/python3
"""End to end on the real llama-server: the goad binary, a Python client made from the .proto files alone, the load
generator, promtool. Usage: real_llm_test.py BUILD_DIR. Exit status 77 (with a loud line) where the engine cannot be had.
"""
import concurrent.futures
import json
import os
import queue
import re
import statistics
import subprocess
import sys
import tempfile

BUILD = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = tempfile.mkdtemp(prefix="goad-real-llm-")
sys.dont_write_bytecode = True  # the source tree stays as it is
sys.path.insert(0, f"{ROOT}/tests/support")
from programs import check, free_port, get, metric, wait_for  # noqa: E402

LIMIT_S = 30  # nothing waits this long unless it is broken
STORY_SENTENCES = 45  # of a chat's first turn: enough for its prefill to show, within the model's context of 512 tokens

started = []


def start(args, log):
    out = open(os.path.join(WORK, log), "wb")
    process = subprocess.Popen(args, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT)
    started.append(process)
    return process


def main():
    setup = subprocess.run([f"{ROOT}/deploy/llm/engine.sh", "setup"], capture_output=True, text=True)
    if setup.returncode != 0:
        print("=" * 100)
        print("SKIPPED: llama-server cannot be had here, so nothing below was tested on the real engine:")
        print(setup.stderr.strip())
        print("=" * 100)
        sys.exit(77)
    print(setup.stdout.strip())

    sites = []
    for name, model_api in (("cell-a", "completions"), ("cell-b", "chat")):
        port = free_port()
        start([f"{ROOT}/deploy/llm/engine.sh", "exec", "deploy/llm/llm.gguf", str(port), "2"], f"llama-{name}.log")
        wait_for(f"llama-server of {name}", lambda: "ok" in get(f"http://127.0.0.1:{port}/health"))
        sites.append({"name": name, "uplink": {"model": "shannon"},
                      "compute": {"prefill_rate": 3000, "token_time": "1ms", "token_time_per_query": "1ms"},
                      "backends": [{"url": f"http://127.0.0.1:{port}", "api": model_api, "slots": 1}]})
    config = {"listen": {"address": "127.0.0.1:0"}, "admin": {"address": f"unix:{WORK}/admin.sock"},
              "metrics": {"address": "127.0.0.1:0"}, "lock_file": f"{WORK}/lock",
              "decision_log": {"path": f"{WORK}/decisions.jsonl", "snapshots": "all"}, "sites": sites}
    with open(f"{WORK}/goad.yaml", "w") as out:
        json.dump(config, out)  # JSON is YAML
    goad = start([f"{BUILD}/goad", "--config", f"{WORK}/goad.yaml"], "goad.log")

    def ready():
        match = re.search(r"ready .* port=(\d+) metrics_port=(\d+)", open(f"{WORK}/goad.log").read())
        return match and match.groups()
    port, metrics_port = wait_for("goad", ready)
    metrics = f"http://127.0.0.1:{metrics_port}/metrics"
    wait_for("both backends up", lambda: metric(metrics, "goad_backend_up") == 2)

    # --- a client from the .proto files alone -------------------------------------------------------------------------------
    subprocess.run(["/usr/bin/python3", "-m", "grpc_tools.protoc", f"-I{ROOT}/proto", f"--python_out={WORK}",
                    f"--grpc_python_out={WORK}", "goad/v1/offload.proto"], check=True)
    sys.path.insert(0, WORK)
    import grpc
    from goad.v1 import offload_pb2 as pb
    from goad.v1 import offload_pb2_grpc

    stub = offload_pb2_grpc.OffloadStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    frames = queue.Queue()
    session = stub.Session(iter(frames.get, None), timeout=LIMIT_S)
    stream = (frame for frame in session if not frame.HasField("sites"))  # which tell what servers can, once they said so
    frames.put(pb.DeviceFrame(hello=pb.Hello(protocol_version=1, device_name="python")))
    welcome = next(stream).welcome
    check([s.name for s in welcome.sites] == ["cell-a", "cell-b"], "Welcome names both sites")
    frames.put(pb.DeviceFrame(link_report=pb.LinkReport(links=[pb.SiteLink(site="cell-a", gain_db=-80)])))
    questions = [json.loads(line) for line in open(f"{ROOT}/deploy/llm/workload.jsonl")]
    question = questions[1]

    def ask(query_id, uncertainty, chat=False):
        frames.put(pb.DeviceFrame(query=pb.Query(
            query_id=query_id, uncertainty=uncertainty, prompt_bits=8 * len(question["prompt"]), prompt_tokens=55,
            max_output_tokens=8, local_delay_s=0.001,
            prompt_kind=pb.PROMPT_KIND_CHAT if chat else pb.PROMPT_KIND_TEXT)))
        return next(stream).decision

    decision = ask("p1", 0.95)
    check(decision.verdict == pb.VERDICT_OFFLOAD and decision.reason == pb.REASON_UNCERTAIN and decision.site == "cell-a",
          "an uncertain query is offloaded to the site with a link")
    frames.put(pb.DeviceFrame(prompt=pb.Prompt(query_id="p1", text=question["prompt"], top_logprobs=2)))
    text, logprobs = "", 0
    for frame in stream:
        if not frame.HasField("tokens"):
            break
        text += frame.tokens.text
        logprobs += len(frame.tokens.logprobs)
    check(frame.HasField("completed") and frame.completed.finish_reason in ("stop", "length"), "it completes")
    check(text.strip().lower() == question["llm"]["answer"], f"the answer is the edge model's: {text.strip()}")
    check(logprobs >= 1, "log-probabilities arrive when asked for")
    check(frame.completed.output_tokens == question["llm"]["completion_tokens"], "usage is the server's own")
    check(ask("p2", 0.05).verdict == pb.VERDICT_LOCAL, "a sure query stays local")
    frames.put(pb.DeviceFrame(link_report=pb.LinkReport(links=[pb.SiteLink(site="cell-b", gain_db=-80)])))
    decision = ask("p3", 0.95, chat=True)
    check(decision.site == "cell-b", "a chat prompt goes to the site with a chat backend")
    frames.put(pb.DeviceFrame(prompt=pb.Prompt(query_id="p3", chat=pb.ChatMessages(
        messages=[pb.ChatMessage(role="user", content=question["prompt"])]))))
    *tokens, last = [next(stream), next(stream)]
    check(last.HasField("completed") and tokens[0].tokens.text.strip(), f"chat answers: {tokens[0].tokens.text.strip()}")

    # A prompt that the model's context cannot hold is the query's own failure, in the server's words.
    frames.put(pb.DeviceFrame(query=pb.Query(query_id="long", uncertainty=0.95, prompt_bits=8 * 9000, local_delay_s=0.001)))
    next(stream)
    frames.put(pb.DeviceFrame(prompt=pb.Prompt(query_id="long", text="why? " * 1800)))
    failed = next(stream).failed
    check("context" in failed.error.message and failed.answer_locally, f"too long a prompt: {failed.error.message}")
    frames.put(None)  # half-close
    check(list(stream) == [] and session.code() == grpc.StatusCode.OK, "half-close ends the session with OK")

    asked = list(stub.Ask(pb.AskRequest(query=pb.Query(
        max_output_tokens=8, inline_prompt=pb.Prompt(text=question["prompt"]))), timeout=LIMIT_S))
    check(asked[0].decision.verdict == pb.VERDICT_OFFLOAD and asked[-1].HasField("completed"), "Ask works with one call")

    # Leaving mid-answer frees the llama-server's slot.
    llama = decision_url = sites[0]["backends"][0]["url"]
    long_call = stub.Ask(pb.AskRequest(query=pb.Query(max_output_tokens=400, inline_prompt=pb.Prompt(
        text="Context: " + question["prompt"], temperature=1.5))), timeout=LIMIT_S)
    next(long_call)
    long_call.cancel()
    wait_for("free slots", lambda: not any(slot["is_processing"] for slot in json.loads(get(decision_url + "/slots"))))
    check(True, f"no slot of {llama} stays busy after a cancel")

    # --- the fleet, and the counters against what the clients saw ------------------------------------------------------------
    before = {v: metric(metrics, "goad_decisions_total", f'verdict="{v}"') for v in ("LOCAL", "OFFLOAD")}
    fleet = subprocess.run([f"{BUILD}/goad-loadgen", "--address", f"127.0.0.1:{port}", "--workload",
                            f"{ROOT}/deploy/llm/workload.jsonl", "--devices", "10", "--questions", "120", "--rate", "30"],
                           capture_output=True, text=True)
    print(fleet.stdout)
    check(fleet.returncode == 0, f"goad-loadgen: nothing lost, nothing twice {fleet.stderr[-300:]}")
    local = int(re.search(r"answered locally +(\d+)", fleet.stdout).group(1))
    edge = int(re.search(r"offloaded +(\d+)", fleet.stdout).group(1))
    after = {v: metric(metrics, "goad_decisions_total", f'verdict="{v}"') for v in ("LOCAL", "OFFLOAD")}
    check(after["LOCAL"] - before["LOCAL"] == local and after["OFFLOAD"] - before["OFFLOAD"] == edge,
          f"decisions_total adds up to what the fleet saw ({local} local, {edge} offloaded)")
    def compare(*flags):
        return subprocess.run([f"{BUILD}/goad-loadgen", "--address", f"127.0.0.1:{port}", "--workload", f"{ROOT}/deploy/llm/workload.jsonl",
                               "--devices", "10", "--questions", "60", "--rate", "30", "--rounds", "2", "--admin", f"unix:{WORK}/admin.sock",
                               *flags], capture_output=True, text=True)
    def policy():
        return subprocess.run([f"{BUILD}/goadctl", "--address", f"unix:{WORK}/admin.sock", "policy"], capture_output=True, text=True).stdout.strip()
    was = policy()
    compared = compare("--compare", "goa-relocate,all-local")
    print(compared.stdout)
    check(compared.returncode == 0, f"goad-loadgen --compare: nothing lost, nothing twice {compared.stderr[-300:]}")
    check(re.search(r"all-local +0\.0 % +0 +0 ", compared.stdout) is not None, "all-local offloads nothing")
    check(policy() == was, f"the policy is {was} again")
    wrong = compare("--compare", "goa,nonsense")
    check(wrong.returncode == 2 and "nonsense" in wrong.stderr and policy() == was, f"a policy that is none: {wrong.stderr.strip()}")
    total = metric(metrics, "goad_decisions_total")
    ended = metric(metrics, "goad_request_duration_seconds_count")
    check(total == ended, f"every decided query ended once ({total:.0f} decisions, {ended:.0f} terminals)")
    check(metric(metrics, "goad_running_queries") == 0 and metric(metrics, "goad_outbox_bytes") == 0, "nothing is left over")
    page = get(metrics)
    lint = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    complaints = [line for line in lint.stderr.splitlines() if line.startswith("goad_")]
    check(lint.returncode in (0, 3) and not complaints, f"promtool check metrics is silent about goad_* {complaints}")

    second = subprocess.run([f"{BUILD}/goad", "--config", f"{WORK}/goad.yaml"], capture_output=True, text=True, timeout=LIMIT_S)
    check(second.returncode == 1 and "another goad holds it" in second.stderr, f"a second daemon: {second.stderr.strip()}")
    goad.send_signal(1)  # SIGHUP
    wait_for("reload", lambda: metric(metrics, "goad_config_version") == 2)
    goad.terminate()
    check(goad.wait(LIMIT_S) == 0, "SIGTERM drains and exits 0")
    lines = [json.loads(line) for line in open(f"{WORK}/decisions.jsonl")]
    check(sum(1 for line in lines if line["kind"] == "decision") == total, "the decision log has every decision")


def second_turns():
    """Chats of two turns on one site with two servers: the second turn goes where the first one's prefix is cached. Prints what that is worth."""
    backends = []
    for name in ("left", "right"):
        port = free_port()
        start([f"{ROOT}/deploy/llm/engine.sh", "exec", "deploy/llm/llm.gguf", str(port), "1"], f"llama-{name}.log")
        wait_for(f"llama-server {name}", lambda: "ok" in get(f"http://127.0.0.1:{port}/health"))
        backends.append({"url": f"http://127.0.0.1:{port}", "api": "chat", "slots": 1})
    config = {"listen": {"address": "127.0.0.1:0"}, "admin": {"address": ""}, "metrics": {"address": "127.0.0.1:0"},
              "sites": [{"name": "cell-a", "uplink": {"model": "shannon"}, "backends": backends}]}
    with open(f"{WORK}/turns.yaml", "w") as out:
        json.dump(config, out)
    start([f"{BUILD}/goad", "--config", f"{WORK}/turns.yaml"], "turns.log")
    port, metrics_port = wait_for("goad", lambda: (match := re.search(r"ready .* port=(\d+) metrics_port=(\d+)", open(f"{WORK}/turns.log").read())) and
                                  match.groups())
    wait_for("both backends up", lambda: metric(f"http://127.0.0.1:{metrics_port}/metrics", "goad_backend_up") == 2)
    import grpc
    from goad.v1 import offload_pb2 as pb
    from goad.v1 import offload_pb2_grpc

    class Chat:
        def __init__(self, number):
            self.number, self.frames, self.messages = number, queue.Queue(), []
            session = offload_pb2_grpc.OffloadStub(grpc.insecure_channel(f"127.0.0.1:{port}")).Session(iter(self.frames.get, None), timeout=LIMIT_S)
            self.stream = (frame for frame in session if not frame.HasField("sites"))
            self.frames.put(pb.DeviceFrame(hello=pb.Hello(protocol_version=1, device_name=f"chat-{number}")))
            next(self.stream)

        def turn(self, content):
            self.messages.append(pb.ChatMessage(role="user", content=content))
            self.frames.put(pb.DeviceFrame(link_report=pb.LinkReport(links=[pb.SiteLink(site="cell-a", gain_db=-80)])))
            self.frames.put(pb.DeviceFrame(query=pb.Query(
                query_id=f"turn-{self.number}-{len(self.messages)}", uncertainty=0.95, local_delay_s=0.001, max_output_tokens=8,
                prompt_kind=pb.PROMPT_KIND_CHAT, inline_prompt=pb.Prompt(chat=pb.ChatMessages(messages=self.messages)))))
            text = ""
            for frame in self.stream:
                text += frame.tokens.text
                if frame.HasField("completed"):
                    self.messages.append(pb.ChatMessage(role="assistant", content=text))
                    return frame.completed
                if not frame.HasField("tokens") and frame.decision.verdict != pb.VERDICT_OFFLOAD:
                    raise AssertionError(f"turn {self.number}: {frame}")

    # Two chats at once, one on each server; each its own story, or one chat's prefix would be another's.
    rooms, people = ["kitchen", "garden", "cellar", "bedroom", "office"], ["Clara", "Anna", "Peter", "Mary", "John", "Emma"]

    def story(n):
        return " ".join(f"{people[(n + k) % 6]} went to the {rooms[(k * (n + 2) + k // 5) % 5]}." for k in range(STORY_SENTENCES))

    first, second, kept = [], [], []
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        for pair in range(8):
            chats = [Chat(2 * pair), Chat(2 * pair + 1)]
            begun = list(both.map(lambda chat: chat.turn(f"{story(chat.number)} Where is {people[chat.number % 6]}?"), chats))
            if begun[0].backend == begun[1].backend:
                continue  # one was over before the other began
            went_on = list(both.map(lambda chat: chat.turn(f"Where is {people[(chat.number + 1) % 6]}?"), reversed(chats)))[::-1]
            for one, two in zip(begun, went_on):
                first.append(one.ttft_s)
                second.append(two.ttft_s)
                kept.append(one.backend == two.backend)
            for chat in chats:
                chat.frames.put(None)
    check(len(kept) >= 8, f"{len(kept)} chats have a server of their own")
    check(all(kept), f"{len(kept)} second turns went to the backend of their first")
    print(f"TTFT on two backends, medians of {len(first)} chats: first turn ({one.prompt_tokens} tokens) {1e3 * statistics.median(first):.1f} ms, "
          f"second turn ({two.prompt_tokens} tokens) {1e3 * statistics.median(second):.1f} ms")


try:
    main()
    second_turns()
finally:
    for process in reversed(started):
        if process.poll() is None:
            process.terminate()
            process.wait(10)
