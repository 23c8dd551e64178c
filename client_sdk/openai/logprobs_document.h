// ReadLogprobs for .cc files that have read the text already: they need nlohmann-json. Pure, any thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_LOGPROBS_DOCUMENT_H_
#define GOAD_CLIENT_SDK_OPENAI_LOGPROBS_DOCUMENT_H_

#include "absl/status/statusor.h"
#include "client_sdk/openai/logprobs.h"
#include "nlohmann/json.hpp"

namespace goad::openai {

// `document` is that of a text which has passed CheckJson and StrictJson (json_text.h), or discarded.
absl::StatusOr<Logprobs> LogprobsOf(const nlohmann::json& document);

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_LOGPROBS_DOCUMENT_H_
