#include "client_sdk/src/problems.h"

#include "absl/strings/str_cat.h"
#include "client_sdk/src/checks.h"

namespace goad::internal {

std::optional<Problem> Problems::Told(const std::string& code, const std::string& detail, Instant now) {
  for (auto it = last_.begin(); it != last_.end();)
    it = now - it->second >= absl::Minutes(1) ? last_.erase(it) : std::next(it);
  const std::string clipped = Clip(detail, 512);
  const std::string key = absl::StrCat(code, "\n", clipped);
  if (now - second_ >= absl::Seconds(1)) second_ = now, in_second_ = 0;
  if (last_.count(key) != 0 || in_second_ >= 10 || last_.size() >= 600) {  // ten a second for a minute
    ++untold_;
    return std::nullopt;
  }
  ++in_second_;
  last_[key] = now;
  return Problem{code, clipped, std::exchange(untold_, 0)};
}

}  // namespace goad::internal
