#include "scheduler/sim/solve.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace goad::sched {
namespace {

using nlohmann::json;

absl::Status Invalid(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

std::string InstanceName(const json& instance) {
  const auto id = instance.find("id");
  return id != instance.end() && id->is_string() ? id->get<std::string>() : "instance without id";
}

}  // namespace

absl::StatusOr<EpochSnapshot> SnapshotFromVector(const json& instance) {
  if (!instance.is_object()) return absl::InvalidArgumentError("an instance is not a JSON object");
  const std::string name = InstanceName(instance);
  try {
    const size_t n = instance.at("N").get<size_t>();
    const size_t m = instance.at("M").get<size_t>();
    if (n == 0 || m == 0) return Invalid(name, "N and M: must be at least 1");
    const json& servers = instance.at("servers");
    const json& users = instance.at("users");
    const json& gain = instance.at("gain");
    const auto column = [&](const json& group, const char* field, size_t size) {
      auto values = group.at(field).get<std::vector<double>>();
      if (values.size() != size) {
        throw std::length_error(absl::StrCat(field, ": ", values.size(), " values, want ", size));
      }
      return values;
    };
    const auto bandwidth = column(servers, "bandwidth_hz", m), capacity = column(servers, "capacity", m);
    const auto alpha = column(users, "alpha", n), payload = column(users, "payload", n);
    const auto t_local = column(users, "t_local_s", n), c_local = column(users, "c_local", n);
    const double c_max = instance.at("c_max").get<double>();
    const double power_w = instance.at("p_w").get<double>();
    const double noise_w = instance.at("sigma2_w").get<double>();
    if (gain.size() != n) return Invalid(name, absl::StrCat("gain: ", gain.size(), " rows, want ", n));

    EpochSnapshot snapshot;
    snapshot.tau = instance.at("tau").get<double>();
    for (size_t j = 0; j < m; ++j) {
      SiteState site;
      site.bandwidth_hz = bandwidth[j];
      site.noise_w = noise_w;
      site.compute_flops = capacity[j];
      site.max_share_flops = c_max;
      snapshot.sites.push_back(site);
    }
    for (size_t i = 0; i < n; ++i) {
      Candidate candidate;
      candidate.id = QueryId{i};
      candidate.uncertainty = alpha[i];
      candidate.prompt_bits = payload[i];
      candidate.tx_power_w = power_w;
      candidate.local_delay_s = t_local[i];
      candidate.edge_work_flop = 8 * t_local[i] * c_local[i];
      snapshot.candidates.push_back(candidate);
      const auto row = gain[i].get<std::vector<double>>();
      if (row.size() != m) return Invalid(name, absl::StrCat("gain[", i, "]: ", row.size(), " values, want ", m));
      snapshot.gain.insert(snapshot.gain.end(), row.begin(), row.end());
    }
    if (const auto expect = instance.find("expect"); expect != instance.end() && expect->contains("random")) {
      snapshot.sample = expect->at("random").at("sample").get<std::vector<uint32_t>>();
    }
    return snapshot;
  } catch (const std::exception& error) {  // nlohmann::json's, and the length check above
    return Invalid(name, error.what());
  }
}

absl::Status SolveDocument(const std::string& source, const std::string& text, const std::string& policy_name,
                           const PolicyParameters& parameters, json& answers) {
  auto policy = MakePolicy(policy_name, parameters);
  if (!policy.ok()) return policy.status();
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return Invalid(source, "not valid JSON");
  if (!document.is_object() || document.value("format", "") != "goa-vectors/1") {
    return Invalid(source, "format: want \"goa-vectors/1\"");
  }
  if (!document.contains("instances") || !document["instances"].is_array()) {
    return Invalid(source, "instances: want a list");
  }
  for (const json& instance : document["instances"]) {
    auto snapshot = SnapshotFromVector(instance);
    if (!snapshot.ok()) return Invalid(source, std::string(snapshot.status().message()));
    if (absl::Status status = CheckFor(**policy, *snapshot); !status.ok()) {
      return Invalid(absl::StrCat(source, ": ", InstanceName(instance)), std::string(status.message()));
    }
    const EpochResult result = (*policy)->Decide(*snapshot);
    json assign = json::array(), order = json::array();
    for (const Decision& decision : result.decisions) assign.push_back(static_cast<int>(decision.site));
    for (const auto& [i, site] : result.order) order.push_back({i, static_cast<int>(site)});
    const double total_ms = result.TotalDelaySeconds() * 1e3;
    answers.push_back({{"id", InstanceName(instance)},
                       {"policy", policy_name},
                       {"assign", assign},
                       {"order", order},
                       {"total_ms", std::isfinite(total_ms) ? json(total_ms) : json("inf")}});
  }
  return absl::OkStatus();
}

}  // namespace goad::sched
