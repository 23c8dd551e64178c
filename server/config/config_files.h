// The files that a configuration names: read with it, checked, and held in it, so that a reload changes all of them
// together or none, and nothing is read later on a thread that may not wait.
#ifndef GOAD_SERVER_CONFIG_CONFIG_FILES_H_
#define GOAD_SERVER_CONFIG_CONFIG_FILES_H_

#include <string>
#include <vector>

#include "server/config/config.h"
#include "server/config/config_validator.h"

namespace goad::server {

// Fills in what the files hold: listen.tls.*_pem, auth.tokens, policy.curves and certificate, each backend's api_key
// and ca_pem. Returns every problem; what is no error but will trouble somebody goes to config->warnings. No message
// holds a byte of a key or token.
std::vector<ConfigProblem> ReadConfigFiles(Config* config);

// What is other in the files than it was when `config` was read from them, in words, file by file; empty = nothing.
// Reads them all.
std::string DifferenceOfFiles(const Config& config);
LoadedFile Loaded(const std::string& path, const std::string& text);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CONFIG_FILES_H_
