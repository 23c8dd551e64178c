#include "server/calibration/fields.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_text.h"
#include "server/base/clip.h"

namespace goad::server {

using nlohmann::json;

absl::StatusOr<json> ParseObject(std::string_view text, size_t most_bytes, int most_depth) {
  if (absl::Status checked = openai::CheckJson(text, most_bytes, most_depth); !checked.ok()) return checked;
  std::vector<std::set<std::string>> open;
  std::string twice;
  const auto look = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!open.back().insert(name).second && twice.empty()) twice = name;
    }
    return true;
  };
  json object = json::parse(text, look, /*allow_exceptions=*/false);
  if (!object.is_object()) return absl::InvalidArgumentError("is no JSON object");
  if (!twice.empty()) return absl::InvalidArgumentError(absl::StrCat("names \"", Clip(twice), "\" twice"));
  return object;
}

std::string Quote(const json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  return Clip(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

void Fields::Wrong(const std::string& name, const std::string& what) {
  if (!status_.ok()) return;
  std::string place = absl::StrCat(path_, name);
  if (name.empty() && !place.empty()) place.pop_back();  // the period
  status_ = absl::InvalidArgumentError(place.empty() ? what : absl::StrCat(place, ": ", what));
}

const json& Fields::Find(const char* name) {
  static const json* const kNone = new json();
  asked_.insert(name);
  if (!object_.is_object()) return *kNone;
  const auto found = object_.find(name);
  return found == object_.end() ? *kNone : *found;
}

bool Fields::Has(const char* name) { return !Find(name).is_null(); }

double Fields::Number(const char* name, double least, double most) {
  const json& value = Find(name);
  if (value.is_null()) {
    Wrong(name, "is missing");
  } else if (!value.is_number()) {
    Wrong(name, absl::StrCat(Quote(value), " is not a number"));
  } else if (const double number = value.get<double>(); !(number >= least && number <= most)) {
    Wrong(name, absl::StrCat(Quote(value), " is not in ", least, "..", most));
  } else {
    return number;
  }
  return least;
}

size_t Fields::Count(const char* name, size_t least, size_t most) {
  const json& value = Find(name);
  if (value.is_null()) {
    Wrong(name, "is missing");
  } else if (!value.is_number_unsigned() || value.get<uint64_t>() < least || value.get<uint64_t>() > most) {
    Wrong(name, absl::StrCat(Quote(value), " is not a whole number in ", least, "..", most));
  } else {
    return static_cast<size_t>(value.get<uint64_t>());
  }
  return least;
}

bool Fields::Bool(const char* name) {
  const json& value = Find(name);
  if (value.is_boolean()) return value.get<bool>();
  Wrong(name, value.is_null() ? "is missing" : absl::StrCat(Quote(value), " is not true or false"));
  return false;
}

std::string Fields::Text(const char* name, size_t most_bytes) {
  const json& value = Find(name);
  if (value.is_null()) {
    Wrong(name, "is missing");
  } else if (!value.is_string()) {
    Wrong(name, absl::StrCat(Quote(value), " is not a text"));
  } else if (const auto& text = value.get_ref<const std::string&>(); text.size() > most_bytes) {
    Wrong(name, absl::StrCat("is ", text.size(), " bytes long, want at most ", most_bytes));
  } else if (HasControlCharacter(text)) {
    Wrong(name, absl::StrCat("\"", Clip(text), "\" has a control character"));
  } else {
    return text;
  }
  return "";
}

const json& Fields::Array(const char* name, size_t least, size_t most) {
  static const json* const kEmpty = new json(json::array());
  const json& value = Find(name);
  if (value.is_array() && value.size() >= least && value.size() <= most) return value;
  if (value.is_null()) {
    Wrong(name, "is missing");
  } else if (!value.is_array()) {
    Wrong(name, absl::StrCat(Quote(value), " is not a list"));
  } else {
    Wrong(name, absl::StrCat("has ", value.size(), " entries, want ", least, "..", most));
  }
  return *kEmpty;
}

const json& Fields::Object(const char* name) {
  static const json* const kEmpty = new json(json::object());
  const json& value = Find(name);
  if (value.is_object()) return value;
  Wrong(name, value.is_null() ? "is missing" : absl::StrCat(Quote(value), " is not an object"));
  return *kEmpty;
}

absl::Status Fields::Done() {
  if (object_.is_object()) {
    for (const auto& [name, value] : object_.items()) {
      if (asked_.count(name) == 0) Wrong(Clip(name), "is no field known here");
    }
  }
  return status_;
}

}  // namespace goad::server
