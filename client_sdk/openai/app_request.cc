#include "client_sdk/openai/app_request.h"

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"
#include "nlohmann/json.hpp"

namespace goad::openai {
namespace {

using nlohmann::json;

constexpr size_t kMostParts = 64;  // of a message's content
constexpr size_t kMostCallsOfMessage = 64;
constexpr size_t kMostName = 128;  // bytes of a name or an id

absl::Status Bad(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, path.empty() ? "" : ": ", what));
}

// At most 40 bytes of it, in quotes, as JSON has it.
std::string Quoted(std::string_view text) {
  return json(std::string(text.substr(0, 40))).dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
}

// At most some 700 bytes of them: the operator's list may be long, and an error has room for 2 KiB.
std::string Names(const std::vector<std::string>& names) {
  std::string text;
  for (size_t k = 0; k < names.size(); ++k) {
    if (text.size() > 640) return absl::StrCat(text, " and ", names.size() - k, " more");
    absl::StrAppend(&text, k == 0 ? "" : ", ", names[k]);
  }
  return names.empty() ? "none" : text;
}

absl::StatusOr<json> ReadObject(std::string_view text, size_t most_bytes) {
  if (absl::Status bounded = CheckJson(text, most_bytes, kMostAppDepth); !bounded.ok()) return bounded;
  json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return Bad("", "is no JSON");
  if (!object.is_object()) return Bad("", absl::StrCat("is ", object.type_name(), ", want an object"));
  return object;
}

absl::Status CheckText(const std::string& path, const json& value, size_t most) {
  if (!value.is_string()) return Bad(path, absl::StrCat("is ", value.type_name(), ", want a string"));
  const size_t bytes = value.get_ref<const std::string&>().size();
  if (bytes > most) return Bad(path, absl::StrCat(bytes, " bytes, want at most ", most));
  return absl::OkStatus();
}

#define GOAD_RETURN_IF_BAD(status) \
  if (absl::Status checked_ = (status); !checked_.ok()) return checked_

// Every field of `object` is one of `fields`.
template <size_t n>
absl::Status CheckFields(const std::string& path, const json& object, const std::array<const char*, n>& fields) {
  if (!object.is_object()) return Bad(path, absl::StrCat("is ", object.type_name(), ", want an object"));
  for (const auto& [name, value] : object.items()) {
    if (std::find(fields.begin(), fields.end(), name) != fields.end()) continue;
    return Bad(path.empty() ? "" : path,
               absl::StrCat("field ", Quoted(name), " is not one of ", absl::StrJoin(fields, ", ")));
  }
  return absl::OkStatus();
}

absl::Status ReadPart(const std::string& path, const json& part, bool remote_images, Message* message) {
  const std::string type = Text(part, "type");
  if (type == "text") {
    GOAD_RETURN_IF_BAD(CheckFields(path, part, std::array{"type", "text"}));
    GOAD_RETURN_IF_BAD(CheckText(path + ".text", Get(part, "text"), std::string::npos));
    message->content += Text(part, "text");
    return absl::OkStatus();
  }
  if (type == "image_url") {
    GOAD_RETURN_IF_BAD(CheckFields(path, part, std::array{"type", "image_url"}));
    message->images = true;
    const json& image = Get(part, "image_url");
    GOAD_RETURN_IF_BAD(CheckFields(path + ".image_url", image, std::array{"url", "detail"}));
    GOAD_RETURN_IF_BAD(CheckText(path + ".image_url.url", Get(image, "url"), std::string::npos));
    const std::string url = Text(image, "url");
    if (!absl::StartsWith(url, "data:") && !remote_images) {
      return Bad(path + ".image_url.url", absl::StrCat(Quoted(url), " does not begin with data:"));
    }
    if (!Get(image, "detail").is_null()) return CheckText(path + ".image_url.detail", Get(image, "detail"), kMostName);
    return absl::OkStatus();
  }
  return Bad(path + ".type", absl::StrCat(Quoted(type), " is not text or image_url"));
}

absl::Status ReadContent(const json& content, bool remote_images, Message* message) {
  if (content.is_null()) return absl::OkStatus();
  if (content.is_string()) {
    message->content = content.get<std::string>();
    return absl::OkStatus();
  }
  if (!content.is_array()) return Bad("content", absl::StrCat("is ", content.type_name(), ", want a string or a list"));
  if (content.empty() || content.size() > kMostParts) {
    return Bad("content", absl::StrCat(content.size(), " parts, want 1..", kMostParts));
  }
  for (size_t k = 0; k < content.size(); ++k) {
    GOAD_RETURN_IF_BAD(ReadPart(absl::StrCat("content[", k, "]"), content[k], remote_images, message));
  }
  return absl::OkStatus();
}

absl::Status CheckToolCalls(const json& calls) {
  if (!calls.is_array() || calls.empty() || calls.size() > kMostCallsOfMessage) {
    return Bad("tool_calls", absl::StrCat("want a list of 1..", kMostCallsOfMessage));
  }
  for (size_t k = 0; k < calls.size(); ++k) {
    const std::string path = absl::StrCat("tool_calls[", k, "]");
    GOAD_RETURN_IF_BAD(CheckFields(path, calls[k], std::array{"id", "type", "function", "index"}));
    GOAD_RETURN_IF_BAD(CheckText(path + ".id", Get(calls[k], "id"), kMostName));
    if (const json& type = Get(calls[k], "type"); !type.is_null() && type != "function") {
      return Bad(path + ".type", "is not function");
    }
    const json& function = Get(calls[k], "function");
    GOAD_RETURN_IF_BAD(CheckFields(path + ".function", function, std::array{"name", "arguments"}));
    GOAD_RETURN_IF_BAD(CheckText(path + ".function.name", Get(function, "name"), kMostName));
    GOAD_RETURN_IF_BAD(CheckText(path + ".function.arguments", Get(function, "arguments"), std::string::npos));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Message> ReadAppMessage(std::string_view text, size_t most_bytes, bool remote_images) {
  absl::StatusOr<json> message = ReadObject(text, most_bytes);
  if (!message.ok()) return message.status();
  GOAD_RETURN_IF_BAD(
      CheckFields("", *message,
                  std::array{"role", "content", "name", "tool_call_id", "tool_calls", "refusal", "reasoning_content"}));
  Message read;
  read.role = Text(*message, "role");
  constexpr std::array kRoles = {"system", "developer", "user", "assistant", "tool"};
  if (std::find(kRoles.begin(), kRoles.end(), read.role) == kRoles.end()) {
    return Bad("role", absl::StrCat(Quoted(read.role), " is not one of ", absl::StrJoin(kRoles, ", ")));
  }
  GOAD_RETURN_IF_BAD(ReadContent(Get(*message, "content"), remote_images, &read));
  for (const char* field : {"name", "tool_call_id"}) {
    if (const json& value = Get(*message, field); !value.is_null()) {
      GOAD_RETURN_IF_BAD(CheckText(field, value, kMostName));
    }
  }
  for (const char* field : {"refusal", "reasoning_content"}) {
    if (const json& value = Get(*message, field); !value.is_null()) {
      GOAD_RETURN_IF_BAD(CheckText(field, value, std::string::npos));
    }
  }
  const json& calls = Get(*message, "tool_calls");
  if (!calls.is_null()) {
    if (read.role != "assistant") return Bad("tool_calls", "are the assistant's");
    GOAD_RETURN_IF_BAD(CheckToolCalls(calls));
  }
  read.tools = read.role == "tool" || !calls.is_null();
  if (read.role == "tool" && Text(*message, "tool_call_id").empty())
    return Bad("tool_call_id", "is missing; role is tool");
  if (read.role != "assistant" && Get(*message, "content").is_null()) return Bad("content", "is missing");
  read.json = message->dump();
  return read;
}

namespace {

bool OffersTools(const json& options) { return !Get(options, "tools").empty() || !Get(options, "functions").empty(); }

}  // namespace

AppNeeds NeedsOf(const std::vector<std::string>& messages_json, const std::string& options_json) {
  AppNeeds needs;
  for (const std::string& text : messages_json) {
    const absl::StatusOr<Message> message = ReadAppMessage(text, text.size(), /*remote_images=*/true);
    if (message.ok()) needs.tools |= message->tools, needs.images |= message->images;
  }
  if (options_json.empty()) return needs;
  const absl::StatusOr<json> options = ReadObject(options_json, kMostOptionsBytes);
  needs.tools |= options.ok() && OffersTools(*options);
  return needs;
}

absl::StatusOr<Options> ReadAppOptions(std::string_view text, const std::vector<std::string>& allowed) {
  absl::StatusOr<json> options = ReadObject(text, kMostOptionsBytes);
  if (!options.ok()) return options.status();
  for (const auto& [name, value] : options->items()) {
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
      return Bad("", absl::StrCat(Quoted(name), " is not passed on; allowed are ", Names(allowed)));
    }
  }
  Options read;
  for (const char* field : {"tools", "functions"}) {
    const json& tools = Get(*options, field);
    if (!tools.is_null() && !tools.is_array())
      return Bad(field, absl::StrCat("is ", tools.type_name(), ", want a list"));
  }
  read.tools = OffersTools(*options);
  if (!options->empty()) read.json = options->dump();
  return read;
}

}  // namespace goad::openai
