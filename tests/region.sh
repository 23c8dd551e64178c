#!/usr/bin/env bash
# A region: three goads, 20 emulated sites (7, 7 and 6), 500 devices of the SDK that ask all the time and have the three addresses, each
# third of them another one first. One goad is killed and comes back, another is drained and comes back.
#
#   tests/region.sh [DEVICES] [QUESTIONS_PER_S]     500 and 50 by default
#
# Prints, after each event, how long it took until every device was connected elsewhere, and the peak of new connections a second at a
# goad. Passes when no question was lost or answered twice, and every device had a session elsewhere within 5 s. Needs a build
# (tests/check.sh quick). Emulated are the LLM servers (tests/fakes/emulated_llm.py), the device model and the radio.
set -euo pipefail
cd "$(dirname "$0")/.."
devices=${1:-500}
rate=${2:-50}
[[ $devices =~ ^[1-9][0-9]*$ && $rate =~ ^[1-9][0-9]*$ ]] || { sed -n '2,10p' "$0" | sed 's/^# \?//' >&2; exit 2; }
run=$(mktemp -d)
declare -A pid=() listen=() metrics=()
kept=1
stop_all() {
  local name
  for name in "${!pid[@]}"; do kill -KILL "${pid[$name]}" 2> /dev/null || true; done
  wait 2> /dev/null
  [ $kept = 1 ] || rm -rf "$run"
}
trap stop_all EXIT
trap 'exit 130' INT TERM
fail() { echo "region.sh: FAILED: $*; logs in $run" >&2; exit 1; }
taken=' '
free_port() {  # sets `port`
  port=$((20000 + RANDOM % 12000))
  while [[ $taken == *" $port "* ]] || (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
  taken+="$port "
}
metric() {  # GOAD NAME: 0 where it does not answer
  curl -fsS -m 2 "http://127.0.0.1:${metrics[$1]}/metrics" 2> /dev/null | awk -v name="$2" '$1 == name { sum += $2 } END { print sum + 0 }'
}
sessions() {  # GOAD...: sum
  local goad sum=0
  for goad in "$@"; do sum=$((sum + $(metric "$goad" goad_sessions))); done
  echo $sum
}
until_true() {  # WHAT COMMAND...: polls for 60 s
  local what=$1 tries=0
  shift
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "$what"
    sleep 0.2
  done
}
start() { build/goad --config "$run/$1.yaml" >> "$run/$1.log" 2>&1 < /dev/null & pid[$1]=$!; }

declare -A first=([a]=1 [b]=8 [c]=15) last=([a]=7 [b]=14 [c]=20)
for goad in a b c; do
  free_port; listen[$goad]=$port
  free_port; metrics[$goad]=$port
done
for goad in a b c; do
  {
    echo "listen: {address: \"127.0.0.1:${listen[$goad]}\"}"
    echo "admin: {address: \"unix:$run/$goad.sock\"}"
    echo "metrics: {address: \"127.0.0.1:${metrics[$goad]}\"}"
    echo "drain_timeout: 10s"
    echo "neighbours:"
    for other in a b c; do
      [ $other != $goad ] || continue
      echo "  - {address: \"127.0.0.1:${listen[$other]}\", sites: [$(seq -s, -f 'site-%g' "${first[$other]}" "${last[$other]}")]}"
    done
    echo "sites:"
    for site in $(seq "${first[$goad]}" "${last[$goad]}"); do
      free_port
      python3 tests/fakes/emulated_llm.py "$port" 8 0.3 > "$run/site-$site.log" 2>&1 & pid[site-$site]=$!
      echo "  - {name: site-$site, backends: [{url: \"http://127.0.0.1:$port\"}]}"
    done
  } > "$run/$goad.yaml"
done
for goad in a b c; do start $goad; done
up() { [ "$(curl -fsS -m 2 "http://127.0.0.1:${metrics[$1]}/metrics" 2> /dev/null | grep -c "^goad_backend_up{.*} 1")" = $((last[$1] - first[$1] + 1)) ]; }
for goad in a b c; do until_true "all sites of goad $goad up" up $goad; done

echo "3 goads, 20 emulated sites, $devices devices, $rate questions a second"
seconds=110
SECONDS=0
addresses() { local goad list=''; for goad in "$@"; do list+="127.0.0.1:${listen[$goad]},"; done; echo "${list%,}"; }
for order in "a b c" "b c a" "c a b"; do
  home=${order%% *}
  # shellcheck disable=SC2086  # words
  build/goad-loadgen --address "$(addresses $order)" --workload deploy/llm/workload.jsonl --devices $(((devices + 2) / 3)) \
    --questions $((rate * seconds / 3)) --rate "$(awk "BEGIN { print $rate / 3 }")" --device_factor 4 --seed ${#pid[@]} > "$run/fleet-$home.log" 2>&1 &
  pid[fleet-$home]=$!
done
devices=$(((devices + 2) / 3 * 3))
all_there() { [ "$(sessions a b c)" = $devices ]; }
until_true "all devices connected" all_there

# Established connections at each goad ten times a second, with the time: what is cheap to look at beside everything else.
watch() {
  local goad line
  while sleep 0.1; do
    line=$(date +%s.%N)
    for goad in a b c; do line+=" $(ss -Htn state established "sport = :${listen[$goad]}" | wc -l)"; done
    echo "$line"
  done
}
watch > "$run/connections" & pid[watch]=$!
event() {  # WHAT GOAD...: of the goads that are left: until all are connected there, and the peak of a second
  local what=$1 from=$2
  shift 2
  local left
  left=$(sessions "$@")
  [ "$left" -ge $devices ] || fail "$what: $left of $devices devices have a session elsewhere after 5 s"
  awk -v from="$from" -v all=$devices -v goads="$*" -v what="$what" '
    BEGIN { split("a b c", names); for (k in names) column[names[k]] = k + 1; n = split(goads, of) }
    $1 < from - 1.5 || $1 > from + 5 { next }
    {
      rows++; time[rows] = $1; sum = 0
      for (k = 1; k <= n; k++) { count[rows, k] = $(column[of[k]]); sum += count[rows, k] }
      if ($1 >= from && sum >= all && !done) done = $1 - from
      for (k = 1; k <= n; k++)
        for (before = rows - 1; before >= 1 && $1 - time[before] <= 1; before--)
          if ($1 >= from && count[rows, k] - count[before, k] > peak) peak = count[rows, k] - count[before, k]
    }
    END { printf "%-34s every device connected elsewhere after %.1f s; at most %d new connections a second at a goad\n", what, done, peak }
  ' "$run/connections"
}
# Each with its first goad, and with no other besides.
all_back() { local goad; for goad in a b c; do [ "$(metric $goad goad_sessions)" = $((devices / 3)) ] || return 1; done; }
until_true "each device with its first goad alone" all_back  # under load some take their second one first, and hold both for a while
sleep 5
from=$(date +%s.%N)
kill -KILL "${pid[a]}"
wait "${pid[a]}" 2> /dev/null || true
sleep 5
event "goad a killed (kill -9)" "$from" b c
from=$(date +%s.%N)
start a
until_true "the devices of goad a go back" all_back
printf '%-34s its devices had gone back after %.0f s\n' "goad a there again" "$(awk "BEGIN { print $(date +%s.%N) - $from }")"
from=$(date +%s.%N)
kill -TERM "${pid[b]}"
sleep 5
event "goad b drained (SIGTERM)" "$from" a c
wait "${pid[b]}" || fail "goad b ended with status $?"
from=$(date +%s.%N)
start b
until_true "the devices of goad b go back" all_back
printf '%-34s its devices had gone back after %.0f s\n' "goad b there again" "$(awk "BEGIN { print $(date +%s.%N) - $from }")"

for home in a b c; do
  status=0
  wait "${pid[fleet-$home]}" || status=$?
  [ $status = 0 ] || fail "the fleet of goad $home ended with status $status (1: lost or answered twice)"
done
echo
printf '%-30s %8s %10s %8s %6s %6s\n' "devices whose first goad is" asked locally edge lost twice
for home in a b c; do
  awk -v home=$home '/^  asked/ { a = $2 } /^  answered locally/ { l = $3 } /^  offloaded/ { e = $2 } /^  lost/ { o = $2 } /^  answered twice/ { t = $3 }
    END { printf "%-30s %8d %10d %8d %6d %6d\n", home, a, l, e, o, t; exit o + t > 0 }' "$run/fleet-$home.log" || fail "lost or twice"
done
echo
echo "answered locally because of the events: $(grep -ohE '(STREAM_LOST|UNREACHABLE|DRAINING|NO_DECISION|INCOMPLETE) [0-9]+' "$run"/fleet-*.log |
  awk '{ n[$1] += $2 } END { for (r in n) printf "%s%s %d", k++ ? ", " : "", r, n[r]; if (!k) printf "none" }')"
kept=0
echo "region.sh: passed: nothing lost, nothing twice, every device elsewhere within 5 s"
