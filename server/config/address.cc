#include "server/config/address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace goad::server {
namespace {

constexpr size_t kMostUrl = 512;

struct Url {
  bool https = false;
  std::string host;  // with its brackets; lower case
  int port = 0;
  std::string path;
};

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// "" or what is wrong. `host` comes out in its usual form.
std::string TakeHost(std::string_view text, std::string* host) {
  if (text.empty()) return "names no host";
  if (text.front() == '[') {
    in6_addr address;
    char shortest[INET6_ADDRSTRLEN];
    const std::string inside(text.substr(1, text.size() < 2 ? 0 : text.size() - 2));
    if (inside.find('%') != std::string::npos) {
      return "has a zone (%), which names an interface of one machine and no server; give it an address that needs "
             "none";
    }
    if (text.back() != ']' || inet_pton(AF_INET6, inside.c_str(), &address) != 1) {
      return absl::StrCat("has no IPv6 address in its brackets (", std::string(text), ")");
    }
    *host = absl::StrCat("[", inet_ntop(AF_INET6, &address, shortest, sizeof shortest), "]");
    return "";
  }
  *host = std::string(text);
  absl::AsciiStrToLower(host);
  if (host->find(':') != std::string::npos) return "has an IPv6 address without brackets, want [ADDRESS]";
  if (host->size() > 253) return "has a host name of more than 253 bytes";
  if (!std::all_of(host->begin(), host->end(),
                   [](char c) { return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_'; })) {
    return "has a host with other characters than a-z 0-9 - . _";
  }
  const std::vector<std::string> labels = absl::StrSplit(*host, '.');
  for (size_t k = 0; k < labels.size(); ++k) {
    const bool root = labels[k].empty() && k + 1 == labels.size() && labels.size() > 1;  // "host." is absolute
    if ((labels[k].empty() && !root) || labels[k].size() > 63)
      return "has a host name with a part that is not of 1 to 63 bytes";
  }
  in_addr address;
  if (IsDigits(labels.back()) && inet_pton(AF_INET, host->c_str(), &address) != 1) {
    return absl::StrCat("has a host that looks like an IPv4 address and is none (", *host, ")");
  }
  return "";
}

std::string TakePort(std::string_view text, int least, int* port) {
  if (!IsDigits(text) || text.size() > 5 || (text.size() > 1 && text.front() == '0') ||
      !absl::SimpleAtoi(std::string(text), port) || *port < least || *port > 65535) {
    return absl::StrCat("has a port that is not in ", least, "..65535 (\"", std::string(text.substr(0, 16)), "\")");
  }
  return "";
}

// Where the host ends and ":PORT" begins; npos = there is no port.
size_t PortColon(std::string_view authority) {
  const size_t colon = authority.rfind(':'), bracket = authority.rfind(']');
  return colon != std::string_view::npos && bracket != std::string_view::npos && colon < bracket
             ? std::string_view::npos
             : colon;
}

std::string ParseUrl(const std::string& url, Url* out) {
  constexpr char kWant[] = "is not http[s]://HOST[:PORT][/PATH] without /v1";
  if (url.size() > kMostUrl) return absl::StrCat("has ", url.size(), " bytes, want at most ", kMostUrl);
  out->https = absl::StartsWithIgnoreCase(url, "https://");
  if (!out->https && !absl::StartsWithIgnoreCase(url, "http://")) return kWant;
  std::string_view rest = std::string_view(url).substr(out->https ? 8 : 7);
  if (const size_t at = rest.find('@'); at != std::string_view::npos && at < rest.find('/')) {
    return "holds a user name or password, which every log and metric would show; put the key into a file and name "
           "that in api_key_file";
  }
  for (const char c : url) {
    if (static_cast<unsigned char>(c) <= ' ' || static_cast<unsigned char>(c) >= 127) {
      return "holds a blank, a control character or one beyond ASCII";
    }
  }
  if (rest.find_first_of("?#") != std::string_view::npos)
    return "holds a query or fragment (? or #), which has no place here";
  if (rest.find_first_of("\"<>\\^`{|}") != std::string_view::npos) return "holds one of \" < > \\ ^ ` { | }";
  const std::string_view authority = rest.substr(0, rest.find('/'));
  out->path = std::string(rest.substr(authority.size()));
  const size_t colon = PortColon(authority);
  std::string_view host = authority.substr(0, colon);
  if (host.find(':') != std::string_view::npos && host.front() != '[')
    return "has an IPv6 address without brackets, want [ADDRESS]";
  if (std::string problem = TakeHost(host, &out->host); !problem.empty()) return problem;
  out->port = out->https ? 443 : 80;
  if (colon != std::string_view::npos) {
    if (std::string problem = TakePort(authority.substr(colon + 1), 1, &out->port); !problem.empty()) return problem;
  }
  if (absl::EndsWith(out->path, "/")) return "ends in /, which goad adds itself";
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(out->path, '/'))) {
    if (part == "v1") return "holds the /v1 path, which goad adds itself";
    if (part == "." || part == "..") return "holds a path with . or ..";
  }
  return "";
}

}  // namespace

std::string UrlProblem(const std::string& url) {
  Url parsed;
  return ParseUrl(url, &parsed);
}

std::string SameUrl(const std::string& url) {
  Url parsed;
  (void)ParseUrl(url, &parsed);
  if (parsed.host.size() > 1 && parsed.host.back() == '.') parsed.host.pop_back();
  if (parsed.host == "localhost") parsed.host = "127.0.0.1";
  return absl::StrCat(parsed.https ? "https://" : "http://", parsed.host, ":", parsed.port, parsed.path);
}

UrlPlace PlaceOf(const std::string& url) {
  Url parsed;
  (void)ParseUrl(url, &parsed);
  const bool brackets = parsed.host.front() == '[';
  return {parsed.https, brackets ? parsed.host.substr(1, parsed.host.size() - 2) : parsed.host, parsed.port};
}

std::string AddressProblem(const std::string& address, bool unix_too) {
  if (address.find('\0') != std::string::npos) return "holds a NUL";
  if (unix_too && absl::StartsWith(address, "unix:")) {
    const size_t length = address.size() - (absl::StartsWith(address, "unix:///") ? 7 : 5);
    if (length == 0 || length >= sizeof(sockaddr_un::sun_path)) {
      return absl::StrCat("has a path of ", length, " bytes, want 1 to ", sizeof(sockaddr_un::sun_path) - 1);
    }
    return "";
  }
  const size_t colon = PortColon(address);
  if (colon == std::string::npos) return unix_too ? "is not HOST:PORT or unix:PATH" : "is not HOST:PORT";
  std::string host;
  if (std::string problem = TakeHost(std::string_view(address).substr(0, colon), &host); !problem.empty())
    return problem;
  int port = 0;
  return TakePort(std::string_view(address).substr(colon + 1), 0, &port);
}

}  // namespace goad::server
