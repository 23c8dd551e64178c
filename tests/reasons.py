#!/usr/bin/python3
"""Every reason that goad gives a device, caller or metric (a literal in UPPER_SNAKE in server/) is named by a test, in
a string of its own or in a longer one. Exit status 1 lists those that are not."""
import os
import re
import subprocess
import sys

os.chdir(os.path.dirname(os.path.abspath(__file__)) + "/..")

ROOMS = ["server/" + room for room in
         ("admin", "base", "daemon", "dispatch", "engine", "listener", "planner", "session", "telemetry")]
NOT_REASONS = {"RUNTIME_DIRECTORY", "JOURNAL_STREAM", "LOCAL", "OFFLOAD", "ELIGIBLE"}  # of the environment, verdicts, no obstacle


def files(*paths):
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *paths], capture_output=True, text=True,
                            check=True)
    return [path for path in listed.stdout.split() if os.path.exists(path)]


def strings(path):
    """What stands between quotes on a line of its own; comments go."""
    comment = "#" if path.endswith((".py", ".sh")) else "//"
    for line in open(path, errors="replace"):
        if not line.lstrip().startswith((comment, "#include")):
            yield from re.findall(r'"((?:[^"\\]|\\.)*)"' + (r"|'((?:[^'\\]|\\.)*)'" if comment == "#" else "|()"), line)


used = {}
for path in files(*ROOMS):
    if not path.endswith((".cc", ".h")):
        continue
    for text in (first or second for first, second in strings(path)):
        if re.fullmatch(r"[A-Z][A-Z_]{3,}", text) and text not in NOT_REASONS:
            used.setdefault(text, path)
named = set()
for path in files("tests"):
    if path.endswith((".cc", ".h", ".py", ".sh")) and path != "tests/reasons.py":
        for text in (first or second for first, second in strings(path)):
            named.update(re.findall(r"\b[A-Z][A-Z_]{3,}\b", text))
missing = sorted(reason for reason in used if reason not in named)
for reason in missing:
    print(f"{reason} ({used[reason]}): no test names it")
if not missing:
    print(f"reasons: {len(used)}, each named by a test")
sys.exit(1 if missing or len(used) < 20 else 0)
