// One map of a YAML file, read key by key into fields. Used by config_loader alone; these two know yaml-cpp.
#ifndef GOAD_SERVER_CONFIG_YAML_SECTION_H_
#define GOAD_SERVER_CONFIG_YAML_SECTION_H_

#include <yaml-cpp/yaml.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace goad::server {

// What the whole load shares: where each path stands, and what is wrong with the file.
struct YamlDocument {
  std::map<std::string, YAML::Mark> marks;
  std::vector<std::pair<YAML::Mark, std::string>> problems;

  void Add(const YAML::Mark& mark, const std::string& path, const std::string& message);
  YAML::Mark MarkOf(std::string path) const;  // of the nearest enclosing path that stands in the file
};

// Each read names a key; the end of the section reports the keys that nobody named. Constructed on something that is
// not a map it reports that and reads nothing. Aliases make a small file a huge tree: what is looked at is bounded in
// keys, entries and bytes.
class YamlSection {
 public:
  YamlSection(const YAML::Node& node, std::string path, YamlDocument* document);
  ~YamlSection();
  YamlSection(const YamlSection&) = delete;
  YamlSection& operator=(const YamlSection&) = delete;

  struct Found {
    YAML::Mark mark;
    std::string text;
  };
  std::optional<Found> Scalar(const char* key);
  void Bad(const Found& found, const std::string& key, const std::string& want);

  void Text(const char* key, std::string* out);
  void Texts(const char* key, size_t most, std::vector<std::string>* out);
  void Integer(const char* key, int* out);
  void Number(const char* key, double* out);
  void Number(const char* key, std::optional<double>* out);
  void Boolean(const char* key, bool* out);
  void Boolean(const char* key, std::optional<bool>* out);
  void Duration(const char* key, absl::Duration* out);
  void Seconds(const char* key, double* out);
  // `units` maps a suffix to a factor; the empty suffix is allowed only when it is in the map.
  void Quantity(const char* key, const std::map<std::string, double>& units, const char* want, double* out);
  void Bytes(const char* key, int64_t* out);
  template <typename Enum>
  void Choice(const char* key, const std::map<std::string, Enum>& choices, Enum* out) {
    const auto found = Scalar(key);
    if (!found) return;
    const auto choice = choices.find(found->text);
    if (choice != choices.end()) {
      *out = choice->second;
      return;
    }
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) names.push_back(name);
    Bad(*found, key, absl::StrCat("one of ", absl::StrJoin(names, ", ")));
  }
  // Calls read(YamlSection&) when the key is there.
  template <typename Read>
  void Child(const char* key, Read read) {
    if (const YAML::Node* node = Find(key)) {
      YamlSection section(*node, PathOf(key), document_);
      read(section);
    }
  }
  // `most`: entries; of a longer list nothing is read.
  template <typename Item, typename Read>
  void List(const char* key, size_t most, std::vector<Item>* out, Read read) {
    const YAML::Node* node = Find(key);
    if (node == nullptr || !IsList(key, *node, most)) return;
    for (size_t k = 0; k < node->size(); ++k) {
      YamlSection section((*node)[k], absl::StrCat(PathOf(key), "[", k, "]"), document_);
      read(section, &out->emplace_back());
    }
  }

 private:
  const YAML::Node* Find(const char* key);
  bool IsList(const char* key, const YAML::Node& node, size_t most);
  std::string PathOf(const std::string& key) const { return path_.empty() ? key : absl::StrCat(path_, ".", key); }

  const std::string path_;
  YamlDocument* const document_;
  std::map<std::string, YAML::Node> entries_;
  std::set<std::string> known_;
};

// Decimal digits, a fraction, an exponent; without hexadecimal, nan, inf, blanks, or a leading zero, by which some mean
// octal.
bool ParseWhole(const std::string& text, int* out);
bool ParseFinite(const std::string& text, double* out);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_YAML_SECTION_H_
