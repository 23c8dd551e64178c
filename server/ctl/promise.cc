// goadctl promise: the accuracy that is promised, its price, and whether it is kept.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/clip.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"

namespace goad::ctl {
namespace {

std::string Percent(double share) { return absl::StrFormat("%.1f %%", 100 * share); }

double Share(double part, double all) { return all > 0 ? part / all : 0; }

struct Interval {
  double low, high;
};
// Wilson's 95 % interval of a mean of `n` numbers in 0..1, as if each were 0 or 1, which is when it is the widest.
Interval IntervalOf(double mean, double n) {
  constexpr double kZ = 1.959964;
  const double middle = (mean + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
  const double half = kZ / (1 + kZ * kZ / n) * std::sqrt(mean * (1 - mean) / n + kZ * kZ / (4 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace

std::string CertificateText(const v1::Certificate& certificate) {
  return absl::StrCat(Percent(certificate.accuracy()), " right, with confidence ", certificate.confidence(),
                      ", for at least ", Percent(certificate.share()), " offloaded, from ", certificate.labels(),
                      " labels");
}

int Promise(const Context& context, const std::string&) {
  v1::PromiseResponse promise;
  if (const int failed = Call(context, &v1::Admin::Stub::Promise, v1::PromiseRequest(), &promise)) return failed;
  if (context.json) return PrintJson(promise), kOk;
  if (!promise.has_certificate()) {
    std::cout << "no accuracy is promised: policy.accuracy is not set\n";
    return kOk;
  }
  const v1::Certificate& certificate = promise.certificate();
  std::cout << "promised " << CertificateText(certificate) << "\n"
            << "tau      " << absl::StrFormat("%.4f", promise.tau()) << " of the value of offloading";
  if (promise.tau_overridden()) {
    std::cout << "  "
              << Coloured(context, false,
                          absl::StrFormat("(set by hand; %.4f is certified, of another nothing is promised)",
                                          certificate.value_tau()));
  }
  std::cout << "\n";
  const auto decisions = static_cast<double>(promise.decisions());
  std::cout << "price    " << promise.offloaded() << " of " << promise.decisions() << " decisions offloaded ("
            << Percent(Share(static_cast<double>(promise.offloaded()), decisions)) << "), " << promise.forced()
            << " of them because they had to be\n";
  const double missed = static_cast<double>(promise.forced_local() + promise.forced_failed());
  std::cout << "missed   " << promise.forced_local() << " that had to be offloaded were not, "
            << promise.forced_failed() << " were and failed";
  if (missed > 0) std::cout << ": at worst " << Percent(Share(missed, decisions)) << " of accuracy";
  std::cout << "\n";
  uint64_t answers = 0;
  double error = 0;
  for (const v1::RatedAnswers& rated : promise.rated()) {
    answers += rated.answers();
    error += rated.error();
  }
  if (answers == 0) {
    std::cout << "reached  nobody knows: no app has rated an answer (Outcome.quality)\n";
  } else {
    const double n = static_cast<double>(answers), right = 1 - error / n;
    const Interval interval = IntervalOf(right, n);
    const char* const kept = right >= certificate.accuracy()           ? ""
                             : interval.high >= certificate.accuracy() ? ", BELOW what is promised, which may be chance"
                                                                       : ", BELOW what is promised";
    std::cout << "reached  "
              << Coloured(context, *kept == '\0',
                          absl::StrFormat("%.1f %% right%s  (95 %%: %.1f .. %.1f)", 100 * right, kept,
                                          100 * interval.low, 100 * interval.high))
              << " of " << answers << " answers that apps chose to rate ("
              << Percent(std::min(1.0, Share(n, decisions))) << " of all)";
    for (const v1::RatedAnswers& rated : promise.rated()) {
      if (rated.answers() == 0) continue;
      std::cout << "; " << rated.by() << " " << Percent(1 - rated.error() / static_cast<double>(rated.answers()))
                << " of " << rated.answers();
    }
    std::cout << "\n";
  }
  std::cout << "evidence " << absl::StrFormat("%.3g", promise.evidence()) << " that it is not kept; the alarm is at "
            << absl::StrFormat("%.3g", promise.alarm_at()) << ": "
            << Coloured(context, !promise.broken(), promise.broken() ? "BROKEN" : "no alarm") << "\n\n";
  Table table({"METRIC", "MODEL", "KIND", ">TAU OF UNCERTAINTY"});
  for (const v1::ToldTau& tau : promise.taus()) {
    table.Add({tau.metric(), tau.model().empty() ? "(not said)" : server::Printable(tau.model()),
               tau.kind().empty() ? "(all)" : server::Printable(tau.kind()), absl::StrFormat("%.4f", tau.tau())});
  }
  std::cout << table.Text() << "others are always offloaded\n";
  return kOk;
}

}  // namespace goad::ctl
