#include "goad/runtime.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "client_sdk/runtime/answer_flow.h"
#include "client_sdk/runtime/local_run.h"
#include "client_sdk/runtime/local_times.h"
#include "client_sdk/runtime/mailbox.h"

namespace goad {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLookAtConnection = std::chrono::milliseconds(10);
constexpr absl::Duration kLongestWait = absl::Seconds(60);

RuntimeOptions InRange(RuntimeOptions options) {
  options.hedge_tokens = std::clamp(options.hedge_tokens, 0, 1000000);
  options.edge_hold_tokens = std::clamp(options.edge_hold_tokens, 0, 1000000);
  if (options.unknown_uncertainty) {
    const double given = *options.unknown_uncertainty;
    options.unknown_uncertainty = given >= 0 ? std::min(given, 1.0) : 0;
  }
  options.local_token_time = std::clamp(options.local_token_time, absl::Microseconds(1), absl::Hours(1));
  options.edge_first_token = std::clamp(options.edge_first_token, absl::Milliseconds(1), absl::Hours(24));
  options.local_first_token = std::clamp(options.local_first_token, absl::Milliseconds(1), absl::Hours(24));
  options.local_output_tokens = std::clamp(options.local_output_tokens, 1, 1000000);
  return options;
}

// Of a prompt, without its images.
size_t TextBytes(const Query& query) {
  size_t bytes = query.prompt.size();
  for (const auto& [role, content] : query.chat) bytes += content.size();
  for (const std::string& json : query.messages_json) {
    bytes += json.size();
    for (size_t at = json.find(";base64,"); at != std::string::npos; at = json.find(";base64,", at)) {
      const size_t end = std::min(json.find('"', at), json.size());
      bytes -= end - at;
      at = end;
    }
  }
  return bytes;
}

double Seconds(Clock::time_point time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

}  // namespace

struct internal::RuntimeState {
  RuntimeState(Client* to, const RuntimeOptions& given)
      : client(to),
        options(InRange(given)),
        times(absl::ToDoubleSeconds(options.local_token_time), options.local_output_tokens) {}

  absl::Duration Remaining(int tokens, int most_tokens) {
    std::lock_guard<std::mutex> lock(mutex);
    return absl::Seconds(times.Remaining(tokens, most_tokens, Seconds(Clock::now())));
  }
  int PromptTokens(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    return times.PromptTokens(bytes);
  }
  void Learn(size_t prompt_bytes, int prompt_tokens, int output_tokens, double seconds) {
    std::lock_guard<std::mutex> lock(mutex);
    times.AddPrompt(prompt_bytes, prompt_tokens);
    times.Add(output_tokens, seconds, Seconds(Clock::now()));
  }

  Client* const client;
  const RuntimeOptions options;
  std::mutex mutex;
  internal::LocalTimes times;
};

namespace {

class Question : public Answering {
 public:
  Question(std::shared_ptr<internal::RuntimeState> owner, Query query, LocalModel local, Route route, bool whole)
      : owner_(std::move(owner)),
        query_(std::move(query)),
        local_(std::move(local)),
        flow_(owner_->options, local_ ? route : Route::kEdge, whole) {
    flow_.Start();
    Apply();
  }
  ~Question() override {
    flow_.OnCancel();
    Apply();
  }

  std::optional<AnswerPiece> Next(absl::Duration at_most) override {
    const auto until =
        Clock::now() + absl::ToChronoNanoseconds(std::clamp(at_most, absl::ZeroDuration(), kLongestWait));
    for (;;) {
      if (!shown_.empty()) {
        AnswerPiece piece = std::move(shown_.front());
        shown_.pop_front();
        return piece;
      }
      if (flow_.ended()) return std::nullopt;
      // Once the local answer is whole, a goad that is not there is waited for no longer.
      if (flow_.waits_for_goad() && !owner_->client->connected()) flow_.OnEdgeAway();
      if (slow_at_ && Clock::now() >= *slow_at_) {
        slow_at_.reset();
        flow_.OnLocalSlow();
        Apply();
      }
      if (edge_slow_at_ && Clock::now() >= *edge_slow_at_) {
        edge_slow_at_.reset();
        flow_.OnEdgeSlow();
        Apply();
      }
      auto wake = until;
      for (const auto& at : {slow_at_, edge_slow_at_}) wake = at ? std::min(wake, *at) : wake;
      if (flow_.waits_for_goad()) wake = std::min(wake, Clock::now() + kLookAtConnection);
      const auto items = mailbox_->Take(wake);
      for (const auto& item : items) {
        item();
        Apply();
      }
      Apply();
      if (items.empty() && shown_.empty() && !flow_.ended() && Clock::now() >= until) return std::nullopt;
    }
  }
  bool ended() const override { return flow_.ended() && shown_.empty(); }
  Answer::Source source() const override { return flow_.source(); }
  std::optional<double> uncertainty() const override { return flow_.uncertainty(); }
  const Answer& answer() const override { return flow_.answer(); }
  void Cancel() override {
    mailbox_->Post([this] { flow_.OnCancel(); });
  }

 private:
  void Apply() {
    for (auto actions = flow_.TakeActions(); !actions.empty(); actions = flow_.TakeActions()) {
      for (internal::FlowAction& action : actions) {
        if (auto* show = std::get_if<internal::Show>(&action)) {
          shown_.push_back(std::move(show->piece));
        } else if (std::holds_alternative<internal::StartLocal>(action)) {
          StartLocal();
        } else if (std::holds_alternative<internal::StopLocal>(action)) {
          runs_.back()->GiveUp();
        } else if (const auto* ask = std::get_if<internal::AskEdge>(&action)) {
          AskEdge(*ask);
        } else if (std::holds_alternative<internal::CancelEdge>(action)) {
          owner_->client->Cancel(query_.id);
        }
      }
    }
  }

  void StartLocal() {
    local_tokens_ = 0;
    if (runs_.empty()) slow_at_ = Clock::now() + absl::ToChronoNanoseconds(owner_->options.local_first_token);
    internal::LocalRun::Reports reports;
    reports.on_piece = [this](AnswerPiece piece) {
      local_tokens_ += std::max(piece.tokens, 1);
      flow_.OnLocalPiece(std::move(piece));
    };
    reports.on_uncertainty = [this](double uncertainty) { flow_.OnUncertainty(uncertainty); };
    reports.on_end = [this](LocalEnd end, double seconds, int tokens) {
      if (end.status.ok()) {
        owner_->Learn(TextBytes(query_), end.prompt_tokens, end.output_tokens > 0 ? end.output_tokens : tokens,
                      seconds);
      }
      const bool decided_local = flow_.answer().decided && !flow_.answer().decision.offload;
      if (end.status.ok() && decided_local) {
        owner_->client->ReportLocal(query_.id, absl::FromChrono(Clock::now() - asked_at_));
      }
      flow_.OnLocalEnd(std::move(end));
    };
    runs_.push_back(std::make_unique<internal::LocalRun>(mailbox_, std::move(reports)));
    runs_.back()->Start(local_);
  }

  void AskEdge(const internal::AskEdge& ask) {
    Query query = query_;
    query.uncertainty = ask.uncertainty;
    query.first_token.clear();
    query.must_offload = !ask.uncertainty;
    if (query.prompt_tokens == 0) query.prompt_tokens = owner_->PromptTokens(TextBytes(query));
    query.local_delay = ask.uncertainty && !ask.local_is_whole
                            ? owner_->Remaining(local_tokens_, query.max_output_tokens)
                            : absl::ZeroDuration();
    if (asked_) query.id.clear();  // for the second time: goad answers an id once
    asked_ = true;
    asked_at_ = Clock::now();
    AskCallbacks callbacks;  // they may outlive this question: what they post is then never run
    callbacks.on_decision = [this, to = mailbox_](const Decision& decision) {
      to->Post([this, decision] {
        edge_slow_at_ = Clock::now() + absl::ToChronoNanoseconds(owner_->options.edge_first_token);
        flow_.OnDecision(decision);
      });
    };
    callbacks.on_piece = [this, to = mailbox_](const AnswerPiece& piece) {
      to->Post([this, piece] { flow_.OnEdgePiece(piece); });
    };
    callbacks.on_done = [this, to = mailbox_](const Answer& answer) {
      to->Post([this, answer] { flow_.OnEdgeEnd(answer); });
    };
    slow_at_.reset();
    query_.id = owner_->client->AskAsync(std::move(query), std::move(callbacks));
    flow_.OnAsked(query_.id);
    if (query_.id.empty()) {
      Answer closed;
      closed.why_local = "CANCELLED";
      closed.detail = "the client was closed";
      flow_.OnEdgeEnd(closed);
    }
  }

  const std::shared_ptr<internal::RuntimeState> owner_;
  Query query_;  // its id is that of the latest asking
  const LocalModel local_;
  internal::AnswerFlow flow_;
  const std::shared_ptr<internal::Mailbox> mailbox_ = std::make_shared<internal::Mailbox>();
  std::deque<AnswerPiece> shown_;
  int local_tokens_ = 0;  // of the present run
  bool asked_ = false;
  Clock::time_point asked_at_;
  // When who is waited for counts as slow: the local model until goad is asked, the edge from its grant on.
  std::optional<Clock::time_point> slow_at_, edge_slow_at_;
  std::vector<std::unique_ptr<internal::LocalRun>> runs_;  // at most two; last: their threads end before the rest goes
};

}  // namespace

Runtime::Runtime(Client* client, RuntimeOptions options)
    : state_(std::make_shared<internal::RuntimeState>(client, options)) {}
Runtime::~Runtime() = default;

std::unique_ptr<Answering> Runtime::Begin(Query query, LocalModel local, Route route, bool whole) {
  return std::make_unique<Question>(state_, std::move(query), std::move(local), route, whole);
}

Answer Runtime::Ask(Query query, LocalModel local, const std::function<void(const AnswerPiece&)>& show, Route route) {
  const auto answering = Begin(std::move(query), std::move(local), route, !show);
  while (!answering->ended()) {
    const auto piece = answering->Next(kLongestWait);
    if (piece && show) show(*piece);
  }
  return answering->answer();
}

}  // namespace goad
