#include "server/dispatch/probe_answers.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_text.h"
#include "nlohmann/json.hpp"
#include "server/base/clip.h"

namespace goad::server {
namespace {

using nlohmann::json;

constexpr size_t kMostBytes = 4 << 20;
constexpr size_t kMostModels = 1000, kMostModelBytes = 256, kMostWords = 160;

// Null when it is no JSON, or larger or deeper than any real answer.
json Parse(std::string_view text) {
  if (!openai::CheckJson(text, kMostBytes).ok()) return nullptr;
  json document = json::parse(openai::StrictJson(text), nullptr, /*allow_exceptions=*/false);
  return document.is_discarded() ? json(nullptr) : document;
}

std::string TextOr(const json& object, const char* field) {
  const auto at = object.find(field);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

}  // namespace

std::optional<int> ParseTotalSlots(std::string_view props) {
  const json document = Parse(props);
  if (!document.is_object()) return std::nullopt;
  const auto at = document.find("total_slots");
  if (at == document.end() || !at->is_number()) return std::nullopt;
  const double slots = at->get<double>();
  if (!(slots >= 1 && slots <= kMostSlots) || slots != std::floor(slots)) return std::nullopt;
  return static_cast<int>(slots);
}

std::optional<ModelList> ParseModels(std::string_view body) {
  const json document = Parse(body);
  if (!document.is_object()) return std::nullopt;
  const auto data = document.find("data");
  if (data == document.end() || !data->is_array()) return std::nullopt;
  ModelList models;
  for (const json& entry : *data) {
    if (!entry.is_object() || models.ids.size() == kMostModels) continue;
    const std::string id = TextOr(entry, "id");
    if (id.empty() || id.size() > kMostModelBytes) continue;
    models.ids.push_back(id);
    models.any_name = TextOr(entry, "owned_by") == "llamacpp";
  }
  models.any_name &= models.ids.size() == 1;
  return models;
}

bool Lists(const ModelList& models, const std::string& model) {
  return models.any_name || std::any_of(models.ids.begin(), models.ids.end(), [&](const std::string& id) {
           return id == model || id == model + ":latest" ||
                  (absl::EndsWith(id, "*") && absl::StartsWith(model, id.substr(0, id.size() - 1)));
         });
}

std::string FirstWords(std::string_view body) {
  std::string words(body.substr(0, kMostWords * 4));
  if (const json document = Parse(body); document.is_object()) {
    const auto error = document.find("error");
    const json& holder = error != document.end() && error->is_object() ? *error : document;
    for (const char* field : {"message", "detail", "error", "status"}) {
      if (const std::string text = TextOr(holder, field); !text.empty()) {
        words = text;
        break;
      }
    }
  }
  return Clip(words, kMostWords);
}

}  // namespace goad::server
