#include "server/sim/fit.h"

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/clip.h"
#include "server/base/median.h"
#include "server/sim/log_lines.h"
#include "server/telemetry/outcome_json.h"

namespace goad::server {
namespace {

using nlohmann::json;

double Predicted(const ServiceTimes& times, double prompt_tokens, double output_tokens, double queries) {
  return times.overhead_s + prompt_tokens / times.prefill_tokens_per_s +
         output_tokens * (times.token_time_s + times.token_time_per_query_s * queries);
}

json Summary(const FitErrors& errors) {
  if (errors.relative.empty()) return nullptr;
  const double sum = std::accumulate(errors.relative.begin(), errors.relative.end(), 0.0);
  std::vector<double> absolute;
  for (const double error : errors.relative) absolute.push_back(std::abs(error));
  return {{"median_relative_error", MedianOf(absolute)}, {"bias", sum / static_cast<double>(errors.relative.size())}};
}

}  // namespace

absl::Status Fit::Read(std::istream& in, const std::string& source) {
  return ReadLogLines(in, source, [this](const json& line, const std::string&) {
    if (line.value("kind", json()) != "outcome") return absl::OkStatus();
    const auto record = OutcomeFromJson(line);
    if (!record.ok()) return record.status();
    ++outcomes_;
    if (record->at_s < last_s_) {  // another boot: a daemon that knew nothing yet
      for (auto& [name, site] : sites_) site.estimate = {};
      uplinks_ = std::make_unique<UplinkTable>();
    }
    last_s_ = record->at_s;
    const MonotonicTime at = MonotonicTime::FromOrigin(absl::Seconds(record->at_s));
    if (record->upload_s) AddUpload(*record, at);
    if (record->compute_s) AddAnswer(*record, at);
    return absl::OkStatus();
  });
}

void Fit::AddUpload(const OutcomeRecord& record, MonotonicTime at) {
  ++upload_.answers;
  if (upload_.answers > after_) upload_.decided.Add(record.predicted_upload_s, *record.upload_s);
  if (!record.sharers) return;
  ++upload_.samples;
  uplinks_->Refresh(at);
  const auto predicted_s = [&](const UplinkTimes& times) {
    return times.round_trip_s + record.prompt_bits * *record.sharers / times.uplink_bps;
  };
  if (upload_.samples > after_) {
    upload_.configured.Add(predicted_s(UplinkTable::kFirst), *record.upload_s);
    upload_.learned.Add(predicted_s(uplinks_->Of(record.device, at)), *record.upload_s);
  }
  uplinks_->Add(record.device, record.prompt_bits, *record.sharers, *record.upload_s, at);
}

void Fit::AddAnswer(const OutcomeRecord& record, MonotonicTime at) {
  Site& site = sites_[record.site];
  ++site.answers;
  if (site.answers > after_) site.decided.Add(record.predicted_compute_s, *record.compute_s);
  if (!record.computed_tokens || !record.output_tokens || !record.queries || !record.configured) return;
  ++site.samples;
  SiteConfig config;
  config.compute = *record.configured;
  if (BeginsAnew(site.config, config)) site.estimate = {};
  site.config = config;
  const ComputeConfig& compute = config.compute;
  const ServiceTimes start = ServiceEstimate().At(compute, at), learned = site.estimate.At(compute, at);
  const auto add = [&](const ServiceTimes& times, double output_tokens, FitErrors* errors) {
    if (site.samples <= after_) return;
    errors->Add(Predicted(times, record.prompt_tokens, output_tokens, *record.queries), *record.compute_s);
  };
  add(start, *record.output_tokens, &site.configured);
  add(learned, *record.output_tokens, &site.learned);
  add(start, record.expected_output_tokens, &site.assumed_configured);
  add(learned, record.expected_output_tokens, &site.assumed_learned);
  site.estimate.Add(compute, {*record.compute_s, *record.computed_tokens, *record.output_tokens}, record.prompt_tokens,
                    *record.queries, at);
}

json Fit::Row(const Part& part) {
  return {{"answers", part.answers},
          {"samples", part.samples},
          {"decided", Summary(part.decided)},
          {"configured", Summary(part.configured)},
          {"learned", Summary(part.learned)}};
}

json Fit::Json() const {
  json sites = json::array();
  for (const auto& [name, site] : sites_) {
    json row = Row(site);
    row["site"] = name;
    row["assumed_lengths"] = {{"configured", Summary(site.assumed_configured)},
                              {"learned", Summary(site.assumed_learned)}};
    sites.push_back(std::move(row));
  }
  return {{"sites", std::move(sites)}, {"upload", Row(upload_)}};
}

std::string Fit::Table() const {
  std::string text = absl::StrFormat("%d outcomes\n\n%-16s %8s %8s  %-30s %14s %8s\n", outcomes_, "", "answers",
                                     "samples", "predicted by", "median |error|", "bias");
  const auto rows = [&](const std::string& name, const Part& part,
                        const std::vector<std::pair<const char*, const FitErrors*>>& ways) {
    std::string head = absl::StrFormat("%-16s %8d %8d", name, part.answers, part.samples);
    for (const auto& [way, errors] : ways) {
      const json summary = Summary(*errors);
      if (summary.is_null()) continue;
      absl::StrAppendFormat(&text, "%-34s  %-30s %12.1f %% %+6.1f %%\n", std::exchange(head, ""), way,
                            100 * summary["median_relative_error"].get<double>(), 100 * summary["bias"].get<double>());
    }
    if (!head.empty()) absl::StrAppend(&text, head, "\n");
  };
  for (const auto& [name, site] : sites_) {
    rows(Clip(name), site,
         {{"the daemon, when it decided", &site.decided},
          {"configured", &site.configured},
          {"learned", &site.learned},
          {"configured, assumed lengths", &site.assumed_configured},
          {"learned, assumed lengths", &site.assumed_learned}});
  }
  rows("(uploads)", upload_,
       {{"the daemon, when it decided", &upload_.decided},
        {"10 Mbit/s for all", &upload_.configured},
        {"learned", &upload_.learned}});
  return text;
}

}  // namespace goad::server
