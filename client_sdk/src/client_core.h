// The client's mind: streams come and go, queries are asked, granted, answered or given up. Pure: no thread, no clock,
// no socket. Driven by Client and by the simulation.
#ifndef GOAD_CLIENT_SDK_SRC_CLIENT_CORE_H_
#define GOAD_CLIENT_SDK_SRC_CLIENT_CORE_H_

#include <map>
#include <memory>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "client_sdk/src/attachment.h"
#include "client_sdk/src/instant.h"
#include "client_sdk/src/link_reports.h"
#include "client_sdk/src/not_now.h"
#include "client_sdk/src/problems.h"
#include "client_sdk/src/retry_budget.h"
#include "goad/query.h"
#include "goad/v1/offload.pb.h"

namespace goad::internal {

// What the shell must do, in order.
struct OpenStream {
  uint64_t generation;  // its name in reports; there may be several at once
  std::string address;
};
struct CloseStream {
  uint64_t generation;
};
struct SendFrame {
  uint64_t generation;
  v1::DeviceFrame frame;
};
struct Notify {  // call it, outside any lock; when it throws, say so to CallbackFailed
  std::function<void()> call;
  std::string query_id;  // empty: on_problem
};
using Action = std::variant<OpenStream, CloseStream, SendFrame, Notify>;

// Thread-compatible. Every Ask gets exactly one on_done.
class ClientCore {
 public:
  ClientCore(ClientOptions options, uint64_t seed);

  // The options can never work: no stream is opened, and every Ask is answered with these words.
  void Refuse(absl::Status why, Instant now);

  // `send_later` is handed to on_grant: it must get SendPrompt(id) called on this core.
  std::string Ask(Query query, AskCallbacks callbacks, std::function<void()> send_later, Instant now);
  void SendPrompt(const std::string& query_id);
  void Cancel(const std::string& query_id, Instant now);
  void ReportLinks(std::vector<Link> links, Instant now);
  void ReportLocal(const std::string& query_id, absl::Duration delay, Instant now);
  void ReportQuality(const std::string& query_id, double quality, Instant now);
  void CallbackFailed(const std::string& query_id, const std::string& what, Instant now);
  void Shutdown(Instant now);

  void OnFrame(uint64_t generation, const v1::ServerFrame& frame, Instant now);
  // `retry_after`: goad wants no stream of this client before.
  void OnStreamLost(uint64_t generation, const std::string& why, Instant now,
                    absl::Duration retry_after = absl::ZeroDuration());
  void Tick(Instant now);
  Instant NextWake() const;

  std::vector<Action> TakeActions() { return std::exchange(actions_, {}); }
  const std::vector<Site>& sites() const { return sites_; }
  const std::optional<Limits>& limits() const { return limits_; }
  bool greeted() const { return attachment_.ready() != nullptr; }
  uint64_t welcomes() const { return welcomes_; }  // grows whenever sites() may be others

 private:
  enum class Phase { kWaiting, kAsked, kGranted, kAnswering };
  struct Live {
    Query query;
    std::shared_ptr<AskCallbacks> callbacks;  // never copied: they may have a state of their own
    std::function<void()> send_later;
    uint64_t number = 0;  // of the Ask: those that wait are asked in this order
    Phase phase = Phase::kWaiting;
    bool queued = false;  // waits for others of this session
    int asks = 0;
    uint64_t stream = 0;  // that it was asked on; 0 in kWaiting
    Instant asked_at, sent_at, expires;
    Instant silent = absl::InfiniteDuration();  // when the next piece of the answer is too late
    bool begun = false;                         // there was a first one
    Answer answer;                              // grows
    Instant due() const { return std::min(expires, silent); }
  };

  void Advance(Instant now);     // the streams
  void UseCurrent(Instant now);  // what goad said in the greeting of the stream that new queries go to
  void ReadSites(Instant now);
  void OnGoodbye(uint64_t generation, const v1::Goodbye& goodbye, Instant now);
  void OnQueryFrame(uint64_t generation, const v1::ServerFrame& frame, Instant now);
  void OnDecision(Live& live, const v1::Decision& decision, Instant now);
  void OnTokens(Live& live, const v1::Tokens& tokens, Instant now);
  void OnCompleted(Live& live, const v1::Completed& completed, Instant now);

  // Why a query is to be answered locally at once, in the order (code, detail); an empty code: ask.
  std::pair<std::string, std::string> Reject(const Query& query, Instant now) const;
  void RejectWaiting(Instant now);
  void AskWaiting(Instant now);  // as many as goad takes
  void SendQuery(Live& live, Instant now);
  void SendPrompt(Live& live);
  void SendLinks(Instant now);
  // The query is gone after each of these.
  void GiveUp(Live& live, const std::string& why, const std::string& detail, Instant now);
  void FinishLocally(Live& live, const std::string& why, const std::string& detail, Instant now);
  void Finish(Live& live, Instant now);
  bool MayAskAgain(const Live& live);  // takes one of the retries when it may
  void Wait(Live& live, Instant now);  // for the next stream, within the same budget
  void LeaveStream(Live& live);
  Live* Find(const std::string& query_id);
  bool Busy(uint64_t generation) const { return running_.count(generation) > 0; }
  void Tell(const std::string& code, const std::string& detail, Instant now);
  void Call(const Live& live, std::function<void()> call) {
    actions_.push_back(Notify{std::move(call), live.query.id});
  }
  void Send(uint64_t generation, v1::DeviceFrame frame) {
    if (attachment_.Find(generation) != nullptr) actions_.push_back(SendFrame{generation, std::move(frame)});
  }

  const ClientOptions options_;
  std::mt19937_64 random_;
  absl::Status refused_;
  Attachment attachment_;
  uint64_t used_ = 0;                   // the stream whose greeting limits_ and sites_ are of
  std::map<uint64_t, size_t> running_;  // queries that were asked, by stream
  NotNow not_now_;
  RetryBudget retries_;
  uint64_t next_number_ = 0;
  std::map<std::string, Live> queries_;
  std::map<uint64_t, Live*> waiting_;  // by number, those of queries_ in kWaiting
  LinkReports links_;
  Problems problems_;
  std::optional<Limits> limits_;
  std::vector<Site> sites_;
  uint64_t welcomes_ = 0;
  std::vector<Action> actions_;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_CLIENT_CORE_H_
