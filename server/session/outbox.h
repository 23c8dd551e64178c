// What is to be written to one device, and the only place that decides which terminal event a query gets.
#ifndef GOAD_SERVER_SESSION_OUTBOX_H_
#define GOAD_SERVER_SESSION_OUTBOX_H_

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "goad/v1/offload.pb.h"
#include "server/base/mutex.h"
#include "server/engine/ports.h"
#include "server/telemetry/metrics.h"

namespace goad::server {

// What all outboxes hold together, and the most that they may.
struct OutboxBudget {
  std::atomic<int64_t> bytes{0};
  std::atomic<int64_t> most{256 << 20};
  bool full() const { return bytes.load(std::memory_order_relaxed) > most.load(std::memory_order_relaxed); }
};

using FramePtr = std::shared_ptr<const v1::ServerFrame>;  // what is written is what is remembered

// Holds a slot per live query. The first terminal wins and closes the slot; later events are dropped and counted. A
// terminal waits behind its own tokens; Welcome, Decision, ProtocolError and Goodbye overtake. Tokens of one query that
// wait together become one frame.
//
// Bounds: above half of `max_bytes` Put answers kPause; beyond `max_bytes` the query whose tokens came fails with
// SLOW_CONSUMER, and protocol errors and repeated answers are dropped. While the budget of all is used up, so do
// outboxes that hold more than kFairBytes. Decisions and terminals always fit: their room is taken when the slot opens,
// and there is no slot without it.
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
    sched::SiteIndex site = sched::SiteIndex::kNone;  // that it was sent to
    std::string query_id;
    std::string memory_key;  // in QueryMemory
    std::string neighbour;   // the goad to be named with NO_LINK
  };

  static constexpr int64_t kSlotBytes = 2048;  // a decision and a terminal; both quote at most kQuotedBytes of anything
  static constexpr int64_t kFairBytes = 64 << 10;

  // `budget` is not owned and outlives this.
  Outbox(int64_t max_bytes, Metrics* metrics, OutboxBudget* budget)
      : max_bytes_(max_bytes), metrics_(metrics), budget_(budget) {}
  ~Outbox();

  enum class Opened { kOpen, kNoRoom, kClosed };
  // REQUIRES: no live slot has this id or query_id.
  Opened OpenSlot(Slot slot);
  std::optional<Slot> FindSlot(const std::string& query_id) const;
  // kGranted to kPrompted; false when the slot is not granted (any more), or already has its prompt.
  bool TakePrompt(QueryId id);
  size_t live() const;
  int64_t bytes() const;

  // What became of an event.
  struct PutResult {
    Delivery delivery = Delivery::kDropped;
    std::optional<Terminal> terminal;  // the query is over
    FramePtr frame;  // of an accepted Decision or terminal: the caller remembers it, under `memory_key`
    std::string memory_key;
    MonotonicTime received;
    sched::SiteIndex site = sched::SiteIndex::kNone;  // as the slot
  };
  PutResult Put(SessionEvent event, const std::vector<SiteConfig>& sites);

  void PutUrgent(v1::ServerFrame frame);
  // For what a device can cause at will, protocol errors and answers to repeated queries: false when it does not read
  // what it is sent.
  bool PutIfRoom(FramePtr frame);

  void HalfClose();  // the device asks no more: finish OK once no query is live and all is written
  // Goodbye: no new queries, what is live is finished. The stream ends by HalfClose, or with `why` once EndGoodbye was
  // called; a query that crosses it is answered until then.
  void SayGoodbye(v1::ServerFrame goodbye, ErrorInfo why);
  bool leaving() const;  // Goodbye was said
  void EndGoodbye();
  // Drops everything and finishes with `why` (none: the stream was lost). Queries that are still live are counted as
  // lost.
  void Close(std::optional<ErrorInfo> why, MonotonicTime now);

  struct Step {
    enum Kind { kNothing, kWrite, kFinish } kind = kNothing;
    FramePtr frame;                  // kWrite: write it, then call WriteDone
    bool more = false;               // kWrite: another one waits behind it
    std::optional<ErrorInfo> error;  // kFinish: the stream's status; none = OK, or cancelled when the stream was lost
    bool resume = false;             // a paused session has drained
  };
  // Between the two the stream does not finish, so whoever speaks on it may still be told something. False when it has
  // finished.
  bool HoldOpen();
  void LetGo();

  // For those who watch from a clock: how many writes are done, and whether something waits to be read.
  struct Flow {
    uint64_t writes_done = 0;
    bool waiting = false;
  };
  Flow flow() const;

  // Whoever gets kWrite or kFinish must do it; nobody else gets one until WriteDone, and nothing comes after kFinish.
  Step Next();
  void WriteDone();

 private:
  struct Item {
    FramePtr frame;
    int64_t bytes;
    QueryId tokens_of{};           // 0 = not tokens, or with log-probabilities
    v1::Tokens* tokens = nullptr;  // of `frame`, that nobody else has: more may join them
  };
  void Push(std::deque<Item>& queue, FramePtr frame, int64_t more = 0) GOAD_REQUIRES(mutex_);
  void Tell(Slot& slot, SessionEvent event, const std::vector<SiteConfig>& sites, PutResult* result)
      GOAD_REQUIRES(mutex_);
  PutResult PutTokens(Slot& slot, TokensEvent event) GOAD_REQUIRES(mutex_);
  void AddBytes(int64_t delta) GOAD_REQUIRES(mutex_);
  bool Full(int64_t more) const GOAD_REQUIRES(mutex_);
  int64_t unread() const GOAD_REQUIRES(mutex_) { return bytes_ - kSlotBytes * static_cast<int64_t>(slots_.size()); }
  void CloseSlot(QueryId id) GOAD_REQUIRES(mutex_);

  const int64_t max_bytes_;
  Metrics* const metrics_;  // not owned; counters are lock-free for us
  OutboxBudget* const budget_;

  mutable Mutex mutex_;
  std::unordered_map<QueryId, Slot> slots_ GOAD_GUARDED_BY(mutex_);
  std::deque<Item> urgent_ GOAD_GUARDED_BY(mutex_);
  std::deque<Item> queue_ GOAD_GUARDED_BY(mutex_);
  int64_t bytes_ GOAD_GUARDED_BY(mutex_) = 0;
  bool paused_ GOAD_GUARDED_BY(mutex_) = false;
  bool writing_ GOAD_GUARDED_BY(mutex_) = false;
  bool half_closed_ GOAD_GUARDED_BY(mutex_) = false;
  bool goodbye_over_ GOAD_GUARDED_BY(mutex_) = false;
  std::optional<ErrorInfo> goodbye_
      GOAD_GUARDED_BY(mutex_);  // said; the stream's status when the device does not half-close
  uint64_t writes_done_ GOAD_GUARDED_BY(mutex_) = 0;
  bool closed_ GOAD_GUARDED_BY(mutex_) = false;
  bool finished_ GOAD_GUARDED_BY(mutex_) = false;
  int held_open_ GOAD_GUARDED_BY(mutex_) = 0;
  std::optional<ErrorInfo> close_error_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_OUTBOX_H_
