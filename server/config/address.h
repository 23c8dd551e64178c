// What a backend's URL and a listener's address may look like. Pure: nothing is resolved.
#ifndef GOAD_SERVER_CONFIG_ADDRESS_H_
#define GOAD_SERVER_CONFIG_ADDRESS_H_

#include <string>

namespace goad::server {

// What is wrong with the URL of a backend, in words that never hold its password; "" = nothing:
// http[s]://HOST[:PORT][/PATH], HOST a name, an IPv4 address or an IPv6 address in brackets, without the /v1 path.
std::string UrlProblem(const std::string& url);

// Equal for URLs of the same server: the host in lower case without a last dot, an IPv6 address in its shortest form,
// localhost as 127.0.0.1, the port always there. REQUIRES: UrlProblem(url) is "".
std::string SameUrl(const std::string& url);

// Where a URL leads: the host in lower case and without brackets. REQUIRES: UrlProblem(url) is "".
struct UrlPlace {
  bool https = false;
  std::string host;
  int port = 0;
};
UrlPlace PlaceOf(const std::string& url);

// What is wrong with HOST:PORT, or where `unix_too` unix:PATH; "" = nothing. Port 0 = one that is free.
std::string AddressProblem(const std::string& address, bool unix_too);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_ADDRESS_H_
