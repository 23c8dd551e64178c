// What an app passes in, looked at before anything of it is sent: a string that is not UTF-8 would make the whole frame
// unreadable and cost every other query of the stream. Pure. Every status names the field, the value and what is
// allowed.
#ifndef GOAD_CLIENT_SDK_SRC_CHECKS_H_
#define GOAD_CLIENT_SDK_SRC_CHECKS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "goad/query.h"

namespace goad::internal {

// All but the content of the files.
absl::Status CheckOptions(const ClientOptions& options);
// `metric`: the options' own. `limits` as far as goad has said them.
absl::Status CheckQuery(const Query& query, UncertaintyMetric metric, const std::optional<Limits>& limits);
// HOST:PORT, as goad may name one: nothing that leads to a socket of this machine's file system, say.
constexpr size_t kMostAddressBytes = 256;
absl::Status CheckNamedAddress(const std::string& address);
absl::Status CheckQueryId(const std::string& id);
absl::Status CheckLink(const Link& link);
absl::Status CheckLocalDelay(const std::string& query_id, absl::Duration delay);
absl::Status CheckQuality(const std::string& query_id, double quality);

// At most that many bytes, cut between characters.
std::string Clip(std::string text, size_t most);

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_CHECKS_H_
