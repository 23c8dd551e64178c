#include "server/session/wire_codec.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/clip.h"
#include "server/session/hello_codec.h"
#include "server/session/prompt_codec.h"
#include "server/session/wire_checks.h"
#include "server/wire/abilities.h"
#include "server/wire/enums.h"

namespace goad::server {
namespace {

double FromDb(double db) { return std::pow(10, db / 10); }

std::string SiteNames(const Config& config) {
  std::string names;
  for (const SiteConfig& site : config.sites) {
    if (!site.presence.removed()) absl::StrAppend(&names, names.empty() ? "" : ", ", site.name);
  }
  return names;
}

std::optional<ErrorInfo> CheckKind(const std::string& kind, const std::vector<std::string>& kinds) {
  if (kind.empty() || std::find(kinds.begin(), kinds.end(), kind) != kinds.end()) return std::nullopt;
  const std::string want =
      kinds.empty() ? "none: no kinds are configured" : absl::StrCat("not one of ", absl::StrJoin(kinds, ", "));
  return Invalid("query.kind", absl::StrCat("\"", Clip(kind), "\" is ", want));
}

}  // namespace

std::optional<ErrorInfo> CheckQueryId(const std::string& query_id, const char* field) {
  GOAD_REFUSE_IF(CheckLength(field, query_id.size(), 1, 64));
  return CheckName(field, query_id);
}

namespace {

// Whatever site it is of.
std::optional<ErrorInfo> CheckMeasurement(const v1::SiteLink& link) {
  GOAD_REFUSE_IF(CheckRange("link_report.links.age_s", link.age_s(), 0, 3600));
  switch (link.measurement_case()) {
    case v1::SiteLink::kGainDb: return CheckRange("link_report.links.gain_db", link.gain_db(), -300, 0);
    case v1::SiteLink::kRsrpDbm: return CheckRange("link_report.links.rsrp_dbm", link.rsrp_dbm(), -200, 0);
    case v1::SiteLink::kUplinkSnrDb:
      return CheckRange("link_report.links.uplink_snr_db", link.uplink_snr_db(), -100, 100);
    case v1::SiteLink::kUplinkBps: return CheckRange("link_report.links.uplink_bps", link.uplink_bps(), 1, 1e12);
    case v1::SiteLink::MEASUREMENT_NOT_SET: break;
  }
  return Invalid("link_report.links.measurement", "is missing; want gain_db, rsrp_dbm, uplink_snr_db or uplink_bps");
}

// REQUIRES: CheckMeasurement(link) has nothing to say. `measurement` but for its site and time.
std::optional<ErrorInfo> DecodeMeasurement(const v1::SiteLink& link, const SiteConfig& site, double tx_power_w,
                                           LinkMeasurement* measurement) {
  const UplinkConfig& uplink = site.uplink;
  const bool rate = link.measurement_case() == v1::SiteLink::kUplinkBps;
  if (rate != (uplink.model == sched::UplinkModel::kMeasured)) {
    return MakeError(ErrorCode::kInvalidArgument, "MEASUREMENT_NOT_USED", "link_report.links.measurement",
                     absl::StrCat("site \"", site.name, "\" predicts from ",
                                  rate ? "gain_db, rsrp_dbm or uplink_snr_db, not from uplink_bps"
                                       : "uplink_bps, not from gain_db, rsrp_dbm or uplink_snr_db"));
  }
  if (rate) {
    measurement->uplink_bps = link.uplink_bps();
  } else {
    measurement->gain = link.has_gain_db()    ? FromDb(link.gain_db())
                        : link.has_rsrp_dbm() ? FromDb(link.rsrp_dbm() - uplink.reference_power_dbm)
                                              : FromDb(link.uplink_snr_db()) * uplink.NoiseWatts() / tx_power_w;
  }
  return std::nullopt;
}

}  // namespace

std::optional<ErrorInfo> DecodeLinks(const google::protobuf::RepeatedPtrField<v1::SiteLink>& links,
                                     const Config& config, double tx_power_w, MonotonicTime now,
                                     std::vector<LinkMeasurement>* decoded, std::vector<HeardSite>* heard) {
  if (links.size() > 64) return Invalid("link_report.links", absl::StrCat(links.size(), " entries, want at most 64"));
  std::set<std::string> reported;
  const auto decode = [&](const v1::SiteLink& link) -> std::optional<ErrorInfo> {
    const SiteConfig* const site = config.FindSite(link.site());
    const NeighbourConfig* const neighbour = site == nullptr ? config.FindNeighbour(link.site()) : nullptr;
    if (site == nullptr && neighbour == nullptr) {
      return MakeError(ErrorCode::kNotFound, "UNKNOWN_SITE", "link_report.links.site",
                       absl::StrCat("\"", Clip(link.site()), "\" is not one of ", SiteNames(config)));
    }
    if (reported.count(link.site()) > 0) {
      return Invalid("link_report.links.site", absl::StrCat("\"", link.site(), "\" is reported twice"));
    }
    GOAD_REFUSE_IF(CheckMeasurement(link));
    const MonotonicTime measured_at = now - absl::Seconds(link.age_s());
    heard->push_back({link.site(), neighbour, measured_at});
    if (site != nullptr) {
      LinkMeasurement measurement;
      GOAD_REFUSE_IF(DecodeMeasurement(link, *site, tx_power_w, &measurement));
      measurement.site = sched::ToSite(static_cast<size_t>(site - config.sites.data()));
      measurement.measured_at = measured_at;
      decoded->push_back(measurement);
    }
    reported.insert(link.site());
    return std::nullopt;
  };
  std::optional<ErrorInfo> first;
  for (const v1::SiteLink& link : links) {
    std::optional<ErrorInfo> error = decode(link);
    if (error && !first) first = std::move(error);
  }
  return first;
}

std::optional<ErrorInfo> DecodeQuery(const v1::Query& query, const Config& config, QueryMeta* meta,
                                     std::shared_ptr<const PromptBody>* inline_prompt) {
  const LimitsConfig& limits = config.limits;
  meta->must_offload = query.must_offload();
  GOAD_REFUSE_IF(DecodeUncertainty(query, MetricOf(meta->model), &meta->uncertainty));
  if (query.prompt_kind() < 0 || query.prompt_kind() > v1::PROMPT_KIND_CHAT) {
    return Invalid("query.prompt_kind", absl::StrCat(query.prompt_kind(), " is not TEXT (1) or CHAT (2)"));
  }
  meta->needs.chat = query.prompt_kind() == v1::PROMPT_KIND_CHAT;
  meta->needs.tools = query.needs_tools();
  meta->needs.images = query.needs_images();
  if (query.has_inline_prompt()) {
    GOAD_REFUSE_IF(DecodePrompt(query.inline_prompt(), "query.inline_prompt", meta->needs.chat, limits.prompt_bytes,
                                limits, inline_prompt));
    meta->needs.Add((*inline_prompt)->needs());
  } else {
    GOAD_REFUSE_IF(CheckRange("query.prompt_bits", static_cast<double>(query.prompt_bits()), 1,
                              8.0 * static_cast<double>(limits.prompt_bytes)));
    meta->prompt_bits = static_cast<double>(query.prompt_bits());
  }
  GOAD_REFUSE_IF(CheckRange("query.prompt_tokens", query.prompt_tokens(), 0, 1e6));
  meta->prompt_tokens = static_cast<int>(query.prompt_tokens());
  GOAD_REFUSE_IF(CheckRange("query.max_output_tokens", query.max_output_tokens(), 0, limits.max_output_tokens));
  meta->max_output_tokens =
      query.max_output_tokens() == 0 ? limits.max_output_tokens : static_cast<int>(query.max_output_tokens());
  meta->needs.context_tokens = static_cast<int>(query.prompt_tokens() + query.max_output_tokens());
  if (query.has_expected_output_tokens()) {
    GOAD_REFUSE_IF(
        CheckRange("query.expected_output_tokens", query.expected_output_tokens(), 0, meta->max_output_tokens));
    meta->expected_output_tokens = static_cast<int>(query.expected_output_tokens());
  }
  GOAD_REFUSE_IF(CheckRange("query.local_delay_s", query.local_delay_s(), 0, 3600));
  meta->local_delay_s = query.local_delay_s();
  if (query.has_deadline_s()) {
    GOAD_REFUSE_IF(CheckAboveZero("query.deadline_s", query.deadline_s(), 3600));
    meta->deadline = absl::Seconds(query.deadline_s());
  }
  if (query.has_edge_work_flop()) {
    GOAD_REFUSE_IF(CheckRange("query.edge_work_flop", query.edge_work_flop(), 0, 1e30));
    meta->edge_work_flop = query.edge_work_flop();
  }
  GOAD_REFUSE_IF(CheckKind(query.kind(), config.kinds));
  meta->kind = query.kind();
  return std::nullopt;
}

std::optional<ErrorInfo> DecodeOutcome(const v1::Outcome& outcome) {
  GOAD_REFUSE_IF(CheckQueryId(outcome.query_id(), "outcome.query_id"));
  GOAD_REFUSE_IF(CheckRange("outcome.local_delay_s", outcome.local_delay_s(), 0, 3600));
  if (outcome.has_quality()) GOAD_REFUSE_IF(CheckRange("outcome.quality", outcome.quality(), 0, 1));
  return std::nullopt;
}

uint64_t QueryFingerprint(const v1::Query& query) {
  v1::Query body = query;
  body.clear_deadline_s();  // both count down while a device asks again
  body.clear_local_delay_s();
  return std::hash<std::string>{}(body.SerializeAsString());
}

// --- encoding --------------------------------------------------------------------------------------------------------

static_assert(static_cast<int>(ErrorCode::kInternal) + 1 == v1::ERROR_CODE_INTERNAL);

v1::Error EncodeError(const ErrorInfo& error) {
  v1::Error wire;
  wire.set_code(static_cast<v1::ErrorCode>(static_cast<int>(error.code) + 1));
  wire.set_reason(error.reason);
  wire.set_field(error.field);
  wire.set_message(error.message);
  wire.set_retry_after_s(error.retry_after_s);
  return wire;
}

namespace {

std::string SiteName(sched::SiteIndex site, const std::vector<SiteConfig>& sites) {
  return site == sched::SiteIndex::kNone ? "" : sites[sched::ToIndex(site)].name;
}

void EncodeLogprob(const TokenLogprob& from, v1::TokenLogprob* to) {
  to->set_token(from.token);
  to->set_logprob(from.logprob);
  for (const TokenAlternative& other : from.top) {
    v1::TokenLogprob& top = *to->add_top();
    top.set_token(other.token);
    top.set_logprob(other.logprob);
  }
}

}  // namespace

size_t EncodeToolCalls(std::vector<openai::ToolCallPiece> pieces, v1::Tokens* tokens) {
  size_t bytes = 0;
  for (openai::ToolCallPiece& piece : pieces) {
    bytes += piece.id.size() + piece.name.size() + piece.arguments.size();
    const int last = tokens->tool_calls_size() - 1;
    if (last >= 0 && piece.id.empty() && piece.name.empty() &&
        static_cast<int>(tokens->tool_calls(last).index()) == piece.index) {
      tokens->mutable_tool_calls(last)->mutable_arguments()->append(piece.arguments);
      continue;
    }
    bytes += kToolCallBytes;
    v1::ToolCallPiece& wire = *tokens->add_tool_calls();
    wire.set_index(static_cast<uint32_t>(piece.index));
    if (!piece.id.empty()) wire.set_id(std::move(piece.id));
    if (!piece.name.empty()) wire.set_name(std::move(piece.name));
    if (!piece.arguments.empty()) wire.set_arguments(std::move(piece.arguments));
  }
  return bytes;
}

namespace {

struct Encoder {
  v1::ServerFrame& frame;
  const std::string& query_id;
  const std::vector<SiteConfig>& sites;

  void operator()(const DecisionEvent& event) const {
    v1::Decision& decision = *frame.mutable_decision();
    decision.set_query_id(query_id);
    decision.set_epoch(event.epoch);
    decision.set_verdict(ToWire(event.verdict));
    decision.set_reason(ToWire(event.reason));
    decision.set_site(SiteName(event.site, sites));
    decision.set_predicted_upload_s(event.predicted_upload_s);
    decision.set_predicted_compute_s(event.predicted_compute_s);
    decision.set_predicted_local_s(event.predicted_local_s);
    decision.set_upload_within_s(event.upload_within_s);
    decision.set_retry_after_s(event.retry_after_s);
    decision.set_queue_s(event.queue_s);
  }
  void operator()(TokensEvent& event) const {
    v1::Tokens& tokens = *frame.mutable_tokens();
    tokens.set_query_id(query_id);
    tokens.set_text_offset(event.text_offset);
    tokens.set_text(std::move(event.text));
    tokens.set_tokens(static_cast<uint32_t>(event.tokens));
    for (const TokenLogprob& logprob : event.logprobs) EncodeLogprob(logprob, tokens.add_logprobs());
    tokens.set_reasoning(std::move(event.reasoning));
    tokens.set_refusal_bytes(event.refusal_bytes);
    EncodeToolCalls(std::move(event.tool_calls), &tokens);
  }
  void operator()(const CompletedEvent& event) const {
    v1::Completed& completed = *frame.mutable_completed();
    completed.set_query_id(query_id);
    completed.set_finish_reason(event.finish_reason);
    completed.set_prompt_tokens(static_cast<uint32_t>(event.prompt_tokens));
    completed.set_output_tokens(static_cast<uint32_t>(event.output_tokens));
    completed.set_usage_estimated(event.usage_estimated);
    completed.set_site(SiteName(event.site, sites));
    completed.set_backend(event.backend);
    completed.set_queue_s(event.queue_s);
    completed.set_ttft_s(event.ttft_s);
    completed.set_total_s(event.total_s);
    completed.set_compute_s(event.compute_s);
    completed.set_upload_s(event.upload_s);
    completed.set_predicted_upload_s(event.predicted_upload_s);
    completed.set_predicted_compute_s(event.predicted_compute_s);
    completed.set_text_bytes(event.text_bytes);
  }
  void operator()(const FailedEvent& event) const {
    v1::Failed& failed = *frame.mutable_failed();
    failed.set_query_id(query_id);
    *failed.mutable_error() = EncodeError(event.error);
    failed.set_answer_locally(event.answer_locally);
    failed.set_text_bytes(event.text_bytes);
  }
  void operator()(const CancelledEvent&) const { frame.mutable_cancelled()->set_query_id(query_id); }
};

}  // namespace

v1::ServerFrame EncodeEvent(SessionEvent event, const std::string& query_id, const std::vector<SiteConfig>& sites) {
  v1::ServerFrame frame;
  std::visit(Encoder{frame, query_id, sites}, event);
  return frame;
}

namespace {

void AddSites(const Config& config, const SiteAbilities& abilities,
              google::protobuf::RepeatedPtrField<v1::SiteInfo>* sites) {
  for (size_t j = 0; j < config.sites.size(); ++j) {
    const SiteConfig& site = config.sites[j];
    if (site.presence.removed()) continue;
    v1::SiteInfo& info = *sites->Add();
    info.set_name(site.name);
    info.set_uplink(site.uplink.model == sched::UplinkModel::kShannon ? v1::SiteInfo::UPLINK_SHANNON
                                                                      : v1::SiteInfo::UPLINK_MEASURED);
    info.set_chat(TakesChat(site));
    if (j >= abilities.size()) continue;
    for (const Abilities& can : abilities[j]) *info.add_abilities() = ToWire(can);
  }
}

void AddNeighbours(const Config& config, google::protobuf::RepeatedPtrField<v1::Neighbour>* neighbours) {
  for (const NeighbourConfig& neighbour : config.neighbours) {
    v1::Neighbour& wire = *neighbours->Add();
    wire.set_address(neighbour.address);
    for (const std::string& site : neighbour.sites) wire.add_sites(site);
  }
}

}  // namespace

v1::ServerFrame EncodeWelcome(const std::string& session_id, const Config& config, const SiteAbilities& abilities,
                              double tau) {
  v1::ServerFrame frame;
  v1::Welcome& welcome = *frame.mutable_welcome();
  welcome.set_session_id(session_id);
  welcome.set_epoch_period_s(absl::ToDoubleSeconds(config.epoch.period));
  welcome.set_epoch_min_period_s(absl::ToDoubleSeconds(config.epoch.min_period));
  welcome.set_tau(tau);
  v1::Limits& limits = *welcome.mutable_limits();
  limits.set_queries_per_session(static_cast<uint32_t>(config.limits.queries_per_session));
  limits.set_prompt_bytes(static_cast<uint64_t>(config.limits.prompt_bytes));
  limits.set_max_output_tokens(static_cast<uint32_t>(config.limits.max_output_tokens));
  limits.set_link_max_age_s(absl::ToDoubleSeconds(config.limits.link_max_age));
  limits.set_grant_s(absl::ToDoubleSeconds(config.limits.grant));
  AddSites(config, abilities, welcome.mutable_sites());
  AddNeighbours(config, welcome.mutable_neighbours());
  return frame;
}

v1::ServerFrame EncodeSites(const Config& config, const SiteAbilities& abilities) {
  v1::ServerFrame frame;
  AddSites(config, abilities, frame.mutable_sites()->mutable_sites());
  AddNeighbours(config, frame.mutable_sites()->mutable_neighbours());
  return frame;
}

v1::ServerFrame EncodeProtocolError(const ErrorInfo& error, uint64_t frame_number, const std::string& query_id) {
  v1::ServerFrame frame;
  *frame.mutable_protocol_error()->mutable_error() = EncodeError(error);
  frame.mutable_protocol_error()->set_frame(frame_number);
  frame.mutable_protocol_error()->set_query_id(query_id);
  return frame;
}

}  // namespace goad::server
