#!/usr/bin/env bash
# goad-sim's command line: bad input to every command is one clear line and exit status 2; what is good works.
set -u
sim=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0

refused() {  # WANTED-IN-THE-MESSAGE arguments...
  local want=$1 out status
  shift
  out=$("$sim" "$@" 2>&1 < /dev/null)
  status=$?
  if [ $status -ne 2 ] || [ "$(wc -l <<< "$out")" -ne 1 ] || ! grep -qF -- "$want" <<< "$out"; then
    echo "FAILED: goad-sim $*: exit status $status, wanted 2 and one line with \"$want\": $out"
    failures=$((failures + 1))
  fi
}
works() {  # STATUS arguments...
  local want=$1 status
  shift
  "$sim" "$@" > out.txt 2>&1
  status=$?
  if [ $status -ne "$want" ]; then
    echo "FAILED: goad-sim $*: exit status $status, wanted $want: $(cat out.txt)"
    failures=$((failures + 1))
  fi
}

echo '{"format":"goa-vectors/1","instances":[{"id":"x","N":0,"M":1}]}' > none.json
echo '{"format":"goa-vectors/1","instances":[{"id":"x","N":1,"M":1,"servers":{"bandwidth_hz":[1,2],"capacity":[1]}}]}' > sizes.json
echo '{' > broken.json
echo 'not json' > broken.jsonl
echo '{"format":"other"}' > other.jsonl
mkdir folder

refused "which command?"
refused "unknown command" sit
refused "nowhere.json: cannot be read" solve nowhere.json
refused "not valid JSON" solve broken.json
refused "N and M: must be at least 1" solve none.json
refused "x" solve sizes.json
refused "is not one of goa" solve --policy best none.json
refused '"0" is not in' bench --users 0
refused '"nan" is not in 0..1' bench --tau nan
refused '"2" is not in 0..1' bench --tau 2
refused "sites: 0 is not in 1..1000" bench --sites 0 --users 10
refused "takes flags only" bench extra
refused "lambda: -1" bench --policy goa-relocate --lambda -1 --users 10
refused '"2" is not in 0..1' sweep --tau 2
refused '"0" is not in' sweep --users 0
refused "draws: 0 is not in" sweep --draws 0
refused "workload: nowhere: cannot be read" sweep --workload nowhere --draws 1
refused "broken.jsonl:1:" sweep --sweep broken.jsonl
refused "nowhere.jsonl: cannot be read" report --sweep nowhere.jsonl
refused "format: want" report --sweep other.jsonl
refused "nowhere.jsonl: cannot be read" plot --sweep nowhere.jsonl
refused '"nan" is not in 0..1' run --tau nan
refused "rate: 0" run --rate 0
refused "rate: nan" run --rate nan
refused "cannot be written" run --seconds 0.01 --log nowhere/x.jsonl

printf 'time_s,prompt_tokens,output_tokens\n0,100,20\n0.5,200,30\n1,300,10\n' > arrivals.csv
printf 'time_s,uplink_bps\n0,1000000\n0.1,0\n' > uplink.csv
printf 'time_s,prompt_tokens\n0,100\n' > narrow.csv
printf 'time_s,prompt_tokens,output_tokens\n2,100,20\n1,100,20\n' > backwards.csv
printf 'time_s,uplink_bps\n0,-1\n' > negative.csv
printf 'time_s,uplink_bps\n0,0\n1,0\n' > dead.csv
: > empty.csv
refused "arrivals: nowhere.csv: cannot be read" run --arrivals nowhere.csv
refused "empty.csv: is empty" run --arrivals empty.csv
refused "narrow.csv:1: output_tokens: no such column" run --arrivals narrow.csv
refused 'backwards.csv:3: time_s: "1" runs backwards' run --arrivals backwards.csv
refused 'negative.csv:2: uplink_bps: "-1" is not in' run --arrivals arrivals.csv --uplink uplink.csv,negative.csv
refused "dead.csv: uplink_bps: is 0 in every row" run --arrivals arrivals.csv --uplink dead.csv
refused "uplink: only with arrivals" run --uplink uplink.csv
refused 'learn: "maybe" is not one of on, off, true' run --arrivals arrivals.csv --learn maybe
refused "policy: \"best\" is not one" run --compare goa,best
refused "policy: not with --compare" run --compare goa --policy goa
refused "log: is of one policy" run --compare goa,random --log x.jsonl
refused "which decision log?" replay
refused "nowhere.jsonl: cannot be read" replay nowhere.jsonl
refused "broken.jsonl:1: is no JSON object" replay broken.jsonl
refused "folder: cannot be read" replay folder

outcome() { echo "{\"kind\":\"outcome\",\"at_s\":1,\"site\":\"a\",\"ended\":\"completed\"$1}"; }
outcome ',"compute_s":-1' > negative.jsonl
outcome ',"upload_s":"1"' > words.jsonl
echo '{"kind":"outcome","site":"a","ended":"completed"}' > untimed.jsonl
echo '{"kind":"decision"}' > old.jsonl
refused "which decision log?" fit
refused "nowhere.jsonl: cannot be read" fit nowhere.jsonl
refused "broken.jsonl:1: is no JSON object" fit broken.jsonl
refused "folder: cannot be read" fit folder
refused "old.jsonl: no line of kind" fit old.jsonl
refused "negative.jsonl:1: compute_s: -1 is not in 0..1e15" fit negative.jsonl
refused 'words.jsonl:1: upload_s: "1" is not a number' fit words.jsonl
refused "untimed.jsonl:1: at_s: is missing" fit untimed.jsonl

labels() {  # COUNT WITH-EDGE: the more unsure, the more often wrong; the edge is right in nine of ten
  for ((k = 0; k < $1; ++k)); do
    printf '{"uncertainty":0.%02d,"metric":"MARGIN","model":"m","device_correct":%s%s}\n' $((k * 37 % 100)) \
      "$([ $((k * 37 % 100)) -lt $((k * 53 % 100)) ] && echo true || echo false)" \
      "$([ "$2" = 1 ] && { [ $((k % 10)) -gt 0 ] && echo ',"edge_correct":true' || echo ',"edge_correct":false'; })"
  done
}
labels 400 1 > labels.jsonl
labels 400 0 > no-edge.jsonl
labels 39 1 > few.jsonl
{ labels 40 1; echo '{"uncertainty":0.5,"metric":"MARGIN","model":"m","device_correct":true,"device_correct":false}'; } > both.jsonl
sed '7s/MARGIN/ENTROPY/' labels.jsonl > metric.jsonl
sed '8s/0\.[0-9]*/-1/' labels.jsonl > range.jsonl
refused "which labels?" calibrate
refused "nowhere.jsonl: cannot be read" calibrate nowhere.jsonl
refused "broken.jsonl:1: is no JSON object" calibrate broken.jsonl
refused "folder: cannot be read" calibrate folder
refused "few.jsonl: 39 labels of metric MARGIN" calibrate few.jsonl
refused "empty.csv: no labels, want at least 40" calibrate empty.csv
refused 'both.jsonl:41: names "device_correct" twice' calibrate both.jsonl
refused 'metric.jsonl:7: metric: "ENTROPY" is not one of MARGIN' calibrate metric.jsonl
refused "range.jsonl:8: uncertainty: -1 is not in 0..1" calibrate range.jsonl
refused "--accuracy: 2 is not in" calibrate --accuracy 2 labels.jsonl
refused "--confidence: nan is not in" calibrate --confidence nan labels.jsonl
refused "nowhere/x: cannot be written" calibrate --out nowhere/x labels.jsonl
refused "nowhere/x: cannot be written" calibrate --svg nowhere/x labels.jsonl

works 0 sweep --draws 2 --users 10,20 --tau 0.8
works 0 report
works 0 plot
for file in index.html accuracy.svg delay.svg accuracy-delay.svg computation-time.svg; do
  [ -s "sweep-report/$file" ] || { echo "FAILED: sweep-report/$file was not written"; failures=$((failures + 1)); }
done
works 0 run --seconds 0.1 --log epochs.jsonl
works 0 run --json --seconds 0.1
grep -q '"policy":"goa"' out.txt || { echo "FAILED: run --json: $(cat out.txt)"; failures=$((failures + 1)); }
works 0 run --json --arrivals arrivals.csv --uplink uplink.csv --time-scale 0.5 --learn true --configured-error 2
grep -q '"prediction_error":{"compute":{"answers":' out.txt || {
  echo "FAILED: run --json --arrivals: $(cat out.txt)"
  failures=$((failures + 1))
}
works 0 run --arrivals arrivals.csv --compare goa,all-local
grep -q '^all-local' out.txt || { echo "FAILED: run --compare: $(cat out.txt)"; failures=$((failures + 1)); }
works 0 replay epochs.jsonl
works 0 replay --policy goa-relocate epochs.jsonl
works 0 fit epochs.jsonl
works 0 fit --json epochs.jsonl
grep -q '"site":"site-0"' out.txt || { echo "FAILED: fit knows no site-0: $(cat out.txt)"; failures=$((failures + 1)); }
sed 's/"order":\[\[[^]]*\],*/"order":[/' epochs.jsonl > changed.jsonl
works 1 replay changed.jsonl

works 0 calibrate --accuracy 0.75 --confidence 0.9 --json --out calibration.json --svg calibration.svg labels.jsonl
grep -q '"tau":0\.' out.txt || { echo "FAILED: calibrate --json: $(cat out.txt)"; failures=$((failures + 1)); }
grep -q '"format":"goad-calibration/1"' calibration.json || { echo "FAILED: calibrate --out"; failures=$((failures + 1)); }
grep -q '</svg>' calibration.svg || { echo "FAILED: calibrate --svg"; failures=$((failures + 1)); }
works 1 calibrate --accuracy 0.95 labels.jsonl
grep -q 'Not certified: no tau holds 95.0 % accuracy' out.txt || { echo "FAILED: calibrate: $(cat out.txt)"; failures=$((failures + 1)); }
works 1 calibrate no-edge.jsonl

[ $failures -eq 0 ] && echo "goad-sim: all as wanted"
exit $((failures > 0))
