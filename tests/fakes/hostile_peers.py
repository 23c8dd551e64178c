#!/usr/bin/python3
"""Peers that mean no good, one kind after the other, beside an honest device whose waits are measured. Loopback only, bounded in time.

  hostile_peers.py PORT TLS_PORT PID SECONDS METRICS_PORT [CA [ONLY]]

Prints a row per attack: peak memory of goad so far, the honest device's decision waits, what goad refused meanwhile, how much of a core goad
took. The attackers run at the lowest priority. With CA, PORT is a TLS port before goad (nginx); bounds by address are then the door's, so
the attackers come from an address of their own, 127.0.0.2. ONLY: a regular
expression of the attacks' names. Exit status 1 when an honest query is lost or answered twice, goad is gone, or it held more than MOST_MIB.
"""
import gzip
import multiprocessing
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

MOST_MIB = 600
HERE = os.path.dirname(os.path.abspath(__file__))
PORT, TLS_PORT, PID, SECONDS, METRICS_PORT = (int(word) for word in sys.argv[1:6])
CA = sys.argv[6] if len(sys.argv) > 6 else None


# --- attackers: each sends what it can until `until`, and comes again when it is thrown out ------------------------------------


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(path, more=()):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("content-type", "application/grpc"),
              ("te", "trailers"), *more]
    return b"".join(b"\0" + bytes([len(n)]) + n.encode() + bytes([len(v)]) + v.encode() for n, v in fields)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
SESSION, ASK, WATCH = "/goad.v1.Offload/Session", "/goad.v1.Offload/Ask", "/grpc.health.v1.Health/Watch"


def streams(open_one, batch=50):
    stream = 1
    while stream < 2**31:
        yield b"".join(open_one(s) for s in range(stream, stream + 2 * batch, 2))
        stream += 2 * batch


def rapid_reset():  # about 10,000 a second
    begun, sent = time.monotonic(), 0
    block = headers(SESSION)
    for data in streams(lambda s: frame(1, 4, s, block) + frame(3, 0, s, struct.pack(">I", 8))):
        yield data
        sent += 50
        time.sleep(max(0, sent / 10000 - (time.monotonic() - begun)))


def reset_unknown_method():
    block = headers("/no.such.Service/Method")
    return streams(lambda s: frame(1, 4, s, block) + frame(3, 0, s, struct.pack(">I", 8)))


def idle_streams():
    block = headers(SESSION)
    return streams(lambda s: frame(1, 4, s, block))


def health_watches():
    block = headers(WATCH)
    return streams(lambda s: frame(1, 4, s, block) + frame(0, 1, s, b"\0\0\0\0\0"))


def unfinished_messages():
    block = headers(ASK)
    piece = b"\0" + struct.pack(">I", 3 << 20) + b"\0" * 16000
    return streams(lambda s: frame(1, 4, s, block) + frame(0, 0, s, piece), batch=4)


def compressed():
    bomb = gzip.compress(b"\0" * (64 << 20))
    block = headers(ASK, [("grpc-encoding", "gzip")])
    message = b"\1" + struct.pack(">I", len(bomb)) + bomb
    parts = [message[k:k + 16000] for k in range(0, len(message), 16000)]
    return streams(lambda s: frame(1, 4, s, block) + b"".join(frame(0, k + 1 == len(parts), s, p) for k, p in enumerate(parts)), batch=1)


def continuation():
    yield frame(1, 0, 1, headers(SESSION))
    while True:
        yield frame(9, 0, 1, b"\0\x04abcd\x7f\x80\x07" + b"v" * 1150) * 10


def settings():
    while True:
        yield frame(4, 0, 0, struct.pack(">HI", 4, 65535) * 10) * 200


def pings():
    while True:
        yield frame(6, 0, 0, b"12345678") * 500


def empty_data():
    yield frame(1, 4, 1, headers(SESSION))
    while True:
        yield frame(0, 0, 1) * 500


def empty_messages():
    yield frame(1, 4, 1, headers(SESSION))
    while True:
        yield frame(0, 0, 1, b"\0\0\0\0\0" * 100) * 2


def large_headers():
    block = headers(SESSION) + b"\0\x01a\x7f\xc1\x3d" + b"v" * 8000
    return streams(lambda s: frame(1, 4, s, block), batch=4)


def header_block_bombs(value=4000):
    """16 KiB that unpack to megabytes: an entry put into the table, then named 12,000 times and more. Settings are not acknowledged: a bound
    of gRPC's on headers holds for peers that have. With 4 KB of value it is 50 MB of text, with 10 bytes it is 16,000 headers."""
    size = bytes([value]) if value < 127 else b"\x7f" + bytes([0x80 | (value - 127) & 127, (value - 127) >> 7])
    block = headers(SESSION) + b"\x40\x01a" + size + b"v" * value
    block += b"\xbe" * (16384 - len(block))
    return streams(lambda s: frame(1, 4, s, block), batch=1)


def garbage():
    while True:
        yield os.urandom(4096)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), 2, source_address=("127.0.0.2", 0) if CA else None)


def http2(peer):
    if not CA:
        return peer
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(peer, server_hostname="localhost")


def take_all(peer):
    """Whatever is there to read; raises at its end."""
    peer.settimeout(0)
    try:
        while peer.recv(1 << 16):
            pass
        raise ConnectionError("closed")
    except (BlockingIOError, ssl.SSLWantReadError):
        peer.settimeout(1)


def one_connection(generate, until, reads=True):
    while time.monotonic() < until:
        try:
            with connect(PORT) as plain:
                plain.settimeout(1)
                if not reads:
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                with http2(plain) as peer:
                    peer.sendall(PREFACE)
                    for data in generate():
                        if time.monotonic() >= until:
                            break
                        peer.sendall(data)
                        if reads:
                            take_all(peer)
        except OSError:
            time.sleep(0.05)


def many_connections(port, opening, until, at_once=500):
    """Opened, perhaps with some bytes, held, all closed, again."""
    while time.monotonic() < until:
        held = []
        try:
            while len(held) < at_once and time.monotonic() < until:
                peer = connect(port)
                held.append(peer)
                if opening:
                    peer.sendall(opening[len(held) % len(opening)])
        except OSError:
            time.sleep(0.05)
        for peer in held:
            peer.close()


TLS_HELLO = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xff" * 512, b""]
ATTACKS = [
    ("silent connections", lambda until: many_connections(PORT, [b"", b"PRI * HT"], until)),
    ("broken-off TLS handshakes", lambda until: many_connections(TLS_PORT, TLS_HELLO, until)),
    ("garbage", lambda until: one_connection(garbage, until)),
    ("compressed bombs", lambda until: one_connection(compressed, until)),
    ("unfinished messages", lambda until: one_connection(unfinished_messages, until)),
    ("idle streams without end", lambda until: one_connection(idle_streams, until)),
    ("health watches without end", lambda until: one_connection(health_watches, until)),
    ("rapid reset, 10,000/s", lambda until: one_connection(rapid_reset, until)),
    ("resets of no method", lambda until: one_connection(reset_unknown_method, until)),
    ("CONTINUATION", lambda until: one_connection(continuation, until)),
    ("header block bombs", lambda until: one_connection(header_block_bombs, until)),
    ("bombs of many headers", lambda until: one_connection(lambda: header_block_bombs(10), until)),
    ("8 kB of headers each", lambda until: one_connection(large_headers, until)),
    ("SETTINGS, nothing read", lambda until: one_connection(settings, until, reads=False)),
    ("PING, nothing read", lambda until: one_connection(pings, until, reads=False)),
    ("empty DATA", lambda until: one_connection(empty_data, until)),
    ("empty messages", lambda until: one_connection(empty_messages, until)),
]
ATTACKS = [attack for attack in ATTACKS if re.search(sys.argv[7] if len(sys.argv) > 7 else "", attack[0])]


def attacker(number, until):
    os.nice(19)
    ATTACKS[number][1](until)


# --- the honest device, and what goad says of itself --------------------------------------------------------------------------


def protocol():
    generated = tempfile.mkdtemp(prefix="goad-proto-")
    proto = os.path.join(HERE, "..", "..", "proto")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", proto, f"--python_out={generated}", f"--grpc_python_out={generated}",
                    os.path.join(proto, "goad/v1/offload.proto")], check=True)
    sys.path.insert(0, generated)
    import grpc
    from goad.v1 import offload_pb2, offload_pb2_grpc
    return grpc, offload_pb2, offload_pb2_grpc


class Device(threading.Thread):
    """Asks an easy question every 20 ms, one at a time, on one stream; its waits since the last look are in `waits`, in seconds."""

    def __init__(self):
        super().__init__(daemon=True)
        self.grpc, self.pb, self.rpc = protocol()
        self.waits, self.asked, self.lost, self.twice, self.stopped = [], 0, 0, 0, False

    def run(self):
        import queue
        requests = queue.Queue()
        door = f"127.0.0.1:{PORT}"
        channel = (self.grpc.secure_channel(door, self.grpc.ssl_channel_credentials(open(CA, "rb").read())) if CA else
                   self.grpc.insecure_channel(door))
        answers = self.rpc.OffloadStub(channel).Session(iter(requests.get, None))
        requests.put(self.pb.DeviceFrame(hello=self.pb.Hello(protocol_version=1, device_name="honest")))
        next(answers)
        try:
            while not self.stopped:
                name = f"honest-{self.asked}"
                begun = time.monotonic()
                requests.put(self.pb.DeviceFrame(query=self.pb.Query(
                    query_id=name, uncertainty=0.1, prompt_bits=800, prompt_tokens=10, local_delay_s=0.001, max_output_tokens=8)))
                self.asked += 1
                answer = next(answers)
                self.waits.append(time.monotonic() - begun)
                if answer.decision.query_id != name:
                    self.twice += 1
                time.sleep(0.02)
        except (StopIteration, self.grpc.RpcError) as error:
            if not self.stopped:
                self.lost += 1
                print(f"the honest device's stream ended: {error}", flush=True)
        requests.put(None)


def refused():
    page = urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(r"goad_(connections_)?refused_total\{", line))


def memory_mib(what):
    try:
        return next(int(line.split()[1]) / 1024 for line in open(f"/proc/{PID}/status") if line.startswith(what))
    except (OSError, StopIteration):
        return float("nan")


def cpu_s():
    try:
        user, system = open(f"/proc/{PID}/stat").read().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return float("nan")


def row(name, waits, refusals, cpu):
    waits = sorted(waits)
    at = lambda q: f"{1e3 * waits[min(len(waits) - 1, int(q * len(waits)))]:8.1f}" if waits else "       -"
    print(f"{name:28s} {memory_mib('VmHWM'):9.0f} {at(0.5)} {at(0.99)} {at(1)} {refusals:10.0f} {100 * cpu:5.0f} %  {'yes' if os.path.exists(f'/proc/{PID}') else 'NO'}",
          flush=True)


def main():
    device = Device()
    device.start()
    print(f"{'':28s} {'peak MiB':>9s} {'p50 ms':>8s} {'p99 ms':>8s} {'max ms':>8s} {'refused':>10s} {'CPU':>7s}  alive")

    def beside(name, numbers, seconds):
        device.waits, before, cpu, begun = [], refused(), cpu_s(), time.monotonic()
        until = begun + seconds
        attackers = [multiprocessing.Process(target=attacker, args=(number, until)) for number in numbers]
        for process in attackers:
            process.start()
        while time.monotonic() < until and device.is_alive() and os.path.exists(f"/proc/{PID}"):
            time.sleep(0.1)
        for process in attackers:
            process.join(5)
            if process.is_alive():
                process.kill()
        row(name, device.waits, refused() - before, (cpu_s() - cpu) / (time.monotonic() - begun))

    beside("nobody", [], min(SECONDS, 3))
    for number, (name, _) in enumerate(ATTACKS):
        beside(name, [number], SECONDS / len(ATTACKS))
    beside("all at once", range(len(ATTACKS)), min(SECONDS, 10))
    beside("nobody, afterwards", [], min(SECONDS, 3))
    device.stopped = True
    device.join(5)
    peak = memory_mib("VmHWM")
    print(f"honest device: {device.asked} asked, {device.lost} lost, {device.twice} twice; goad: at most {peak:.0f} MiB (bound: {MOST_MIB}), "
          f"{memory_mib('VmRSS'):.0f} MiB now")
    return 0 if device.asked > 0 and device.lost == 0 and device.twice == 0 and peak <= MOST_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
