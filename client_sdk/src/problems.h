// Which problems are told, so that a broken network does not flood the app. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_PROBLEMS_H_
#define GOAD_CLIENT_SDK_SRC_PROBLEMS_H_

#include <map>
#include <optional>
#include <string>

#include "client_sdk/src/instant.h"
#include "goad/query.h"

namespace goad::internal {

// Thread-compatible. The same problem once a minute, and ten in a second; the others are counted.
class Problems {
 public:
  std::optional<Problem> Told(const std::string& code, const std::string& detail, Instant now);

 private:
  std::map<std::string, Instant> last_;         // by code and detail; of the last minute, bounded
  Instant second_ = -absl::InfiniteDuration();  // when the present one began
  int in_second_ = 0;
  int untold_ = 0;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_PROBLEMS_H_
