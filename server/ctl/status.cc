// goadctl status and tenants: what goad does, and for whom.
#include <cmath>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/clip.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"

namespace goad::ctl {
namespace {

// Beside what is in force.
std::string Overridden(bool is, double trial_left_s, const std::string& configured) {
  if (!is) return "";
  const std::string hides = configured.empty() ? "" : absl::StrCat("; the file says ", configured);
  return trial_left_s > 0 ? absl::StrCat("  (on trial, for another ", Ago(trial_left_s), hides, ")")
                          : absl::StrCat("  (set by hand, until the next reload", hides, ")");
}

// What the words of a refused reload hold, a line each.
std::string Indented(const std::string& lines) {
  std::vector<std::string> printable;
  for (const absl::string_view line : absl::StrSplit(lines, '\n')) {
    printable.push_back(absl::StrCat("           ", server::Printable({line.data(), line.size()})));
  }
  return absl::StrCat(absl::StrJoin(printable, "\n"), "\n");
}

std::string Limit(double limit) { return limit > 0 ? absl::StrFormat("%.6g", limit) : "-"; }

}  // namespace

int Status(const Context& context, const std::string&) {
  v1::StatusResponse status;
  if (const int failed = Call(context, &v1::Admin::Stub::Status, v1::StatusRequest(), &status)) return failed;
  if (context.json) return PrintJson(status), kOk;
  const bool told = !status.configured_policy().empty();  // else it is an older goad
  std::cout << "goad " << status.version() << "  "
            << Coloured(context, !status.draining(), status.draining() ? "draining" : "serving") << "  up "
            << Ago(status.uptime_s()) << "\n"
            << "policy   " << status.policy()
            << Overridden(status.policy_overridden(), status.policy_trial_left_s(), status.configured_policy()) << "\n"
            << "tau      " << status.tau() << (status.tau_of_values() ? " of the value of offloading" : "")
            << Overridden(status.tau_overridden(), 0, told ? absl::StrCat(status.configured_tau()) : "") << "\n"
            << (status.has_certificate() ? absl::StrCat("promise  ", CertificateText(status.certificate()), "\n") : "")
            << "config   version " << status.config_version();
  if (!status.config_file().empty()) std::cout << " of " << status.config_file();
  std::cout << "\n";
  if (!status.config_difference().empty()) {
    std::cout << "         "
              << Coloured(context, false, absl::StrCat("NOT IN FORCE: ", server::Printable(status.config_difference())))
              << "; goadctl check, then reload\n";
  }
  if (!status.last_reload_error().empty()) {
    std::cout << "         "
              << Coloured(context, false,
                          absl::StrCat("the last reload, ", Ago(status.last_reload_s()), " ago, was refused:"))
              << "\n"
              << Indented(status.last_reload_error());
  }
  std::cout << "epochs   " << status.epochs() << "\n"
            << "sessions " << status.sessions() << "\n"
            << "queries  " << status.pending_queries() << " waiting for a decision, " << status.granted_queries()
            << " for their prompt, " << status.running_queries() << " running\n";
  return kOk;
}

int Tenants(const Context& context, const std::string&) {
  v1::TenantsResponse tenants;
  if (const int failed = Call(context, &v1::Admin::Stub::Tenants, v1::TenantsRequest(), &tenants)) return failed;
  if (context.json) return PrintJson(tenants), kOk;
  Table table({"TENANT", ">WEIGHT", ">QUERIES", ">MAX", ">DECISIONS", ">OFFLOADED", ">LATELY", ">MOST", ">QUERIES/S",
               ">TOKENS/MIN", "REFUSED BY"});
  for (const v1::TenantStatus& tenant : tenants.tenants()) {
    std::vector<std::string> refused;
    for (const v1::TenantRefusals& row : tenant.refused())
      refused.push_back(absl::StrCat(row.limit(), " ", row.queries()));
    table.Add({tenant.name(), absl::StrFormat("%.6g", tenant.weight()), absl::StrCat(tenant.active_queries()),
               Limit(tenant.max_queries()), absl::StrCat(tenant.decisions()), absl::StrCat(tenant.offloaded()),
               absl::StrFormat("%.0f %%", 100 * tenant.recent_offloaded_share()),
               tenant.max_offloaded_share() < 1 ? absl::StrFormat("%.3g %%", 100 * tenant.max_offloaded_share()) : "-",
               Limit(tenant.queries_per_second()), Limit(tenant.prompt_tokens_per_minute()),
               refused.empty() ? "-" : absl::StrJoin(refused, ", ")});
  }
  std::cout << table.Text();
  return kOk;
}

}  // namespace goad::ctl
