// When the next stream may be opened, so that a fleet does not come back as one. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_RECONNECT_H_
#define GOAD_CLIENT_SDK_SRC_RECONNECT_H_

#include <algorithm>
#include <random>

#include "client_sdk/src/instant.h"
#include "client_sdk/src/random.h"

namespace goad::internal {

// Thread-compatible. The back-off of a loss is half to all of `first`, twice as much after each further one up to
// `most`, and `first` again after a greeting.
class Reconnect {
 public:
  Reconnect(absl::Duration first, absl::Duration most) : first_(first), most_(most), backoff_(first) {}

  Instant at() const { return at_; }  // at once to begin with
  void Never() { at_ = absl::InfiniteDuration(); }
  void Greeted() { backoff_ = first_; }
  void Earlier(Instant at) { at_ = std::min(at_, at); }
  void NotBefore(Instant at) { at_ = std::max(at_, at); }
  // `retry_after`: goad wants no stream of this client before.
  void Lost(absl::Duration retry_after, Instant now, std::mt19937_64& random) {
    const double more = RandomShare(random), share = RandomShare(random);
    at_ = now + std::max(backoff_ * (0.5 + 0.5 * share), retry_after * (1 + more));
    backoff_ = std::min(2 * backoff_, most_);
  }
  void Goodbye(absl::Duration wait, Instant now, std::mt19937_64& random) {
    wait_ = wait;
    at_ = now + std::max(wait_, first_) * (1 + RandomShare(random));
  }
  // Goodbye named its own time. When that is over already, all devices lose their streams in this instant and may not
  // come back in it.
  void LostAfterGoodbye(Instant now, std::mt19937_64& random) {
    at_ = std::max(at_, now + std::max(wait_, backoff_) * RandomShare(random));
  }

 private:
  absl::Duration first_, most_;
  absl::Duration backoff_;  // of the next loss
  absl::Duration wait_;     // what Goodbye asked for
  Instant at_ = -absl::InfiniteDuration();
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_RECONNECT_H_
