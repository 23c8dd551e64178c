#include "server/daemon/grpc_log.h"

#include <grpc/support/log.h>

#include <optional>

#include "server/base/clip.h"
#include "server/base/line_limit.h"
#include "server/base/monotonic_time.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr size_t kMostBytes = 200;

void Forward(gpr_log_func_args* line) {
  if (line->severity != GPR_LOG_SEVERITY_ERROR) return;  // below are details of its own
  static LineLimit limit;
  const std::optional<int> left_out = limit.Allow(MonotonicTime::Now());
  if (!left_out) return;
  if (*left_out > 0) spdlog::warn("grpc lines_left_out={}", *left_out);
  spdlog::warn("grpc {}", Clip(line->message, kMostBytes));  // a peer may have written it
}

}  // namespace

void ForwardGrpcLog() { gpr_set_log_function(&Forward); }

}  // namespace goad::server
