// What a server's answers to probes say. Pure; any bytes are accepted.
#ifndef GOAD_SERVER_DISPATCH_PROBE_ANSWERS_H_
#define GOAD_SERVER_DISPATCH_PROBE_ANSWERS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/dispatch/abilities.h"

namespace goad::server {

inline constexpr int kMostSlots = 4096;  // of one backend, configured or claimed

// What llama-server's /props tell; nothing of what is not there, of another type or out of range.
struct Props {
  std::optional<int> slots;  // total_slots, a whole number 1..kMostSlots
  // default_generation_settings.n_ctx, that of one slot; modalities.vision; chat_template_caps.supports_tools: where
  // it is false the server leaves the tools of a request out and says nothing.
  SaidAbilities can;
};
Props ParseProps(std::string_view props);

// `max_model_len` of `model` in what /v1/models lists (vLLM, SGLang), 1..kMostContext; nullopt where there is none.
std::optional<int> ParseContext(std::string_view models, const std::string& model);

// What /v1/models lists, or nullopt when it is no such list: {"data": [...]}, {"models": [...]} or [...].
struct ModelList {
  std::vector<std::string> ids;
  std::vector<std::string> others;  // names by which they are known, too: aliases (llama.cpp), root (vLLM)
  bool any_name = false;            // a lone llama-server, which takes every name for the model that it has
  bool partial = false;             // there are more on other pages
};
std::optional<ModelList> ParseModels(std::string_view body);
// As servers match: Ollama's NAME is NAME:latest, a gateway's list may hold PREFIX*, or PREFIX/NAME for NAME or the
// reverse.
bool Lists(const ModelList& models, const std::string& model);

// What an answer of /v1/models (`words` in short; `cut`: there is more of its body) means for requests for `model`, for
// one line of a log; "" = nothing that an operator should know.
std::string ModelsProblem(int status, const std::string& words, std::string_view body, bool cut,
                          const std::string& model);

// Where a redirect leads, as it may be shown: without user name, password and query.
std::string ShownLocation(std::string_view location);

// The first words of an answer, for one line of a log: the message of an error object, the title or text of a
// page of HTML, else the body's beginning; at most 160 bytes, as Clip makes them.
std::string FirstWords(std::string_view body);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_PROBE_ANSWERS_H_
