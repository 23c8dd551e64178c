#include "server/config/host_lookup.h"

#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

constexpr size_t kMostThreads = 16;

// `flags` of getaddrinfo. Addresses come out once each.
Host Resolve(const std::string& name, int flags) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  Host host;
  if (const int error = getaddrinfo(name.c_str(), nullptr, &hints, &found); error != 0) {
    host.problem = gai_strerror(error);
    return host;
  }
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    if (at->ai_family == AF_INET6) {
      const in6_addr& in = reinterpret_cast<const sockaddr_in6*>(at->ai_addr)->sin6_addr;
      const size_t skip = IN6_IS_ADDR_V4MAPPED(&in) ? 12 : 0;
      host.addresses.emplace_back(reinterpret_cast<const char*>(&in) + skip, sizeof in - skip);
    } else if (at->ai_family == AF_INET) {
      const in_addr& in = reinterpret_cast<const sockaddr_in*>(at->ai_addr)->sin_addr;
      host.addresses.emplace_back(reinterpret_cast<const char*>(&in), sizeof in);
    }
  }
  freeaddrinfo(found);
  return host;
}

// Outlives whoever waits for it, as a resolver cannot be interrupted.
struct Work {
  std::mutex mutex;
  std::condition_variable done;
  std::vector<std::string> names;  // to be asked for; from the back
  size_t under_way = 0;
  std::map<std::string, Host> found;
};

void Run(const std::shared_ptr<Work>& work) {
  std::unique_lock<std::mutex> lock(work->mutex);
  while (!work->names.empty()) {
    const std::string name = std::move(work->names.back());
    work->names.pop_back();
    ++work->under_way;
    lock.unlock();
    Host host = Resolve(name, 0);
    lock.lock();
    work->found[name] = std::move(host);
    --work->under_way;
  }
  work->done.notify_all();
}

// Of threads that are not the process's own: signals are for others.
void StartThreads(const std::shared_ptr<Work>& work, size_t count) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (size_t k = 0; k < count; ++k) std::thread(Run, work).detach();
  } catch (const std::system_error&) {  // no more threads: those that are there do it, or nobody
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

std::map<std::string, Host> LookUp(const std::set<std::string>& hosts, absl::Duration within) {
  const auto work = std::make_shared<Work>();
  std::map<std::string, Host> all;
  for (const std::string& name : hosts) {
    Host& host = all[name] = Resolve(name, AI_NUMERICHOST);
    if (host.problem.empty()) continue;
    host.problem = absl::StrCat("no answer within ", absl::FormatDuration(within));
    work->names.push_back(name);
  }
  if (work->names.empty()) return all;
  StartThreads(work, std::min(work->names.size(), kMostThreads));
  std::unique_lock<std::mutex> lock(work->mutex);
  work->done.wait_for(lock, absl::ToChronoMilliseconds(within),
                      [&] { return work->names.empty() && work->under_way == 0; });
  work->names.clear();
  for (auto& [name, host] : work->found) all[name] = std::move(host);
  return all;
}

bool IsPrivate(std::string_view address) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(address[k]); };
  if (address.size() == 4) {
    return byte(0) == 0 || byte(0) == 10 || byte(0) == 127 || (byte(0) == 172 && byte(1) >> 4 == 1) ||
           (byte(0) == 192 && byte(1) == 168) || (byte(0) == 169 && byte(1) == 254) ||
           (byte(0) == 100 && byte(1) >> 6 == 1);
  }
  if (address.size() != 16) return false;
  const bool is_loopback =
      address.substr(0, 15) == std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 15) && byte(15) <= 1;
  return is_loopback || (byte(0) & 0xFE) == 0xFC || (byte(0) == 0xFE && byte(1) >> 6 == 2);
}

bool IsOurs(std::string_view address) {  // only those can be bound
  sockaddr_in four{};
  sockaddr_in6 six{};
  const bool is_four = address.size() == 4;
  const int fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  four.sin_family = AF_INET;
  six.sin6_family = AF_INET6;
  std::memcpy(is_four ? static_cast<void*>(&four.sin_addr) : static_cast<void*>(&six.sin6_addr), address.data(),
              is_four ? 4 : 16);
  const int bound = is_four ? bind(fd, reinterpret_cast<sockaddr*>(&four), sizeof four)
                            : bind(fd, reinterpret_cast<sockaddr*>(&six), sizeof six);
  close(fd);
  return bound == 0;
}

}  // namespace goad::server
