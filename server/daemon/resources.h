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
  // Some 10 us. What the process has is asked every time; what of it the heap holds only when that is above
  // `most_bytes`, and not again before a while, for it takes long when there is much: meanwhile growth counts as held.
  // Where the heap is below and the process far above, what is free goes back to the system, every 10 s at most.
  bool Over(int64_t most_bytes, MonotonicTime now);

 private:
  bool over_ = false;
  int64_t resident_then_ = 0;  // when the heap was asked
  MonotonicTime next_ask_, next_trim_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_RESOURCES_H_
