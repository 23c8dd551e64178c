// Reads the YAML configuration.
#ifndef GOAD_SERVER_CONFIG_CONFIG_LOADER_H_
#define GOAD_SERVER_CONFIG_CONFIG_LOADER_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace goad::server {

// Defaults, then the file, then ValidateConfig. INVALID_ARGUMENT lists every problem, one per line, as
// "SOURCE:LINE:COLUMN: PATH: what is wrong" (a YAML syntax error is the only one listed). Unknown and duplicate keys are
// problems.
absl::StatusOr<Config> ParseConfig(const std::string& source, const std::string& yaml);

// NOT_FOUND when the file cannot be read.
absl::StatusOr<Config> LoadConfig(const std::string& path);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CONFIG_LOADER_H_
