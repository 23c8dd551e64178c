// Ranges and cross-checks of the configuration's policy section. Pure.
#ifndef GOAD_SERVER_CONFIG_POLICY_CHECK_H_
#define GOAD_SERVER_CONFIG_POLICY_CHECK_H_

#include <vector>

#include "server/config/config_validator.h"

namespace goad::server {

std::vector<ConfigProblem> PolicyProblems(const PolicyConfig& policy);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_POLICY_CHECK_H_
