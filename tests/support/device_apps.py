"""Apps of goad-device: one that asks and reads all that comes, and those that mean no good."""
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import time

import device_rig
from device_rig import peak_rss_mb
from programs import check, metric

LIST = {"type": "json_schema", "json_schema": {"name": "list", "schema": {"type": "array", "minItems": 500, "maxItems": 500,
                                                                          "items": {"enum": ["bedroom", "cellar", "garden", "kitchen"]}}}}


@dataclasses.dataclass
class Answer:
    status: int
    header: str          # x-goad
    stream: bool
    text: str = ""
    finish_reason: str = None
    model: str = None
    goad: dict = None
    error: dict = None
    ends: int = 0        # how many [DONE] or whole answers
    broken: bool = False  # an error after text
    took_s: float = 0


def question_request(question, stream=False, model="auto"):
    return {"model": model, "prompt": question["prompt"], "max_tokens": 8, "temperature": 0, "stream": stream}


def long_request(model, stream, question):
    """As many tokens as the models' context holds, whatever they would like to say; as unsure as of the question itself."""
    return {"model": model, "messages": [{"role": "user", "content": question["prompt"]}], "max_tokens": 380, "temperature": 0, "stream": stream,
            "response_format": LIST}


def ask(url, request, headers=None):
    begin = time.monotonic()
    connection = http.client.HTTPConnection(url.split("//")[1], timeout=100)
    path = "/v1/chat/completions" if "messages" in request else "/v1/completions"
    connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json", **(headers or {})})
    response = connection.getresponse()
    answer = Answer(response.status, response.getheader("x-goad"), response.getheader("Content-Type", "").startswith("text/event-stream"))
    body = response.read().decode()
    answer.took_s = time.monotonic() - begin
    connection.close()
    for line in body.split("\n\n") if answer.stream else [body]:
        data = line.removeprefix("data: ") if answer.stream else line
        if data == "[DONE]":
            answer.ends += 1
        elif data:
            read(json.loads(data), answer)
    if not answer.stream and answer.status == 200:
        answer.ends = 1
    answer.broken = answer.error is not None and answer.status == 200
    return answer


def read(event, answer):
    answer.error = event.get("error", answer.error)
    answer.goad = event.get("goad", answer.goad)
    answer.model = event.get("model", answer.model)
    for choice in event.get("choices", []):
        said = choice.get("delta", choice.get("message", choice))
        answer.text += said.get("content", said.get("text")) or ""
        if choice["finish_reason"]:
            if answer.finish_reason:
                raise AssertionError(f"two ends: {answer}")
            answer.finish_reason = choice["finish_reason"]


def connect(url):
    host, port = url.split("//")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=100)


@contextlib.contextmanager
def begun(url, request):
    """A request under way, on a connection that is closed at the end of the block."""
    path = "/v1/chat/completions" if "messages" in request else "/v1/completions"
    body = json.dumps(request).encode()
    connection = connect(url)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield connection
    finally:
        connection.close()


def status_of(url, sent):
    """The status of what comes back; 0: the connection was closed without a word."""
    with connect(url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent if isinstance(sent, bytes) else sent.encode())
        try:
            head = connection.recv(4096)
        except ConnectionError:
            return 0
        return int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0


def post(body, *headers):
    head = "".join(f"{line}\r\n" for line in ("POST /v1/chat/completions HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers))
    return head.encode() + b"\r\n" + (body if isinstance(body, bytes) else body.encode())


def refusals(url):
    good = json.dumps({"messages": [{"role": "user", "content": "Where is Anna?"}], "max_tokens": 2})
    deep = '{"messages":' + "[" * 10000 + "]" * 10000 + "}"
    for what, sent, allowed in (
            ("one that is good", post(good), (200,)),
            ("Origin", post(good, "Origin: https://a.page"), (403,)),
            ("Content-Encoding", post(good, "Content-Encoding: gzip"), (415,)),
            ("a header of 1 MiB", post(good, "X-Long: " + "x" * (1 << 20)), (0, 400, 414, 431)),
            ("10,000 headers", post(good, *[f"X-{k}: {k}" for k in range(10000)]), (0, 400, 414, 431)),
            ("a path of 100 kB", b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n", (0, 400, 404, 414)),
            ("17 MiB", post(b"x" * (17 << 20)), (0, 413)),
            ("a length of 2^63", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9223372036854775808\r\n\r\n", (0, 400, 413)),
            ("a length of -1", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", (0, 400, 413)),
            ("chunks of 20 MiB", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * (1 << 20) + b"\r\n" +
             (b"100000\r\n" + b"x" * (1 << 20) + b"\r\n") * 19 + b"0\r\n\r\n", (0, 400, 413)),
            ("chunks that are none", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n\r\n", (0, 400)),
            ("deep", post(deep), (400,)),
            ("a million small things", post('{"messages":[' + "{}," * 1000000 + "{}]}"), (400,)),
            ("16 MiB of small things", post('{"messages":[' + "{}," * 5500000 + "{}]}"), (400,)),
            ("a text of a million commas", post(json.dumps({"model": "local", "messages": [{"role": "user", "content": "\\\"," * 1000000}], "max_tokens": 2})), (400,)),
            ("no JSON", post("{"), (400,)),
            ("no UTF-8", post(b'{"messages":[{"role":"user","content":"\xff\xfe"}]}'), (200, 400, 500, 502)),
            ("NUL", post(b"\0" * 100), (400,)),
            ("no list", post('{"messages":"x"}'), (400,)),
            ("two answers", post('{"messages":[{"role":"user","content":"x"}],"n":2}'), (400,)),
            ("a model of 10 kB", post(json.dumps({"model": "m" * 10000, "messages": [{"role": "user", "content": "x"}]})), (400,)),
            ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (0, 400)),
            ("no length", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n", (411,)),
            ("two lengths", post(good, "Content-Length: 3"), (400,)),
            ("a length and chunks", post(good, "Transfer-Encoding: chunked"), (400,)),
            ("a name of the web that leads here", b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", (403,)),
            ("an address as its name", b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", (200,)),
            ("a method that is none", b"BREW /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n", (0, 400, 404, 405)),
            ("multipart", post("--b\r\n\r\n", "Content-Type: multipart/form-data; boundary=b"), (400, 413, 415)),
            ("a URL that is not there", b"GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", (404,)),
            ("a range", post(good, "Range: bytes=0-1"), (200,))):
        begin = time.monotonic()
        status = status_of(url, sent)
        check(status in allowed, f"{what}: {status or 'closed'} ({(time.monotonic() - begin) * 1e3:.0f} ms)")


def answers_to(url, sent):
    """How many answers come before the connection is closed."""
    with connect(url) as connection:
        connection.settimeout(20)
        got = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            while chunk := connection.recv(65536):
                got += chunk
    return got.count(b"HTTP/1.1 ")


def bad_apps(field):
    url = field.url
    refusals(url)
    # A page of the web can choose URL and body: what is within a refused request is no request.
    inner = post(json.dumps({"model": "local", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}))
    for what, head in (("a long URL", b"POST /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\n"),
                       ("a long header", b"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\nCookie: " + b"a" * 9000 + b"\r\n"),
                       ("Origin", b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\n"),
                       ("a path that is not there", b"PUT /nothing HTTP/1.1\r\nHost: localhost\r\n")):
        count = answers_to(url, head + f"Content-Length: {len(inner)}\r\n\r\n".encode() + inner)
        check(count <= 1, f"a request within the body of one with {what}: {count} answers")
    check(field.rig.sanitized or peak_rss_mb(field.device) < 160, f"none took more than the bytes that it sent, some times: {peak_rss_mb(field.device):.0f} MB at most")
    # Apps that trickle, sleep and do not read, twice as many as there are threads for; an honest one beside them.
    request = post(json.dumps({"model": "local", "messages": [{"role": "user", "content": "Where is Anna?"}], "max_tokens": 2}))
    crowd = [connect(url) for _ in range(100)]
    stop = threading.Event()

    def trickle():
        sent = 0
        while not stop.wait(0.02) and sent < len(request) - 1:
            for connection in crowd:
                with contextlib.suppress(OSError):
                    connection.sendall(request[sent:sent + 1])
            sent += 1
    trickling = threading.Thread(target=trickle)
    trickling.start()
    idle = [connect(url) for _ in range(150)]
    deaf = []
    for _ in range(10):
        deaf.append(connect(url))
        deaf[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps(long_request("local", True, device_rig.questions()[0]))
        deaf[-1].sendall(post(body))
    longest = 0
    for _ in range(20):
        answer = ask(url, {"model": "local", "messages": [{"role": "user", "content": "Where is Anna?"}], "max_tokens": 2})
        check_status = answer.status
        longest = max(longest, answer.took_s)
        if check_status != 200:
            raise AssertionError(f"an honest app beside them: {answer}")
    check(longest < 5, f"an honest app beside 100 that trickle, 150 that are silent and 10 that do not read: longest answer {longest * 1e3:.0f} ms")
    stop.set()
    trickling.join()
    for connection in crowd + idle + deaf:
        connection.close()
    print(f"  all over after {field.wait_idle('bad apps') * 1e3:.0f} ms; refused {metric(url + '/metrics', 'goad_device_refused_total'):.0f}")
