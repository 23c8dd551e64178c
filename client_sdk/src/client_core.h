// The client's mind: streams come and go, queries are asked, granted, answered or given up. Pure: no thread, no clock, no
// socket. Driven by Client and by the simulation.
#ifndef GOAD_CLIENT_SDK_SRC_CLIENT_CORE_H_
#define GOAD_CLIENT_SDK_SRC_CLIENT_CORE_H_

#include <map>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "goad/client.h"
#include "goad/v1/offload.pb.h"

namespace goad::internal {

using Instant = absl::Duration;  // on a monotonic clock, since an arbitrary origin

// What the shell must do, in order.
struct OpenStream {
  uint64_t generation;           // reports of older streams are ignored
};
struct CloseStream {};
struct SendFrame {
  v1::DeviceFrame frame;
};
struct Notify {                  // call it, outside any lock
  std::function<void()> call;
};
using Action = std::variant<OpenStream, CloseStream, SendFrame, Notify>;

// RFC 4122, version 4.
std::string RandomUuid(std::mt19937_64& random);

// Thread-compatible. Every Ask gets exactly one on_done.
class ClientCore {
 public:
  ClientCore(ClientOptions options, uint64_t seed);

  // `send_later` is handed to on_grant: it must get SendPrompt(id) called on this core.
  std::string Ask(Query query, AskCallbacks callbacks, std::function<void()> send_later, Instant now);
  void SendPrompt(const std::string& query_id, Instant now);
  void Cancel(const std::string& query_id, Instant now);
  void ReportLinks(std::vector<Link> links, Instant now);
  void ReportLocal(const std::string& query_id, absl::Duration delay);
  void Shutdown(Instant now);

  void OnFrame(uint64_t generation, const v1::ServerFrame& frame, Instant now);
  void OnStreamLost(uint64_t generation, const std::string& why, Instant now);
  void Tick(Instant now);
  Instant NextWake() const;

  std::vector<Action> TakeActions() { return std::exchange(actions_, {}); }
  const std::vector<Site>& sites() const { return sites_; }
  bool greeted() const { return state_ == StreamState::kReady; }

 private:
  enum class StreamState { kDown, kGreeting, kReady, kLeaving };  // kLeaving: after Goodbye
  enum class Phase { kWaiting, kAsked, kGranted, kAnswering };
  struct Live {
    Query query;
    AskCallbacks callbacks;
    std::function<void()> send_later;
    Phase phase = Phase::kWaiting;
    int asks = 0;
    Instant asked_at, expires;
    Answer answer;               // grows
  };

  void Open(Instant now);
  void SendQuery(Live& live, Instant now);
  static void AddLink(const std::pair<Link, Instant>& known, Instant now, v1::LinkReport* report);
  void OnDecision(Live& live, const v1::Decision& decision, Instant now);
  void OnTokens(Live& live, const v1::Tokens& tokens, Instant now);
  void OnCompleted(Live& live, const v1::Completed& completed, Instant now);
  // By value: the id often lives in the entry that goes.
  void GiveUp(std::string query_id, const std::string& why, const std::string& detail, Instant now);
  void FinishLocally(std::string query_id, const std::string& why, const std::string& detail, Instant now);
  void Finish(std::string query_id, Instant now);
  Live* Find(const std::string& query_id);
  void Send(v1::DeviceFrame frame) { actions_.push_back(SendFrame{std::move(frame)}); }

  const ClientOptions options_;
  std::mt19937_64 random_;
  StreamState state_ = StreamState::kDown;
  uint64_t generation_ = 0;
  Instant reconnect_at_;         // when kDown
  absl::Duration backoff_;
  int retry_budget_ = 100;       // tenths of a question that may be asked again
  std::map<std::string, Live> queries_;
  std::map<std::string, std::pair<Link, Instant>> links_;  // by site, with the time of the measurement
  std::vector<Site> sites_;
  std::vector<Action> actions_;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_CLIENT_CORE_H_
