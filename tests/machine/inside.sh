#!/bin/bash
# Within the machine of tests/machine.sh, as root, at the end of its start. What it prints is the machine's console.
exec 2>&1
ok() { echo "ok: $*"; }
fail() {
  echo "FAILED: $*"
  journalctl -u goad -n 30 --no-pager | sed 's/^/   /'
  exit 1
}
echo "== $(systemd --version | head -1); $(uname -r)"
echo "machine: passed"
