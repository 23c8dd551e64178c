#include "server/config/config_loader.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/config/config_validator.h"

namespace goad::server {
namespace {

struct Found {
  YAML::Mark mark;
  std::string text;
};

// What the whole load shares: where each path stands, and what is wrong with the file.
struct Document {
  std::string source;
  std::map<std::string, YAML::Mark> marks;
  std::vector<std::pair<YAML::Mark, std::string>> problems;

  void Add(const YAML::Mark& mark, const std::string& path, const std::string& message) {
    problems.emplace_back(mark, absl::StrCat(path, ": ", message));
  }
  // The mark of the nearest enclosing path that stands in the file.
  YAML::Mark MarkOf(std::string path) const {
    for (;;) {
      if (const auto at = marks.find(path); at != marks.end()) return at->second;
      const size_t cut = path.find_last_of(".[");
      if (cut == std::string::npos) break;
      path.resize(cut);
    }
    const auto root = marks.find("");
    return root == marks.end() ? YAML::Mark() : root->second;
  }
};

// "100MHz" -> 100 and "MHz". False when there is no number in front.
bool SplitUnit(const std::string& text, double* number, std::string* unit) {
  size_t end = text.find_first_not_of("+-.0123456789eE");
  if (end == std::string::npos) end = text.size();
  while (end > 0 && (text[end - 1] == 'e' || text[end - 1] == 'E')) --end;  // the E of an unit, not of an exponent
  *unit = text.substr(end);
  if (!unit->empty() && unit->front() == ' ') unit->erase(0, 1);
  return absl::SimpleAtod(text.substr(0, end), number) && std::isfinite(*number);
}

// One YAML map. Each read names a key; Done reports the keys that nobody named. Constructed on something that is not a
// map it reports that and reads nothing.
class Section {
 public:
  Section(const YAML::Node& node, std::string path, Document* document) : path_(std::move(path)), document_(document) {
    document_->marks.emplace(path_, node.Mark());
    if (!node.IsMap()) {
      if (!node.IsNull()) document_->Add(node.Mark(), path_.empty() ? "configuration" : path_, "is not a map");
      return;
    }
    for (const auto& entry : node) {
      const YAML::Mark mark = entry.first.Mark();
      if (!entry.first.IsScalar()) {
        document_->Add(mark, path_, "a key is not text");
        continue;
      }
      const std::string key = entry.first.Scalar();
      if (!entries_.emplace(key, entry.second).second) {
        document_->Add(mark, PathOf(key), "is given twice");
        continue;
      }
      document_->marks.emplace(PathOf(key), mark);
    }
  }
  ~Section() {
    for (const auto& [key, node] : entries_) {
      if (known_.count(key) == 0) {
        document_->Add(document_->MarkOf(PathOf(key)), PathOf(key),
                       absl::StrCat("unknown key; known here: ", absl::StrJoin(known_, ", ")));
      }
    }
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

  void Text(const char* key, std::string* out) {
    if (const auto found = Scalar(key)) *out = found->text;
  }
  void Texts(const char* key, std::vector<std::string>* out) {
    known_.insert(key);
    const auto found = entries_.find(key);
    if (found == entries_.end()) return;
    bool good = found->second.IsSequence();
    for (size_t k = 0; good && k < found->second.size(); ++k) {
      good = found->second[k].IsScalar();
      if (good) out->push_back(found->second[k].Scalar());
    }
    if (!good) document_->Add(found->second.Mark(), PathOf(key), "is not a list of texts");
  }
  void Integer(const char* key, int* out) {
    if (const auto found = Scalar(key); found && !absl::SimpleAtoi(found->text, out)) {
      Bad(*found, key, "a whole number");
    }
  }
  void Number(const char* key, double* out) {
    if (const auto found = Scalar(key); found && !(absl::SimpleAtod(found->text, out) && std::isfinite(*out))) {
      Bad(*found, key, "a finite number");
    }
  }
  void Boolean(const char* key, bool* out) {
    if (const auto found = Scalar(key)) {
      if (found->text != "true" && found->text != "false") return Bad(*found, key, "true or false");
      *out = found->text == "true";
    }
  }
  void Duration(const char* key, absl::Duration* out) {
    if (const auto found = Scalar(key); found && !absl::ParseDuration(found->text, out)) {
      Bad(*found, key, "a duration such as 20ms, 2s or 1m");
    }
  }
  void Seconds(const char* key, double* out) {
    absl::Duration duration = absl::Seconds(*out);
    Duration(key, &duration);
    *out = absl::ToDoubleSeconds(duration);
  }
  // `units` maps a suffix to a factor; the empty suffix is allowed only when it is in the map.
  void Quantity(const char* key, const std::map<std::string, double>& units, const char* want, double* out) {
    const auto found = Scalar(key);
    if (!found) return;
    double number = 0;
    std::string unit;
    const bool ok = SplitUnit(found->text, &number, &unit);
    const auto factor = units.find(unit);
    if (!ok || factor == units.end()) return Bad(*found, key, want);
    *out = number * factor->second;
  }
  void Bytes(const char* key, int64_t* out) {
    double value = static_cast<double>(*out);
    Quantity(key, {{"", 1}, {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}},
             "a size such as 256KiB or 4MiB", &value);
    *out = std::abs(value) < 9e18 ? static_cast<int64_t>(value) : -1;
  }
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
  // Calls read(Section&) when the key is there.
  template <typename Read>
  void Child(const char* key, Read read) {
    if (const YAML::Node* node = Find(key)) {
      Section section(*node, PathOf(key), document_);
      read(section);
    }
  }
  template <typename Item, typename Read>
  void List(const char* key, std::vector<Item>* out, Read read) {
    const YAML::Node* node = Find(key);
    if (node == nullptr) return;
    if (!node->IsSequence()) return document_->Add(document_->MarkOf(PathOf(key)), PathOf(key), "is not a list");
    for (size_t k = 0; k < node->size(); ++k) {
      Section section((*node)[k], absl::StrCat(PathOf(key), "[", k, "]"), document_);
      read(section, &out->emplace_back());
    }
  }
  std::optional<Found> Scalar(const char* key) {
    const YAML::Node* node = Find(key);
    if (node == nullptr) return std::nullopt;
    if (!node->IsScalar()) {
      document_->Add(document_->MarkOf(PathOf(key)), PathOf(key), node->IsNull() ? "has no value" : "is not a single value");
      return std::nullopt;
    }
    return Found{node->Mark(), node->Scalar()};
  }
  void Bad(const Found& found, const std::string& key, const std::string& want) {
    document_->Add(found.mark, PathOf(key), absl::StrCat("\"", found.text, "\" is not ", want));
  }

 private:
  const YAML::Node* Find(const char* key) {
    known_.insert(key);
    const auto entry = entries_.find(key);
    return entry == entries_.end() ? nullptr : &entry->second;
  }
  std::string PathOf(const std::string& key) const { return path_.empty() ? key : absl::StrCat(path_, ".", key); }

  const std::string path_;
  Document* const document_;
  std::map<std::string, YAML::Node> entries_;
  std::set<std::string> known_;
};

const std::map<std::string, double> kHertz = {{"Hz", 1}, {"kHz", 1e3}, {"MHz", 1e6}, {"GHz", 1e9}};
const std::map<std::string, double> kFlops = {{"FLOP/s", 1}, {"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}};

void ReadSite(Section& section, SiteConfig* site) {
  section.Text("name", &site->name);
  section.Child("uplink", [&](Section& uplink) {
    uplink.Choice<sched::UplinkModel>(
        "model", {{"shannon", sched::UplinkModel::kShannon}, {"measured", sched::UplinkModel::kMeasured}},
        &site->uplink.model);
    uplink.Quantity("bandwidth", kHertz, "a bandwidth such as 100MHz", &site->uplink.bandwidth_hz);
    uplink.Quantity("noise_density", {{"dBm/Hz", 1}}, "a density such as -174dBm/Hz", &site->uplink.noise_density_dbm_hz);
    uplink.Quantity("reference_power", {{"dBm", 1}}, "a power such as 18dBm", &site->uplink.reference_power_dbm);
    uplink.Boolean("shared", &site->uplink.shared);
  });
  section.Child("compute", [&](Section& compute) {
    compute.Choice<sched::ComputeModel>(
        "model", {{"batching", sched::ComputeModel::kBatching}, {"equal_share", sched::ComputeModel::kEqualShare}},
        &site->compute.model);
    compute.Number("prefill_rate", &site->compute.prefill_tokens_per_s);
    compute.Seconds("token_time", &site->compute.token_time_s);
    compute.Seconds("token_time_per_query", &site->compute.token_time_per_query_s);
    compute.Quantity("capacity", kFlops, "a rate such as 15PFLOP/s", &site->compute.capacity_flops);
    compute.Quantity("max_share", kFlops, "a rate such as 1.5PFLOP/s", &site->compute.max_share_flops);
    compute.Number("parameters", &site->compute.parameters);
  });
  section.Integer("max_queries", &site->max_queries);
  section.List("backends", &site->backends, [](Section& entry, BackendConfig* backend) {
    entry.Text("url", &backend->url);
    entry.Text("model", &backend->model);
    entry.Choice<BackendApi>("api", {{"completions", BackendApi::kCompletions}, {"chat", BackendApi::kChat}},
                             &backend->api);
    entry.Integer("slots", &backend->slots);
    entry.Duration("first_byte", &backend->first_byte);
    entry.Text("api_key_file", &backend->api_key_file);
    entry.Text("ca_file", &backend->ca_file);
  });
}

void ReadRoot(Section& root, Config* config) {
  root.Child("listen", [&](Section& listen) {
    listen.Text("address", &config->listen.address);
    listen.Child("tls", [&](Section& tls) {
      tls.Text("certificate", &config->listen.tls.certificate);
      tls.Text("key", &config->listen.tls.key);
      tls.Text("client_ca", &config->listen.tls.client_ca);
    });
  });
  root.Child("admin", [&](Section& admin) { admin.Text("address", &config->admin_address); });
  root.Child("metrics", [&](Section& metrics) { metrics.Text("address", &config->metrics_address); });
  root.Text("lock_file", &config->lock_file);
  root.Child("epoch", [&](Section& epoch) {
    epoch.Duration("period", &config->epoch.period);
    epoch.Duration("min_period", &config->epoch.min_period);
  });
  root.Child("policy", [&](Section& policy) {
    policy.Text("name", &config->policy.name);
    policy.Number("tau", &config->policy.tau);
    policy.Seconds("lambda", &config->policy.lambda_s);
  });
  root.Child("auth", [&](Section& auth) {
    auth.Text("tokens_file", &config->auth.tokens_file);
    auth.Boolean("required", &config->auth.required);
  });
  root.List("tenants", &config->tenants, [](Section& entry, TenantConfig* tenant) {
    entry.Text("name", &tenant->name);
    entry.Number("weight", &tenant->weight);
    entry.Texts("certificates", &tenant->certificates);
    entry.Integer("max_queries", &tenant->max_queries);
    entry.Number("queries_per_second", &tenant->queries_per_second);
    entry.Number("prompt_tokens_per_minute", &tenant->prompt_tokens_per_minute);
    entry.Number("max_offloaded_share", &tenant->max_offloaded_share);
  });
  root.List("sites", &config->sites, ReadSite);
  root.Child("limits", [&](Section& limits) {
    LimitsConfig& out = config->limits;
    limits.Integer("sessions", &out.sessions);
    limits.Integer("sessions_per_identity", &out.sessions_per_identity);
    limits.Integer("connections", &out.connections);
    limits.Integer("connections_per_address", &out.connections_per_address);
    limits.Integer("streams_per_connection", &out.streams_per_connection);
    limits.Bytes("transport", &out.transport_bytes);
    limits.Integer("queries_per_session", &out.queries_per_session);
    limits.Integer("frames_per_second", &out.frames_per_second);
    limits.Integer("waiting_queries", &out.waiting_queries);
    limits.Bytes("prompt", &out.prompt_bytes);
    limits.Bytes("inline_prompts", &out.inline_prompt_bytes);
    limits.Bytes("outbox", &out.outbox_bytes);
    limits.Bytes("outboxes", &out.outboxes_bytes);
    limits.Integer("max_output_tokens", &out.max_output_tokens);
    limits.Duration("link_max_age", &out.link_max_age);
    limits.Duration("mandatory_wait", &out.mandatory_wait);
    limits.Duration("grant", &out.grant);
    limits.Duration("slow_consumer", &out.slow_consumer);
    limits.Duration("session_max_age", &out.session_max_age);
    limits.Duration("retry_after", &out.retry_after);
  });
  root.Child("dispatch", [&](Section& dispatch) {
    DispatchConfig& out = config->dispatch;
    dispatch.Duration("connect", &out.connect);
    dispatch.Duration("first_byte", &out.first_byte);
    dispatch.Duration("between_tokens", &out.between_tokens);
    dispatch.Duration("total", &out.total);
    dispatch.Duration("probe_period", &out.probe_period);
    dispatch.Integer("failures_to_open", &out.failures_to_open);
  });
  root.Child("decision_log", [&](Section& log) {
    DecisionLogConfig& out = config->decision_log;
    log.Text("path", &out.path);
    if (const auto found = log.Scalar("snapshots")) {
      if (found->text == "all") {
        out.snapshot_every = 1;
      } else if (found->text == "none") {
        out.snapshot_every = 0;
      } else if (found->text.substr(0, 2) != "1/" || !absl::SimpleAtoi(found->text.substr(2), &out.snapshot_every) ||
                 out.snapshot_every < 1) {
        log.Bad(*found, "snapshots", "all, none or 1/N");
      }
    }
    log.Bytes("max_size", &out.max_size_bytes);
    log.Integer("max_files", &out.max_files);
  });
  root.Child("log", [&](Section& log) { log.Text("level", &config->log.level); });
  root.Duration("drain_timeout", &config->drain_timeout);
}

// What is wrong with the tokens file, or nothing.
std::string ReadTokens(AuthConfig* auth) {
  constexpr size_t kMost = 16 << 20;
  std::ifstream in(auth->tokens_file, std::ios::binary);
  std::string text(kMost + 1, '\0');
  if (!in || (in.read(text.data(), static_cast<std::streamsize>(text.size())), in.bad())) {
    return absl::StrCat(auth->tokens_file, ": cannot be read");
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMost) return absl::StrCat(auth->tokens_file, ": is larger than 16MiB");
  int number = 0;
  for (absl::string_view row : absl::StrSplit(text, '\n')) {
    ++number;
    std::string line(absl::StripAsciiWhitespace(row));
    if (line.empty() || line[0] == '#') continue;
    const size_t colon = line.rfind(':');
    const std::string hex = colon == std::string::npos ? "" : line.substr(colon + 1);
    if (hex.size() != 64 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      return absl::StrCat(auth->tokens_file, ":", number, ": want TENANT:HEX, HEX the 64 digits of a token's SHA-256");
    }
    auth->tokens.push_back({line.substr(0, colon), absl::HexStringToBytes(hex)});
  }
  return "";
}

}  // namespace

absl::StatusOr<Config> ParseConfig(const std::string& source, const std::string& yaml) {
  Document document;
  document.source = source;
  Config config;
  try {
    const YAML::Node root = YAML::Load(yaml);
    {
      Section section(root, "", &document);
      ReadRoot(section, &config);
    }
    if (!config.auth.tokens_file.empty()) {
      if (const std::string wrong = ReadTokens(&config.auth); !wrong.empty()) {
        document.Add(document.MarkOf("auth.tokens_file"), "auth.tokens_file", wrong);
      }
    }
    std::set<std::string> already;
    for (const auto& [mark, text] : document.problems) already.insert(text.substr(0, text.find(": ")));
    for (const ConfigProblem& problem : ValidateConfig(config)) {
      if (already.count(problem.path) == 0) document.Add(document.MarkOf(problem.path), problem.path, problem.message);
    }
  } catch (const YAML::Exception& error) {
    document.problems = {{error.mark, absl::StrCat("YAML: ", error.msg)}};
  }
  if (document.problems.empty()) return config;
  std::stable_sort(document.problems.begin(), document.problems.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.line, a.first.column) < std::pair(b.first.line, b.first.column);
  });
  std::vector<std::string> lines;
  for (const auto& [mark, text] : document.problems) {
    lines.push_back(absl::StrCat(source, ":", std::max(0, mark.line) + 1, ":", std::max(0, mark.column) + 1, ": ", text));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

absl::StatusOr<Config> LoadConfig(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return ParseConfig(path, std::string(std::istreambuf_iterator<char>(in), {}));
}

}  // namespace goad::server
