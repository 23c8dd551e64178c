// What a backend is asked, and how a strict one is asked again (README.md). Pure.
#ifndef GOAD_SERVER_DISPATCH_BACKEND_REQUEST_H_
#define GOAD_SERVER_DISPATCH_BACKEND_REQUEST_H_

#include <optional>
#include <string>

#include "client_sdk/openai/request.h"
#include "server/config/config.h"
#include "server/dispatch/server_error.h"
#include "server/engine/events.h"

namespace goad::server {

// A text prompt for a chat backend becomes one user message. Chat for a completions backend (chat_as_text, in README)
// becomes "role: content" paragraphs, then "assistant:"; the answer stops where the next "user:" would begin.
std::string MakeRequestBody(const BackendConfig& backend, const PromptBody& prompt, int max_output_tokens,
                            const openai::RequestDialect& dialect = openai::RequestDialect());

// What to try instead when a server that was spoken to in `dialect` has refused the request with `error`; nullopt when
// that names no field that could be left out or said otherwise. Every step leaves out more, so that there is an end.
std::optional<openai::RequestDialect> OtherDialect(const openai::RequestDialect& dialect, const PromptBody& prompt,
                                                   const ServerError& error);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_BACKEND_REQUEST_H_
