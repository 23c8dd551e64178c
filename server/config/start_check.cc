#include "server/config/start_check.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/clip.h"
#include "server/config/address.h"
#include "server/config/host_lookup.h"

namespace goad::server {
namespace {

constexpr absl::Duration kLookUp = absl::Seconds(2);

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Of a folder in which something is to be made.
std::string FolderProblem(const std::string& path) {
  const std::string folder = FolderOf(path);
  struct stat info {};
  if (stat(folder.c_str(), &info) != 0) return absl::StrCat("its folder cannot be written: ", std::strerror(errno));
  if (!S_ISDIR(info.st_mode)) return absl::StrCat(Clip(folder), " is not a folder");
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    return absl::StrCat("its folder cannot be written: ", std::strerror(errno));
  }
  return "";
}

// Of a regular file that is to be written, there already or not.
std::string FileProblem(const std::string& path) {
  struct stat info {};
  std::string problem;
  if (stat(path.c_str(), &info) != 0) {
    problem = errno == ENOENT || errno == ENOTDIR ? FolderProblem(path) : std::strerror(errno);
  } else if (!S_ISREG(info.st_mode)) {
    problem = absl::StrCat("is ",
                           S_ISDIR(info.st_mode)    ? "a directory"
                           : S_ISFIFO(info.st_mode) ? "a FIFO"
                           : S_ISSOCK(info.st_mode) ? "a socket"
                                                    : "a device",
                           ", want a regular file");
  } else if (access(path.c_str(), W_OK) != 0) {
    problem = absl::StrCat("cannot be written: ", std::strerror(errno));
  }
  return problem.empty() ? "" : absl::StrCat(Clip(path, 200), ": ", problem);
}

// Of the folder of a unix socket. Whether it may be written is not asked: another user may check the configuration.
std::string SocketFolderProblem(const std::string& path) {
  const std::string folder = FolderOf(path), above = FolderOf(folder);
  struct stat info {};
  if (stat(folder.c_str(), &info) == 0) {
    return S_ISDIR(info.st_mode) ? "" : absl::StrCat("has no folder to be in: ", Clip(folder), " is not a folder");
  }
  if (errno == EACCES || (errno == ENOENT && (above == "/run" || above == "/var/run"))) return "";  // systemd makes it
  return absl::StrCat("has no folder to be in: ", std::strerror(errno));
}

// A listener's address as the kernel has it.
struct Listener {
  const char* field;
  std::string text;
  std::string path;  // of a unix socket; the rest is for the others
  bool every = false;
  int port = 0;
  std::vector<std::string> hosts;  // addresses, as bytes
};

// Resolved, and bound to a port that is free for a moment; what is wrong, or "".
std::string Resolve(Listener* listener) {
  const std::string& text = listener->text;
  if (absl::StartsWith(text, "unix:")) {
    listener->path = text.substr(absl::StartsWith(text, "unix:///") ? 7 : 5);
    return SocketFolderProblem(listener->path);
  }
  const size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon);
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  listener->port = std::atoi(text.c_str() + colon + 1);
  listener->every = host == "0.0.0.0" || host == "::";
  if (listener->every) return "";
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  if (const int error = getaddrinfo(host.c_str(), "0", &hints, &found); error != 0) {
    return absl::StrCat("names a host that is not found: ", gai_strerror(error));
  }
  std::string problem = "is of a family that this machine has not";
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0) {
      problem = absl::StrCat("cannot be bound, is it one of this machine? ", std::strerror(errno));
    } else if (at->ai_family == AF_INET6) {
      const in6_addr& in = reinterpret_cast<const sockaddr_in6*>(at->ai_addr)->sin6_addr;
      const size_t skip = IN6_IS_ADDR_V4MAPPED(&in) ? 12 : 0;
      listener->hosts.emplace_back(reinterpret_cast<const char*>(&in) + skip, sizeof in - skip);
    } else {
      const in_addr& in = reinterpret_cast<const sockaddr_in*>(at->ai_addr)->sin_addr;
      listener->hosts.emplace_back(reinterpret_cast<const char*>(&in), sizeof in);
    }
    close(fd);
  }
  freeaddrinfo(found);
  return listener->hosts.empty() ? problem : "";
}

bool Clash(const Listener& a, const Listener& b) {
  if (!a.path.empty() || !b.path.empty()) return a.path == b.path;
  if (a.port == 0 || a.port != b.port) return false;
  if (a.every || b.every) return true;
  for (const std::string& host : a.hosts) {
    for (const std::string& other : b.hosts) {
      if (host == other) return true;
    }
  }
  return false;
}

// Of a host that is not found: whether it is of a domain of its own net.
bool IsLocalName(const std::string& host) {
  constexpr std::string_view kDomains[] = {".local", ".internal", ".lan", ".home.arpa", ".localhost", ".svc"};
  return host.find('.') == std::string::npos || std::any_of(std::begin(kDomains), std::end(kDomains), [&](auto domain) {
           return absl::EndsWith(host, std::string(domain));
         });
}

// Whether a connection to one of `addresses` comes out at the listener.
bool Reaches(const std::vector<std::string>& addresses, int port, const Listener& listener) {
  if (!listener.path.empty() || listener.port == 0 || listener.port != port) return false;
  return std::any_of(addresses.begin(), addresses.end(), [&](const std::string& address) {
    return listener.every ? IsOurs(address)
                          : std::find(listener.hosts.begin(), listener.hosts.end(), address) != listener.hosts.end();
  });
}

void CheckBackends(const Config& config, const std::vector<Listener>& listeners, std::vector<ConfigProblem>* problems,
                   std::vector<std::string>* warnings) {
  struct Backend {
    std::string path;
    const BackendConfig* config;
    UrlPlace place;
  };
  std::vector<Backend> backends;
  std::set<std::string> names;
  for (size_t j = 0; j < config.sites.size(); ++j) {
    for (size_t b = 0; b < config.sites[j].backends.size(); ++b) {
      const BackendConfig& backend = config.sites[j].backends[b];
      if (!UrlProblem(backend.url).empty()) continue;  // said by the validator
      backends.push_back({absl::StrCat("sites[", j, "].backends[", b, "]"), &backend, PlaceOf(backend.url)});
      names.insert(backends.back().place.host);
    }
  }
  const std::map<std::string, Host> hosts = LookUp(names, kLookUp);
  for (const auto& [path, backend, place] : backends) {
    const Host& host = hosts.at(place.host);
    const std::string url = absl::StrCat("\"", Clip(backend->url, 200), "\"");
    if (!host.problem.empty() && names.erase(place.host) > 0) {  // each once
      warnings->push_back(absl::StrCat(path, ".url: ", place.host, " is not found: ", host.problem));
    }
    for (const Listener& listener : listeners) {
      if (!Reaches(host.addresses, place.port, listener)) continue;
      problems->push_back({absl::StrCat(path, ".url"), absl::StrCat(url, " is goad's own ", listener.field, " \"",
                                                                    Clip(listener.text, 200), "\"")});
    }
    const bool is_near = host.problem.empty() ? std::all_of(host.addresses.begin(), host.addresses.end(), IsPrivate)
                                              : IsLocalName(place.host);
    if (!backend->api_key.empty() && !place.https && !is_near) {
      warnings->push_back(absl::StrCat(path, ".api_key_file: the key goes to ", url,
                                       " unencrypted, and that is not known to be a private address; use https://"));
    }
  }
}

}  // namespace

std::string DecisionLogProblem(const std::string& path) {
  return path.empty() || path == "/dev/null" ? "" : FileProblem(path);
}

std::string LockFileProblem(const std::string& path) { return path.empty() ? "" : FileProblem(path); }

std::vector<ConfigProblem> StartProblems(const Config& config, std::vector<std::string>* warnings) {
  std::vector<ConfigProblem> problems;
  std::vector<std::string> ignored;
  const auto add = [&](const char* field, std::string problem) {
    if (!problem.empty()) problems.push_back({field, std::move(problem)});
  };
  std::vector<Listener> listeners;
  for (Listener listener :
       {Listener{"listen.address", config.listen.address, ""}, Listener{"admin.address", config.admin_address, ""},
        Listener{"metrics.address", config.metrics_address, ""}}) {
    const bool unix_too = listener.field != std::string_view("metrics.address");
    if (listener.text.empty() || !AddressProblem(listener.text, unix_too).empty()) continue;  // said by the validator
    if (const std::string problem = Resolve(&listener); !problem.empty()) {
      add(listener.field, absl::StrCat("\"", Clip(listener.text, 200), "\" ", problem));
      continue;
    }
    for (const Listener& other : listeners) {
      if (!Clash(listener, other)) continue;
      add(listener.field, absl::StrCat("\"", Clip(listener.text, 200), "\" clashes with ", other.field, " \"",
                                       Clip(other.text, 200), "\""));
      break;
    }
    listeners.push_back(std::move(listener));
  }
  add("lock_file", LockFileProblem(config.lock_file));
  add("decision_log.path", DecisionLogProblem(config.decision_log.path));
  CheckBackends(config, listeners, &problems, warnings != nullptr ? warnings : &ignored);
  return problems;
}

}  // namespace goad::server
