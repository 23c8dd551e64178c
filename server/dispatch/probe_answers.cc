#include "server/dispatch/probe_answers.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"
#include "nlohmann/json.hpp"
#include "server/base/clip.h"

namespace goad::server {
namespace {

using nlohmann::json;
using openai::Get;
using openai::Text;

constexpr size_t kMostBytes = 4 << 20;
constexpr size_t kMostPage = 16 << 10;  // of HTML, to look for a title in
constexpr char kBlanks[] = " \t\r\n";
constexpr size_t kMostModelBytes = 256, kMostModelsNamed = 8, kMostWords = 160;

// Null when it is no JSON, or larger or deeper than any real answer.
json Parse(std::string_view text) {
  if (!openai::CheckJson(text, kMostBytes).ok()) return nullptr;
  json document = json::parse(openai::StrictJson(text), nullptr, /*allow_exceptions=*/false);
  return document.is_discarded() ? json(nullptr) : document;
}

// 1..most; nullopt for anything else.
std::optional<int> Whole(const json& value, int most) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= 1 && number <= most) || number != std::floor(number)) return std::nullopt;
  return static_cast<int>(number);
}
std::optional<bool> Flag(const json& value) {
  return value.is_boolean() ? std::optional<bool>(value.get<bool>()) : std::nullopt;
}

void TakeModel(const json& entry, ModelList* models) {
  const auto take = [](const std::string& name, std::vector<std::string>* to) {
    if (!name.empty() && name.size() <= kMostModelBytes) to->push_back(name);
    return !name.empty();
  };
  if (!take(Text(entry, "id"), &models->ids) && !take(Text(entry, "model"), &models->ids)) {
    take(Text(entry, "name"), &models->ids);
  }
  take(Text(entry, "root"), &models->others);
  const auto aliases = entry.find("aliases");
  if (aliases != entry.end() && aliases->is_array()) {
    for (const json& alias : *aliases) take(alias.is_string() ? alias.get<std::string>() : "", &models->others);
  }
  models->any_name = Text(entry, "owned_by") == "llamacpp";
}

// The title of a page of HTML, else its text; "" where `page` is none.
std::string TextOfPage(std::string_view page) {
  page.remove_prefix(std::min(page.find_first_not_of(kBlanks), page.size()));
  if (page.size() < 2 || page[0] != '<') return "";
  const std::string lower = absl::AsciiStrToLower(std::string(page));
  if (const size_t title = lower.find("<title"); title != lower.npos) {
    const size_t begin = std::min(lower.find('>', title), lower.size() - 1) + 1;
    page = page.substr(begin, lower.find("</title", begin) - begin);
  }
  std::string text;
  bool in_tag = false;
  for (const char c : page) {
    if (c == '<') in_tag = true;
    text += in_tag ? ' ' : c;
    if (c == '>') in_tag = false;
  }
  absl::RemoveExtraAsciiWhitespace(&text);
  return text;
}

}  // namespace

Props ParseProps(std::string_view props) {
  const json document = Parse(props);
  Props said;
  said.slots = Whole(Get(document, "total_slots"), kMostSlots);
  said.can.context_tokens = Whole(Get(Get(document, "default_generation_settings"), "n_ctx"), kMostContext);
  said.can.images = Flag(Get(Get(document, "modalities"), "vision"));
  said.can.tools = Flag(Get(Get(document, "chat_template_caps"), "supports_tools"));
  return said;
}

std::optional<int> ParseContext(std::string_view models, const std::string& model) {
  const json document = Parse(models);
  const json& list = document.is_array() ? document : Get(document, "data");
  for (const json& entry : list.is_array() ? list : json::array()) {
    ModelList one;
    if (entry.is_object()) TakeModel(entry, &one);
    if (Lists(one, model)) return Whole(Get(entry, "max_model_len"), kMostContext);
  }
  return std::nullopt;
}

std::optional<ModelList> ParseModels(std::string_view body) {
  const json document = Parse(body);
  ModelList models;
  bool is_list = false;
  const auto take = [&](const json& list) {
    is_list |= list.is_array() && (list.empty() || std::any_of(list.begin(), list.end(),
                                                               [](const json& entry) { return entry.is_object(); }));
    for (const json& entry : list.is_array() ? list : json::array()) {
      if (entry.is_object()) TakeModel(entry, &models);
    }
  };
  if (document.is_array()) take(document);
  if (document.is_object()) {
    const auto data = document.find("data"), other = document.find("models");
    if (data != document.end()) {
      is_list = data->is_null();  // Ollama's, when it has none
      take(*data);
    }
    if (other != document.end() && models.ids.empty()) take(*other);
    const auto more = document.find("has_more");
    models.partial = (more != document.end() && *more == true) || !Text(document, "nextPageToken").empty();
  }
  if (!is_list) return std::nullopt;
  models.any_name &= models.ids.size() == 1;
  return models;
}

bool Lists(const ModelList& models, const std::string& model) {
  if (model.empty()) return false;
  const auto is = [&](const std::string& name) {
    return name == model || name == model + ":latest" || absl::EndsWith(name, "/" + model) ||
           absl::EndsWith(model, "/" + name) ||
           (absl::EndsWith(name, "*") && absl::StartsWith(model, name.substr(0, name.size() - 1)));
  };
  return models.any_name || std::any_of(models.ids.begin(), models.ids.end(), is) ||
         std::any_of(models.others.begin(), models.others.end(), is);
}

std::string ModelsProblem(int status, const std::string& words, std::string_view body, bool cut,
                          const std::string& model) {
  const std::string page = absl::StrCat("GET /v1/models: ", words);
  if (status == 404 || status == 405 || status == 501) return "";  // there is no such page
  if (status == 401 || status == 403) {
    return absl::StrCat(page, ": its requests will be refused, too, if they need the same key (api_key_file)");
  }
  if (status < 200 || status > 299) return absl::StrCat(page, ": whether it has model=\"", model, "\" is not known");
  const size_t begin = std::min(body.find_first_not_of(kBlanks), body.size());
  if (cut && begin < body.size() && (body[begin] == '{' || body[begin] == '[')) {
    if (body.find(absl::StrCat("\"", model, "\"")) != body.npos) return "";
    return absl::StrCat("model=\"", model,
                        "\" is not in the first 1 MiB that its /v1/models lists, and no more is read");
  }
  const std::optional<ModelList> models = ParseModels(body);
  if (!models) return absl::StrCat("answers, but does not look like an OpenAI server: ", page);
  if (models->partial || Lists(*models, model)) return "";
  const size_t named = std::min(models->ids.size(), kMostModelsNamed);
  const std::string some =
      absl::StrJoin(models->ids.begin(), models->ids.begin() + static_cast<ptrdiff_t>(named), ", ");
  return absl::StrCat("model=\"", model, "\" is not among the ", models->ids.size(),
                      " that its /v1/models lists: ", named == 0 ? "nothing is loaded there" : Clip(some, kMostWords));
}

std::string ShownLocation(std::string_view location) {
  const size_t query = location.find_first_of("?#");
  const std::string whole(location.substr(0, query));
  std::string shown = whole;
  const size_t at = whole.rfind('@'), slashes = whole.find("//");
  if (at != whole.npos && slashes != whole.npos) {
    const size_t path = whole.find('/', slashes + 2);
    const std::string authority = whole.substr(slashes + 2, path - slashes - 2);
    // An @ of the path holds no password, where what comes before the path is a host.
    const bool is_host = !authority.empty() && authority.find_first_of(":@\\") == authority.npos;
    if (!is_host || at < path) shown = whole.substr(0, slashes + 2) + whole.substr(at + 1);
  } else if (at != whole.npos && whole[0] != '/') {
    shown = whole.substr(at + 1);
  }
  return Clip(shown + (query != location.npos ? "?..." : ""), kMostWords);
}

std::string FirstWords(std::string_view body) {
  std::string words(body.substr(0, kMostWords * 4));
  json document = Parse(body);
  if (document.is_array() && !document.empty()) {  // Gemini wraps its errors
    json first = std::move(document[0]);
    document = std::move(first);
  }
  if (document.is_object()) {
    const auto error = document.find("error");
    const json& holder = error != document.end() && error->is_object() ? *error : document;
    for (const char* field : {"message", "detail", "error", "status"}) {
      if (const std::string text = Text(holder, field); !text.empty()) {
        words = text;
        break;
      }
    }
  } else if (const std::string text = TextOfPage(body.substr(0, kMostPage)); !text.empty()) {
    words = text;
  }
  absl::StripAsciiWhitespace(&words);
  return Clip(words, kMostWords);
}

}  // namespace goad::server
