#include "server/daemon/grpc_log.h"

#include <grpc/support/log.h>

#include "server/base/clip.h"
#include "server/base/monotonic_time.h"
#include "server/base/mutex.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

constexpr int kMostLines = 10;
constexpr size_t kMostBytes = 200;
constexpr absl::Duration kWindow = absl::Seconds(10);

void Forward(gpr_log_func_args* line) {
  if (line->severity != GPR_LOG_SEVERITY_ERROR) return;  // below are details of its own
  static Mutex mutex;
  static MonotonicTime window_ends;
  static int lines = 0, left_out = 0;
  int told = 0;
  {
    MutexLock lock(mutex);
    const MonotonicTime now = MonotonicTime::Now();
    if (window_ends <= now) {
      window_ends = now + kWindow;
      lines = 0;
    }
    if (lines == kMostLines) {
      ++left_out;
      return;
    }
    ++lines;
    told = std::exchange(left_out, 0);
  }
  if (told > 0) spdlog::warn("grpc lines_left_out={}", told);
  spdlog::warn("grpc {}", Clip(line->message, kMostBytes));  // a peer may have written it
}

}  // namespace

void ForwardGrpcLog() { gpr_set_log_function(&Forward); }

}  // namespace goad::server
