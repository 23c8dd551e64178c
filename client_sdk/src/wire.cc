#include "client_sdk/src/wire.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client_sdk/openai/app_request.h"
#include "client_sdk/openai/message.h"
#include "client_sdk/openai/utf8.h"
#include "client_sdk/src/checks.h"

namespace goad::internal {
namespace {

constexpr size_t kMostNeighbourSites = 16 * 64;  // what goad's configuration may name

bool IsChat(const Query& query) { return !query.chat.empty() || !query.messages_json.empty(); }

uint64_t PromptBits(const Query& query) {
  size_t bytes = (IsChat(query) ? 0 : query.prompt.size()) + query.options_json.size();
  for (const auto& [role, content] : query.chat) bytes += content.size();
  for (const std::string& message : query.messages_json) bytes += message.size();
  return 8 * bytes;
}

// The candidates where every text can travel; else the number that goad would compute from them: parts of characters
// are no UTF-8, and a daemon that is older than this client would end the stream over them.
void SetConfidence(const Query& query, UncertaintyMetric metric, v1::Query* wire) {
  if (query.uncertainty) return wire->set_uncertainty(*query.uncertainty);
  if (query.first_token.empty()) return;
  if (std::any_of(query.first_token.begin(), query.first_token.end(),
                  [](const auto& entry) { return !openai::IsValidUtf8(entry.token); })) {
    const auto computed = FirstTokenUncertainty(metric, query.first_token);
    if (computed.ok()) wire->set_uncertainty(*computed);
    return;
  }
  for (const TokenProbability& entry : query.first_token) {
    v1::TokenProbability* top = wire->mutable_first_token()->add_top();
    top->set_token(entry.token);
    top->set_probability(entry.probability);
  }
}

static_assert(static_cast<int>(UncertaintyMetric::kDeclared) == v1::UNCERTAINTY_METRIC_DECLARED);
static_assert(v1::UncertaintyMetric_MAX == kUncertaintyMetrics);

// A name of goad's, as it may stand in a header: at most 128 bytes, '?' for each byte of a control character.
std::string ReadName(const std::string& name) {
  std::string read = Clip(name, 128);
  for (size_t at = 0; at < read.size(); ++at) {
    const auto byte = static_cast<unsigned char>(read[at]);
    if (byte < 0x20 || byte == 0x7F) read[at] = '?';
    if (byte == 0xC2 && at + 1 < read.size() && static_cast<unsigned char>(read[at + 1]) < 0xA0)
      read.replace(at, 2, "??");
  }
  return read;
}

std::string ReadFinishReason(const std::string& reason) {
  const bool printable = std::all_of(reason.begin(), reason.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return printable && reason.size() <= 32 ? reason : "other";
}

int ToInt(uint64_t value) { return static_cast<int>(std::min<uint64_t>(value, 1 << 30)); }

// In range whatever goad says.
TokenLogprob ReadLogprob(const v1::TokenLogprob& wire) {
  return {wire.token(), wire.logprob() > -9999 ? std::min(wire.logprob(), 0.0) : -9999, {}};
}

}  // namespace

v1::DeviceFrame HelloFrame(const ClientOptions& options) {
  v1::DeviceFrame frame;
  v1::Hello& hello = *frame.mutable_hello();
  hello.set_protocol_version(1);
  hello.set_device_name(options.device_name);
  hello.set_local_model(options.local_model);
  const UncertaintySource& source = options.uncertainty;
  hello.set_uncertainty_metric(static_cast<v1::UncertaintyMetric>(source.metric));
  hello.set_uncertainty_version(1);
  hello.set_uncertainty_tokens(static_cast<uint32_t>(source.tokens));
  hello.set_uncertainty_candidates(static_cast<uint32_t>(source.candidates));
  hello.set_uncertainty_method(source.method);
  hello.set_prompt_form(source.prompt_form);
  if (options.tx_power_dbm) hello.set_tx_power_dbm(*options.tx_power_dbm);
  return frame;
}

v1::DeviceFrame QueryFrame(const Query& query, UncertaintyMetric metric, absl::Duration waited) {
  v1::DeviceFrame frame;
  v1::Query& wire = *frame.mutable_query();
  wire.set_query_id(query.id);
  SetConfidence(query, metric, &wire);
  wire.set_must_offload(query.must_offload);
  wire.set_prompt_kind(IsChat(query) ? v1::PROMPT_KIND_CHAT : v1::PROMPT_KIND_TEXT);
  wire.set_prompt_bits(PromptBits(query));
  wire.set_prompt_tokens(static_cast<uint32_t>(query.prompt_tokens));
  wire.set_max_output_tokens(static_cast<uint32_t>(query.max_output_tokens));
  if (query.expected_output_tokens)
    wire.set_expected_output_tokens(static_cast<uint32_t>(*query.expected_output_tokens));
  wire.set_local_delay_s(absl::ToDoubleSeconds(query.local_delay));
  if (query.deadline != absl::InfiniteDuration()) wire.set_deadline_s(absl::ToDoubleSeconds(query.deadline - waited));
  if (query.edge_work_flop) wire.set_edge_work_flop(*query.edge_work_flop);
  wire.set_kind(query.kind);
  const openai::AppNeeds needs = openai::NeedsOf(query.messages_json, query.options_json);
  wire.set_needs_tools(needs.tools);
  wire.set_needs_images(needs.images);
  return frame;
}

v1::DeviceFrame PromptFrame(const Query& query) {
  v1::DeviceFrame frame;
  v1::Prompt* prompt = frame.mutable_prompt();
  prompt->set_query_id(query.id);
  if (!IsChat(query)) prompt->set_text(query.prompt);
  for (const auto& [role, content] : query.chat) {
    v1::ChatMessage* message = prompt->mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content(content);
  }
  for (const std::string& json : query.messages_json) prompt->mutable_chat()->add_messages()->set_json(json);
  prompt->set_temperature(query.temperature);
  for (const std::string& stop : query.stop) prompt->add_stop(stop);
  if (query.seed) prompt->set_seed(*query.seed);
  prompt->set_options_json(query.options_json);
  prompt->set_reasoning(query.reasoning);
  prompt->set_top_logprobs(static_cast<uint32_t>(query.top_logprobs));
  return frame;
}

v1::DeviceFrame CancelFrame(const std::string& query_id) {
  v1::DeviceFrame frame;
  frame.mutable_cancel()->set_query_id(query_id);
  return frame;
}

v1::DeviceFrame OutcomeFrame(const std::string& query_id, absl::Duration local_delay) {
  v1::DeviceFrame frame;
  frame.mutable_outcome()->set_query_id(query_id);
  frame.mutable_outcome()->set_local_delay_s(absl::ToDoubleSeconds(local_delay));
  return frame;
}

v1::DeviceFrame QualityFrame(const std::string& query_id, double quality) {
  v1::DeviceFrame frame;
  frame.mutable_outcome()->set_query_id(query_id);
  frame.mutable_outcome()->set_quality(quality);
  return frame;
}

absl::Duration ReadSeconds(double s) { return s > 0 ? absl::Seconds(std::min(s, 3600.0)) : absl::ZeroDuration(); }

absl::Duration ReadRetryAfter(double s) { return std::min(ReadSeconds(s), kLongestRetryAfter); }

std::string ReasonName(int reason) {
  const std::string name = v1::Reason_Name(static_cast<v1::Reason>(reason));
  return name.rfind("REASON_", 0) == 0 ? name.substr(7) : absl::StrCat("REASON_", reason);
}

std::string ErrorName(const v1::Error& error) {
  if (!error.reason().empty()) return ReadName(error.reason());
  const std::string name = v1::ErrorCode_Name(error.code());
  return name.rfind("ERROR_CODE_", 0) == 0 ? name.substr(11)
                                           : absl::StrCat("ERROR_CODE_", static_cast<int>(error.code()));
}

Decision ReadDecision(const v1::Decision& wire) {
  Decision decision;
  decision.offload = wire.verdict() == v1::VERDICT_OFFLOAD;
  decision.reason = ReasonName(wire.reason());
  decision.site = ReadName(wire.site());
  decision.epoch = wire.epoch();
  decision.predicted_upload = ReadSeconds(wire.predicted_upload_s());
  decision.predicted_compute = ReadSeconds(wire.predicted_compute_s());
  decision.queue = ReadSeconds(wire.queue_s());
  decision.upload_within = ReadSeconds(wire.upload_within_s());
  decision.retry_after = ReadRetryAfter(wire.retry_after_s());
  decision.neighbour = Clip(wire.neighbour(), kMostAddressBytes);
  return decision;
}

Limits ReadLimits(const v1::Limits& wire) {
  Limits limits;
  limits.queries_per_session = ToInt(wire.queries_per_session());
  limits.prompt_bytes = wire.prompt_bytes();
  limits.max_output_tokens = ToInt(wire.max_output_tokens());
  limits.link_max_age = ReadSeconds(wire.link_max_age_s());
  limits.grant = ReadSeconds(wire.grant_s());
  return limits;
}

std::vector<Site> ReadSites(const google::protobuf::RepeatedPtrField<v1::SiteInfo>& wire) {
  std::vector<Site> sites;
  for (const v1::SiteInfo& site : wire) {
    Site& read = sites.emplace_back();
    read.name = ReadName(site.name());
    read.measured = site.uplink() == v1::SiteInfo::UPLINK_MEASURED;
    read.chat = site.chat();
    bool no_end = false;  // of some server nobody knows how long its context is
    for (const v1::Abilities& can : site.abilities()) {
      read.tools |= can.tools();
      read.images |= can.images();
      no_end |= can.context_tokens() == 0;
      read.context_tokens = std::max(read.context_tokens, ToInt(can.context_tokens()));
    }
    if (no_end) read.context_tokens = 0;
  }
  return sites;
}

void AddNeighbours(const google::protobuf::RepeatedPtrField<v1::Neighbour>& wire, std::vector<Site>* sites) {
  const size_t most = sites->size() + kMostNeighbourSites;
  for (const v1::Neighbour& neighbour : wire) {
    for (const std::string& name : neighbour.sites()) {
      if (sites->size() >= most) return;
      Site& site = sites->emplace_back();
      site.name = ReadName(name);
      site.neighbour = Clip(neighbour.address(), kMostAddressBytes);
    }
  }
}

AnswerPiece ReadTokens(const v1::Tokens& wire) {
  AnswerPiece piece;
  piece.text = wire.text(), piece.reasoning = wire.reasoning();
  piece.refusal_bytes = std::min<size_t>(wire.refusal_bytes(), wire.text().size());
  piece.tokens = ToInt(wire.tokens());
  for (const v1::TokenLogprob& token : wire.logprobs()) {
    piece.logprobs.push_back(ReadLogprob(token));
    for (const v1::TokenLogprob& top : token.top()) piece.logprobs.back().top.push_back(ReadLogprob(top));
  }
  for (const v1::ToolCallPiece& call : wire.tool_calls()) {
    piece.tool_calls.push_back({ToInt(call.index()), {call.id(), call.name(), call.arguments()}});
  }
  return piece;
}

bool AddPiece(const AnswerPiece& piece, size_t most_bytes, Answer* answer) {
  size_t bytes = answer->text.size() + answer->reasoning.size() + piece.text.size() + piece.reasoning.size();
  for (const ToolCall& call : answer->tool_calls) bytes += call.id.size() + call.name.size() + call.arguments.size();
  for (const auto& [index, call] : piece.tool_calls) {
    if (index < 0 || index >= openai::kMostToolCalls) return false;
    bytes += call.arguments.size() + call.id.size() + call.name.size();
  }
  if (bytes > most_bytes) return false;
  answer->text += piece.text;
  answer->reasoning += piece.reasoning;
  answer->refusal |= piece.refusal_bytes > 0;
  for (const auto& [index, call] : piece.tool_calls) {
    if (answer->tool_calls.size() <= static_cast<size_t>(index))
      answer->tool_calls.resize(static_cast<size_t>(index) + 1);
    ToolCall& to = answer->tool_calls[static_cast<size_t>(index)];
    to.id += call.id, to.name += call.name, to.arguments += call.arguments;
  }
  return true;
}

double UncertaintyOf(const Query& query, UncertaintyMetric metric) {
  if (query.uncertainty) return *query.uncertainty;
  const auto computed = FirstTokenUncertainty(metric, query.first_token);
  return computed.ok() ? *computed : 1;
}

void ReadCompleted(const v1::Completed& wire, Answer* answer) {
  answer->finish_reason = ReadFinishReason(wire.finish_reason());
  answer->backend = ReadName(wire.backend());
  answer->prompt_tokens = ToInt(wire.prompt_tokens());
  answer->output_tokens = ToInt(wire.output_tokens());
  answer->ttft = ReadSeconds(wire.ttft_s());
  answer->compute = ReadSeconds(wire.compute_s());
}

}  // namespace goad::internal
