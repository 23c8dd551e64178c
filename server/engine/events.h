// What enters the engine: every change of the world as a value. Any thread makes them, the engine thread reads them.
#ifndef GOAD_SERVER_ENGINE_EVENTS_H_
#define GOAD_SERVER_ENGINE_EVENTS_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "client_sdk/openai/message.h"
#include "scheduler/types.h"
#include "server/base/local_model.h"
#include "server/base/monotonic_time.h"
#include "server/config/config.h"
#include "server/engine/error.h"
#include "server/engine/status.h"

namespace goad::server {

using sched::QueryId;  // the daemon's own number of a query, unique for its life; devices choose the string beside it
enum class SessionId : uint64_t {};

// The body of a query as it goes to a backend. Immutable once shared.
struct PromptBody {
  bool chat = false;
  std::string text;                       // when not chat
  std::vector<openai::Message> messages;  // when chat
  double temperature = 0;
  std::vector<std::string> stop;
  std::optional<int64_t> seed;
  int top_logprobs = 0;
  std::string options;     // a JSON object, the rest of an OpenAI request, as it may be passed on; empty = none
  bool tools = false;      // in the options: an answer may be a tool call alone
  bool reasoning = false;  // what the model thinks is wanted, too

  // Of the server that answers it. Nothing of its length.
  sched::Needs needs() const {
    sched::Needs needs;
    needs.chat = chat;
    needs.tools = tools;
    for (const openai::Message& message : messages) needs.tools |= message.tools, needs.images |= message.images;
    return needs;
  }

  // It asks for more than an answer to text: a server that cannot do that says so in words that nobody lists.
  bool is_plain() const {
    return options.empty() &&
           std::all_of(messages.begin(), messages.end(), [](const auto& m) { return m.json.empty(); });
  }
  // Everything that the device wrote.
  template <typename F>
  void ForEachText(const F& f) const {
    f(text);
    for (const openai::Message& message : messages) f(message.content), f(message.json);
    for (const std::string& one : stop) f(one);
    f(options);
  }
  // As it is held.
  size_t bytes() const {
    size_t sum = text.size() + options.size();
    for (const openai::Message& message : messages) sum += message.content.size() + message.json.size();
    return sum;
  }
};

struct QueryMeta {
  double uncertainty = 0;
  LocalModelPtr model;     // what the uncertainty is; null = not said, and the margin
  double prompt_bits = 0;  // 0 with an inline prompt
  int prompt_tokens = 0;
  int max_output_tokens = 0;
  std::optional<int> expected_output_tokens;
  double local_delay_s = 0;
  absl::Duration deadline = absl::InfiniteDuration();  // from receipt to the last token
  bool must_offload = false;
  sched::Needs needs;  // as it said, and as its prompt has it
  std::optional<double> edge_work_flop;
  double tx_power_w = 0.2;
  std::string tenant = kDefaultTenant;
  std::string kind;         // of question, one of Config::kinds; empty = none
  std::string traceparent;  // passed to the backend; empty = none

  // Of 00-TRACE-SPAN-FLAGS, which is all that a session lets through; empty = none.
  std::string trace_id() const { return traceparent.size() < 35 ? "" : traceparent.substr(3, 32); }
};

struct SubmitQuery {
  SessionId session{};
  QueryId id{};
  std::string query_id;  // the device's name of it, for logs
  std::string device;    // who asks, over its connections
  QueryMeta meta;
  std::shared_ptr<const PromptBody> inline_prompt;  // null = to be uploaded after the grant
  MonotonicTime received;
};

// Linear values; NaN = not measured this way.
struct LinkMeasurement {
  sched::SiteIndex site = sched::SiteIndex::kNone;
  double gain = sched::kUnknown;
  double uplink_bps = sched::kUnknown;
  MonotonicTime measured_at;
};
struct LinkUpdate {
  SessionId session{};
  std::vector<LinkMeasurement> links;  // at most one per site
};

struct PromptReady {
  QueryId id{};
  std::shared_ptr<const PromptBody> prompt;
};
struct CancelQuery {
  QueryId id{};
  bool answered = false;  // the device already has its terminal event
};
struct SessionClosed {  // the stream ended: its queries are cancelled, nobody hears of it
  SessionId session{};
};

// An admitted query with its prompt, ready to run.
struct DispatchRequest {
  QueryId id{};
  SessionId session{};
  sched::SiteIndex site = sched::SiteIndex::kNone;
  std::shared_ptr<const PromptBody> prompt;
  sched::Needs needs;
  int max_output_tokens = 0;
  std::string traceparent;
  MonotonicTime received, prompt_ready, deadline;  // deadline: Infinite() = none
  double upload_s = 0, predicted_upload_s = 0, predicted_compute_s = 0;
};

enum class DispatchOutcome { kCompleted, kFailed, kAborted };

// What a query took of a server: only of one that ran once, on one backend, never paused by its reader, and whose usage
// the server told.
struct ServedSample {
  double compute_s = 0;   // prompt complete to last token
  int prompt_tokens = 0;  // without those that the server had cached
  int output_tokens = 0;
};

// The dispatcher is through with a query: its slot is free again. Sent once per DispatchPort::Start, or QueryReturned
// is.
struct QueryDone {
  QueryId id{};
  DispatchOutcome outcome = DispatchOutcome::kFailed;
  int output_tokens = 0;
  std::optional<ServedSample> served;
  int backend = -1;          // of its site, that completed it; -1 = none
  double compute_s = 0;      // completed: prompt complete to last token
  double first_token_s = 0;  // completed: prompt complete to first token; 0 = there was none
};

// No backend of its site is left that could take it, and no token has reached the device: perhaps another site can.
// Instead of QueryDone.
struct QueryReturned {
  DispatchRequest request;
  ErrorInfo error;  // what the last backend said
};

struct SiteHealth {
  sched::SiteIndex site = sched::SiteIndex::kNone;
  int backends_up = 0;
  int slots = 0;                                          // sum over the backends that are up
  bool draining = false;                                  // none is up, and those that are were drained
  sched::Contexts contexts = sched::AnyContext();         // of the backends that are up; of all where none is
  sched::Contexts all_contexts = sched::NoContext();      // of the backends that are configured, up or not
  sched::Contexts drained_contexts = sched::NoContext();  // of those of them that were drained

  bool operator==(const SiteHealth& o) const {
    return site == o.site && backends_up == o.backends_up && slots == o.slots && draining == o.draining &&
           contexts == o.contexts && all_contexts == o.all_contexts && drained_contexts == o.drained_contexts;
  }
};

struct Drain {};         // no new admissions; what runs is finished
struct DrainExpired {};  // fail what is left
struct ApplyConfig {
  std::shared_ptr<const Config> config;  // places as in the one before: see server/config/place.h
  bool keep_overrides = false;           // of tau and policy
};
struct SetTau {
  double tau = 1;
  std::string by;  // who, for the log
};
struct SetPolicy {
  std::string name;  // REQUIRES: known to sched::MakePolicy; or empty, with a trial: the one that runs is over
  absl::Duration trial = absl::ZeroDuration();  // what was in force before is so again after it; 0 = until a reload
  std::string by;                               // who, for the log
};

struct Inspect {
  std::function<void(const EngineStatus&)> reply;  // called on the engine thread; must not block
};

using Event = std::variant<SubmitQuery, LinkUpdate, PromptReady, CancelQuery, SessionClosed, QueryDone, QueryReturned,
                           SiteHealth, Drain, DrainExpired, ApplyConfig, SetTau, SetPolicy, Inspect>;

}  // namespace goad::server

#endif  // GOAD_SERVER_ENGINE_EVENTS_H_
