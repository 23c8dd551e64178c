#!/usr/bin/python3
"""An emulated LLM server: OpenAI-compatible on the wire, with no model behind it. For load on goad that leaves the cores to goad.

  emulated_llm.py PORT SLOTS SECONDS_PER_ANSWER [TOKENS]

At most SLOTS answers run at once, each takes SECONDS_PER_ANSWER for TOKENS (4) tokens; what exceeds them waits. So it manages
SLOTS / SECONDS_PER_ANSWER answers a second, exactly. TOKENS 0: as many as a request's max_tokens, in SECONDS_PER_ANSWER each.
From SIGUSR1 on all takes twice as long as before, from SIGUSR2 on as at first. Serves /health, /props, /metrics and /v1/completions on loopback.
"""
import asyncio
import json
import signal
import sys

WORDS = ["this ", "answer ", "is ", "emulated "]


class Emulator:
    def __init__(self, slots, seconds, tokens):
        self.slots, self.seconds, self.tokens = slots, seconds, tokens
        self.free = asyncio.Semaphore(slots)
        self.processing = self.deferred = 0
        self.slowness = 1

    def slow_down(self, times):
        self.slowness = self.slowness * times if times else 1

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
            body = await reader.readexactly(length)
            path = head.split(" ")[1]
            if head.startswith("POST"):
                await self.answer(reader, writer, json.loads(body).get("max_tokens", 1))
            else:
                pages = {"/v1/models": json.dumps({"object": "list", "data": [{"id": "emulated", "object": "model"}]}),
                         "/props": json.dumps({"total_slots": self.slots}),
                         "/metrics": f"llamacpp:requests_processing {self.processing}\nllamacpp:requests_deferred {self.deferred}\n"}
                text = pages.get(path, "{}")
                writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, reader, writer, most_tokens):
        tokens = self.tokens or most_tokens
        self.deferred += 1
        await self.free.acquire()
        self.deferred -= 1
        self.processing += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            for k in range(tokens):
                await asyncio.sleep(self.slowness * self.seconds / (self.tokens or 1))
                if reader.at_eof():  # the client has left
                    return
                event = {"choices": [{"index": 0, "text": WORDS[k % len(WORDS)]}]}
                if k == tokens - 1:
                    event["choices"][0]["finish_reason"] = "stop"
                writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                await writer.drain()
            usage = {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": tokens}}
            writer.write(b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n")
        finally:
            self.processing -= 1
            self.free.release()


async def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    emulator = Emulator(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) == 5 else 4)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, emulator.slow_down, 2)
    loop.add_signal_handler(signal.SIGUSR2, emulator.slow_down, 0)
    server = await asyncio.start_server(emulator.serve, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    async with server:
        await server.serve_forever()


asyncio.run(main())
