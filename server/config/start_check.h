// What stands in the way of a start beyond the file's own words: addresses, and files that goad writes. A reload does
// not ask, for it opens none of them.
#ifndef GOAD_SERVER_CONFIG_START_CHECK_H_
#define GOAD_SERVER_CONFIG_START_CHECK_H_

#include <string>
#include <vector>

#include "server/config/config.h"
#include "server/config/config_validator.h"

namespace goad::server {

// The listeners' names are resolved, which may take as long as the resolver lets it; those of backends for 2 s in all.
// Nothing is left bound or written. What may still come right (a name that is not found yet) goes to `warnings`.
std::vector<ConfigProblem> StartProblems(const Config& config, std::vector<std::string>* warnings = nullptr);

// Of decision_log.path and lock_file; "" = nothing. An empty path is none.
std::string DecisionLogProblem(const std::string& path);
std::string LockFileProblem(const std::string& path);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_START_CHECK_H_
