// Between the SDK's structs and goad.v1. Pure; what is written has passed checks.h.
#ifndef GOAD_CLIENT_SDK_SRC_WIRE_H_
#define GOAD_CLIENT_SDK_SRC_WIRE_H_

#include <string>
#include <vector>

#include "goad/query.h"
#include "goad/v1/offload.pb.h"

namespace goad::internal {

// The longest that a client stays away because goad asked for it: one number that is wrong may not cost the edge for
// longer.
inline constexpr absl::Duration kLongestRetryAfter = absl::Minutes(5);
// Of what goad says for people, in an answer.
inline constexpr size_t kMostDetailBytes = 512;

v1::DeviceFrame HelloFrame(const ClientOptions& options);
v1::DeviceFrame QueryFrame(const Query& query, UncertaintyMetric metric, absl::Duration waited);  // since Ask
v1::DeviceFrame PromptFrame(const Query& query);
v1::DeviceFrame CancelFrame(const std::string& query_id);
v1::DeviceFrame OutcomeFrame(const std::string& query_id, absl::Duration local_delay);
v1::DeviceFrame QualityFrame(const std::string& query_id, double quality);

Decision ReadDecision(const v1::Decision& wire);
Limits ReadLimits(const v1::Limits& wire);
// These two: 1,088 sites at most, the first of them.
std::vector<Site> ReadSites(const google::protobuf::RepeatedPtrField<v1::SiteInfo>& wire);
// At most 1024 of them.
void AddNeighbours(const google::protobuf::RepeatedPtrField<v1::Neighbour>& wire, std::vector<Site>* sites);
void ReadCompleted(const v1::Completed& wire, Answer* answer);  // what it says of the answer, of which the text is here
AnswerPiece ReadTokens(const v1::Tokens& wire);
// False, and nothing is added, when the answer would then have more bytes.
bool AddPiece(const AnswerPiece& piece, size_t most_bytes, Answer* answer);
// What goad is told, or computes itself of what it is told.
double UncertaintyOf(const Query& query, UncertaintyMetric metric);
// 0..1 h; 0 for what is no number.
absl::Duration ReadSeconds(double s);
// 0..kLongestRetryAfter, likewise.
absl::Duration ReadRetryAfter(double s);
// Never empty: "NO_GAIN", or "REASON_99" for one that this client does not know.
std::string ReasonName(int reason);
// Never empty: the error's reason, else its code.
std::string ErrorName(const v1::Error& error);

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_WIRE_H_
