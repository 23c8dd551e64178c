// Ranges and cross-checks of a configuration. Pure.
#ifndef GOAD_SERVER_CONFIG_CONFIG_VALIDATOR_H_
#define GOAD_SERVER_CONFIG_CONFIG_VALIDATOR_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace goad::server {

struct ConfigProblem {
  std::string path;     // for example sites[0].max_queries
  std::string message;  // the value and what is allowed
};

// Every problem at once, in the order of the file's reference.
std::vector<ConfigProblem> ValidateConfig(const Config& config);

// What is allowed and cannot be meant.
std::vector<std::string> ConfigWarnings(const Config& config);

// INVALID_ARGUMENT unless `name` is a policy for a daemon (`reference` is for tests and the simulator).
absl::Status CheckPolicyName(const std::string& name);

// What a reload from `running` to `next` may not change: the paths of restart-only fields that differ.
std::vector<std::string> RestartOnlyChanges(const Config& running, const Config& next);

// What a reload from `running` to `next` takes away from who may come in: a file that was written only half way can
// look like this.
std::vector<std::string> ReloadWarnings(const Config& running, const Config& next);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CONFIG_VALIDATOR_H_
