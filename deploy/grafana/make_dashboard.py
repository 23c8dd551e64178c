#!/usr/bin/python3
"""Writes the Grafana dashboard: deploy/grafana/make_dashboard.py > deploy/grafana/goad-dashboard.json

Panels are lines below: (title, unit, [(legend, query)]), three to a row. A test runs every query against a real Prometheus.
"""
import json


def p(q, metric, by="", where=""):
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{where}{', ' if where else ''}instance=~\"$instance\"}}[$__rate_interval])))"


def r(metric, by="", where=""):
    selector = f"{where}{', ' if where else ''}instance=~\"$instance\""
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}{{{selector}}}[$__rate_interval]))"


def g(metric, by=""):  # of what adds up over several goads
    return f"sum {f'by ({by}) ' if by else ''}({metric}{{instance=~\"$instance\"}})"


def each(metric, where=""):  # of what does not: thresholds, medians, times, versions. The legend names the instance
    return f"{metric}{{{where}{', ' if where else ''}instance=~\"$instance\"}}"


def burns(level, allowed):  # a service level as its alerts see it, with the thresholds that wake somebody
    return [("{{instance}} 1h", each(f"goad:{level}:ratio_rate1h")), ("{{instance}} 6h", each(f"goad:{level}:ratio_rate6h")),
            ("{{instance}} 3d", each(f"goad:{level}:ratio_rate3d")), ("alert at 1h", f"vector(14.4 * {allowed})"), ("alert at 6h", f"vector(6 * {allowed})")]


NOBODY = 'label_replace(label_replace(vector(0), "tenant", "nobody", "", ""), "limit", "was refused", "", "")'

ROWS = [
    ("Overview", [
        ("Decisions", "reqps", [("{{verdict}}", r("goad_decisions_total", "verdict"))]),
        ("Offloaded", "percentunit", [("share", r("goad_decisions_total", where='verdict="OFFLOAD"') + " / " + r("goad_decisions_total"))]),
        ("Sessions", "short", [("sessions", g("goad_sessions"))]),
        ("Edge answers by outcome", "reqps", [("{{outcome}}", r("goad_request_duration_seconds_count", "outcome", 'outcome!="local"'))]),
        ("Time of an edge answer", "s", [("p50", p(0.5, "goad_request_duration_seconds", where='outcome="completed"')),
                                         ("p99", p(0.99, "goad_request_duration_seconds", where='outcome="completed"'))]),
        ("Time of an edge answer, by site", "s", [("{{site}} p50", p(0.5, "goad_request_duration_seconds", "site", 'outcome="completed"')),
                                                  ("{{site}} p99", p(0.99, "goad_request_duration_seconds", "site", 'outcome="completed"'))]),
        ("Queries now", "short", [("waiting for a decision", g("goad_pending_queries")), ("running at {{site}}", g("goad_running_queries", "site"))]),
    ]),
    ("Decisions", [
        ("Reasons", "reqps", [("{{reason}}", r("goad_decisions_total", "reason") + " > 0")]),
        ("Uncertainty of the queries", "short", [("p50 {{metric}}", p(0.5, "goad_uncertainty", "metric") + " >= 0"), ("p90 {{metric}}", p(0.9, "goad_uncertainty", "metric") + " >= 0"), ("tau of {{instance}}", each("goad_tau"))]),
        ("Uncertain but local", "reqps", [("no site within mandatory_wait", r("goad_tau_infeasible_total"))]),
        ("Wait for a decision", "s", [("p50", p(0.5, "goad_queue_wait_seconds")), ("p99", p(0.99, "goad_queue_wait_seconds"))]),
        ("By tenant", "reqps", [("{{tenant}} {{verdict}}", r("goad_tenant_decisions_total", "tenant, verdict"))]),
        ("Refused to tenants, by their limit", "reqps", [("{{tenant}} {{limit}}", f"{r('goad_tenant_refused_total', 'tenant, limit')} or on () {NOBODY}")]),
        ("Mean uncertainty a tenant reports", "short", [("{{tenant}}", f"{r('goad_tenant_uncertainty_total', 'tenant')} / {r('goad_tenant_decisions_total', 'tenant')}")]),
    ]),
    ("Accuracy as a promise", [
        ("Right, as apps rate answers", "percentunit", [
            ("{{by}}", "1 - " + r("goad_rated_error_total", "by") + " / " + r("goad_rated_answers_total", "by")),
            ("promised", g("goad_promised_accuracy"))]),
        ("Evidence that the promise is not kept", "short", [("evidence", g("goad_promise_evidence")), ("broken", g("goad_promise_broken"))]),
        ("Queries that had to be offloaded", "reqps", [("{{result}}", r("goad_forced_queries_total", "result"))]),
    ]),
    ("Sites and backends", [
        ("Backends up", "short", [("{{instance}} {{site}} {{backend}}", each("goad_backend_up"))]),
        ("Backends by state", "short", [("{{state}}", g("goad_backend_state", "state"))]),
        ("Slots in force, and queries", "short", [("slots of {{site}}", g("goad_site_slots", "site")),
                                                  ("queries at {{site}}", g("goad_running_queries", "site"))]),
        ("Slots of backends, and requests", "short", [("slots of {{backend}}", g("goad_backend_slots", "backend")),
                                                      ("requests at {{backend}}", g("goad_backend_running", "backend"))]),
        ("Requests not answered, by fault", "reqps", [("{{site}} {{fault}}", r("goad_backend_failures_total", "site, fault"))]),
        ("Requests to backends", "reqps", [("{{site}} {{code}}", r("goad_backend_requests_total", "site, code"))]),
        ("Failovers", "reqps", [("failovers", r("goad_backend_failovers_total"))]),
        ("Output tokens", "short", [("{{site}}", r("goad_tokens_total", "site"))]),
        ("Time to the first token", "s", [("{{site}} p50", p(0.5, "goad_request_ttft_seconds", "site")), ("{{site}} p99", p(0.99, "goad_request_ttft_seconds", "site"))]),
        ("Time per further token", "s", [("{{site}} p50", p(0.5, "goad_request_tpot_seconds", "site")), ("{{site}} p99", p(0.99, "goad_request_tpot_seconds", "site"))]),
    ]),
    ("Devices and links", [
        ("Open connections", "short", [("{{listener}}", g("goad_connections", "listener"))]),
        ("Connections refused or cut off", "reqps", [("{{reason}}", r("goad_connections_refused_total", "reason", 'listener="devices"'))]),
        ("Ports that answer a look from outside", "short", [("{{instance}} {{listener}}", each("goad_listener_up"))]),
        ("Upload of a prompt", "s", [("{{site}} p50", p(0.5, "goad_upload_seconds", "site")), ("{{site}} p99", p(0.99, "goad_upload_seconds", "site"))]),
        ("Uplinks as goad sees them, median", "Bps", [("{{instance}}", each("goad_uplink_bytes_per_second"))]),
        ("Round trips as goad sees them, median", "s", [("{{instance}}", each("goad_uplink_round_trip_seconds"))]),
        ("Devices whose uplinks are measured", "short", [("devices", g("goad_uplink_devices"))]),
        ("Age of link reports", "s", [("p50", p(0.5, "goad_link_report_age_seconds")), ("p99", p(0.99, "goad_link_report_age_seconds"))]),
        ("Left local for a stale link", "reqps", [("queries", r("goad_stale_links_total"))]),
        ("Local answers, as devices report them", "s", [("p50", p(0.5, "goad_local_delay_seconds"))]),
        ("Unread by devices", "bytes", [("outbox", g("goad_outbox_bytes"))]),
        ("Refused at the door", "reqps", [("{{reason}}", r("goad_refused_total", "reason"))]),
    ]),
    ("Service levels", [
        ("Edge answers that goad or its LLM servers lost (0.5 % allowed)", "percentunit", burns("answers_lost", 0.005)),
        ("First tokens after 2.5 s (5 % allowed)", "percentunit", burns("first_token_late", 0.05)),
        ("Decisions after 250 ms (1 % allowed)", "percentunit", burns("decisions_late", 0.01)),
        ("Failed of the device's or the prompt's own", "reqps", [("answers", r("goad_request_duration_seconds_count", where='outcome="device_failed"'))]),
        ("Past their deadline", "reqps", [("queries", r("goad_deadline_missed_total"))]),
        ("Measured minus predicted delay (error)", "s", [("{{part}} p50", p(0.5, "goad_prediction_error_seconds", "part")),
                                                         ("{{part}} p90", p(0.9, "goad_prediction_error_seconds", "part"))]),
        ("Not foreseen of what was measured, median", "percentunit", [("{{site}} {{part}}", p(0.5, "goad_prediction_relative_error", "site, part"))]),
        ("Answers that a site's compute is learned from", "short", [("{{instance}} {{site}}", each("goad_service_samples"))]),
        ("Compute of a site, as predicted", "s", [("{{instance}} {{site}} {{part}}", each("goad_service_seconds"))]),
    ]),
    ("Internals", [
        ("Epochs, and turns of the engine (none: it stands still)", "reqps", [("epochs", r("goad_epochs_total")), ("turns", r("goad_engine_turns_total"))]),
        ("Time of an epoch", "s", [("p50", p(0.5, "goad_epoch_duration_seconds")), ("p99", p(0.99, "goad_epoch_duration_seconds"))]),
        ("Time inside the policy", "s", [("{{policy}} p99", p(0.99, "goad_solver_duration_seconds", "policy"))]),
        ("Candidates of an epoch", "short", [("p50", p(0.5, "goad_epoch_candidates")), ("p99", p(0.99, "goad_epoch_candidates"))]),
        ("Devices sent to a neighbour", "reqps", [("sent away", r("goad_sessions_sent_away_total"))]),
        ("Slow consumers, late events", "reqps", [("slow consumers", r("goad_slow_consumers_total")), ("late", r("goad_late_terminals_total"))]),
        ("Left out of snapshots, lost of the decision log", "reqps", [("{{part}}", r("goad_snapshot_faults_total", "part")),
                                                                      ("log lines", r("goad_decision_log_lost_total"))]),
        ("Memory, and the limit of its control group", "bytes", [
            ("{{instance}}", each("process_resident_memory_bytes", 'job="goad"')),
            ("{{instance}} limit (0: none)", each("goad_memory_limit_bytes") + " or 0 * " + each("process_resident_memory_bytes", 'job="goad"'))]),
        ("Descriptors", "short", [("{{instance}} open", each("process_open_fds", 'job="goad"')),
                                  ("{{instance}} most", each("process_max_fds", 'job="goad"'))]),
        ("Versions", "short", [("{{version}}", g("goad_build_info", "version"))]),
        ("Configuration", "short", [("{{instance}} version", each("goad_config_version")), ("{{instance}} reloads {{result}}", each("goad_config_reloads_total"))]),
        ("Last reload was good", "short", [("{{instance}}", each("goad_config_last_reload_successful"))]),
        ("Age of the configuration in force", "s", [("{{instance}}", "time() - " + each("goad_config_last_reload_success_timestamp_seconds"))]),
        ("Certificate expires in (0 and below: it has, or there is none)", "s", [
            ("{{instance}}", "clamp_min(" + each("goad_certificate_expiry_timestamp_seconds") + " - time(), 0)")]),
    ]),
]


def dashboard():
    panels, y, number = [], 0, 1
    for title, cells in ROWS:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        number, y = number + 1, y + 1
        for k, (name, unit, queries) in enumerate(cells):
            panels.append({
                "id": number, "type": "timeseries", "title": name, "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "gridPos": {"h": 7, "w": 8, "x": 8 * (k % 3), "y": y + 7 * (k // 3)},
                "fieldConfig": {"defaults": {"unit": unit, "min": None if unit == "s" and "error" in name else 0, "custom": {"fillOpacity": 8}}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                "targets": [{"refId": chr(65 + t), "expr": expression, "legendFormat": legend} for t, (legend, expression) in enumerate(queries)],
            })
            number += 1
        y += 7 * ((len(cells) + 2) // 3)
    return {
        "uid": "goad", "title": "goad", "tags": ["goad"], "schemaVersion": 38, "editable": True, "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"}, "panels": panels,
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
            {"name": "instance", "type": "query", "label": "goad", "datasource": {"type": "prometheus", "uid": "${datasource}"},
             "query": "label_values(goad_sessions, instance)", "refresh": 2, "includeAll": True, "multi": True, "allValue": ".+",
             "current": {"text": "All", "value": "$__all"}}]},
    }


print(json.dumps(dashboard(), indent=1))
