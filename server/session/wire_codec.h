// Between goad.v1 frames and native types: every number from a device is checked here, once. Pure functions.
#ifndef GOAD_SERVER_SESSION_WIRE_CODEC_H_
#define GOAD_SERVER_SESSION_WIRE_CODEC_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "goad/v1/offload.pb.h"
#include "server/config/config.h"
#include "server/engine/ports.h"

namespace goad::server {

// Each Decode* fills its outputs and returns nullopt, or returns what is wrong: field, value, range.

struct HeardSite {
  std::string site;
  const NeighbourConfig* neighbour;  // of the configuration; null = the site is this goad's
  MonotonicTime measured_at;
};
// `decoded` gets one entry per site of this goad that was reported well, whatever else is in the report: an unknown
// site, a number out of range, or a measurement that the site's uplink model does not use is what is returned, the
// first of them. `heard` gets each known site, neighbours' included, whose measurement is in range, used or not.
std::optional<ErrorInfo> DecodeLinks(const google::protobuf::RepeatedPtrField<v1::SiteLink>& links,
                                     const Config& config, double tx_power_w, MonotonicTime now,
                                     std::vector<LinkMeasurement>* decoded, std::vector<HeardSite>* heard);

// REQUIRES: meta->model is the session's.
std::optional<ErrorInfo> DecodeQuery(const v1::Query& query, const Config& config, QueryMeta* meta,
                                     std::shared_ptr<const PromptBody>* inline_prompt);

std::optional<ErrorInfo> DecodeOutcome(const v1::Outcome& outcome);

// 1..64 bytes of valid UTF-8 without control characters.
std::optional<ErrorInfo> CheckQueryId(const std::string& query_id, const char* field);

// Fingerprint of everything that makes two queries of one id the same query.
uint64_t QueryFingerprint(const v1::Query& query);

v1::Error EncodeError(const ErrorInfo& error);
// `abilities` by the sites' places, of the first of them: of the others nothing is known yet.
v1::ServerFrame EncodeSites(const Config& config, const SiteAbilities& abilities);
// Adds pieces after those that there are, as one where they go on with the last call, else with kToolCallBytes beside
// their text. The memory that they take.
inline constexpr size_t kToolCallBytes = 224;  // a message, its strings and the pointer to it
size_t EncodeToolCalls(std::vector<openai::ToolCallPiece> pieces, v1::Tokens* tokens);
v1::ServerFrame EncodeEvent(SessionEvent event, const std::string& query_id, const std::vector<SiteConfig>& sites);
v1::ServerFrame EncodeWelcome(const std::string& session_id, const Config& config, const SiteAbilities& abilities,
                              double tau);
v1::ServerFrame EncodeProtocolError(const ErrorInfo& error, uint64_t frame, const std::string& query_id);

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_WIRE_CODEC_H_
