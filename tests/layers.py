#!/usr/bin/python3
"""Who may include whom. Link lines alone do not stop an include; this does. Exit status 1 lists every breach."""
import re
import subprocess
import sys

ANY = r".*"
CORE = r"scheduler/[a-z0-9_]+\.h"
ESTIMATE = r"scheduler/estimate/[a-z0-9_]+\.h"
CALIBRATION = r"scheduler/calibration/[a-z0-9_]+\.h"
EVENTS = r"server/engine/(error|events|inbox|ports|query|status)\.h"
VALUE = r"server/calibration/value\.h"
GRPC = r"grpcpp/.*|goad/v1/.*\.grpc\.pb\.h"
WIRE = r"server/wire/(abilities|enums)\.h"
PROTO = r"goad/v1/[a-z]+\.pb\.h"
SOURCE = r"goad/uncertainty_source\.h"
MESSAGE = r"client_sdk/openai/message\.h"
OPENAI = r"client_sdk/openai/[a-z0-9_]+\.h"

# (files, what they may include of ours and of the restricted libraries). The first match counts.
RULES = [
    (r"scheduler/sim/.*", [CORE, r"scheduler/sim/.*", r"scheduler/workload/.*", r"nlohmann/.*"]),
    (r"scheduler/workload/.*", [r"scheduler/workload/.*", r"nlohmann/.*"]),
    (r"scheduler/estimate/.*", [ESTIMATE]),
    (r"scheduler/calibration/.*", [CALIBRATION]),
    (r"scheduler/.*", [CORE]),
    (r"server/base/local_model\.h", [SOURCE]),
    (r"server/base/.*", [r"server/base/.*"]),
    (r"server/calibration/.*", [r"server/(base|calibration)/.*", CALIBRATION, SOURCE, r"client_sdk/openai/json_text\.h", r"nlohmann/.*"]),
    (r"server/wire/.*", [r"server/wire/.*", r"server/base/abilities\.h", r"scheduler/types\.h", SOURCE, PROTO]),
    (r"server/telemetry/promise_watch\.h", [r"server/(base|telemetry)/.*", r"server/config/config\.h", CALIBRATION, r"prometheus/.*"]),
    (r"server/telemetry/.*", [r"server/(base|telemetry)/.*", r"server/config/config\.h", r"scheduler/(types|snapshot_check)\.h",
                              r"prometheus/.*", r"nlohmann/.*", r"spdlog/.*"]),
    (r"server/config/(config_loader\.cc|yaml_section\..*)", [r"server/(base|config)/.*", r"yaml-cpp/.*"]),
    (r"server/config/.*", [r"server/(base|config|calibration)/.*", r"scheduler/(types|policy)\.h", CALIBRATION, SOURCE]),
    (r"server/engine/.*", [MESSAGE, VALUE, r"server/(base|engine|telemetry)/.*", r"server/config/config\.h", CORE, ESTIMATE, r"spdlog/.*"]),
    (r"server/dispatch/.*\.h", [r"server/(base|dispatch|telemetry)/.*", r"server/config/config\.h", EVENTS, OPENAI]),
    (r"server/dispatch/.*", [r"server/(base|dispatch|telemetry)/.*", r"server/config/config\.h", EVENTS, OPENAI, r"curl/.*",
                             r"nlohmann/.*", r"spdlog/.*"]),
    (r"server/listener/grpc_listener\.cc", [r"server/(base|listener|telemetry)/.*", GRPC]),
    (r"server/listener/.*", [r"server/(base|listener|telemetry)/.*", r"spdlog/.*"]),
    (r"server/session/offload_service\.(h|cc)", [r"server/(base|session|telemetry)/.*", r"server/listener/connection_table\.h", r"server/config/(config|config_store|certificates)\.h",
                                             EVENTS, PROTO, GRPC, r"spdlog/.*"]),
    (r"server/session/prompt_codec\.cc", [r"client_sdk/openai/app_request\.h", r"server/(base|session)/.*", r"server/config/config\.h", EVENTS, PROTO]),
    (r"server/session/.*", [VALUE, r"server/(base|session|telemetry)/.*", r"server/config/config(_store)?\.h", EVENTS, WIRE, PROTO,
                            r"goad/uncertainty\.h"]),
    (r"server/admin/.*", [r"server/(base|admin|telemetry)/.*", r"scheduler/explain\.h",
                          r"server/config/config(_store)?\.h", EVENTS, WIRE, PROTO, GRPC]),
    (r"server/planner/.*", [r"server/planner/.*", r"server/base/mutex\.h", CORE, WIRE, PROTO, GRPC]),
    (r"server/sim/.*", [CORE, ESTIMATE, CALIBRATION, r"server/(base|calibration|engine|sim|telemetry)/.*", r"server/config/config\.h", r"scheduler/(sim|workload)/.*",
                        r"client_sdk/openai/json_text\.h", r"nlohmann/.*"]),
    (r"server/(daemon/.*|main\.cc)", [ANY]),
    (r"server/ctl/(json|log)\.cc", [r"server/ctl/.*", r"server/base/clip\.h", PROTO, r"nlohmann/.*"]),
    (r"server/ctl/.*", [r"server/ctl/.*", r"server/base/(read_file|clip)\.h", r"server/config/config_loader\.h", PROTO, GRPC]),
    (r"client_sdk/openai/(json_fields|logprobs_document)\.h", [OPENAI, r"nlohmann/.*"]),
    (r"client_sdk/openai/plain_chunk\.cc", [OPENAI, r"simdjson\.h"]),
    (r"client_sdk/openai/.*\.h", [OPENAI]),
    (r"client_sdk/openai/.*", [OPENAI, r"nlohmann/.*"]),
    (r"client_sdk/uncertainty/.*", [r"goad/uncertainty\.h", r"client_sdk/uncertainty/.*", OPENAI]),
    (r"client_sdk/include/goad/uncertainty_source\.h", []),
    (r"client_sdk/include/goad/uncertainty\.h", [SOURCE]),
    (r"client_sdk/include/.*", [r"goad/[a-z_]+\.h"]),
    (r"client_sdk/runtime/local_times\.(h|cc)", [r"client_sdk/runtime/local_times\.h", ESTIMATE]),
    (r"client_sdk/runtime/.*", [r"goad/[a-z_]+\.h", r"client_sdk/runtime/.*", r"client_sdk/src/wire\.h"]),
    (r"client_sdk/device/.*", [r"goad/[a-z_]+\.h", r"client_sdk/device/.*", r"client_sdk/src/random\.h", OPENAI, r"nlohmann/.*", r"httplib\.h",
                               r"prometheus/.*"]),
    (r"client_sdk/src/stream_connection\.cc", [r"goad/[a-z_]+\.h", r"client_sdk/src/.*", PROTO, GRPC]),
    (r"client_sdk/src/.*", [r"goad/[a-z_]+\.h", r"client_sdk/src/.*", PROTO, OPENAI]),
    (r"client_sdk/examples/.*", [r"goad/[a-z_]+\.h"]),
    (r"client_sdk/loadgen/policy_trial\.(h|cc)", [r"client_sdk/loadgen/.*", PROTO, GRPC]),
    (r"client_sdk/loadgen/labels\.(h|cc)", [r"client_sdk/loadgen/labels\.h", r"scheduler/workload/.*", r"nlohmann/.*"]),
    (r"client_sdk/loadgen/live_model\.(h|cc)", [r"goad/[a-z_]+\.h", r"client_sdk/loadgen/live_model\.h", r"client_sdk/device/local_server\.h", r"nlohmann/.*"]),
    (r"client_sdk/loadgen/goad_loadgen\.cc", [r"goad/[a-z_]+\.h", r"client_sdk/loadgen/.*", r"client_sdk/device/local_server\.h", r"scheduler/workload/.*"]),
    (r"client_sdk/loadgen/.*", [r"goad/[a-z_]+\.h", r"client_sdk/loadgen/.*", r"scheduler/workload/.*"]),
]
RESTRICTED = re.compile(r"(scheduler|server|client_sdk|goad|tests|grpcpp|prometheus|nlohmann|yaml-cpp|curl|spdlog)/|httplib\.h|simdjson\.h")

breaches = []
files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "scheduler", "server", "client_sdk"],
                       capture_output=True, text=True, check=True).stdout.split()
for path in files:
    if not path.endswith((".h", ".cc")):
        continue
    allowed = next((allow for pattern, allow in RULES if re.fullmatch(pattern, path)), None)
    if allowed is None:
        breaches.append(f"{path}: belongs to no room of tests/layers.py")
        continue
    for number, line in enumerate(open(path), 1):
        match = re.match(r'\s*#include ["<](.+)[">]', line)
        if match and RESTRICTED.match(match.group(1)) and not any(re.fullmatch(a, match.group(1)) for a in allowed):
            breaches.append(f"{path}:{number}: may not include {match.group(1)}")
print("\n".join(breaches) if breaches else f"layers: {len(files)} files, every include points the right way")
sys.exit(1 if breaches else 0)
