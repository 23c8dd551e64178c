#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/baseline_policies.h"
#include "scheduler/goa_policy.h"
#include "scheduler/policy.h"
#include "scheduler/reference_policy.h"
#include "scheduler/relocate_policy.h"
#include "scheduler/search_policies.h"
#include "scheduler/snapshot_check.h"

namespace goad::sched {
namespace {

template <typename Policy>
std::unique_ptr<const OffloadPolicy> Make(const PolicyParameters&) {
  return std::make_unique<const Policy>();
}
template <typename Policy>
std::unique_ptr<const OffloadPolicy> MakeWithLambda(const PolicyParameters& parameters) {
  return std::make_unique<const Policy>(parameters.lambda_s);
}

constexpr size_t kManyPairs = 1000000;
constexpr size_t kSlowPairs = 2000;   // reference grows with the cube of the candidates; genetic tries 2,400 times
constexpr size_t kOptimalPairs = 48;  // 12 candidates, 4 sites

struct Row {
  const char* name;
  std::unique_ptr<const OffloadPolicy> (*make)(const PolicyParameters&);
  bool serving;
  size_t most_pairs;
};
constexpr Row kPolicies[] = {
    {"goa", Make<GoaPolicy>, true, kManyPairs},
    {"goa-relocate", MakeWithLambda<RelocatePolicy>, true, kManyPairs},
    {"min-delay", Make<MinDelayPolicy>, true, kManyPairs},
    {"all-edge", Make<AllEdgePolicy>, true, kManyPairs},
    {"all-local", Make<AllLocalPolicy>, true, kManyPairs},
    {"random", Make<RandomPolicy>, true, kManyPairs},
    {"genetic", MakeWithLambda<GeneticPolicy>, false, kSlowPairs},
    {"optimal", MakeWithLambda<OptimalPolicy>, false, kOptimalPairs},
    {"reference", Make<ReferencePolicy>, false, kSlowPairs},
};
static_assert(std::all_of(std::begin(kPolicies), std::end(kPolicies),
                          [](const Row& row) { return row.most_pairs > 0; }),
              "a policy without most_pairs would be refused every plan");

const std::vector<std::string>* Names(bool serving_only) {
  auto* list = new std::vector<std::string>;
  for (const Row& row : kPolicies) {
    if (row.serving || !serving_only) list->push_back(row.name);
  }
  return list;
}

}  // namespace

const std::vector<std::string>& PolicyNames() {
  static const auto* names = Names(false);
  return *names;
}

const std::vector<std::string>& ServingPolicyNames() {
  static const auto* names = Names(true);
  return *names;
}

size_t MostPairs(const std::string& name) {
  for (const Row& row : kPolicies) {
    if (name == row.name) return row.most_pairs;
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<const OffloadPolicy>> MakePolicy(const std::string& name,
                                                                const PolicyParameters& parameters) {
  if (!(std::isfinite(parameters.lambda_s) && parameters.lambda_s >= 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("lambda: ", parameters.lambda_s, " is not finite and >= 0 (seconds)"));
  }
  for (const Row& row : kPolicies) {
    if (name == row.name) return row.make(parameters);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("policy: \"", name, "\" is not one of ", absl::StrJoin(PolicyNames(), ", ")));
}

absl::Status CheckFor(const OffloadPolicy& policy, const EpochSnapshot& snapshot) {
  if (absl::Status status = CheckSnapshot(snapshot); !status.ok()) return status;
  if (snapshot.candidates.size() <= policy.max_candidates()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("candidates: ", snapshot.candidates.size(), " are more than the ",
                                                 policy.max_candidates(), " that this policy can decide on"));
}

}  // namespace goad::sched
