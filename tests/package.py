#!/usr/bin/python3
"""The Debian packages, without errors by lintian, on a bare Debian 12: install, start by the unit's ExecStart, reload, drain, upgrade with a changed
configuration, remove, purge; and the installed SDK builds its example outside goad's tree.

  package.py BUILD_DIR      (as root; needs debootstrap; tests/check.sh package calls it)
"""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

BUILD = os.path.abspath(sys.argv[1])
SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def check(condition, what):
    if not condition:
        sys.exit(f"package.py: FAILED: {what}")
    print(f"ok: {what}", flush=True)


def run(*command, ok=True):
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C"))
    if ok and done.returncode != 0:
        sys.exit(f"package.py: FAILED: {' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


run("cmake", "--build", BUILD)
for old in glob.glob(f"{BUILD}/*.deb"):
    os.remove(old)
subprocess.run(["cpack", "-G", "DEB"], cwd=BUILD, check=True, stdout=subprocess.DEVNULL)
goad_deb, = glob.glob(f"{BUILD}/goad_*.deb")
dev_deb, = glob.glob(f"{BUILD}/goad-client-dev_*.deb")
tools_deb, = glob.glob(f"{BUILD}/goad-tools_*.deb")
print(f"{os.path.basename(goad_deb)} {os.path.getsize(goad_deb) / 1e6:.1f} MB, {os.path.basename(dev_deb)} {os.path.getsize(dev_deb) / 1e6:.1f} MB")
found = run("lintian", "--no-cfg", "--allow-root", *glob.glob(f"{BUILD}/*.deb"), ok=False).stdout
print(found, end="")
check(not re.search(r"^E:", found, re.M), f"lintian finds no errors ({len(re.findall('^W:', found, re.M))} warnings, above)")

mirror = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").stdout.split("\n")[0]
root = tempfile.mkdtemp(prefix="goad-package-")
os.chmod(root, 0o755)  # the user goad must get in
goad = None
try:
    print("a bare Debian 12 (debootstrap minbase), a minute ...", flush=True)
    run("debootstrap", "--variant=minbase", "bookworm", root, mirror)
    shutil.copy("/etc/resolv.conf", f"{root}/etc/resolv.conf")
    for source in ("/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/apt.conf.d"):
        if os.path.isdir(source):
            shutil.copytree(source, f"{root}{source}", dirs_exist_ok=True)
        elif os.path.exists(source):
            shutil.copy(source, f"{root}{source}")
    os.mkdir(f"{root}/debs")
    shutil.copy(goad_deb, f"{root}/debs/goad.deb")
    shutil.copy(dev_deb, f"{root}/debs/goad-client-dev.deb")
    shutil.copy(tools_deb, f"{root}/debs/goad-tools.deb")

    def inside(*command, ok=True):
        return run("chroot", root, *command, ok=ok)

    inside("apt-get", "update")
    inside("apt-get", "install", "-y", "--no-install-recommends", "/debs/goad.deb")
    enabled = f"{root}/etc/systemd/system/multi-user.target.wants/goad.service"
    check(not os.path.lexists(enabled), "a first install does not enable it: it is not configured yet")
    check("goad" in inside("getent", "passwd", "goad").stdout, "installed; user goad is there")
    check("goad 0." in inside("goad", "--version").stdout, "goad --version")
    check(inside("goadctl", "check", "/etc/goad/goad.yaml").stdout.strip().endswith("good"), "the installed configuration is good")
    check(os.path.exists(f"{root}/usr/share/man/man8/goadctl.8") or os.path.exists(f"{root}/usr/share/man/man8/goadctl.8.gz"), "man pages are there")
    check("goadctl" in inside("bash", "-c", ". /usr/share/bash-completion/completions/goadctl; complete -p goadctl").stdout, "bash completion loads")

    unit = open(f"{root}/lib/systemd/system/goad.service").read()
    start = re.search(r"^ExecStart=(.*)$", unit, re.M).group(1).split()
    os.makedirs(f"{root}/run/goad", exist_ok=True)
    uid = int(inside("id", "-u", "goad").stdout)
    os.chown(f"{root}/run/goad", uid, -1)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(f"{root}/run/notify")
    os.chmod(f"{root}/run/notify", 0o666)
    notify.settimeout(20)

    def hear(wanted):
        while True:
            try:
                message = notify.recv(4096).decode()
            except TimeoutError:
                sys.exit(f"package.py: FAILED: {wanted} was not heard; goad says\n{open(f'{root}/log').read()}")
            if wanted in message.split("\n"):
                return message

    goad = subprocess.Popen(["chroot", "--userspec=goad:goad", root, "env", "NOTIFY_SOCKET=/run/notify", *start], stderr=open(f"{root}/log", "w"))
    hear("READY=1")
    check(True, f"READY=1 from {' '.join(start)} as user goad")
    check("serving" in inside("goadctl", "status").stdout, "goadctl status over /run/goad/admin.sock")
    with open(f"{root}/etc/goad/goad.yaml") as file:
        text = file.read()
    with open(f"{root}/etc/goad/goad.yaml", "w") as file:
        file.write(text.replace("tau: 0.8 ", "tau: 0.6 "))
    goad.send_signal(signal.SIGHUP)
    hear("RELOADING=1")
    hear("READY=1")
    check(inside("goadctl", "tau").stdout.strip() == "0.6", "a reload takes the changed tau")
    inside("goadctl", "drain")
    hear("STOPPING=1")
    check(goad.wait(60) == 0, "goadctl drain ends it with exit status 0")

    os.makedirs(os.path.dirname(enabled), exist_ok=True)
    os.symlink("/lib/systemd/system/goad.service", enabled)  # as systemctl enable does
    inside("apt-get", "install", "-y", "--reinstall", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confdef", "/debs/goad.deb")
    check(os.path.lexists(enabled), "an upgrade leaves it enabled where it was")
    check("tau: 0.6 " in open(f"{root}/etc/goad/goad.yaml").read(), "an upgrade keeps the changed configuration")

    inside("apt-get", "install", "-y", "--no-install-recommends", "/debs/goad-client-dev.deb", "g++", "cmake", "make", "pkg-config")
    inside("cp", "-r", "/usr/share/doc/goad-client-dev/examples", "/example")
    inside("cmake", "-S", "/example", "-B", "/example/build")
    inside("cmake", "--build", "/example/build")
    check("usage:" in inside("/example/build/goad-quickstart", ok=False).stderr, "the installed SDK builds its example by find_package(goad_client)")
    inside("bash", "-c", "g++ -std=c++20 /example/quickstart.cc -o /example/q $(pkg-config --cflags --libs goad_client)")
    check("usage:" in inside("/example/q", ok=False).stderr, "and by pkg-config")

    inside("apt-get", "install", "-y", "--no-install-recommends", "/debs/goad-tools.deb")
    check("--certificate" in inside("goad-loadgen", "--help", ok=False).stdout, "goad-tools: goad-loadgen, with mTLS")
    lonely = inside("goad-loadgen", "--address", "127.0.0.1:9", "--questions", "1", ok=False)
    check(lonely.returncode == 3, "with its recorded questions")
    check("usage:" in inside("goad-quickstart", ok=False).stderr, "and goad-quickstart")

    inside("apt-get", "remove", "-y", "goad")
    check(os.path.exists(f"{root}/etc/goad/goad.yaml") and not os.path.exists(f"{root}/usr/bin/goad"), "remove keeps the configuration")
    inside("apt-get", "purge", "-y", "goad")
    check(not os.path.exists(f"{root}/etc/goad"), "purge takes it")
finally:
    if goad is not None and goad.poll() is None:
        goad.kill()
    shutil.rmtree(root, ignore_errors=True)
print("package.py: passed")
