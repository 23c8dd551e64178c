// Who may connect, and which connections have lost their right to stay. Sockets come as numbers and counters, time is
// handed in.
#ifndef GOAD_SERVER_LISTENER_CONNECTION_TABLE_H_
#define GOAD_SERVER_LISTENER_CONNECTION_TABLE_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/base/mutex.h"
#include "server/base/token_bucket.h"

namespace goad::server {

// What a listener lets in. All are bounds; see limits.* in the configuration.
struct ListenerLimits {
  int connections = 10000;  // at once
  int connections_per_address =
      5000;  // of one IPv4 address or IPv6 /64; also how many may come at once, and ten times as slowly after
  int streams_per_connection = 100;         // calls at once on one connection (HTTP/2), and new ones per second
  absl::Duration hello = absl::Seconds(5);  // to a first Hello or Ask; infinite = strangers may stay
  int64_t first_message_bytes = 256 << 10;  // the largest that a first call may begin with
  bool count_bytes = true;  // bytes and segments beyond whole frames are bounded; false where nobody tells of frames
  absl::Duration unread = absl::Seconds(10);  // a peer that takes nothing of what waits for it this long is cut off
};

// Why a connection was refused or shut: a closed set, a metric label and a word in the log.
enum class ConnectionRefusal {
  kConnections,            // limits.connections
  kConnectionsPerAddress,  // limits.connections_per_address, at once or a second
  kStrangers,              // too many connections that have not said Hello yet, in all or of this address
  kDescriptors,            // no descriptors left but the reserve
  kNoHello,                // nobody said Hello or asked within `hello`
  kCallRate,               // more new calls than streams_per_connection allows
  kByteRate,               // bytes or segments that were no frames of ours
  kUnread,                 // does not read what it is sent
  kMemory,                 // the listener holds more than it may: nobody new, and who sent most of it goes
};
inline constexpr int kConnectionRefusals = static_cast<int>(ConnectionRefusal::kMemory) + 1;
const char* ToString(ConnectionRefusal refusal);
// The words of all of them, in order; empty: cannot be, where limits.hello is infinite (`strangers_stay`).
std::vector<std::string> ConnectionRefusals(bool strangers_stay = false);

// What the kernel counts of a TCP connection (tcp(7), TCP_INFO), since it was accepted.
struct TcpCounters {
  uint64_t bytes_received = 0;
  uint64_t bytes_acked = 0;  // sent by us and taken by the peer
  uint64_t data_segments_in = 0;
  uint32_t unsent_bytes = 0;  // of ours, waiting in the kernel
};

// One accepted connection, beside the library that speaks on it. Thread-safe.
class Connection {
 public:
  // `control_fd`: a duplicate of the socket's descriptor, closed with this; -1 = none (a test).
  Connection(int control_fd, std::string address, MonotonicTime accepted)
      : control_fd_(control_fd), address_(std::move(address)), accepted_(accepted) {}
  ~Connection();

  const std::string& address() const { return address_; }
  MonotonicTime accepted() const { return accepted_; }
  int control_fd() const { return control_fd_; }

  // A Hello or an Ask of it was taken: it may stay.
  void Welcomed() { welcomed_.store(true, std::memory_order_relaxed); }
  bool welcomed() const { return welcomed_.load(std::memory_order_relaxed); }
  // Streams of it that were let in and live, for as long as they do.
  void StreamsBy(int change) { streams_.fetch_add(change, std::memory_order_relaxed); }
  int streams() const { return streams_.load(std::memory_order_relaxed); }
  // Bytes of whole frames that the session room took: what they cost on the wire counts for nothing else.
  void Took(size_t frame_bytes) { frame_bytes_.fetch_add(frame_bytes + kFrameOverhead, std::memory_order_relaxed); }
  uint64_t frame_bytes() const { return frame_bytes_.load(std::memory_order_relaxed); }

  // A new call on it. False when there are too many a second; the connection is then being shut.
  bool NewCall(int streams_per_connection, MonotonicTime now);

  bool has_called() const { return called_.load(std::memory_order_relaxed); }

  // Ends it in both directions, once; whoever speaks on it sees the end. The first reason stays.
  void Shut(ConnectionRefusal why);
  std::optional<ConnectionRefusal> shut() const;

 private:
  static constexpr size_t kFrameOverhead =
      64;  // HTTP/2 and gRPC framing, TLS records, a share of pings and window updates

  const int control_fd_;
  const std::string address_;
  const MonotonicTime accepted_;
  std::atomic<bool> welcomed_{false}, called_{false};
  std::atomic<int> streams_{0};
  std::atomic<uint64_t> frame_bytes_{0};
  std::atomic<int> shut_{-1};
  Mutex mutex_;
  TokenBucket calls_ GOAD_GUARDED_BY(mutex_);
};

// Thread-safe.
//
// Bounds: `connections` in all; of one address `connections_per_address` at once, as many arriving at once and a tenth
// of that a second; of strangers (nobody on it has said Hello or asked) half of all and a quarter of an address, each
// for `hello`. A connection has byte and segment allowances beyond what its whole frames account for, and all strangers
// together have one.
class ConnectionTable {
 public:
  explicit ConnectionTable(const ListenerLimits& limits) : limits_(limits) {}
  void SetLimits(const ListenerLimits& limits);
  ListenerLimits limits() const;

  // Whether one more from `address` may come in now, before anything is spent on it.
  std::optional<ConnectionRefusal> Admit(const std::string& address, MonotonicTime now);
  // REQUIRES: Admit said so. `peer` names it, as PeerKey of the library's name of the peer; empty = it cannot be found
  // by name.
  void Add(std::string peer, std::shared_ptr<Connection> connection);
  void Remove(const Connection* connection, MonotonicTime now);
  std::shared_ptr<Connection> Find(const std::string& peer) const;
  std::vector<std::shared_ptr<Connection>> All() const;  // in no order

  // Whether so many of those that came in the last kYoung are still strangers that more must wait: 64, and 8 for a
  // while after a stranger was cut off for what it sent, because a library parses what is there before its connection
  // ends.
  bool EnoughBegin(MonotonicTime now);

  // Shuts those that have lost their right to stay. `count` reads the kernel's counters; nullopt where there are none
  // (a unix socket). Strangers and those that were lively at the last look are looked at every time, the others once in
  // `kCalmEvery` looks. `memory_short`: until the next look nobody new comes in, and those that sent much that was no
  // frame are shut: what a library makes of 100 bytes of headers is 7 kB.
  void Look(MonotonicTime now, bool memory_short,
            const std::function<std::optional<TcpCounters>(const Connection&)>& count);

  size_t size() const;
  size_t known() const;       // of those, no strangers
  uint64_t welcomed() const;  // strangers that ever said Hello or asked

 private:
  static constexpr absl::Duration kYoung = absl::Milliseconds(100), kWary = absl::Seconds(5);
  static constexpr size_t kBeginning = 64, kBeginningWary = 8;
  static constexpr uint64_t kCalmEvery = 100;

  struct Entry {
    std::shared_ptr<Connection> connection;
    std::string peer;
    TcpCounters last;
    uint64_t frames = 0;             // of Connection::frame_bytes, at the last look
    double beyond = 0;               // bytes received that no whole frame accounts for, less what time allows
    MonotonicTime looked, progress;  // progress: when the peer last took a byte, or owed none
    TokenBucket segments;
    bool stranger = true, lively = false;
    bool counted = false;  // in addresses_
  };
  struct Address {
    int connections = 0, strangers = 0;
    TokenBucket arrivals;
    MonotonicTime last;
  };
  std::optional<ConnectionRefusal> Judge(Entry& entry, const std::optional<TcpCounters>& counters, MonotonicTime now)
      GOAD_REQUIRES(mutex_);
  // For a while after a stranger was cut off for what it sent.
  bool IsWary(MonotonicTime now) const GOAD_REQUIRES(mutex_) { return last_offence_ + kWary > now; }
  void NoStranger(Entry& entry) GOAD_REQUIRES(mutex_);
  void ForgetAddresses(MonotonicTime now) GOAD_REQUIRES(mutex_);

  mutable Mutex mutex_;
  ListenerLimits limits_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<const Connection*, Entry> entries_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<std::string, std::shared_ptr<Connection>> by_peer_ GOAD_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Address> addresses_ GOAD_GUARDED_BY(mutex_);  // bounded: see ForgetAddresses
  std::deque<std::weak_ptr<Connection>> young_ GOAD_GUARDED_BY(mutex_);
  int strangers_ GOAD_GUARDED_BY(mutex_) = 0;
  uint64_t welcomed_ GOAD_GUARDED_BY(mutex_) = 0;
  uint64_t looks_ GOAD_GUARDED_BY(mutex_) = 0;
  bool memory_short_ GOAD_GUARDED_BY(mutex_) = false;
  MonotonicTime last_offence_ GOAD_GUARDED_BY(mutex_) = MonotonicTime() - kWary;
};

// "ipv4:192.0.2.7:50123" or "ipv6:%5B2001:db8::1%5D:50123" (how gRPC names a peer, gRFC A53 percent-encoded) as a key
// that does not depend on how an address is written; empty for what is no internet address.
std::string PeerKey(std::string_view peer);
// The address part alone: the IPv4 address, or the IPv6 /64, which is what one customer has (RFC 6177).
std::string AddressOfPeer(std::string_view peer);

}  // namespace goad::server

#endif  // GOAD_SERVER_LISTENER_CONNECTION_TABLE_H_
