// goadctl explain: the costs that led to a recent decision.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"

namespace goad::ctl {

std::string Megabits(double bps) { return absl::StrFormat("%.3g Mbit/s", bps / 1e6); }

std::string ServiceText(const v1::ServiceTimes& service) {
  return absl::StrCat(
      service.from(), service.samples() > 0 ? absl::StrCat(" from ", service.samples(), " answers") : "", ", ",
      Duration(service.overhead_s()), " + prompt at ", absl::StrFormat("%.4g", service.prefill_tokens_per_s()),
      " tokens/s + per output token ", Duration(service.token_time_s()), " and ",
      Duration(service.token_time_per_query_s()), " for each query on its backend");
}

int Explain(const Context& context, const std::string& query_id) {
  v1::ExplainRequest request;
  request.set_query_id(query_id);
  v1::ExplainResponse why;
  if (const int failed = Call(context, &v1::Admin::Stub::Explain, request, &why)) return failed;
  if (context.json) return PrintJson(why), kOk;
  const bool valued = why.value_if_known_case() == v1::ExplainResponse::kValue;
  const double read = valued ? why.value() : why.uncertainty();  // by the policy
  const std::string reason = v1::Reason_Name(why.reason()).substr(sizeof "REASON_" - 1);
  const std::string verdict = why.verdict() == v1::VERDICT_OFFLOAD ? absl::StrCat("OFFLOAD to ", why.site())
                              : why.verdict() == v1::VERDICT_LOCAL ? "LOCAL"
                                                                   : "not decided yet, waits for a site";
  std::cout << "query " << why.query_id() << "  epoch " << why.epoch() << "  policy " << why.policy() << "\n"
            << Coloured(context, why.verdict() == v1::VERDICT_OFFLOAD, verdict) << ", " << reason << ": "
            << absl::StrFormat("%s %.4f %s tau %.4f", valued ? "value" : "uncertainty", read,
                               read > why.tau() ? ">" : "<=", why.tau())
            << (valued ? absl::StrFormat(" (uncertainty %.4f)", why.uncertainty()) : "")
            << (why.forced() ? (read > why.tau() ? ", must be offloaded" : ", has no local model: must be offloaded")
                             : "")
            << "\n";
  if (why.candidates() == 0) {
    std::cout << "decided without asking the policy: late, behind its own device's upload, or draining\n";
    return kOk;
  }
  std::cout << "candidate " << why.candidate() + 1 << " of " << why.candidates() << ", " << why.prompt_bits()
            << " bits to upload, local answer in " << Duration(why.local_delay_s())
            << (why.needs().empty() ? "" : ", needs " + why.needs()) << "\n\n"
            << "What it would have cost with "
            << (why.others_decided() ? absl::StrCat("everybody else decided (", why.assigned_before(), " offloaded)")
                                     : absl::StrCat("the ", why.assigned_before(), " assigned before it"))
            << ":\ndelta = upload + compute - local, key = " << (valued ? "value" : "uncertainty") << " x delta"
            << (why.policy() == "goa" ? "; the least key is taken first, and unless forced only below 0" : "") << ".\n";
  Table table({"", "SITE", ">THERE", ">UPLOAD", ">COMPUTE", ">LOCAL", ">DELTA", ">KEY", ""});
  for (const v1::SiteCost& site : why.sites()) {
    const bool eligible = site.eligibility() == "ELIGIBLE", costs = eligible || site.eligibility() == "DEADLINE";
    const auto cost = [&](double seconds) { return costs ? Duration(seconds) : "-"; };
    table.Add({site.site() == why.site() && !why.site().empty() ? "->" : "", site.site(), absl::StrCat(site.queries()),
               cost(site.upload_s()), absl::StrCat("+ ", cost(site.compute_s())),
               absl::StrCat("- ", cost(why.local_delay_s())), absl::StrCat("= ", cost(site.delta_s())),
               cost(site.key_s()), eligible ? "" : site.eligibility()});
  }
  std::cout << table.Text();
  for (const v1::SiteCost& site : why.sites()) {
    if (site.uplink_bps() > 0) {
      std::cout << "upload to " << site.site() << ": round trip " << Duration(why.round_trip_s()) << " + "
                << Megabits(site.uplink_bps()) << "\n";
    }
    if (site.has_service()) std::cout << "compute of " << site.site() << ": " << ServiceText(site.service()) << "\n";
  }
  if (why.verdict() == v1::VERDICT_OFFLOAD) {
    std::cout << "\nPredicted with everybody's assignment in place: upload " << Duration(why.predicted_upload_s())
              << " + compute " << Duration(why.predicted_compute_s()) << " = "
              << Duration(why.predicted_upload_s() + why.predicted_compute_s()) << "\n";
  }
  return kOk;
}

}  // namespace goad::ctl
