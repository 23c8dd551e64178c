// Why goad is known to take no query now, if it is. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_NOT_NOW_H_
#define GOAD_CLIENT_SDK_SRC_NOT_NOW_H_

#include <algorithm>
#include <string>
#include <utility>

#include "client_sdk/src/instant.h"

namespace goad::internal {

// Thread-compatible.
class NotNow {
 public:
  void Away(std::string why, std::string detail) {  // until the next greeting
    away_ = std::move(why);
    detail_ = std::move(detail);
  }
  void Greeted() { *this = NotNow(); }  // maybe another goad: what it does not want it says itself
  void Hold(const std::string& why, Instant until) {
    hold_until_ = std::max(hold_until_, until);
    hold_ = why;
  }

  // (code, detail); an empty code: it may be asked. Without a local model there is nothing better to do than to wait
  // for one that is away, within the query's budget.
  std::pair<std::string, std::string> Why(bool must_offload, Instant now) const {
    if (now < hold_until_) return {hold_, "goad wants no query before retry_after"};
    if (!must_offload) return {away_, detail_};
    return {};
  }
  absl::Duration HoldLeft(Instant now) const { return std::max(hold_until_ - now, absl::ZeroDuration()); }
  const std::string& away() const { return away_; }  // "" = it is not

 private:
  std::string away_, detail_;
  std::string hold_;
  Instant hold_until_ = -absl::InfiniteDuration();
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_NOT_NOW_H_
