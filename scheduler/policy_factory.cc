#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/baseline_policies.h"
#include "scheduler/goa_policy.h"
#include "scheduler/policy.h"
#include "scheduler/reference_policy.h"

namespace goad::sched {
namespace {

template <typename Policy>
std::unique_ptr<const OffloadPolicy> Make() {
  return std::make_unique<const Policy>();
}

struct Row {
  const char* name;
  std::unique_ptr<const OffloadPolicy> (*make)();
};
constexpr Row kPolicies[] = {
    {"goa", Make<GoaPolicy>},           {"min-delay", Make<MinDelayPolicy>}, {"all-edge", Make<AllEdgePolicy>},
    {"all-local", Make<AllLocalPolicy>}, {"random", Make<RandomPolicy>},      {"reference", Make<ReferencePolicy>},
};

}  // namespace

const std::vector<std::string>& PolicyNames() {
  static const auto* names = [] {
    auto* list = new std::vector<std::string>;
    for (const Row& row : kPolicies) list->push_back(row.name);
    return list;
  }();
  return *names;
}

absl::StatusOr<std::unique_ptr<const OffloadPolicy>> MakePolicy(const std::string& name) {
  for (const Row& row : kPolicies) {
    if (name == row.name) return row.make();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("policy: \"", name, "\" is not one of ", absl::StrJoin(PolicyNames(), ", ")));
}

}  // namespace goad::sched
