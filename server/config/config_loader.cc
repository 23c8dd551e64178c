#include "server/config/config_loader.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/clip.h"
#include "server/base/read_file.h"
#include "server/config/config_files.h"
#include "server/config/config_validator.h"
#include "server/config/start_check.h"
#include "server/config/yaml_section.h"

namespace goad::server {
namespace {

constexpr size_t kMostYaml = 1 << 20;  // bytes of the file; 64 sites of 64 backends and 1000 tenants need about that
constexpr size_t kMostLine = 1000;     // bytes of a problem
constexpr size_t kMostYamlLine = 64 << 10;
constexpr int kDeepest = 16;  // [ and { within each other; a configuration needs six

const std::map<std::string, double> kHertz = {{"Hz", 1}, {"kHz", 1e3}, {"MHz", 1e6}, {"GHz", 1e9}};
const std::map<std::string, double> kFlops = {{"FLOP/s", 1}, {"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}};

void ReadSite(YamlSection& section, SiteConfig* site) {
  section.Text("name", &site->name);
  section.Child("uplink", [&](YamlSection& uplink) {
    uplink.Choice<sched::UplinkModel>(
        "model", {{"shannon", sched::UplinkModel::kShannon}, {"measured", sched::UplinkModel::kMeasured}},
        &site->uplink.model);
    uplink.Quantity("bandwidth", kHertz, "a bandwidth such as 100MHz", &site->uplink.bandwidth_hz);
    uplink.Quantity("noise_density", {{"dBm/Hz", 1}}, "a density such as -174dBm/Hz",
                    &site->uplink.noise_density_dbm_hz);
    uplink.Quantity("reference_power", {{"dBm", 1}}, "a power such as 18dBm", &site->uplink.reference_power_dbm);
    uplink.Boolean("shared", &site->uplink.shared);
  });
  section.Child("compute", [&](YamlSection& compute) {
    compute.Choice<sched::ComputeModel>(
        "model", {{"batching", sched::ComputeModel::kBatching}, {"equal_share", sched::ComputeModel::kEqualShare}},
        &site->compute.model);
    compute.Boolean("learn", &site->compute.learn);
    compute.Seconds("overhead", &site->compute.overhead_s);
    compute.Number("prefill_rate", &site->compute.prefill_tokens_per_s);
    compute.Seconds("token_time", &site->compute.token_time_s);
    compute.Seconds("token_time_per_query", &site->compute.token_time_per_query_s);
    compute.Quantity("capacity", kFlops, "a rate such as 15PFLOP/s", &site->compute.capacity_flops);
    compute.Quantity("max_share", kFlops, "a rate such as 1.5PFLOP/s", &site->compute.max_share_flops);
    compute.Number("parameters", &site->compute.parameters);
  });
  section.Integer("max_queries", &site->max_queries);
  section.List("backends", 64, &site->backends, [](YamlSection& entry, BackendConfig* backend) {
    entry.Text("url", &backend->url);
    entry.Text("model", &backend->model);
    entry.Choice<BackendApi>("api", {{"completions", BackendApi::kCompletions}, {"chat", BackendApi::kChat}},
                             &backend->api);
    if (const auto found = entry.Scalar("slots"); found && found->text != "auto") {
      if (!ParseWhole(found->text, &backend->slots) || backend->slots < 1)
        entry.Bad(*found, "slots", "auto or a whole number above 0, without leading zeros");
    }
    entry.Boolean("gateway", &backend->gateway);
    entry.Boolean("tools", &backend->tools);
    entry.Boolean("images", &backend->images);
    if (const auto found = entry.Scalar("context"); found && found->text != "auto") {
      if (!ParseWhole(found->text, &backend->context) || backend->context < 1)
        entry.Bad(*found, "context", "auto or a whole number of tokens above 0, without leading zeros");
    }
    entry.Boolean("chat_as_text", &backend->chat_as_text);
    entry.Duration("first_byte", &backend->first_byte);
    entry.Child("probe", [&](YamlSection& probe) {
      probe.Text("path", &backend->probe.path);
      probe.Duration("timeout", &backend->probe.timeout);
    });
    entry.Text("api_key_file", &backend->api_key_file);
    entry.Text("ca_file", &backend->ca_file);
  });
}

void ReadRoot(YamlSection& root, Config* config) {
  root.Child("listen", [&](YamlSection& listen) {
    listen.Text("address", &config->listen.address);
    listen.Child("tls", [&](YamlSection& tls) {
      tls.Text("certificate", &config->listen.tls.certificate);
      tls.Text("key", &config->listen.tls.key);
      tls.Text("client_ca", &config->listen.tls.client_ca);
      tls.Text("crl", &config->listen.tls.crl);
    });
  });
  root.Child("admin", [&](YamlSection& admin) { admin.Text("address", &config->admin_address); });
  root.Child("metrics", [&](YamlSection& metrics) { metrics.Text("address", &config->metrics_address); });
  root.Text("lock_file", &config->lock_file);
  root.Child("epoch", [&](YamlSection& epoch) {
    epoch.Duration("period", &config->epoch.period);
    epoch.Duration("min_period", &config->epoch.min_period);
  });
  root.Child("policy", [&](YamlSection& policy) {
    policy.Text("name", &config->policy.name);
    policy.Number("tau", &config->policy.tau);
    policy.Seconds("lambda", &config->policy.lambda_s);
    policy.Child("tau_per_metric", [&](YamlSection& metrics) {
      for (int k = 1; k <= kUncertaintyMetrics; ++k) {
        const auto metric = static_cast<UncertaintyMetric>(k);
        std::optional<double> tau;
        metrics.Number(ToString(metric), &tau);
        if (tau) config->policy.tau_per_metric[metric] = *tau;
      }
    });
    policy.Text("calibration", &config->policy.calibration_file);
    policy.Number("value_tau", &config->policy.value_tau);
    policy.Number("accuracy", &config->policy.accuracy);
    policy.Number("confidence", &config->policy.confidence);
  });
  root.Child("auth", [&](YamlSection& auth) {
    auth.Text("tokens_file", &config->auth.tokens_file);
    auth.Boolean("required", &config->auth.required);
  });
  root.List("tenants", 1000, &config->tenants, [](YamlSection& entry, TenantConfig* tenant) {
    entry.Text("name", &tenant->name);
    entry.Number("weight", &tenant->weight);
    entry.Texts("certificates", 64, &tenant->certificates);
    entry.Integer("max_queries", &tenant->max_queries);
    entry.Number("queries_per_second", &tenant->queries_per_second);
    entry.Number("prompt_tokens_per_minute", &tenant->prompt_tokens_per_minute);
    entry.Number("max_offloaded_share", &tenant->max_offloaded_share);
  });
  root.Texts("kinds", 32, &config->kinds);
  root.List("sites", 64, &config->sites, ReadSite);
  root.List("neighbours", 16, &config->neighbours, [](YamlSection& entry, NeighbourConfig* neighbour) {
    entry.Text("address", &neighbour->address);
    entry.Texts("sites", 64, &neighbour->sites);
  });
  root.Child("limits", [&](YamlSection& limits) {
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
    limits.Texts("prompt_options", 128, &out.prompt_options);
    limits.Boolean("remote_images", &out.remote_images);
    limits.Duration("link_max_age", &out.link_max_age);
    limits.Duration("mandatory_wait", &out.mandatory_wait);
    limits.Duration("grant", &out.grant);
    limits.Duration("slow_consumer", &out.slow_consumer);
    limits.Duration("session_max_age", &out.session_max_age);
    limits.Duration("retry_after", &out.retry_after);
  });
  root.Child("dispatch", [&](YamlSection& dispatch) {
    DispatchConfig& out = config->dispatch;
    dispatch.Duration("connect", &out.connect);
    dispatch.Duration("first_byte", &out.first_byte);
    dispatch.Duration("between_tokens", &out.between_tokens);
    dispatch.Duration("total", &out.total);
    dispatch.Duration("probe_period", &out.probe_period);
    dispatch.Integer("failures_to_open", &out.failures_to_open);
  });
  root.Child("decision_log", [&](YamlSection& log) {
    DecisionLogConfig& out = config->decision_log;
    log.Text("path", &out.path);
    if (const auto found = log.Scalar("snapshots")) {
      if (found->text == "all") {
        out.snapshot_every = 1;
      } else if (found->text == "none") {
        out.snapshot_every = 0;
      } else if (found->text.substr(0, 2) != "1/" || !ParseWhole(found->text.substr(2), &out.snapshot_every) ||
                 out.snapshot_every < 1) {
        log.Bad(*found, "snapshots", "all, none or 1/N");
      }
    }
    log.Bytes("max_size", &out.max_size_bytes);
    log.Integer("max_files", &out.max_files);
  });
  root.Child("log", [&](YamlSection& log) { log.Text("level", &config->log.level); });
  root.Duration("drain_timeout", &config->drain_timeout);
}

// What keeps the text from the YAML library, whose time grows with the square of a line's length and of the depth; "" =
// nothing.
std::string TooMuch(const std::string& yaml, YAML::Mark* mark) {
  if (yaml.size() > kMostYaml) return absl::StrCat("has ", yaml.size(), " bytes, want at most ", kMostYaml);
  int depth = 0;
  char quote = 0, before = '\n';
  bool comment = false;
  mark->line = mark->column = 0;
  for (const char c : yaml) {
    const bool after_blank = before == ' ' || before == '\t' || before == '\n';
    if (c == '\n') {
      ++mark->line;
      mark->column = -1;
      comment = false;
    } else if (comment) {
      // to the end of the line
    } else if (quote != 0) {
      if (c == quote && before != '\\') quote = 0;
    } else if (c == '#' && after_blank) {
      comment = true;
    } else if ((c == '"' || c == '\'') &&
               (after_blank || before == '[' || before == '{' || before == ',' || before == ':')) {
      quote = c;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) return absl::StrCat("is nested deeper than ", kDeepest, " brackets");
    } else if (c == ']' || c == '}') {
      --depth;
    }
    before = c;
    if (static_cast<size_t>(++mark->column) > kMostYamlLine)
      return absl::StrCat("has a line of more than ", kMostYamlLine, " bytes");
  }
  return "";
}

// Counts documents; of one that the library cannot get past (a comma at its start) it makes any number.
class DocumentCounter final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    ++count;
    last = mark;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

  int count = 0;
  YAML::Mark last;
};

std::optional<YAML::Mark> SecondDocument(const std::string& yaml) {
  std::istringstream text(yaml);
  YAML::Parser parser(text);
  DocumentCounter documents;
  while (documents.count < 2 && parser.HandleNextDocument(documents)) {
  }
  return documents.count < 2 ? std::nullopt : std::optional<YAML::Mark>(documents.last);
}

// One line of the answer, clipped, with nothing in it that ends a line or moves the cursor.
std::string Line(const std::string& source, const YAML::Mark& mark, const std::string& text) {
  return absl::StrCat(source, ":", std::max(0, mark.line) + 1, ":", std::max(0, mark.column) + 1, ": ",
                      Clip(text, kMostLine));
}

absl::StatusOr<Config> Parse(const std::string& source, const std::string& yaml, bool starting) {
  YamlDocument document;
  Config config;
  YAML::Mark from;
  if (const std::string problem = TooMuch(yaml, &from); !problem.empty()) {
    return absl::InvalidArgumentError(Line(source, from, absl::StrCat("configuration: ", problem)));
  }
  try {
    {
      YamlSection section(YAML::Load(yaml), "", &document);
      ReadRoot(section, &config);
    }
    if (const std::optional<YAML::Mark> second = SecondDocument(yaml)) {
      document.Add(*second, "configuration",
                   "2 YAML documents or more (--- begins one), want one: the others would be ignored");
    }
    for (const ConfigProblem& problem : ReadConfigFiles(&config)) {
      document.Add(document.MarkOf(problem.path), problem.path, problem.message);
    }
    std::set<std::string> already;
    for (const auto& [mark, text] : document.problems) already.insert(text.substr(0, text.find(": ")));
    for (const ConfigProblem& problem : ValidateConfig(config)) {
      if (already.count(problem.path) == 0) document.Add(document.MarkOf(problem.path), problem.path, problem.message);
    }
    const auto start = starting ? StartProblems(config, &config.warnings) : std::vector<ConfigProblem>();
    for (const ConfigProblem& problem : start) {
      document.Add(document.MarkOf(problem.path), problem.path, problem.message);
    }
  } catch (const YAML::Exception& error) {
    document.problems = {{error.mark, absl::StrCat("YAML: ", error.msg)}};
  }
  if (document.problems.empty()) {
    for (std::string& warning : ConfigWarnings(config)) config.warnings.push_back(std::move(warning));
    if (!yaml.empty() && yaml.back() != '\n')
      config.warnings.push_back("the file does not end with a line end; is it whole?");
    return config;
  }
  std::stable_sort(document.problems.begin(), document.problems.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.line, a.first.column) < std::pair(b.first.line, b.first.column);
  });
  std::vector<std::string> lines;
  for (const auto& [mark, text] : document.problems) lines.push_back(Line(source, mark, text));
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace

absl::StatusOr<Config> ParseConfig(const std::string& source, const std::string& yaml) {
  return Parse(source, yaml, /*starting=*/false);
}

absl::StatusOr<Config> LoadConfig(const std::string& path, bool starting) {
  absl::StatusOr<std::string> yaml = ReadFile(path, kMostYaml);
  if (!yaml.ok()) return yaml.status();
  absl::StatusOr<Config> config = Parse(path, *yaml, starting);
  if (config.ok()) config->files.insert(config->files.begin(), Loaded(path, *yaml));
  return config;
}

}  // namespace goad::server
