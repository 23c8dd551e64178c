// Fields of a JSON document of somebody else's: nlohmann throws on values of another type, servers leave fields out or
// write null. For .cc files: those who include it need nlohmann-json. Pure, any thread.
#ifndef GOAD_CLIENT_SDK_OPENAI_JSON_FIELDS_H_
#define GOAD_CLIENT_SDK_OPENAI_JSON_FIELDS_H_

#include <cstddef>
#include <string>

#include "nlohmann/json.hpp"

namespace goad::openai {

inline const nlohmann::json& Null() {
  static const auto* const null = new nlohmann::json();
  return *null;
}
// Null for what is not there, in what is no object, or no array, included. As long as the document lives.
inline const nlohmann::json& Get(const nlohmann::json& object, const char* field) {
  if (!object.is_object()) return Null();
  const auto at = object.find(field);
  return at == object.end() ? Null() : *at;
}
inline const nlohmann::json& Get(const nlohmann::json& array, size_t k) {
  return array.is_array() && k < array.size() ? array[k] : Null();
}

// "" for what is no text.
inline std::string Text(const nlohmann::json& value) { return value.is_string() ? value.get<std::string>() : ""; }
inline std::string Text(const nlohmann::json& object, const char* field) { return Text(Get(object, field)); }

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_JSON_FIELDS_H_
