// The words by which servers say whose fault an error is, in lower case; SERVERS.md has who says what. `#` stands for a
// number, `*` for a word without blanks. server_error.cc judges by them; kFieldRefusals are backend_request.cc's.
#ifndef GOAD_SERVER_DISPATCH_BLAME_WORDS_H_
#define GOAD_SERVER_DISPATCH_BLAME_WORDS_H_

#include <string_view>

namespace goad::server {

// Of a prompt that is too long for the server, or that it cannot tokenize.
inline constexpr std::string_view kLengthWords[] = {
    "too large to process", "context length",        "context size",
    "context window",       "context_length",        "exceed_context",
    "maximum context",      "max_model_len",         "max_seq_len",
    "max_total_tokens",     "max_new_tokens",        "max_input_tokens",
    "max_input_length",     "session_len",           "too many tokens",
    "tokens exceeds",       "tokens) is too long",   "maximum number of tokens",
    "reduce the length",    "prompt is too long",    "prompt too long",
    "prompt length",        "input is too long",     "input too long",
    "input length",         "sequence length #",     "longer than the model",
    "longer than the max",  "larger than the max",   "kv cache capacity",
    "prompt is empty",      "capacity of block_man", "failed to tokenize prompt"};
// Of messages that a chat template refuses, or cannot do with; llama.cpp's older and newer engine name the place in it.
inline constexpr std::string_view kTemplateWords[] = {"jinja",
                                                      "template error",
                                                      "chat template",
                                                      "raise_exception",
                                                      " at row #, column #",
                                                      " at line #, column # in source",
                                                      "roles must alternate",
                                                      "roles are supported",
                                                      "system role not supported",
                                                      "unexpected message role",
                                                      "system message must be",
                                                      "assistant messages at the end",
                                                      "assistant response prefill",
                                                      "expected last role",
                                                      "failed to parse messages",
                                                      "no user query found"};
// Of a prompt that a filter before the model refuses.
inline constexpr std::string_view kModerationWords[] = {"requires moderation",
                                                        "input was flagged",
                                                        "prompt was flagged",
                                                        "flagged by",
                                                        "flagged as",
                                                        "content policy",
                                                        "content management policy",
                                                        "content_filter",
                                                        "prompt injection patterns"};
// A 400 that says one of these is not the prompt's: the same would be said of every one.
inline constexpr std::string_view kConfigurationWords[] = {
    // the model
    "invalid model", "unknown model", "unsupported model", "model not found", "model * not found",
    "model * does not exist", "model not exist", "no models loaded", "model is not loaded", "engine is sleeping",
    "has been decommissioned", "model identifier is invalid", "does not support chat", "does not support completions",
    "does not support generate", "work with the specified model", "llm provider not provided",
    // its template
    "default chat template", "no chat template", "chat_template is not set",
    // the key, and what it may
    "invalid api key", "incorrect api key", "api key not valid", "no api key", "organization must be verified",
    "credit balance is too low", "budget has been exceeded",
    // the address
    "plain http request was sent to https port", "http request to an https server",
    "plain http to an ssl-enabled server port", "no required ssl certificate was sent", "invalid host header",
    "api version not supported"};
inline constexpr std::string_view kLoadingWords[] = {"loading", "warming up", "starting up", "is starting",
                                                     "not ready yet"};
// Of a 503: full, without a Retry-After (Ollama's queue, llama-server's slots, others' admission).
inline constexpr std::string_view kBusyWords[] = {"server busy",      "server is busy", "overloaded",
                                                  "queue is full",    "at capacity",    "pending requests",
                                                  "no slot available"};
// Of a type or code, which no prompt gets into.
inline constexpr std::string_view kPromptKinds[] = {"context", "template", "content_filter", "content_policy"};
inline constexpr std::string_view kConfigurationKinds[] = {
    "invalid_model",   "model_not_found", "unsupported_model", "unknown_model", "model_decommissioned",
    "invalid_api_key", "api_key_invalid", "authentication",    "auth_error",    "budget_exceeded"};
// Of a field of the request that the server does not take.
inline constexpr std::string_view kFieldRefusals[] = {
    "not support", "unsupported", "not permitted", "not allowed", "unrecognized", "unknown",
    "unexpected",  "extra",       "forbidden",     "invalid",     "not a valid",  "only the default",
    "can only be", "must be",     "not available", "positive"};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BLAME_WORDS_H_
