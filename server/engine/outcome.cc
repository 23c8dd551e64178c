#include "server/engine/outcome.h"

#include "absl/strings/str_cat.h"

namespace goad::server {

OutcomeRecord MakeOutcome(const Config& config, const Query& query, Ending ending, const QueryDone* done,
                          std::optional<double> queries, MonotonicTime now) {
  const SiteConfig& site = config.sites[sched::ToIndex(query.site)];
  OutcomeRecord record;
  record.at_s = SecondsBetween(MonotonicTime(), now);
  record.query_id = query.query_id;
  record.device = query.device;
  record.tenant = query.meta.tenant;
  record.trace_id = query.meta.trace_id();
  record.site = site.name;
  record.ending = ending;
  record.prompt_bits = query.meta.prompt_bits;
  record.upload_s = query.upload_s;
  record.sharers = query.sharers;
  record.predicted_upload_s = query.predicted_upload_s;
  record.predicted_compute_s = query.predicted_compute_s;
  record.prompt_tokens = query.meta.prompt_tokens;
  record.expected_output_tokens = query.expected_output_tokens;
  record.max_output_tokens = query.meta.max_output_tokens;
  record.queries = queries;
  if (site.compute.model == sched::ComputeModel::kBatching) record.configured = site.compute;
  if (done == nullptr || done->outcome != DispatchOutcome::kCompleted) return record;
  record.backend = absl::StrCat(site.name, "/", done->backend);
  record.compute_s = done->compute_s;
  record.first_token_s = done->first_token_s;
  record.output_tokens = done->output_tokens;
  if (done->served && query.Teaches()) record.computed_tokens = done->served->prompt_tokens;
  return record;
}

}  // namespace goad::server
