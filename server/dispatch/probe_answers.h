// What a server's answers to probes say. Pure; any bytes are accepted.
#ifndef GOAD_SERVER_DISPATCH_PROBE_ANSWERS_H_
#define GOAD_SERVER_DISPATCH_PROBE_ANSWERS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace goad::server {

inline constexpr int kMostSlots = 4096;  // of one backend, configured or claimed

// `total_slots` of llama-server's /props, a whole number 1..kMostSlots; nullopt where there is none, or another.
std::optional<int> ParseTotalSlots(std::string_view props);

// What /v1/models lists, or nullopt when it is no such list.
struct ModelList {
  std::vector<std::string> ids;  // at most 1000
  bool any_name = false;         // a lone llama-server, which takes every name for the model that it has
};
std::optional<ModelList> ParseModels(std::string_view body);
// As servers match: Ollama's NAME is NAME:latest, a gateway's list may hold PREFIX*.
bool Lists(const ModelList& models, const std::string& model);

// The first words of an answer, for one line of a log: the message of an error object, else the body's beginning; at
// most 160 bytes, as Clip makes them.
std::string FirstWords(std::string_view body);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_PROBE_ANSWERS_H_
