// What is to be written to one device, and the only place that decides which terminal event a query gets.
#ifndef GOAD_SERVER_SESSION_OUTBOX_H_
#define GOAD_SERVER_SESSION_OUTBOX_H_

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>

#include "goad/v1/offload.pb.h"
#include "server/base/mutex.h"
#include "server/engine/ports.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// Holds a slot per live query. The first terminal wins and closes the slot; later events are dropped and counted. A
// terminal waits behind its own tokens; Welcome, Decision, ProtocolError and Goodbye overtake. Tokens of one query that
// wait together become one frame.
//
// Bounds: above half of `max_bytes` Put answers kPause; beyond `max_bytes` the query whose tokens came fails with
// SLOW_CONSUMER, and protocol errors and repeated answers are dropped. Decisions and terminals always fit: they are bounded by live queries.
//
// Also the stream's write state machine, so that a reactor only does what Next says. Thread-safe, pure.
class Outbox {
 public:
  enum class SlotState { kPending, kGranted, kPrompted };
  struct Slot {
    QueryId id{};
    SlotState state = SlotState::kPending;
    bool chat = false;
    int64_t prompt_bytes = 0;  // most that the Prompt may have
    MonotonicTime received;
    std::string query_id;
  };

  Outbox(int64_t max_bytes, Metrics* metrics) : max_bytes_(max_bytes), metrics_(metrics) {}
  ~Outbox();

  // REQUIRES: no live slot has this id or query_id. False when the outbox is closed.
  bool OpenSlot(Slot slot);
  std::optional<Slot> FindSlot(const std::string& query_id) const;
  // kGranted to kPrompted; false when the slot is not granted (any more), or already has its prompt.
  bool TakePrompt(QueryId id);
  size_t live() const;
  int64_t bytes() const;

  // What became of an event. `frame` is set for an accepted Decision or terminal: the caller remembers it.
  struct PutResult {
    Delivery delivery = Delivery::kDropped;
    std::optional<Terminal> terminal;  // the query is over
    Slot slot;
    std::optional<v1::ServerFrame> frame;
  };
  PutResult Put(const SessionEvent& event, const std::vector<SiteConfig>& sites);

  void PutUrgent(v1::ServerFrame frame);
  // For what a device can cause at will, protocol errors and answers to repeated queries: false when it does not read what it is
  // sent.
  bool PutIfRoom(v1::ServerFrame frame);

  void HalfClose();                                     // finish OK once no query is live and all is written
  // Drops everything and finishes with `why` (none: the stream was lost). Queries that are still live are counted as lost.
  void Close(std::optional<ErrorInfo> why, MonotonicTime now);

  struct Step {
    enum Kind { kNothing, kWrite, kFinish } kind = kNothing;
    v1::ServerFrame frame;           // kWrite: write it, then call WriteDone
    std::optional<ErrorInfo> error;  // kFinish: the stream's status; none = OK, or cancelled when the stream was lost
    bool resume = false;             // a paused session has drained
  };
  // Whoever gets kWrite or kFinish must do it; nobody else gets one until WriteDone, and nothing comes after kFinish.
  Step Next();
  void WriteDone();

 private:
  struct Item {
    v1::ServerFrame frame;
    int64_t bytes;
    QueryId tokens_of;  // 0 = not tokens
  };
  void Push(std::deque<Item>& queue, v1::ServerFrame frame, QueryId tokens_of) GOAD_REQUIRES(mutex_);
  PutResult PutTokens(Slot& slot, const TokensEvent& event) GOAD_REQUIRES(mutex_);
  void AddBytes(int64_t delta) GOAD_REQUIRES(mutex_);

  const int64_t max_bytes_;
  Metrics* const metrics_;  // not owned; counters are lock-free for us

  mutable Mutex mutex_;
  std::unordered_map<QueryId, Slot> slots_ GOAD_GUARDED_BY(mutex_);
  std::deque<Item> urgent_ GOAD_GUARDED_BY(mutex_);
  std::deque<Item> queue_ GOAD_GUARDED_BY(mutex_);
  int64_t bytes_ GOAD_GUARDED_BY(mutex_) = 0;
  bool paused_ GOAD_GUARDED_BY(mutex_) = false;
  bool writing_ GOAD_GUARDED_BY(mutex_) = false;
  bool half_closed_ GOAD_GUARDED_BY(mutex_) = false;
  bool closed_ GOAD_GUARDED_BY(mutex_) = false;
  bool finished_ GOAD_GUARDED_BY(mutex_) = false;
  std::optional<ErrorInfo> close_error_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_OUTBOX_H_
