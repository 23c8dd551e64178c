#!/usr/bin/python3
"""nginx on a configuration of deploy/nginx, with other ports and files. For tests; hostile.sh runs it as a program:

  nginx.py FRONT_PORT GOAD_PORT FOLDER     deploy/nginx/goad.conf in the foreground, its files in FOLDER
"""
import os
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TLS = f"{ROOT}/tests/data/tls"
BINARY = "/usr/sbin/nginx"


def shipped(name, changes):
    """deploy/nginx/NAME with each of `changes` made: what is not there cannot be changed."""
    text = open(f"{ROOT}/deploy/nginx/{name}").read()
    for old, new in changes.items():
        if old not in text:
            sys.exit(f"deploy/nginx/{name} has no {old!r}")
        text = text.replace(old, new)
    return text


def front(port, goad_port, **changes):
    """goad.conf: devices come to `port`. `changes` are further ones of the file."""
    return shipped("goad.conf", {"listen 443 ": f"listen 127.0.0.1:{port} ", "/etc/goad/server.": f"{TLS}/server.",
                                 "server 127.0.0.1:7443 ": f"server 127.0.0.1:{goad_port} ", **changes})


class Nginx:
    """One nginx of ours, as whoever runs the test, with all its files in `folder`."""

    def __init__(self, folder, site):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.write(site)
        self.process = subprocess.Popen([BINARY, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/nginx.log"])

    def write(self, site):
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        open(f"{self.folder}/site.conf", "w").write(site)
        open(f"{self.folder}/nginx.conf", "w").write(f"""{user} daemon off; worker_processes 2; pid {self.folder}/nginx.pid;
worker_rlimit_nofile 8192; error_log {self.folder}/nginx.log info; events {{ worker_connections 4096; }}
http {{ {temporary} log_format upstream '$request_method $uri $status by $upstream_addr'; access_log {self.folder}/access.log upstream;
include {self.folder}/site.conf; }}
""")

    def reload(self, site):
        self.write(site)
        self.process.send_signal(signal.SIGHUP)

    def log(self):
        return open(f"{self.folder}/nginx.log", errors="replace").read()

    def requests(self):
        return open(f"{self.folder}/access.log", errors="replace").read()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    nginx = Nginx(sys.argv[3], front(int(sys.argv[1]), int(sys.argv[2])))
    signal.signal(signal.SIGTERM, lambda *_: nginx.process.terminate())
    sys.exit(nginx.process.wait())
