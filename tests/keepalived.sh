#!/usr/bin/env bash
# deploy/keepalived/keepalived.conf on two machines that are network namespaces of our own: one address, 60 devices that ask all the time.
# The goad that has the address is killed, then the other one's is drained, then the cable of the one that has it is pulled and plugged in again.
#
#   tests/keepalived.sh
#
# Prints how long it took after each event until the other machine's goad decided. Passes when no question was lost or answered twice. Needs root, Debian's
# keepalived and iproute2, and a build (tests/check.sh quick). Emulated are the LLM servers, the device model and the radio.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin
for tool in ip keepalived; do
  command -v $tool > /dev/null || { echo "keepalived.sh: SKIPPED: there is no $tool here" >&2; exit 77; }
done
run=$(mktemp -d)
spaces=()
declare -A pid=()
kept=1
stop_all() {
  local name
  for name in "${!pid[@]}"; do kill -TERM "${pid[$name]}" 2> /dev/null || true; done
  wait 2> /dev/null
  for name in "${spaces[@]}"; do ip netns del "$name"; done
  [ $kept = 1 ] || rm -rf "$run"
}
trap stop_all EXIT
trap 'exit 130' INT TERM
fail() { echo "keepalived.sh: FAILED: $*; logs in $run" >&2; exit 1; }
ip netns add "goad-switch-$$" 2> /dev/null || { echo "keepalived.sh: SKIPPED: no network namespaces here" >&2; exit 77; }
spaces=("goad-switch-$$")
in_space() { local name=$1; shift; ip netns exec "goad-$name-$$" "$@"; }
in_space switch ip link add switch type bridge
in_space switch ip link set switch up
plug() {  # SPACE ADDRESS
  ip netns add "goad-$1-$$"
  spaces+=("goad-$1-$$")
  ip link add eth0 netns "goad-$1-$$" type veth peer name "to-$1" netns "goad-switch-$$"
  in_space switch ip link set "to-$1" master switch up
  in_space "$1" ip link set lo up
  in_space "$1" ip addr add "$2/24" dev eth0  # TEST-NET-1, RFC 5737
  in_space "$1" ip link set eth0 up
}
plug first 192.0.2.1
plug second 192.0.2.2
plug devices 192.0.2.3

until_true() {  # WHAT COMMAND...: polls for 40 s
  local what=$1 tries=0
  shift
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 400 ] || fail "$what"
    sleep 0.1
  done
}
status() { build/goadctl --address "unix:$run/$1.sock" --json status 2> /dev/null; }
has_address() { in_space "$1" ip -br addr show eth0 | grep -q '192\.0\.2\.10/'; }
decided() {  # MACHINE: questions so far
  in_space "$1" curl -fsS -m 2 http://127.0.0.1:9464/metrics 2> /dev/null | awk '/^goad_decisions_total/ { sum += $2 } END { print sum + 0 }'
}
decides() { [ "$(decided "$1")" -gt "$2" ]; }
start() {
  ip netns exec "goad-$1-$$" build/goad --config "$run/$1.yaml" >> "$run/$1.log" 2>&1 < /dev/null & pid[$1]=$!
  until_true "goad of the $1 machine runs" status "$1" > /dev/null
}
for machine in first second; do
  ip netns exec "goad-$machine-$$" python3 tests/fakes/emulated_llm.py 8081 16 0.3 > "$run/llm-$machine.log" 2>&1 & pid[llm-$machine]=$!
  cat > "$run/$machine.yaml" << CONFIG
listen: {address: "0.0.0.0:7443"}
admin: {address: "unix:$run/$machine.sock"}
metrics: {address: "127.0.0.1:9464"}
drain_timeout: 5s
sites: [{name: cell, backends: [{url: "http://127.0.0.1:8081"}]}]
CONFIG
  start $machine
  # The file as it is, but for where this build's programs and sockets are and, on the second machine, what the file says of it.
  sed "s|/usr/bin/goadctl status|$PWD/build/goadctl --address unix:$run/$machine.sock status|" deploy/keepalived/keepalived.conf > "$run/$machine.conf"
  [ $machine = first ] || sed -i -E 's/^( *([a-z_]+ )?)[^ ]+ +#.*second: (.*)$/\1\3/' "$run/$machine.conf"
  ip netns exec "goad-$machine-$$" keepalived --dont-fork --log-console --use-file "$run/$machine.conf" \
    --pid "$run/$machine.pid" --vrrp_pid "$run/$machine.vrrp.pid" > "$run/keepalived-$machine.log" 2>&1 & pid[keepalived-$machine]=$!
done
until_true "the first machine has the address" has_address first
seconds=70
ip netns exec "goad-devices-$$" build/goad-loadgen --address 192.0.2.10:7443 --workload deploy/llm/workload.jsonl --devices 60 \
  --questions $((20 * seconds)) --rate 20 --device_factor 4 > "$run/fleet.log" 2>&1 & fleet=$!
until_true "the first machine's goad decides" decides first 0
event() {  # WHAT MACHINE: who is to decide
  local from before
  from=$(date +%s.%N)
  before=$(decided "$2")
  until_true "$1: the $2 machine's goad decides" decides "$2" "$before"
  printf '%-34s the %s machine decides after %.1f s\n' "$1" "$2" "$(awk "BEGIN { print $(date +%s.%N) - $from }")"
  sleep 6
}
sleep 3
kill -KILL "${pid[first]}"; wait "${pid[first]}" 2> /dev/null || true
event "its goad killed (kill -9)" second
start first
kill -TERM "${pid[second]}"; wait "${pid[second]}" || fail "a drained goad ended with status $?"
event "its goad drained, since its end" first
start second
sleep 5  # until keepalived has seen it
in_space switch ip link set to-first down
event "its cable pulled" second
in_space switch ip link set to-first up
sleep 3
has_address second && ! has_address first || fail "plugged in again: the address went back, or is at both"
event "plugged in again, where it is" second
status=0
wait $fleet || status=$?
sed -n '/^  asked/,/^  answered twice/p' "$run/fleet.log"
[ $status = 0 ] || fail "goad-loadgen ended with status $status (1: lost or answered twice)"
kept=0
echo "keepalived.sh: passed: one address, nothing lost, nothing twice"
