"""An LLM server that misbehaves as it is told to, in the test's own process, on loopback."""
import http.server
import threading
import time


class Llm:
    """`mode`: good, loading (says its health page), down (fails all), fails (questions alone), every other (question fails), refuses, breaks
    (after the first token), floods (6 MB of text), slow (2.7 s to the first token), seconds (one), hangs. `key`: the bearer token that it wants."""

    def __init__(self):
        llm = self
        self.mode, self.key, self.asked, self.healthy = "good", None, 0, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, code, body, kind="application/json"):
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self):
                if llm.mode == "loading":
                    return self.reply(503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}')
                if llm.mode == "down":
                    return self.reply(500, '{"error":{"message":"CUDA error"}}')
                llm.healthy += self.path == "/health"
                self.reply(200, '{"object":"list","data":[{"id":"llm","object":"model"}]}')

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                llm.asked += 1
                if llm.key and self.headers.get("Authorization") != f"Bearer {llm.key}":
                    return self.reply(401, '{"error":{"message":"Incorrect API key provided","type":"invalid_request_error"}}')
                if llm.mode == "refuses":
                    return self.reply(400, '{"error":{"message":"the request exceeds the available context size, try increasing it"}}')
                if llm.mode in ("down", "fails") or llm.mode == "every other" and llm.asked % 2:
                    return self.reply(500, '{"error":{"message":"CUDA error"}}')
                if llm.mode == "slow":
                    time.sleep(2.7)  # above the 2.5 s of the service level
                if llm.mode == "seconds":
                    time.sleep(1)
                while llm.mode == "hangs":
                    time.sleep(0.1)
                first = 'data: {"choices":[{"text":"In the "}]}\n\n'
                rest = 'data: {"choices":[{"text":"barn.","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
                if llm.mode == "floods":
                    return self.reply(200, 300 * ('data: {"choices":[{"text":"' + 20000 * "x" + '"}]}\n\n') + rest, "text/event-stream")
                if llm.mode == "breaks":
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(first.encode())
                    self.close_connection = True
                    return
                self.reply(200, first + rest, "text/event-stream")

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *_):  # goad may hang up
                pass

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
