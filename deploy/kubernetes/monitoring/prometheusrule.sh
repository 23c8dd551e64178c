#!/bin/sh
# deploy/prometheus' own rules and alerts as the Prometheus operator wants them, once per cluster. Two objects: names of groups are unique in each.
#   monitoring/prometheusrule.sh [ADDRESS OF THE RUNBOOK] | kubectl apply -f -
set -eu
prometheus=$(dirname "$0")/../../prometheus
runbook=${1:-file:///usr/share/doc/goad/runbook.md}
for file in rules alerts; do
  cat << HEAD
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: goad-$file, namespace: goad}
spec:
  groups:
HEAD
  sed "1,/^groups:/d; s,file:///usr/share/doc/goad/runbook.md,$runbook,; s/^/  /" "$prometheus/$file.yml"
done
