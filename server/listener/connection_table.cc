#include "server/listener/connection_table.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace goad::server {
namespace {

// What a connection may receive beyond its whole frames: one message that is not whole yet (3 MiB and some), another on
// each stream that was let in, headers, settings, pings. Beyond that the peer sends what is no question of anybody.
constexpr double kByteBurst = (3 << 20) + (256 << 10);
constexpr double kByteBurstMost = 32 << 20;
// Before its first call has come through, beside that call's message: HTTP/2's settings, headers, a TLS handshake.
constexpr double kBeforeFirstMessage = 64 << 10;
// The same with its message, while we are wary: what HTTP/2 lets it send before it is told more.
constexpr double kByteBurstWary = 96 << 10;
// Of all strangers together, beyond what a TLS handshake and a first call take of each: then those that sent most go. A
// byte of headers can be some 250 in memory, and nobody sees the headers of a call before gRPC does.
constexpr double kStrangersBurst = 2 << 20;
constexpr double kStrangersBurstWary = 1 << 20;
constexpr double kStrangerFree = 8 << 10;
// What a connection costs its address, beside itself, when it ends as a stranger: breaking off and coming again is
// slowed down.
constexpr int kStrangerCost = 9;
// And when it was cut off for what it sent: so many such use up what may come of an address at once.
constexpr int kOffences = 20;
// While memory is short.
constexpr double kByteBurstShort = 128 << 10;
constexpr double kByteBurstShortStranger = 16 << 10;
constexpr double kBytesPerSecond = 128 << 10;
constexpr double kSegmentsPerStream = 100;  // a second; four seconds' worth may come at once
// Looked at every time when it received more than this since the last look.
constexpr uint64_t kLivelyBytes = 16 << 10;
constexpr uint64_t kLivelySegments = 50;

constexpr size_t kAddresses = 65536;  // addresses remembered for their rate of arrivals
constexpr absl::Duration kForgetAddress = absl::Seconds(20);
constexpr size_t kYoungest = 1024;

// The sixteen bytes of an IPv6 or IPv4-mapped address and the port; nullopt for anything else.
std::optional<std::pair<std::string, std::string>> Parse(std::string_view peer) {
  const size_t colon = peer.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view family = peer.substr(0, colon);
  std::string rest = absl::StrReplaceAll(std::string(peer.substr(colon + 1)),
                                         {{"%5B", "["}, {"%5D", "]"}, {"%5b", "["}, {"%5d", "]"}});
  const size_t port_at = rest.rfind(':');
  if (port_at == std::string::npos) return std::nullopt;
  const std::string port = rest.substr(port_at + 1);
  std::string host = rest.substr(0, port_at);
  unsigned char bytes[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  if (family == "ipv4") {
    if (inet_pton(AF_INET, host.c_str(), bytes + 12) != 1) return std::nullopt;
  } else if (family == "ipv6") {
    if (host.size() < 2 || host.front() != '[' || host.back() != ']') return std::nullopt;
    host = host.substr(1, host.size() - 2);
    host = host.substr(0, host.find('%'));  // a zone
    if (inet_pton(AF_INET6, host.c_str(), bytes) != 1) return std::nullopt;
  } else {
    return std::nullopt;
  }
  return std::pair(std::string(reinterpret_cast<const char*>(bytes), sizeof bytes), port);
}

bool Offends(std::optional<ConnectionRefusal> why) {
  return why == ConnectionRefusal::kByteRate || why == ConnectionRefusal::kMemory;
}

bool IsIpv4(const std::string& bytes) {
  return bytes.compare(0, 12, std::string("\0\0\0\0\0\0\0\0\0\0\xFF\xFF", 12)) == 0;
}

}  // namespace

const char* ToString(ConnectionRefusal refusal) {
  switch (refusal) {
    case ConnectionRefusal::kConnections: return "CONNECTIONS";
    case ConnectionRefusal::kConnectionsPerAddress: return "CONNECTIONS_PER_ADDRESS";
    case ConnectionRefusal::kStrangers: return "STRANGERS";
    case ConnectionRefusal::kDescriptors: return "DESCRIPTORS";
    case ConnectionRefusal::kNoHello: return "NO_HELLO";
    case ConnectionRefusal::kCallRate: return "CALL_RATE";
    case ConnectionRefusal::kByteRate: return "BYTE_RATE";
    case ConnectionRefusal::kUnread: return "UNREAD";
    case ConnectionRefusal::kMemory: return "MEMORY";
  }
  return "?";
}

std::vector<std::string> ConnectionRefusals(bool strangers_stay) {
  std::vector<std::string> words;
  words.reserve(kConnectionRefusals);
  for (int k = 0; k < kConnectionRefusals; ++k) {
    const auto why = static_cast<ConnectionRefusal>(k);
    const bool of_strangers = why == ConnectionRefusal::kStrangers || why == ConnectionRefusal::kNoHello;
    words.push_back(strangers_stay && of_strangers ? "" : ToString(why));
  }
  return words;
}

std::string PeerKey(std::string_view peer) {
  const auto parsed = Parse(peer);
  return parsed ? absl::StrCat(parsed->first, parsed->second) : "";
}

std::string AddressOfPeer(std::string_view peer) {
  const auto parsed = Parse(peer);
  if (!parsed) return "";
  char text[INET6_ADDRSTRLEN] = {};
  if (IsIpv4(parsed->first)) {
    inet_ntop(AF_INET, parsed->first.data() + 12, text, sizeof text);
    return text;
  }
  std::string network = parsed->first;
  std::fill(network.begin() + 8, network.end(), '\0');
  inet_ntop(AF_INET6, network.data(), text, sizeof text);
  return absl::StrCat(text, "/64");
}

// --- one connection --------------------------------------------------------------------------------------------------

Connection::~Connection() {
  if (control_fd_ >= 0) close(control_fd_);
}

bool Connection::NewCall(int streams_per_connection, MonotonicTime now) {
  called_.store(true, std::memory_order_relaxed);
  {
    MutexLock lock(mutex_);
    if (calls_.Take(1, streams_per_connection, 2.0 * streams_per_connection, now) == absl::ZeroDuration()) return true;
  }
  Shut(ConnectionRefusal::kCallRate);
  return false;
}

void Connection::Shut(ConnectionRefusal why) {
  int none = -1;
  if (!shut_.compare_exchange_strong(none, static_cast<int>(why))) return;
  if (control_fd_ < 0) return;
  shutdown(control_fd_, SHUT_RDWR);
  // What the kernel still holds of it would be read and parsed before its end is seen.
  for (int k = 0; k < 64 && recv(control_fd_, nullptr, 1 << 20, MSG_DONTWAIT | MSG_TRUNC) > 0; ++k) {
  }
}

std::optional<ConnectionRefusal> Connection::shut() const {
  const int why = shut_.load();
  if (why < 0) return std::nullopt;
  return static_cast<ConnectionRefusal>(why);
}

// --- all of them -----------------------------------------------------------------------------------------------------

void ConnectionTable::SetLimits(const ListenerLimits& limits) {
  MutexLock lock(mutex_);
  limits_ = limits;
}

ListenerLimits ConnectionTable::limits() const {
  MutexLock lock(mutex_);
  return limits_;
}

std::optional<ConnectionRefusal> ConnectionTable::Admit(const std::string& address, MonotonicTime now) {
  MutexLock lock(mutex_);
  if (memory_short_) return ConnectionRefusal::kMemory;
  if (entries_.size() >= static_cast<size_t>(limits_.connections)) return ConnectionRefusal::kConnections;
  const bool strangers_stay = limits_.hello == absl::InfiniteDuration();
  if (!strangers_stay && strangers_ >= std::max(16, limits_.connections / 2)) return ConnectionRefusal::kStrangers;
  if (address.empty()) return std::nullopt;  // a unix socket: its file says who may come
  const auto found = addresses_.find(address);
  if (found == addresses_.end() && addresses_.size() >= kAddresses) return std::nullopt;  // bounded in all, as above
  Address& from = addresses_[address];
  from.last = now;
  const int most = limits_.connections_per_address;
  if (from.connections >= most) return ConnectionRefusal::kConnectionsPerAddress;
  if (!strangers_stay && from.strangers >= std::max(16, most / 4)) return ConnectionRefusal::kStrangers;
  if (from.arrivals.Take(1, std::max(1.0, most / 10.0), most, now) > absl::ZeroDuration()) {
    return ConnectionRefusal::kConnectionsPerAddress;
  }
  return std::nullopt;
}

void ConnectionTable::Add(std::string peer, std::shared_ptr<Connection> connection) {
  MutexLock lock(mutex_);
  young_.push_back(connection);
  if (young_.size() > kYoungest) young_.pop_front();
  if (const auto from = addresses_.find(connection->address()); from != addresses_.end()) {
    ++from->second.connections;
    ++from->second.strangers;
  }
  const bool counted = addresses_.count(connection->address()) != 0;
  ++strangers_;
  if (!peer.empty()) by_peer_[peer] = connection;
  const Connection* key = connection.get();
  Entry& entry = entries_[key];
  entry.peer = std::move(peer);
  entry.counted = counted;
  entry.looked = entry.progress = connection->accepted();
  entry.connection = std::move(connection);
}

void ConnectionTable::NoStranger(Entry& entry) {
  if (!std::exchange(entry.stranger, false)) return;
  --strangers_;
  if (entry.counted) --addresses_[entry.connection->address()].strangers;
}

void ConnectionTable::Remove(const Connection* connection, MonotonicTime now) {
  std::shared_ptr<Connection> last;  // closed outside the lock
  MutexLock lock(mutex_);
  const auto found = entries_.find(connection);
  if (found == entries_.end()) return;
  if (found->second.stranger && found->second.counted && !connection->welcomed() &&
      limits_.hello != absl::InfiniteDuration()) {
    Address& from = addresses_[connection->address()];
    const int most_arrivals = limits_.connections_per_address;
    const bool offended = Offends(connection->shut());
    const int cost = offended ? std::max(kStrangerCost, most_arrivals / kOffences) : kStrangerCost;
    for (int k = 0; k < cost; ++k) from.arrivals.Take(1, std::max(1.0, most_arrivals / 10.0), most_arrivals, now);
  }
  NoStranger(found->second);
  last = std::move(found->second.connection);
  if (found->second.counted) --addresses_[last->address()].connections;
  if (const auto by = by_peer_.find(found->second.peer); by != by_peer_.end() && by->second == last) by_peer_.erase(by);
  entries_.erase(found);
}

std::shared_ptr<Connection> ConnectionTable::Find(const std::string& peer) const {
  const std::string key = PeerKey(peer);
  MutexLock lock(mutex_);
  const auto found = by_peer_.find(key);
  return found == by_peer_.end() ? nullptr : found->second;
}

// An address is forgotten when nobody is connected from it and its bucket has refilled.
void ConnectionTable::ForgetAddresses(MonotonicTime now) {
  for (auto at = addresses_.begin(); at != addresses_.end();) {
    at = at->second.connections == 0 && at->second.last + kForgetAddress <= now ? addresses_.erase(at) : std::next(at);
  }
}

bool ConnectionTable::EnoughBegin(MonotonicTime now) {
  MutexLock lock(mutex_);
  const size_t most = IsWary(now) ? kBeginningWary : kBeginning;
  size_t count = 0;
  for (auto at = young_.rbegin(); at != young_.rend(); ++at) {
    const std::shared_ptr<Connection> connection = at->lock();
    if (connection == nullptr) continue;
    if (connection->accepted() + kYoung <= now) break;
    count += !connection->welcomed() && !connection->shut();
  }
  return count >= most;
}

std::optional<ConnectionRefusal> ConnectionTable::Judge(Entry& entry, const std::optional<TcpCounters>& counters,
                                                        MonotonicTime now) {
  if (entry.stranger && entry.connection->welcomed()) {
    NoStranger(entry);
    ++welcomed_;
  }
  if (entry.stranger && entry.connection->accepted() + limits_.hello <= now) return ConnectionRefusal::kNoHello;
  if (!counters) return std::nullopt;
  const uint64_t received = counters->bytes_received - entry.last.bytes_received;
  const uint64_t segments = counters->data_segments_in - entry.last.data_segments_in;
  entry.lively = received > kLivelyBytes || segments > kLivelySegments;
  // A frame is taken later than its bytes arrive: until then they are beyond.
  const uint64_t frames = entry.connection->frame_bytes();
  const double accounted = static_cast<double>(frames - std::exchange(entry.frames, frames)) +
                           static_cast<double>(counters->bytes_acked - entry.last.bytes_acked) / 8 +  // window updates
                           kBytesPerSecond * SecondsBetween(std::exchange(entry.looked, now), now);
  entry.beyond = std::max(0.0, entry.beyond + static_cast<double>(received) - accounted);
  const double most = entry.connection->has_called()
                          ? std::min(kByteBurst * (1 + entry.connection->streams()), kByteBurstMost)
                      : IsWary(now) ? kByteBurstWary
                                    : static_cast<double>(limits_.first_message_bytes) + kBeforeFirstMessage;
  if (limits_.count_bytes && entry.beyond > most) return ConnectionRefusal::kByteRate;
  if (memory_short_ && entry.beyond > (entry.stranger ? kByteBurstShortStranger : kByteBurstShort)) {
    return ConnectionRefusal::kMemory;
  }
  const double per_second = kSegmentsPerStream * limits_.streams_per_connection;
  if (limits_.count_bytes && segments > 0 &&
      entry.segments.Take(static_cast<double>(segments), per_second, 4 * per_second, now) > absl::ZeroDuration()) {
    return ConnectionRefusal::kByteRate;
  }
  if (counters->bytes_acked != entry.last.bytes_acked || counters->unsent_bytes == 0) entry.progress = now;
  entry.last = *counters;
  if (entry.progress + limits_.unread <= now) return ConnectionRefusal::kUnread;
  return std::nullopt;
}

void ConnectionTable::Look(MonotonicTime now, bool memory_short,
                           const std::function<std::optional<TcpCounters>(const Connection&)>& count) {
  std::vector<std::pair<std::shared_ptr<Connection>, std::optional<TcpCounters>>> looked_at;
  {
    MutexLock lock(mutex_);
    ++looks_;
    memory_short_ = memory_short;
    if (looks_ % 100 == 0) ForgetAddresses(now);
    uint64_t place = 0;
    for (const auto& [key, entry] : entries_) {
      ++place;
      if (!entry.stranger && !entry.lively && (place + looks_) % kCalmEvery != 0) continue;
      if (!entry.connection->shut()) looked_at.emplace_back(entry.connection, std::nullopt);
    }
  }
  for (auto& [connection, counters] : looked_at) counters = count(*connection);
  std::vector<std::pair<std::shared_ptr<Connection>, ConnectionRefusal>> ended;
  {
    MutexLock lock(mutex_);
    double of_strangers = 0;
    std::vector<std::pair<double, std::shared_ptr<Connection>>> heavy;
    for (auto& [connection, counters] : looked_at) {
      const auto found = entries_.find(connection.get());
      if (found == entries_.end()) continue;
      const Entry& entry = found->second;
      if (const auto why = Judge(found->second, counters, now)) {
        ended.emplace_back(connection, *why);
      } else if (entry.stranger && limits_.count_bytes && entry.beyond > kStrangerFree) {
        of_strangers += entry.beyond - kStrangerFree;
        heavy.emplace_back(entry.beyond - kStrangerFree, connection);
      }
    }
    std::sort(heavy.begin(), heavy.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    const double most = IsWary(now) ? kStrangersBurstWary : kStrangersBurst;
    for (auto at = heavy.begin(); of_strangers > most; ++at) {
      of_strangers -= at->first;
      ended.emplace_back(at->second, ConnectionRefusal::kByteRate);
    }
    for (const auto& [connection, why] : ended) {
      if (Offends(why) && !connection->welcomed()) last_offence_ = now;
    }
  }
  for (const auto& [connection, why] : ended) connection->Shut(why);
}

uint64_t ConnectionTable::welcomed() const {
  MutexLock lock(mutex_);
  return welcomed_;
}

std::vector<std::shared_ptr<Connection>> ConnectionTable::All() const {
  std::vector<std::shared_ptr<Connection>> all;
  MutexLock lock(mutex_);
  for (const auto& [connection, entry] : entries_) all.push_back(entry.connection);
  return all;
}

size_t ConnectionTable::size() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

size_t ConnectionTable::known() const {
  MutexLock lock(mutex_);
  return entries_.size() - static_cast<size_t>(strangers_);
}

}  // namespace goad::server
