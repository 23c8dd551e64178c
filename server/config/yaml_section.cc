#include "server/config/yaml_section.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "server/base/clip.h"

namespace goad::server {
namespace {

constexpr size_t kMostKeys = 100;      // of a map; the largest has some twenty
constexpr size_t kMostText = 4096;     // bytes of a value
constexpr size_t kMostQuoted = 200;    // bytes of a value or key in an error
constexpr size_t kMostProblems = 100;  // listed

// yaml-cpp gives plain scalars the tag "?", quoted ones "!", and null none; any other stands in the file.
bool HasTag(const YAML::Node& node) { return node.Tag() != "?" && node.Tag() != "!" && !node.Tag().empty(); }

// [+-] digits [. digits] [e [+-] digits]; the digits before the point are one 0, or begin with another digit.
bool IsDecimal(const std::string& text, bool whole) {
  size_t at = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const auto digits = [&] {
    const size_t from = at;
    while (at < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[at]))) ++at;
    return at - from;
  };
  const size_t first = at, before = digits();
  if (before > 1 && text[first] == '0') return false;
  if (whole) return before > 0 && at == text.size();
  size_t after = 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    after = digits();
  }
  if (before + after == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

// "100MHz" -> 100 and "MHz". False when there is no number in front.
bool SplitUnit(const std::string& text, double* number, std::string* unit) {
  size_t end = text.find_first_not_of("+-.0123456789eE");
  if (end == std::string::npos) end = text.size();
  while (end > 0 && (text[end - 1] == 'e' || text[end - 1] == 'E')) --end;  // the E of an unit, not of an exponent
  *unit = text.substr(end);
  if (!unit->empty() && unit->front() == ' ') unit->erase(0, 1);
  return ParseFinite(text.substr(0, end), number);
}

}  // namespace

bool ParseWhole(const std::string& text, int* out) { return IsDecimal(text, true) && absl::SimpleAtoi(text, out); }
bool ParseFinite(const std::string& text, double* out) {
  return IsDecimal(text, false) && absl::SimpleAtod(text, out) && std::isfinite(*out);
}

void YamlDocument::Add(const YAML::Mark& mark, const std::string& path, const std::string& message) {
  if (problems.size() < kMostProblems) problems.emplace_back(mark, absl::StrCat(path, ": ", message));
}

YAML::Mark YamlDocument::MarkOf(std::string path) const {
  for (;;) {
    if (const auto at = marks.find(path); at != marks.end()) return at->second;
    const size_t cut = path.find_last_of(".[");
    if (cut == std::string::npos) break;
    path.resize(cut);
  }
  const auto root = marks.find("");
  return root == marks.end() ? YAML::Mark() : root->second;
}

YamlSection::YamlSection(const YAML::Node& node, std::string path, YamlDocument* document)
    : path_(std::move(path)), document_(document) {
  document_->marks.emplace(path_, node.Mark());
  const std::string name = path_.empty() ? "configuration" : path_;
  if (!node.IsMap()) {
    if (!node.IsNull()) document_->Add(node.Mark(), name, "is not a map");
    return;
  }
  if (HasTag(node))
    document_->Add(node.Mark(), name,
                   absl::StrCat("has the tag ", Clip(node.Tag(), kMostQuoted), "; tags are not read"));
  if (node.size() > kMostKeys) {
    document_->Add(node.Mark(), name, absl::StrCat("has ", node.size(), " keys, want at most ", kMostKeys));
    return;
  }
  for (const auto& entry : node) {
    const YAML::Mark mark = entry.first.Mark();
    if (!entry.first.IsScalar()) {
      document_->Add(mark, name, "a key is not text");
      continue;
    }
    const std::string key = Clip(entry.first.Scalar(), kMostQuoted);
    if (!entries_.emplace(key, entry.second).second) {
      document_->Add(mark, PathOf(key), "is given twice");
      continue;
    }
    document_->marks.emplace(PathOf(key), mark);
  }
}

YamlSection::~YamlSection() {
  for (const auto& [key, node] : entries_) {
    if (known_.count(key) != 0) continue;
    const std::string why = key == "<<" ? "merge keys are not read; write the keys out"
                                        : absl::StrCat("unknown key; known here: ", absl::StrJoin(known_, ", "));
    document_->Add(document_->MarkOf(PathOf(key)), PathOf(key), why);
  }
}

void YamlSection::Text(const char* key, std::string* out) {
  if (const auto found = Scalar(key)) *out = found->text;
}

void YamlSection::Texts(const char* key, size_t most, std::vector<std::string>* out) {
  const YAML::Node* node = Find(key);
  if (node == nullptr) return;
  out->clear();
  bool good = node->IsSequence() && node->size() <= most;
  for (size_t k = 0; good && k < node->size(); ++k) {
    good = (*node)[k].IsScalar() && (*node)[k].Scalar().size() <= kMostQuoted && !HasTag((*node)[k]);
    if (good) out->push_back((*node)[k].Scalar());
  }
  if (!good) {
    document_->Add(node->Mark(), PathOf(key),
                   absl::StrCat("is not a list of at most ", most, " texts of ", kMostQuoted, " bytes"));
  }
}

void YamlSection::Integer(const char* key, int* out) {
  if (const auto found = Scalar(key); found && !ParseWhole(found->text, out))
    Bad(*found, key, "a whole number (without leading zeros)");
}

void YamlSection::Number(const char* key, double* out) {
  if (const auto found = Scalar(key); found && !ParseFinite(found->text, out))
    Bad(*found, key, "a finite number (without leading zeros)");
}

void YamlSection::Number(const char* key, std::optional<double>* out) {
  double value = 0;
  Number(key, &value);
  if (entries_.count(key) > 0) *out = value;
}

void YamlSection::Boolean(const char* key, bool* out) {
  if (const auto found = Scalar(key)) {
    if (found->text != "true" && found->text != "false") return Bad(*found, key, "true or false");
    *out = found->text == "true";
  }
}

void YamlSection::Boolean(const char* key, std::optional<bool>* out) {
  bool value = false;
  if (entries_.count(key) == 0) return;
  Boolean(key, &value);
  *out = value;
}

void YamlSection::Duration(const char* key, absl::Duration* out) {
  if (const auto found = Scalar(key); found && !absl::ParseDuration(found->text, out)) {
    Bad(*found, key, "a duration such as 20ms, 2s or 1m");
  }
}

void YamlSection::Seconds(const char* key, double* out) {
  absl::Duration duration = absl::Seconds(*out);
  Duration(key, &duration);
  *out = absl::ToDoubleSeconds(duration);
}

void YamlSection::Quantity(const char* key, const std::map<std::string, double>& units, const char* want, double* out) {
  const auto found = Scalar(key);
  if (!found) return;
  double number = 0;
  std::string unit;
  const bool ok = SplitUnit(found->text, &number, &unit);
  const auto factor = units.find(unit);
  if (!ok || factor == units.end() || !std::isfinite(number * factor->second)) return Bad(*found, key, want);
  *out = number * factor->second;
}

void YamlSection::Bytes(const char* key, int64_t* out) {
  double value = static_cast<double>(*out);
  constexpr char kWant[] = "a size such as 256KiB or 4MiB";
  Quantity(key, {{"", 1}, {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}}, kWant, &value);
  if (std::abs(value) < 9e18) {
    *out = static_cast<int64_t>(value);
  } else if (const auto found = Scalar(key)) {
    Bad(*found, key, kWant);
  }
}

std::optional<YamlSection::Found> YamlSection::Scalar(const char* key) {
  const YAML::Node* node = Find(key);
  if (node == nullptr) return std::nullopt;
  const auto refuse = [&](const std::string& why) {
    document_->Add(document_->MarkOf(PathOf(key)), PathOf(key), why);
    return std::nullopt;
  };
  if (!node->IsScalar()) return refuse(node->IsNull() ? "has no value" : "is not a single value");
  if (HasTag(*node)) return refuse(absl::StrCat("has the tag ", Clip(node->Tag(), kMostQuoted), "; tags are not read"));
  if (node->Scalar().size() > kMostText)
    return refuse(absl::StrCat("has ", node->Scalar().size(), " bytes, want at most ", kMostText));
  return Found{node->Mark(), node->Scalar()};
}

void YamlSection::Bad(const Found& found, const std::string& key, const std::string& want) {
  document_->Add(found.mark, PathOf(key), absl::StrCat("\"", Clip(found.text, kMostQuoted), "\" is not ", want));
}

const YAML::Node* YamlSection::Find(const char* key) {
  known_.insert(key);
  const auto entry = entries_.find(key);
  return entry == entries_.end() ? nullptr : &entry->second;
}

bool YamlSection::IsList(const char* key, const YAML::Node& node, size_t most) {
  const YAML::Mark mark = document_->MarkOf(PathOf(key));
  if (!node.IsSequence()) {
    document_->Add(mark, PathOf(key), "is not a list");
    return false;
  }
  if (HasTag(node))
    document_->Add(mark, PathOf(key),
                   absl::StrCat("has the tag ", Clip(node.Tag(), kMostQuoted), "; tags are not read"));
  if (node.size() <= most) return true;
  document_->Add(mark, PathOf(key), absl::StrCat(node.size(), " entries, want at most ", most));
  return false;
}

}  // namespace goad::server
