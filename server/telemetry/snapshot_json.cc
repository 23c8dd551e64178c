#include "server/telemetry/snapshot_json.h"

#include <array>
#include <cmath>

namespace goad::server {
namespace {

using nlohmann::json;
using sched::Candidate;
using sched::Resident;
using sched::SiteState;

// By number of the enum's value; the first is the neutral one.
constexpr std::array<const char*, 2> kUplinks = {"shannon", "measured"}, kComputes = {"equal_share", "batching"};

// One list of fields for both directions: Fields(visit, object) calls visit(name, member) for each that must be there,
// and visit.OrNeutral(name, member) for each whose absence leaves the default. A double's null is `if_null`.
struct Number {
  double* value;
  double if_null;
};

template <typename Visit>
void Fields(const Visit& visit, SiteState& site) {
  visit("bandwidth_hz", site.bandwidth_hz);
  visit("noise_w", site.noise_w);
  visit("compute_flops", site.compute_flops);
  visit.OrNeutral("max_share_flops", Number{&site.max_share_flops, sched::kInfinity});
  visit.OrNeutral("work_flop_per_token", site.work_flop_per_token);
  visit.OrNeutral("uplink_shared", site.uplink_shared);
  visit.OrNeutral("overhead_s", site.overhead_s);
  visit.OrNeutral("prefill_tokens_per_s", site.prefill_tokens_per_s);
  visit.OrNeutral("token_time_s", site.token_time_s);
  visit.OrNeutral("token_time_per_query_s", site.token_time_per_query_s);
  visit.OrNeutral("backends", site.backends);
  visit.OrNeutral("active_uplinks", site.active_uplinks);
  visit.OrNeutral("active_queries", site.active_queries);
  visit.OrNeutral("resident_interference_w", site.resident_interference_w);
  visit.OrNeutral("max_queries", site.max_queries);
  visit.OrNeutral("accepting", site.accepting);
  visit.OrNeutral("chat", site.chat);
  visit.OrNeutral("contexts", site.contexts);
  visit.OrNeutral("draining", site.draining);
}

template <typename Visit>
void Fields(const Visit& visit, Candidate& c) {
  visit("uncertainty", c.uncertainty);
  visit("prompt_bits", c.prompt_bits);
  visit("tx_power_w", c.tx_power_w);
  visit("local_delay_s", c.local_delay_s);
  visit("edge_work_flop", c.edge_work_flop);
  visit.OrNeutral("deadline_s", Number{&c.deadline_s, sched::kInfinity});
  visit.OrNeutral("round_trip_s", c.round_trip_s);
  visit.OrNeutral("prompt_tokens", c.prompt_tokens);
  visit.OrNeutral("expected_output_tokens", c.expected_output_tokens);
  visit.OrNeutral("tenant", c.tenant);
  visit.OrNeutral("must_offload", c.must_offload);
  visit.OrNeutral("chat", c.needs.chat);
  visit.OrNeutral("tools", c.needs.tools);
  visit.OrNeutral("images", c.needs.images);
  visit.OrNeutral("context_tokens", c.needs.context_tokens);
  visit.OrNeutral("link_stale", c.link_stale);
  visit.OrNeutral("tau", Number{&c.tau, sched::kUnknown});
}

template <typename Visit>
void Fields(const Visit& visit, Resident& resident) {
  visit.OrNeutral("gain", Number{&resident.gain, sched::kUnknown});
  visit.OrNeutral("uplink_bps", Number{&resident.uplink_bps, sched::kUnknown});
}

json NumberOrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

struct Writer {
  json* out;
  template <typename T>
  void operator()(const char* name, const T& value) const {
    (*out)[name] = value;
  }
  void operator()(const char* name, const Number& number) const { (*out)[name] = NumberOrNull(*number.value); }
  template <typename T>
  void OrNeutral(const char* name, const T& value) const {
    (*this)(name, value);
  }
};

struct Reader {
  const json* in;
  template <typename T>
  void operator()(const char* name, T& value) const {
    in->at(name).get_to(value);
  }
  void operator()(const char* name, const Number& number) const {
    const json& value = in->at(name);
    *number.value = value.is_null() ? number.if_null : value.get<double>();
  }
  template <typename T>
  void OrNeutral(const char* name, T& value) const {
    if (in->contains(name)) (*this)(name, value);
  }
  void OrNeutral(const char* name, Number&& number) const {
    if (in->contains(name)) (*this)(name, std::as_const(number));
  }
};

// Absence leaves `value`; false for a word that is none of `words`.
template <typename Enum>
bool ReadWord(const json& row, const char* name, const std::array<const char*, 2>& words, Enum* value) {
  const auto found = row.find(name);
  if (found == row.end()) return true;
  for (size_t k = 0; k < words.size(); ++k) {
    if (*found != words[k]) continue;
    *value = static_cast<Enum>(k);
    return true;
  }
  return false;
}

template <typename T>
json Write(T value) {
  json out = json::object();
  Fields(Writer{&out}, value);
  return out;
}

json Matrix(const std::vector<double>& values) {
  json list = json::array();
  for (const double value : values) list.push_back(NumberOrNull(value));
  return list;
}

std::vector<double> MatrixFrom(const json& list) {
  std::vector<double> values;
  values.reserve(list.size());
  for (const json& value : list) values.push_back(value.is_null() ? sched::kUnknown : value.get<double>());
  return values;
}

}  // namespace

json ToJson(const EpochRecord& record) {
  const sched::EpochSnapshot& s = record.snapshot;
  json sites = json::array(), candidates = json::array(), residents = json::array(), pairs = json::array();
  for (size_t j = 0; j < s.sites.size(); ++j) {
    const SiteState& site = s.sites[j];
    json row = Write(site);
    if (record.config != nullptr) row["name"] = record.config->sites[j].name;
    row["uplink"] = kUplinks[static_cast<size_t>(site.uplink)];
    row["compute"] = kComputes[static_cast<size_t>(site.compute)];
    sites.push_back(std::move(row));
  }
  for (const Candidate& candidate : s.candidates) {
    json row = Write(candidate);
    row["id"] = static_cast<uint64_t>(candidate.id);
    candidates.push_back(std::move(row));
  }
  for (const Resident& resident : s.residents) {
    json row = Write(resident);
    row["site"] = static_cast<int>(resident.site);
    row["query"] = Write(resident.query);
    residents.push_back(std::move(row));
  }
  for (const auto& [i, site] : record.result.order) pairs.push_back({i, static_cast<int>(site)});
  return {{"kind", "snapshot"},
          {"epoch", s.epoch},
          {"policy", record.policy},
          {"lambda_s", record.lambda_s},
          {"tau", s.tau},
          {"seed", s.seed},
          {"sites", sites},
          {"candidates", candidates},
          {"residents", residents},
          {"gain", Matrix(s.gain)},
          {"uplink_bps", Matrix(s.uplink_bps)},
          {"tenant_caps", s.tenant_caps},
          {"order", pairs}};
}

absl::StatusOr<LoggedEpoch> LoggedEpochFromJson(const json& line) {
  LoggedEpoch epoch;
  sched::EpochSnapshot& s = epoch.snapshot;
  try {
    const Reader top{&line};
    line.at("epoch").get_to(s.epoch);
    line.at("policy").get_to(epoch.policy);
    line.at("lambda_s").get_to(epoch.lambda_s);
    line.at("tau").get_to(s.tau);
    top.OrNeutral("seed", s.seed);
    top.OrNeutral("tenant_caps", s.tenant_caps);
    for (const json& row : line.at("sites")) {
      SiteState site;
      Fields(Reader{&row}, site);
      if (!ReadWord(row, "uplink", kUplinks, &site.uplink) || !ReadWord(row, "compute", kComputes, &site.compute)) {
        return absl::InvalidArgumentError("sites: a model of uplink or compute that is unknown here");
      }
      s.sites.push_back(site);
    }
    for (const json& row : line.at("candidates")) {
      Candidate candidate;
      Fields(Reader{&row}, candidate);
      candidate.id = sched::QueryId{row.at("id").get<uint64_t>()};
      s.candidates.push_back(candidate);
    }
    for (const json& row : line.value("residents", json::array())) {
      Resident resident;
      Fields(Reader{&row}, resident);
      resident.site = static_cast<sched::SiteIndex>(row.at("site").get<int32_t>());
      Fields(Reader{&row.at("query")}, resident.query);
      s.residents.push_back(resident);
    }
    s.gain = MatrixFrom(line.at("gain"));
    if (line.contains("uplink_bps")) s.uplink_bps = MatrixFrom(line.at("uplink_bps"));
    for (const json& pair : line.at("order")) {
      epoch.order.emplace_back(pair.at(0).get<uint32_t>(), static_cast<sched::SiteIndex>(pair.at(1).get<int32_t>()));
    }
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
  return epoch;
}

}  // namespace goad::server
