// Reads the YAML configuration.
#ifndef GOAD_SERVER_CONFIG_CONFIG_LOADER_H_
#define GOAD_SERVER_CONFIG_CONFIG_LOADER_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace goad::server {

// Defaults, then the file, then the files that it names, then ValidateConfig. INVALID_ARGUMENT lists every problem, one
// per line, as "SOURCE:LINE:COLUMN: PATH: what is wrong" (a YAML syntax error is the only one listed). Unknown and
// duplicate keys, a second document, tags and merge keys are problems.
absl::StatusOr<Config> ParseConfig(const std::string& source, const std::string& yaml);

// The file is read by ReadFile, whose errors name it. `starting`: what is opened at start only is looked at too
// (StartProblems).
absl::StatusOr<Config> LoadConfig(const std::string& path, bool starting = true);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CONFIG_LOADER_H_
