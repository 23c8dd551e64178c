#include "scheduler/sim/scenario.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "scheduler/workload/radio.h"

namespace goad::sched {
namespace {

constexpr double kServerFlops = 1513e12;
constexpr double kMeanLocal_s = 0.0359;
constexpr double kAlphaA = 1.4, kAlphaB = 0.82;
constexpr double kAllLocal = 0.452, kAllEdge = 0.562;

double Declining(double at_the_mean, double uncertainty) {
  return kSureAccuracy - (kSureAccuracy - at_the_mean) / (kAlphaA / (kAlphaA + kAlphaB)) * uncertainty;
}

double Beta(std::mt19937_64& random, double a, double b) {
  const double x = std::gamma_distribution<double>(a)(random), y = std::gamma_distribution<double>(b)(random);
  return x / (x + y);
}

}  // namespace

EpochSnapshot DrawEpoch(std::mt19937_64& random, size_t users, size_t sites, double tau, Scaling scaling) {
  const double n = static_cast<double>(users), m = static_cast<double>(sites);
  const double compute_scale = scaling == Scaling::kPaper ? 1 : (n / 100) * (4 / m);
  const double band_scale = scaling == Scaling::kPaper ? 1 : (n / 100) * (n / 100) * (4 / m);
  std::uniform_real_distribution<double> uniform(0, 1);
  EpochSnapshot snapshot;
  snapshot.tau = tau;
  snapshot.seed = random();
  for (size_t j = 0; j < sites; ++j) {
    SiteState site;
    site.bandwidth_hz = 100e6 * band_scale;
    site.noise_w = 4e-21 * 100e6;
    site.compute_flops = 10 * kServerFlops * (0.6 + 0.8 * uniform(random)) * compute_scale;
    site.max_share_flops = kServerFlops;
    snapshot.sites.push_back(site);
  }
  std::lognormal_distribution<double> bytes(std::log(420.0), 0.45), local(-0.5 * 0.2 * 0.2, 0.2);
  snapshot.candidates.reserve(users);
  snapshot.gain.reserve(users * sites);
  for (size_t i = 0; i < users; ++i) {
    const double flops = kReferenceFlops * (0.5 + uniform(random));
    Candidate candidate;
    candidate.id = QueryId{i};
    candidate.uncertainty = Beta(random, kAlphaA, kAlphaB);
    candidate.prompt_bits = std::clamp(bytes(random), 200.0, 1200.0);
    candidate.tx_power_w = 0.2;
    candidate.local_delay_s = kMeanLocal_s * local(random) / (flops / kReferenceFlops);
    candidate.edge_work_flop = 8 * candidate.local_delay_s * flops;
    snapshot.candidates.push_back(candidate);
    const std::vector<double> gain = EmulatedRadio(random, sites).Fade(random);
    snapshot.gain.insert(snapshot.gain.end(), gain.begin(), gain.end());
  }
  return snapshot;
}

double LocalAccuracy(double uncertainty) { return Declining(kAllLocal, uncertainty); }
double EdgeAccuracy(double uncertainty) { return Declining(kAllEdge, uncertainty); }

absl::StatusOr<QuestionSource> QuestionSource::Open(const std::string& workload) {
  QuestionSource source;
  if (workload.empty()) return source;
  std::ifstream in(workload);
  if (!in) return absl::InvalidArgumentError(absl::StrCat("workload: ", workload, ": cannot be read"));
  auto questions = ReadWorkload(in, workload);
  if (!questions.ok()) return questions.status();
  source.questions_ = *std::move(questions);
  for (const RecordedQuestion& question : source.questions_) {
    source.mean_local_s_ += question.device.local_s() / static_cast<double>(source.questions_.size());
  }
  return source;
}

Draw QuestionSource::Make(std::mt19937_64& random, size_t users, size_t sites, double tau) const {
  Draw draw;
  draw.snapshot = DrawEpoch(random, users, sites, tau, Scaling::kPaper);
  for (Candidate& candidate : draw.snapshot.candidates) {
    if (questions_.empty()) {
      draw.local_accuracy.push_back(LocalAccuracy(candidate.uncertainty));
      draw.edge_accuracy.push_back(EdgeAccuracy(candidate.uncertainty));
      continue;
    }
    const RecordedQuestion& question = questions_[random() % questions_.size()];
    const double flops = candidate.edge_work_flop / (8 * candidate.local_delay_s);  // C_i
    candidate.uncertainty = question.uncertainty;
    candidate.prompt_bits = static_cast<double>(question.prompt.size());
    candidate.local_delay_s = kMeanLocal_s * question.device.local_s() / mean_local_s_ * (kReferenceFlops / flops);
    candidate.edge_work_flop = 8 * candidate.local_delay_s * flops;
    draw.local_accuracy.push_back(question.device.correct);
    draw.edge_accuracy.push_back(question.edge.correct);
  }
  return draw;
}

}  // namespace goad::sched
