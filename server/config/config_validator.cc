#include "server/config/config_validator.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/policy.h"
#include "server/base/clip.h"
#include "server/config/address.h"
#include "server/config/policy_check.h"
#include "server/config/problems.h"

namespace goad::server {
namespace {

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > 63) return false;
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.')) return false;
  }
  return true;
}

// Where a server (SameUrl) has been configured already, in which site and for which model.
struct UsedUrl {
  std::string path;
  size_t site = 0;
  std::string model;
};

void CheckSite(const SiteConfig& site, size_t index, std::multimap<std::string, UsedUrl>& urls, Problems& problems) {
  const std::string path = absl::StrCat("sites[", index, "]");
  if (!IsName(site.name)) {
    problems.Add(path + ".name", absl::StrCat(Quoted(site.name), " is not 1 to 63 of a-z 0-9 - _ ."));
  }
  if (site.uplink.model == sched::UplinkModel::kShannon) {
    problems.Range(path + ".uplink.bandwidth", site.uplink.bandwidth_hz, 1, 1e15);
    problems.Range(path + ".uplink.noise_density", site.uplink.noise_density_dbm_hz, -250, -50);
    problems.Range(path + ".uplink.reference_power", site.uplink.reference_power_dbm, -100, 100);
  }
  if (site.compute.model == sched::ComputeModel::kBatching) {
    problems.Range(path + ".compute.overhead", absl::Seconds(site.compute.overhead_s), absl::ZeroDuration(),
                   absl::Hours(1));
    problems.Range(path + ".compute.prefill_rate", site.compute.prefill_tokens_per_s, 1e-3, 1e12);
    problems.Range(path + ".compute.token_time", absl::Seconds(site.compute.token_time_s), absl::ZeroDuration(),
                   absl::Hours(1));
    problems.Range(path + ".compute.token_time_per_query", absl::Seconds(site.compute.token_time_per_query_s),
                   absl::ZeroDuration(), absl::Hours(1));
  } else {
    problems.Range(path + ".compute.capacity", site.compute.capacity_flops, 1, 1e30);
    problems.Range(path + ".compute.max_share", site.compute.max_share_flops, 1, sched::kInfinity);
    problems.Range(path + ".compute.parameters", site.compute.parameters, 0, 1e18);
  }
  problems.Range(path + ".max_queries", site.max_queries, 0, 100000);
  if (site.backends.empty() || site.backends.size() > 64) {
    problems.Add(path + ".backends", absl::StrCat(site.backends.size(), " entries, want 1 to 64"));
  }
  for (size_t b = 0; b < site.backends.size(); ++b) {
    const BackendConfig& backend = site.backends[b];
    const std::string at = absl::StrCat(path, ".backends[", b, "]");
    if (const std::string problem = UrlProblem(backend.url); !problem.empty()) {
      const bool secret = backend.url.find('@') != std::string::npos;  // never quoted
      problems.Add(at + ".url", absl::StrCat(secret ? "the URL" : Quoted(backend.url), " ", problem));
    } else {
      // A metric is told apart by site and URL, so in a site it must differ; in two sites one server may have two
      // models.
      const std::string same = SameUrl(backend.url);
      const auto [from, to] = urls.equal_range(same);
      const auto used = std::find_if(from, to, [&](const auto& other) {
        return other.second.site == index || other.second.model == backend.model;
      });
      if (used != to) {
        problems.Add(at + ".url", absl::StrCat(Quoted(backend.url), " is given twice, also as ", used->second.path,
                                               ".url: its slots would count twice"));
      }
      urls.emplace(same, UsedUrl{at, index, backend.model});
    }
    if (backend.model.empty() || backend.model.size() > 128) {
      problems.Add(at + ".model", absl::StrCat(backend.model.size(), " bytes, want 1 to 128"));
    } else if (Printable(backend.model) != backend.model) {
      problems.Add(at + ".model",
                   absl::StrCat(Quoted(backend.model), " holds a control character or what is no UTF-8"));
    }
    problems.Range(at + ".slots", backend.slots, 0, 4096);
    if (backend.context > kMostContext) {
      problems.Add(at + ".context", absl::StrCat(backend.context, " is not in 1..", kMostContext));
    }
    if (backend.api == BackendApi::kCompletions) {
      for (const auto& [field, able] : {std::pair("tools", backend.tools), std::pair("images", backend.images)}) {
        if (able.value_or(false)) problems.Add(absl::StrCat(at, ".", field), "is true and needs api: chat");
      }
    } else if (backend.chat_as_text) {
      problems.Add(at + ".chat_as_text", "is true and api is chat, which has a template of its own");
    }
    problems.Range(at + ".first_byte", backend.first_byte, absl::ZeroDuration(), absl::Hours(1));
    problems.Range(at + ".probe.timeout", backend.probe.timeout, absl::Milliseconds(10), absl::Hours(1));
    const std::string& probe = backend.probe.path;
    const bool printable =
        std::all_of(probe.begin(), probe.end(), [](char c) { return c > ' ' && c < 127 && c != '#'; });
    if (!probe.empty() && (probe[0] != '/' || probe.size() > 256 || !printable)) {
      problems.Add(at + ".probe.path",
                   absl::StrCat(Quoted(probe), " is not / and at most 255 printable characters without #"));
    }
  }
}

// `taken`: names of sites, this goad's own.
void CheckNeighbours(const std::vector<NeighbourConfig>& neighbours, std::set<std::string> taken, Problems& problems) {
  std::set<std::string> addresses;
  if (neighbours.size() > 16) {
    problems.Add("neighbours", absl::StrCat(neighbours.size(), " entries, want at most 16"));
  }
  for (size_t k = 0; k < neighbours.size(); ++k) {
    const NeighbourConfig& neighbour = neighbours[k];
    const std::string path = absl::StrCat("neighbours[", k, "]");
    const std::string problem = AddressProblem(neighbour.address, /*unix_too=*/false);
    if (!problem.empty()) {
      problems.Add(path + ".address", absl::StrCat(Quoted(neighbour.address), " ", problem));
    } else if (neighbour.address.size() > 256) {
      problems.Add(path + ".address", absl::StrCat(neighbour.address.size(), " bytes, want at most 256"));
    } else if (absl::EndsWith(neighbour.address, ":0")) {
      problems.Add(path + ".address", absl::StrCat(Quoted(neighbour.address), " has port 0, want 1..65535"));
    } else if (!addresses.insert(neighbour.address).second) {
      problems.Add(path + ".address", absl::StrCat(Quoted(neighbour.address), " is used twice"));
    }
    for (size_t j = 0; j < neighbour.sites.size(); ++j) {
      const std::string& site = neighbour.sites[j];
      const std::string field = absl::StrCat(path, ".sites[", j, "]");
      if (!IsName(site)) {
        problems.Add(field, absl::StrCat(Quoted(site), " is not 1 to 63 of a-z 0-9 - _ ."));
      } else if (!taken.insert(site).second) {
        problems.Add(field, absl::StrCat(Quoted(site), " is a site of this goad or of another neighbour"));
      }
    }
  }
}

}  // namespace

std::vector<ConfigProblem> ValidateConfig(const Config& config) {
  Problems problems;
  const TlsConfig& tls = config.listen.tls;
  if (tls.certificate.empty() != tls.key.empty()) {
    problems.Add("listen.tls", "certificate and key: set both or neither");
  }
  if (!tls.client_ca.empty() && tls.certificate.empty()) {
    problems.Add("listen.tls.client_ca", "needs certificate and key");
  }
  if (!tls.crl.empty() && tls.client_ca.empty()) problems.Add("listen.tls.crl", "needs client_ca");
  const auto address = [&](const char* field, const std::string& text, bool unix_too) {
    if (const std::string problem = AddressProblem(text, unix_too); !problem.empty()) {
      problems.Add(field, absl::StrCat(Quoted(text), " ", problem));
    }
  };
  address("listen.address", config.listen.address, true);
  if (!config.admin_address.empty()) address("admin.address", config.admin_address, true);
  if (!config.metrics_address.empty()) address("metrics.address", config.metrics_address, false);
  problems.Range("epoch.period", config.epoch.period, absl::Milliseconds(1), absl::Seconds(10));
  problems.Range("epoch.min_period", config.epoch.min_period, absl::ZeroDuration(), config.epoch.period);
  for (ConfigProblem& problem : PolicyProblems(config.policy)) problems.list.push_back(std::move(problem));
  if (config.tenants.size() > 1000) {
    problems.Add("tenants", absl::StrCat(config.tenants.size(), " entries, want at most 1000"));
  }
  std::set<std::string> tenants;
  for (size_t t = 0; t < config.tenants.size(); ++t) {
    const TenantConfig& tenant = config.tenants[t];
    const std::string path = absl::StrCat("tenants[", t, "]");
    if (!IsName(tenant.name)) {
      problems.Add(path + ".name", absl::StrCat(Quoted(tenant.name), " is not 1 to 63 of a-z 0-9 - _ ."));
    } else if (!tenants.insert(tenant.name).second) {
      problems.Add(path + ".name", absl::StrCat(Quoted(tenant.name), " is used twice"));
    }
    problems.Range(path + ".weight", tenant.weight, 0.001, 1000);
    problems.Range(path + ".max_queries", tenant.max_queries, 0, 1e6);
    problems.Range(path + ".queries_per_second", tenant.queries_per_second, 0, 1e9);
    problems.Range(path + ".prompt_tokens_per_minute", tenant.prompt_tokens_per_minute, 0, 1e12);
    problems.Range(path + ".max_offloaded_share", tenant.max_offloaded_share, 0, 1);
  }
  for (size_t k = 0; k < config.limits.prompt_options.size(); ++k) {
    const std::string& name = config.limits.prompt_options[k];
    const std::vector<std::string>& own = GoadsOwnOptions();
    const std::string path = absl::StrCat("limits.prompt_options[", k, "]");
    if (name.empty() || name.size() > 64 || HasControlCharacter(name)) {
      problems.Add(path, absl::StrCat(Quoted(name), " is not 1 to 64 bytes without control characters"));
    } else if (std::find(own.begin(), own.end(), name) != own.end()) {
      problems.Add(path, absl::StrCat(Quoted(name), " is what goad says itself; it cannot be a device's"));
    }
  }
  std::set<std::string> kinds;
  for (size_t k = 0; k < config.kinds.size(); ++k) {
    const std::string path = absl::StrCat("kinds[", k, "]");
    if (!IsName(config.kinds[k])) {
      problems.Add(path, absl::StrCat(Quoted(config.kinds[k]), " is not 1 to 63 of a-z 0-9 - _ ."));
    } else if (!kinds.insert(config.kinds[k]).second) {
      problems.Add(path, absl::StrCat(Quoted(config.kinds[k]), " is used twice"));
    }
  }
  if (config.kinds.size() > 32) problems.Add("kinds", absl::StrCat(config.kinds.size(), " entries, want at most 32"));
  tenants.insert(kDefaultTenant);
  static const char kEmptySha256[] =
      "\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b"
      "\x78\x52\xb8\x55";
  for (const AuthConfig::Token& token : config.auth.tokens) {
    if (token.sha256 == std::string(kEmptySha256, sizeof kEmptySha256 - 1)) {
      problems.Add("auth.tokens_file",
                   absl::StrCat("tenant ", Quoted(token.tenant), " has the SHA-256 of the empty token"));
      break;
    }
  }
  for (const AuthConfig::Token& token : config.auth.tokens) {
    if (tenants.count(token.tenant) != 0) continue;
    problems.Add("auth.tokens_file",
                 absl::StrCat("names tenant ", Quoted(token.tenant), ", which is not listed under tenants"));
    break;
  }
  std::map<std::string, std::string> holders;
  for (const AuthConfig::Token& token : config.auth.tokens) {
    const auto [first, fresh] = holders.emplace(token.sha256, token.tenant);
    if (fresh || first->second == token.tenant) continue;
    problems.Add("auth.tokens_file",
                 absl::StrCat("has one token for two tenants, \"", first->second, "\" and \"", token.tenant, "\""));
    break;
  }
  if (config.auth.required && config.auth.tokens.empty() && config.listen.tls.client_ca.empty()) {
    problems.Add("auth.required",
                 "is true, but there are neither tokens nor listen.tls.client_ca: nobody could come in");
  }
  if (config.sites.empty() || config.sites.size() > 64) {
    problems.Add("sites", absl::StrCat(config.sites.size(), " entries, want 1 to 64"));
  }
  std::set<std::string> seen;
  std::multimap<std::string, UsedUrl> urls;
  for (size_t j = 0; j < config.sites.size(); ++j) {
    CheckSite(config.sites[j], j, urls, problems);
    if (!seen.insert(config.sites[j].name).second) {
      problems.Add(absl::StrCat("sites[", j, "].name"), absl::StrCat(Quoted(config.sites[j].name), " is used twice"));
    }
  }
  CheckNeighbours(config.neighbours, std::move(seen), problems);
  const LimitsConfig& limits = config.limits;
  problems.Range("limits.sessions", limits.sessions, 1, 1e6);
  problems.Range("limits.sessions_per_identity", limits.sessions_per_identity, 0, 1e6);
  problems.Range("limits.connections", limits.connections, 1, 1e6);
  problems.Range("limits.connections_per_address", limits.connections_per_address, 0, 1e6);
  problems.Range("limits.streams_per_connection", limits.streams_per_connection, 1, 1e5);
  problems.Range("limits.transport", static_cast<double>(limits.transport_bytes), 16 << 20, 1e12);
  problems.Range("limits.queries_per_session", limits.queries_per_session, 1, 64);
  problems.Range("limits.frames_per_second", limits.frames_per_second, 1, 1e6);
  problems.Range("limits.waiting_queries", limits.waiting_queries, 1, 1e6);
  problems.Range("limits.prompt", static_cast<double>(limits.prompt_bytes), 1, 3 << 20);
  problems.Range("limits.inline_prompts", static_cast<double>(limits.inline_prompt_bytes), 0, 1e12);
  problems.Range("limits.outbox", static_cast<double>(limits.outbox_bytes), 16 << 10, 1 << 30);
  problems.Range("limits.outboxes", static_cast<double>(limits.outboxes_bytes), 1 << 20, 1e12);
  problems.Range("limits.max_output_tokens", limits.max_output_tokens, 1, 1e6);
  const absl::Duration hour = absl::Hours(1), ms = absl::Milliseconds(1);
  problems.Range("limits.link_max_age", limits.link_max_age, ms, hour);
  problems.Range("limits.mandatory_wait", limits.mandatory_wait, absl::ZeroDuration(), hour);
  problems.Range("limits.grant", limits.grant, ms, hour);
  problems.Range("limits.slow_consumer", limits.slow_consumer, ms, hour);
  problems.Range("limits.session_max_age", limits.session_max_age, absl::ZeroDuration(), absl::Hours(24 * 365));
  problems.Range("limits.retry_after", limits.retry_after, absl::ZeroDuration(), hour);
  problems.Range("dispatch.connect", config.dispatch.connect, ms, hour);
  problems.Range("dispatch.first_byte", config.dispatch.first_byte, ms, hour);
  problems.Range("dispatch.between_tokens", config.dispatch.between_tokens, ms, hour);
  problems.Range("dispatch.total", config.dispatch.total, ms, hour);
  problems.Range("dispatch.probe_period", config.dispatch.probe_period, absl::Milliseconds(10), hour);
  problems.Range("dispatch.failures_to_open", config.dispatch.failures_to_open, 1, 1000);
  problems.Range("decision_log.snapshots", config.decision_log.snapshot_every, 0, 1e9);
  problems.Range("decision_log.max_size", static_cast<double>(config.decision_log.max_size_bytes), 4096, 1e15);
  problems.Range("decision_log.max_files", config.decision_log.max_files, 1, 100);
  const std::set<std::string> levels = {"trace", "debug", "info", "warn", "error"};
  if (levels.count(config.log.level) == 0) {
    problems.Add("log.level", absl::StrCat(Quoted(config.log.level), " is not one of trace, debug, info, warn, error"));
  }
  problems.Range("drain_timeout", config.drain_timeout, absl::ZeroDuration(), hour);
  return problems.list;
}

std::vector<std::string> ConfigWarnings(const Config& config) {
  std::vector<std::string> warnings;
  const absl::Duration total = config.dispatch.total;
  const auto first_byte = [&](const std::string& path, absl::Duration value) {
    if (value <= total) return;
    warnings.push_back(absl::StrCat(path, ": ", absl::FormatDuration(value), " is more than dispatch.total (",
                                    absl::FormatDuration(total), "), which ends a request before"));
  };
  first_byte("dispatch.first_byte", config.dispatch.first_byte);
  for (size_t j = 0; j < config.sites.size(); ++j) {
    for (size_t b = 0; b < config.sites[j].backends.size(); ++b) {
      first_byte(absl::StrCat("sites[", j, "].backends[", b, "].first_byte"), config.sites[j].backends[b].first_byte);
    }
  }
  return warnings;
}

std::vector<std::string> RestartOnlyChanges(const Config& running, const Config& next) {
  std::vector<std::string> paths;
  const auto check = [&](const char* path, bool same) {
    if (!same) paths.push_back(path);
  };
  check("listen.address", running.listen.address == next.listen.address);
  check("listen.tls.certificate", running.listen.tls.certificate == next.listen.tls.certificate);
  check("listen.tls.key", running.listen.tls.key == next.listen.tls.key);
  check("listen.tls.client_ca", running.listen.tls.client_ca == next.listen.tls.client_ca);
  check("admin.address", running.admin_address == next.admin_address);
  check("metrics.address", running.metrics_address == next.metrics_address);
  check("lock_file", running.lock_file == next.lock_file);
  check("limits.sessions", running.limits.sessions == next.limits.sessions);
  check("limits.streams_per_connection", running.limits.streams_per_connection == next.limits.streams_per_connection);
  check("limits.transport", running.limits.transport_bytes == next.limits.transport_bytes);
  check("limits.session_max_age", running.limits.session_max_age == next.limits.session_max_age);
  check("limits.outbox", running.limits.outbox_bytes == next.limits.outbox_bytes);
  const DecisionLogConfig &a = running.decision_log, &b = next.decision_log;
  check("decision_log", a.path == b.path && a.snapshot_every == b.snapshot_every &&
                            a.max_size_bytes == b.max_size_bytes && a.max_files == b.max_files);
  return paths;
}

namespace {

std::set<std::string> PresentSites(const Config& config) {
  std::set<std::string> names;
  for (const SiteConfig& site : config.sites) {
    if (!site.presence.removed()) names.insert(site.name);
  }
  return names;
}

std::set<std::string> PresentBackends(const Config& config, const std::set<std::string>& of_sites) {
  std::set<std::string> names;
  for (const SiteConfig& site : config.sites) {
    for (const BackendConfig& backend : site.backends) {
      if (of_sites.count(site.name) != 0 && !backend.presence.removed())
        names.insert(absl::StrCat(site.name, " ", backend.url));
    }
  }
  return names;
}

}  // namespace

std::vector<std::string> ReloadWarnings(const Config& running, const Config& next) {
  std::vector<std::string> warnings;
  if (running.auth.required && !next.auth.required) {
    warnings.push_back("auth.required was true and is false: callers without a token or certificate come in now");
  }
  if (!running.auth.tokens.empty() && next.auth.tokens.empty()) {
    warnings.push_back(absl::StrCat("auth.tokens_file held ", running.auth.tokens.size(),
                                    " tokens and there are none now: every bearer token is "
                                    "refused"));
  }
  const auto gone = [&](const char* what, const std::set<std::string>& before, const std::set<std::string>& after) {
    constexpr size_t kMostNamed = 20;
    std::vector<std::string> names;
    for (const std::string& name : before) {
      if (after.count(name) == 0) names.push_back(name);
    }
    if (names.empty()) return;
    const size_t count = names.size();
    names.resize(std::min(count, kMostNamed));
    warnings.push_back(absl::StrCat(what, ": ", absl::StrJoin(names, ", "),
                                    count > kMostNamed ? absl::StrCat(" and ", count - kMostNamed, " more") : ""));
  };
  std::set<std::string> before, after, token_before, token_after;
  for (const TenantConfig& tenant : running.tenants) before.insert(tenant.name);
  for (const TenantConfig& tenant : next.tenants) after.insert(tenant.name);
  gone("tenants that are listed no more, their limits with them", before, after);
  gone("sites that are listed no more (what runs there is finished)", PresentSites(running), PresentSites(next));
  gone("backends that are listed no more (what runs there is finished)", PresentBackends(running, PresentSites(next)),
       PresentBackends(next, PresentSites(next)));
  for (const AuthConfig::Token& token : running.auth.tokens) token_before.insert(token.tenant);
  for (const AuthConfig::Token& token : next.auth.tokens) token_after.insert(token.tenant);
  if (!next.auth.tokens.empty()) gone("tenants that have no token any more", token_before, token_after);
  return warnings;
}

}  // namespace goad::server
