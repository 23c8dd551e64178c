#!/usr/bin/env bash
# Faults on the real thing: goad, two llama-servers and a fleet of devices; processes are killed, stopped, drained and reloaded at
# random moments. Where root may make network namespaces, the devices are a host of their
# own and their link is cut now and then.
#
#   tests/chaos.sh [SECONDS] [SEED]     120 seconds by default; the seed is printed
#
# Passes when no question was lost or answered twice, and goad afterwards holds no query, session, slot, descriptor or thread
# more than it needs. Needs a build (tests/check.sh quick).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-120}
seed=${2:-$RANDOM}
[[ $seconds =~ ^[1-9][0-9]*$ && $seed =~ ^[0-9]+$ ]] || { sed -n '2,10p' "$0" | sed 's/^# \?//' >&2; exit 2; }
RANDOM=$seed
run=$(mktemp -d)
rate=25
fail() { echo "chaos.sh: FAILED (seed $seed): $*; logs in $run" >&2; exit 1; }
note() { printf '%4d s  %s\n' $SECONDS "$*"; }

# Two hosts, the edge and the devices, each a network namespace of our own, and a link between them; loopback where that is not allowed.
spaces=() host=127.0.0.1 edge=() devices=()
if ip netns add "goad-edge-$$" 2> /dev/null; then
  spaces=("goad-edge-$$" "goad-devices-$$") host=192.0.2.1  # TEST-NET-1, RFC 5737
  edge=(ip netns exec "${spaces[0]}") devices=(ip netns exec "${spaces[1]}")
  ip netns add "${spaces[1]}"
  ip link add edge0 netns "${spaces[0]}" type veth peer name device0 netns "${spaces[1]}"
  ip -n "${spaces[0]}" link set lo up
  ip -n "${spaces[0]}" addr add $host/30 dev edge0
  ip -n "${spaces[0]}" link set edge0 up
  ip -n "${spaces[1]}" addr add 192.0.2.2/30 dev device0
  ip -n "${spaces[1]}" link set device0 up
fi
cut() { "${edge[@]}" ip link set edge0 down; sleep "$1"; "${edge[@]}" ip link set edge0 up; }

declare -A pid=() command=()
kept=1
stop_all() {
  local name
  for name in "${!pid[@]}"; do
    kill -CONT "${pid[$name]}" 2> /dev/null || true
    kill -TERM "${pid[$name]}" 2> /dev/null || true
  done
  wait
  for name in "${spaces[@]}"; do ip netns del "$name"; done
  [ $kept = 1 ] || rm -rf "$run"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

taken=' '
free_port() {  # sets `port`
  port=$((20000 + RANDOM % 12000))
  while [[ $taken == *" $port "* ]] || (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
  taken+="$port "
}
start() {  # NAME: (again) in the background
  eval "${command[$1]}" >> "$run/$1.log" 2>&1 < /dev/null &
  pid[$1]=$!
}
until_true() {  # WHAT COMMAND...: polls for 30 s
  local what=$1 tries=0
  shift
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "$what"
    sleep "$tenth"
  done
}
tenth=0.1
metric() {  # NAME: sum over its series
  "${edge[@]}" curl -fsS -m 2 "http://127.0.0.1:$metrics/metrics" 2> /dev/null | awk -v name="$1" \
    'index($1, name) == 1 && ($1 == name || substr($1, length(name) + 1, 1) == "{") { sum += $2; found = 1 } END { print found ? sum : "?" }'
}
is() { [ "$(metric "$1")" = "$2" ]; }
descriptors() { ls "/proc/${pid[goad]}/fd" | wc -l; }
# goad's own. gRPC starts and ends executor and timer threads as it likes, also beside a calm fleet.
threads() { cat "/proc/${pid[goad]}"/task/*/comm 2> /dev/null | grep -c '^goad'; }
fleet() {  # QUESTIONS LOG
  "${devices[@]}" build/goad-loadgen --address "$host:$listen" --workload deploy/llm/workload.jsonl --devices 50 --questions "$1" \
    --rate $rate --device_factor 8 --seed "$seed" > "$run/$2" 2>&1
}

deploy/llm/engine.sh setup >&2 || { echo "chaos.sh: SKIPPED: llama-server cannot be set up here" >&2; exit 77; }
sites=''
for site in cell-a cell-b; do
  free_port
  command[$site]="exec ${edge[*]} deploy/llm/engine.sh exec deploy/llm/llm.gguf $port 4"
  sites+="  - name: $site
    uplink: {model: shannon, bandwidth: 100MHz}
    compute: {model: batching, prefill_rate: 3000, token_time: 1ms, token_time_per_query: 1ms}
    backends: [{url: \"http://127.0.0.1:$port\"}]
"
done
free_port; listen=$port
free_port; metrics=$port
cat > "$run/goad.yaml" <<CONFIG
listen: {address: "$host:$listen"}
admin: {address: "unix:$run/admin.sock"}
metrics: {address: "127.0.0.1:$metrics"}
lock_file: $run/goad.lock
sites:
${sites}dispatch: {probe_period: 200ms, first_byte: 3s, between_tokens: 2s}
drain_timeout: 2s
CONFIG
command[goad]="exec ${edge[*]} build/goad --config $run/goad.yaml"
for name in cell-a cell-b goad; do start $name; done
until_true "both sites up" is goad_backend_up 2

echo "chaos for $seconds s, seed $seed: 50 devices, $rate questions a second${spaces:+, the edge and the devices in network namespaces}"
[ ${#spaces[@]} -gt 0 ] || echo "SKIPPED here: cutting the link (no network namespaces)"
SECONDS=0
fleet $((rate * seconds)) fleet.log &
fleet=$!
faults=0
while kill -0 $fleet 2> /dev/null && [ $SECONDS -lt "$seconds" ]; do
  sleep "$((RANDOM % 3)).$((RANDOM % 10))"
  site=cell-$([ $((RANDOM % 2)) = 0 ] && echo a || echo b)
  faults=$((faults + 1))
  case $((RANDOM % (${#spaces[@]} > 0 ? 7 : 6))) in
    0) note "kill -9 goad"; kill -KILL "${pid[goad]}"; wait "${pid[goad]}" 2> /dev/null || true; start goad ;;
    1) note "kill -9 $site"; kill -KILL "${pid[$site]}"; wait "${pid[$site]}" 2> /dev/null || true; start $site ;;
    2) note "stop $site for a while"; kill -STOP "${pid[$site]}"; sleep "$((RANDOM % 4)).5"; kill -CONT "${pid[$site]}" ;;
    3) note "stop goad for a while"; kill -STOP "${pid[goad]}"; sleep "$((RANDOM % 2)).5"; kill -CONT "${pid[goad]}" ;;
    4) note "drain goad, start it again"; kill -TERM "${pid[goad]}"; wait "${pid[goad]}" 2> /dev/null || true; start goad ;;
    6) quiet=$((RANDOM % 4 == 0 ? 18 : 1 + RANDOM % 4)); note "cut the devices' link for $quiet s"; cut $quiet ;;
    5) note "reload goad"; kill -HUP "${pid[goad]}" 2> /dev/null || true ;;
  esac
done
status=0
wait $fleet || status=$?
sed -n '/asked/,$p' "$run/fleet.log"
[ $status = 0 ] || fail "goad-loadgen ended with status $status (1: lost or answered twice)"

until_true "goad and both sites up again" is goad_backend_up 2
until_true "no session left" is goad_sessions 0
until_true "no query left" is goad_running_queries 0
until_true "nothing pending" is goad_pending_queries 0
fleet 100 warm.log || fail "a calm fleet afterwards"  # opens what stays open
until_true "no session left" is goad_sessions 0
open=$(descriptors) running=$(threads)
before="$open descriptors, $running threads"
# Fewer when a connection was just being closed; two more when a server is asked only now, to each of which one is kept.
calm() { [ "$(descriptors)" -le $((open + 2)) ] && [ "$(threads)" -le "$running" ]; }
fleet 100 calm.log || fail "a second calm fleet afterwards"
until_true "no session left" is goad_sessions 0
until_true "descriptors and threads as before ($before)" calm
grep -h "lost\|twice" "$run/calm.log"
kept=0
echo "chaos.sh: passed: $faults faults, nothing lost, nothing twice, nothing leaked ($before; seed $seed)"
