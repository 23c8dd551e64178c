// Hints when to come again: those who are sent away together must not come back together.
#ifndef GOAD_SERVER_BASE_JITTER_H_
#define GOAD_SERVER_BASE_JITTER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace goad::server {

// `least` to half as much again, spread by `key` (a query's or a session's number).
inline absl::Duration Jittered(absl::Duration least, uint64_t key) {
  return least * (1 + 0.5 * static_cast<double>(key * 0x9E3779B97F4A7C15ull >> 11) * 0x1p-53);
}

// When to come again, in seconds: the one hint that is given, with refusals, declines and Goodbye.
inline double RetryHint(absl::Duration least, uint64_t key) { return absl::ToDoubleSeconds(Jittered(least, key)); }

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_JITTER_H_
