#include "src/client_core.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace goad::internal {
namespace {

absl::Duration Seconds(double s) { return absl::Seconds(s); }

void FillPrompt(const Query& query, v1::Prompt* prompt) {
  prompt->set_query_id(query.id);
  if (query.chat.empty()) {
    prompt->set_text(query.prompt);
  } else {
    for (const auto& [role, content] : query.chat) {
      v1::ChatMessage* message = prompt->mutable_chat()->add_messages();
      message->set_role(role);
      message->set_content(content);
    }
  }
  prompt->set_temperature(query.temperature);
  for (const std::string& stop : query.stop) prompt->add_stop(stop);
  if (query.seed) prompt->set_seed(*query.seed);
}

uint64_t PromptBits(const Query& query) {
  size_t bytes = query.prompt.size();
  for (const auto& [role, content] : query.chat) bytes += content.size();
  return 8 * bytes;
}

std::string ReasonName(v1::Reason reason) {
  const std::string name = v1::Reason_Name(reason);
  return name.rfind("REASON_", 0) == 0 ? name.substr(7) : name;
}

// Of one client, as gRPC's retry throttling has it (gRFC A6): each question that is asked again takes a retry, each edge answer gives
// a tenth of one back, so that a goad which keeps breaking off is not asked everything again and again.
constexpr int kRetry = 10, kPerAnswer = 1, kMostBudget = 100;

}  // namespace

ClientCore::ClientCore(ClientOptions options, uint64_t seed)
    : options_(std::move(options)), random_(seed), backoff_(options_.backoff_first) {
  reconnect_at_ = -absl::InfiniteDuration();  // at the first Tick
}

std::string RandomUuid(std::mt19937_64& random) {
  const uint64_t high = (random() & ~0xF000ull) | 0x4000ull;
  const uint64_t low = (random() & ~(3ull << 62)) | (2ull << 62);
  const std::string hex = absl::StrCat(absl::Hex(high, absl::kZeroPad16), absl::Hex(low, absl::kZeroPad16));
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

std::string ClientCore::Ask(Query query, AskCallbacks callbacks, std::function<void()> send_later, Instant now) {
  if (query.id.empty()) query.id = RandomUuid(random_);
  const std::string id = query.id;
  if (queries_.count(id) != 0) {  // the caller's mistake; it still gets its one answer
    Answer answer;
    answer.why_local = "ID_REUSED";
    answer.detail = absl::StrCat("query id \"", id, "\" is live");
    actions_.push_back(Notify{[callbacks, answer] { callbacks.on_done(answer); }});
    return id;
  }
  Live& live = queries_[id];
  live.query = std::move(query);
  live.callbacks = std::move(callbacks);
  live.send_later = std::move(send_later);
  live.asked_at = now;
  live.expires = now + std::min(options_.decision_budget, live.query.deadline);
  if (state_ == StreamState::kReady) SendQuery(live, now);
  return id;
}

void ClientCore::SendQuery(Live& live, Instant now) {
  const Query& query = live.query;
  ++live.asks;
  live.phase = Phase::kAsked;
  v1::DeviceFrame frame;
  v1::Query& wire = *frame.mutable_query();
  wire.set_query_id(query.id);
  if (query.uncertainty) {
    wire.set_uncertainty(*query.uncertainty);
  } else if (!query.first_token.empty()) {
    for (const TokenProbability& entry : query.first_token) {
      v1::TokenProbability* top = wire.mutable_first_token()->add_top();
      top->set_token(entry.token);
      top->set_probability(entry.probability);
    }
  }
  wire.set_must_offload(query.must_offload);
  wire.set_prompt_kind(query.chat.empty() ? v1::PROMPT_KIND_TEXT : v1::PROMPT_KIND_CHAT);
  wire.set_prompt_bits(PromptBits(query));
  wire.set_prompt_tokens(static_cast<uint32_t>(std::max(0, query.prompt_tokens)));
  wire.set_max_output_tokens(static_cast<uint32_t>(std::max(0, query.max_output_tokens)));
  if (query.expected_output_tokens) {
    wire.set_expected_output_tokens(static_cast<uint32_t>(std::max(0, *query.expected_output_tokens)));
  }
  const absl::Duration waited = now - live.asked_at;
  wire.set_local_delay_s(absl::ToDoubleSeconds(query.local_delay));
  if (query.deadline != absl::InfiniteDuration()) wire.set_deadline_s(absl::ToDoubleSeconds(query.deadline - waited));
  if (query.edge_work_flop) wire.set_edge_work_flop(*query.edge_work_flop);
  Send(std::move(frame));
}

void ClientCore::SendPrompt(const std::string& query_id, Instant) {
  Live* live = Find(query_id);
  if (live == nullptr || live->phase != Phase::kGranted) return;
  live->phase = Phase::kAnswering;
  v1::DeviceFrame frame;
  FillPrompt(live->query, frame.mutable_prompt());
  Send(std::move(frame));
}

void ClientCore::Cancel(const std::string& query_id, Instant now) {
  if (Find(query_id) != nullptr) GiveUp(query_id, "CANCELLED", "cancelled by the caller", now);
}

void ClientCore::ReportLinks(std::vector<Link> links, Instant now) {
  v1::DeviceFrame frame;
  for (Link& link : links) {
    const std::string site = link.site;
    const Instant measured = now - link.age;
    AddLink(links_[site] = {std::move(link), measured}, now, frame.mutable_link_report());
  }
  if (state_ == StreamState::kReady && frame.has_link_report()) Send(std::move(frame));
}

void ClientCore::AddLink(const std::pair<Link, Instant>& known, Instant now, v1::LinkReport* report) {
  const auto& [link, measured] = known;
  const double age_s = absl::ToDoubleSeconds(now - measured);
  if (age_s > 3600) return;  // of no use to anybody
  v1::SiteLink& wire = *report->add_links();
  wire.set_site(link.site);
  wire.set_age_s(age_s);
  if (link.gain_db) wire.set_gain_db(*link.gain_db);
  if (link.rsrp_dbm) wire.set_rsrp_dbm(*link.rsrp_dbm);
  if (link.uplink_snr_db) wire.set_uplink_snr_db(*link.uplink_snr_db);
  if (link.uplink_bps) wire.set_uplink_bps(*link.uplink_bps);
}

void ClientCore::ReportLocal(const std::string& query_id, absl::Duration delay) {
  if (state_ != StreamState::kReady) return;
  v1::DeviceFrame frame;
  frame.mutable_outcome()->set_query_id(query_id);
  frame.mutable_outcome()->set_local_delay_s(absl::ToDoubleSeconds(delay));
  Send(std::move(frame));
}

void ClientCore::Shutdown(Instant now) {
  while (!queries_.empty()) FinishLocally(queries_.begin()->first, "CANCELLED", "the client was closed", now);
  if (state_ != StreamState::kDown) actions_.push_back(CloseStream{});
  state_ = StreamState::kDown;
  reconnect_at_ = absl::InfiniteDuration();
}

// --- stream --------------------------------------------------------------------------------------------------------------

void ClientCore::Open(Instant) {
  state_ = StreamState::kGreeting;
  actions_.push_back(OpenStream{++generation_});
  v1::DeviceFrame frame;
  v1::Hello& hello = *frame.mutable_hello();
  hello.set_protocol_version(1);
  hello.set_device_name(options_.device_name);
  hello.set_local_model(options_.local_model);
  hello.set_uncertainty_metric(v1::UNCERTAINTY_METRIC_MARGIN);
  hello.set_uncertainty_version(1);
  if (options_.tx_power_dbm) hello.set_tx_power_dbm(*options_.tx_power_dbm);
  Send(std::move(frame));
}

void ClientCore::OnStreamLost(uint64_t generation, const std::string& why, Instant now) {
  if (generation != generation_ || state_ == StreamState::kDown) return;
  if (state_ == StreamState::kReady) backoff_ = options_.backoff_first;  // it had worked
  if (state_ != StreamState::kLeaving) {                                 // Goodbye named its own time
    const double jitter = 0.5 + 0.5 * static_cast<double>(random_() >> 11) * 0x1p-53;
    reconnect_at_ = now + backoff_ * jitter;
    backoff_ = std::min(2 * backoff_, options_.backoff_most);
  }
  state_ = StreamState::kDown;
  std::vector<std::string> given_up;
  for (auto& [id, live] : queries_) {
    if (live.phase == Phase::kWaiting) continue;
    if (!live.answer.text.empty() || live.asks >= options_.asks_per_query || retry_budget_ < kRetry) {
      given_up.push_back(id);
    } else {
      retry_budget_ -= kRetry;
      live.phase = Phase::kWaiting;  // asked again on the next stream, within the same budget
      live.expires = std::min(live.expires, now + options_.decision_budget);
    }
  }
  for (const std::string& id : given_up) FinishLocally(id, "STREAM_LOST", why, now);
}

void ClientCore::OnFrame(uint64_t generation, const v1::ServerFrame& frame, Instant now) {
  if (generation != generation_ || state_ == StreamState::kDown) return;
  switch (frame.frame_case()) {
    case v1::ServerFrame::kWelcome:
      state_ = StreamState::kReady;
      backoff_ = options_.backoff_first;
      sites_.clear();
      for (const v1::SiteInfo& site : frame.welcome().sites()) {
        sites_.push_back({site.name(), site.uplink() == v1::SiteInfo::UPLINK_MEASURED, site.chat()});
      }
      if (!links_.empty()) {
        v1::DeviceFrame report;
        for (const auto& [site, known] : links_) AddLink(known, now, report.mutable_link_report());
        Send(std::move(report));
      }
      for (auto& [id, live] : queries_) {
        if (live.phase == Phase::kWaiting) SendQuery(live, now);
      }
      break;
    case v1::ServerFrame::kDecision:
      if (Live* live = Find(frame.decision().query_id())) OnDecision(*live, frame.decision(), now);
      break;
    case v1::ServerFrame::kTokens:
      if (Live* live = Find(frame.tokens().query_id())) OnTokens(*live, frame.tokens(), now);
      break;
    case v1::ServerFrame::kCompleted:
      if (Live* live = Find(frame.completed().query_id())) OnCompleted(*live, frame.completed(), now);
      break;
    case v1::ServerFrame::kFailed: {
      const v1::Failed& failed = frame.failed();
      if (Find(failed.query_id()) != nullptr) {
        FinishLocally(failed.query_id(), failed.error().reason(), failed.error().message(), now);
      }
      break;
    }
    case v1::ServerFrame::kCancelled:
      if (Find(frame.cancelled().query_id()) != nullptr) {
        FinishLocally(frame.cancelled().query_id(), "CANCELLED", "cancelled by goad", now);
      }
      break;
    case v1::ServerFrame::kProtocolError: {
      const v1::ProtocolError& error = frame.protocol_error();
      if (Find(error.query_id()) != nullptr) {
        FinishLocally(error.query_id(), error.error().reason(), error.error().message(), now);
      }
      break;
    }
    case v1::ServerFrame::kGoodbye:
      state_ = StreamState::kLeaving;
      reconnect_at_ = now + Seconds(frame.goodbye().reconnect_after_s());
      break;
    case v1::ServerFrame::FRAME_NOT_SET: break;
  }
}

// --- one query -----------------------------------------------------------------------------------------------------------

void ClientCore::OnDecision(Live& live, const v1::Decision& wire, Instant now) {
  if (live.phase != Phase::kAsked) return;  // told again
  Decision& decision = live.answer.decision;
  live.answer.decided = true;
  decision.offload = wire.verdict() == v1::VERDICT_OFFLOAD;
  decision.reason = ReasonName(wire.reason());
  decision.site = wire.site();
  decision.epoch = wire.epoch();
  decision.predicted_upload = Seconds(wire.predicted_upload_s());
  decision.predicted_compute = Seconds(wire.predicted_compute_s());
  decision.upload_within = Seconds(wire.upload_within_s());
  if (live.callbacks.on_decision) {
    actions_.push_back(Notify{[f = live.callbacks.on_decision, decision] { f(decision); }});
  }
  if (!decision.offload) return FinishLocally(live.query.id, decision.reason, "", now);
  live.phase = Phase::kGranted;
  live.expires = live.query.deadline != absl::InfiniteDuration() ? live.asked_at + live.query.deadline
                                                                 : now + options_.answer_budget;
  if (live.callbacks.on_grant) {
    actions_.push_back(
        Notify{[f = live.callbacks.on_grant, decision, send = live.send_later] { f(decision, send); }});
  } else {
    SendPrompt(live.query.id, now);
  }
}

void ClientCore::OnTokens(Live& live, const v1::Tokens& tokens, Instant now) {
  if (tokens.text_offset() != live.answer.text.size()) {
    return GiveUp(live.query.id, "INCOMPLETE",
                         absl::StrCat("text at ", tokens.text_offset(), " after ", live.answer.text.size(), " bytes"), now);
  }
  if (live.answer.text.empty()) live.answer.first_token_after = now - live.asked_at;
  live.answer.text += tokens.text();
  if (live.callbacks.on_text) {
    actions_.push_back(Notify{[f = live.callbacks.on_text, text = tokens.text()] { f(text); }});
  }
}

void ClientCore::OnCompleted(Live& live, const v1::Completed& completed, Instant now) {
  if (completed.text_bytes() != live.answer.text.size()) {  // its text went down with an earlier stream
    return FinishLocally(live.query.id, "INCOMPLETE",
                         absl::StrCat(live.answer.text.size(), " of ", completed.text_bytes(), " bytes arrived"), now);
  }
  retry_budget_ = std::min(retry_budget_ + kPerAnswer, kMostBudget);
  Answer& answer = live.answer;
  answer.source = Answer::Source::kEdge;
  answer.finish_reason = completed.finish_reason();
  answer.backend = completed.backend();
  answer.prompt_tokens = static_cast<int>(completed.prompt_tokens());
  answer.output_tokens = static_cast<int>(completed.output_tokens());
  answer.ttft = Seconds(completed.ttft_s());
  answer.compute = Seconds(completed.compute_s());
  Finish(live.query.id, now);
}

// As FinishLocally, when goad may still be working on the query.
void ClientCore::GiveUp(std::string query_id, const std::string& why, const std::string& detail, Instant now) {
  if (Find(query_id)->phase != Phase::kWaiting && state_ != StreamState::kDown) {
    v1::DeviceFrame frame;
    frame.mutable_cancel()->set_query_id(query_id);
    Send(std::move(frame));
  }
  FinishLocally(std::move(query_id), why, detail, now);
}

// The caller answers locally.
void ClientCore::FinishLocally(std::string query_id, const std::string& why, const std::string& detail,
                               Instant now) {
  Live& live = *Find(query_id);
  live.answer.source = Answer::Source::kNone;
  live.answer.why_local = why;
  live.answer.detail = detail;
  Finish(std::move(query_id), now);
}

void ClientCore::Finish(std::string query_id, Instant now) {
  Live live = std::move(*Find(query_id));
  queries_.erase(query_id);
  live.answer.delay = now - live.asked_at;
  actions_.push_back(Notify{[f = std::move(live.callbacks.on_done), answer = std::move(live.answer)] { f(answer); }});
}

ClientCore::Live* ClientCore::Find(const std::string& query_id) {
  const auto found = queries_.find(query_id);
  return found == queries_.end() ? nullptr : &found->second;
}

// --- time ----------------------------------------------------------------------------------------------------------------

void ClientCore::Tick(Instant now) {
  if (state_ == StreamState::kDown && reconnect_at_ <= now) Open(now);
  std::vector<std::string> late;
  for (const auto& [id, live] : queries_) {
    if (live.expires <= now) late.push_back(id);
  }
  for (const std::string& id : late) {
    const Live& live = *Find(id);
    const char* why = live.phase == Phase::kWaiting ? "UNREACHABLE" : live.phase == Phase::kAsked ? "NO_DECISION" : "TIMEOUT";
    GiveUp(id, why, "the query's budget is spent", now);
  }
}

Instant ClientCore::NextWake() const {
  Instant wake = state_ == StreamState::kDown ? reconnect_at_ : absl::InfiniteDuration();
  for (const auto& [id, live] : queries_) wake = std::min(wake, live.expires);
  return wake;
}

}  // namespace goad::internal
