// What the hosts of backends resolve to.
#ifndef GOAD_SERVER_CONFIG_HOST_LOOKUP_H_
#define GOAD_SERVER_CONFIG_HOST_LOOKUP_H_

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace goad::server {

struct Host {
  std::vector<std::string> addresses;  // 4 or 16 bytes each
  std::string problem;                 // "" = found
};

// Names (asked all at once) and addresses. Takes at most `within`; what a resolver keeps longer is a problem of that
// host, and a thread stays until it is through.
std::map<std::string, Host> LookUp(const std::set<std::string>& hosts, absl::Duration within);

// Of loopback, of a link, or of a net that is not routed (RFC 1918, 4193, 6598).
bool IsPrivate(std::string_view address);
// Whether it is one of this machine's.
bool IsOurs(std::string_view address);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_HOST_LOOKUP_H_
