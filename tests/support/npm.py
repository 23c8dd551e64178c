"""Packages from npm for tests that are run by node: pinned, and installed under the build folder."""
import json
import os
import shutil
import subprocess

from device_rig import skip


def install(suite, folder, untested):
    """`folder` with what lies in `suite` (package.json, its lock, programs) and the packages that it names, once. Ends the program with 77, and loudly, where node,
    npm or its registry cannot be had; `untested` says what that means.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip(f"node or npm is not here: {untested}")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(suite):
        if name.endswith((".json", ".mjs")):
            shutil.copy(f"{suite}/{name}", folder)
    with open(f"{suite}/package.json") as file:
        wanted = json.load(file)["dependencies"]
    try:
        there = {}
        for package in wanted:
            with open(f"{folder}/node_modules/{package}/package.json") as file:
                there[package] = json.load(file)["version"]
        if there == wanted:
            return folder
    except OSError:
        pass
    done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries", "1", "--fetch-timeout", "20000"], cwd=folder,
                          capture_output=True, text=True)
    if done.returncode != 0:
        skip(f"npm cannot fetch {', '.join(wanted)}: {untested}", done.stderr.strip()[-500:])
    return folder
