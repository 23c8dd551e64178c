// Lines of a file, whoever wrote it: of a decision log (server/telemetry/decision_log.h) for `goad-sim replay` and
// `fit`, of labels for `calibrate`.
#ifndef GOAD_SERVER_SIM_LOG_LINES_H_
#define GOAD_SERVER_SIM_LOG_LINES_H_

#include <cstddef>
#include <functional>
#include <istream>
#include <string>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace goad::server {

inline constexpr size_t kMostLogLineBytes = 64 << 20;
inline constexpr int kMostLogLineDepth = 16;  // arrays and objects within each other; a snapshot has 4

// Calls `take` with each line of at most `most_bytes`; empty ones are passed over. INVALID_ARGUMENT with "SOURCE:LINE:
// " before the words for a longer one, and for what `take` refuses, which ends it; with `source` alone where it cannot
// be read on.
absl::Status ReadLines(std::istream& in, const std::string& source, size_t most_bytes,
                       const std::function<absl::Status(const std::string& line, const std::string& place)>& take);

// Calls `take` with each line, an object, and its place, "SOURCE:LINE"; empty lines are passed over. INVALID_ARGUMENT
// with the place before the words for a line that is too long, too deep or no JSON object, and for what `take` refuses,
// which ends it; with `source` alone where it cannot be read on.
absl::Status ReadLogLines(
    std::istream& in, const std::string& source,
    const std::function<absl::Status(const nlohmann::json& line, const std::string& place)>& take);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_LOG_LINES_H_
