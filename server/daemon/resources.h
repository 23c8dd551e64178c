// What the process must have before gRPC starts: it aborts where it cannot have a descriptor, some memory or a thread.
#ifndef GOAD_SERVER_DAEMON_RESOURCES_H_
#define GOAD_SERVER_DAEMON_RESOURCES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "server/base/monotonic_time.h"

namespace goad::server {

// RESOURCE_EXHAUSTED says which is short, what is left and who sets it.
absl::Status EnoughToStart();

// Whether the heap holds more than it may. Thread-compatible.
class HeapWatch {
 public:
  // Some 10 us while the process is small. Where the heap is below `most_bytes` and the process far above it, what is free
  // goes back to the system, every 10 s at most.
  bool Over(int64_t most_bytes, MonotonicTime now);

 private:
  MonotonicTime next_trim_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_RESOURCES_H_
