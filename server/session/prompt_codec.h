// The body of a query, from goad.v1 to what backends get: bounds first, then ranges, then what may be passed on at all.
// Pure.
#ifndef GOAD_SERVER_SESSION_PROMPT_CODEC_H_
#define GOAD_SERVER_SESSION_PROMPT_CODEC_H_

#include <memory>
#include <optional>

#include "goad/v1/offload.pb.h"
#include "server/config/config.h"
#include "server/engine/error.h"
#include "server/engine/events.h"

namespace goad::server {

// Fills `body` and returns nullopt, or returns what is wrong: field, value, range.
// `max_bytes` bounds the sum of all text and JSON. `field` names the prompt in errors.
std::optional<ErrorInfo> DecodePrompt(const v1::Prompt& prompt, const char* field, bool chat, int64_t max_bytes,
                                      const LimitsConfig& limits, std::shared_ptr<const PromptBody>* body);

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_PROMPT_CODEC_H_
