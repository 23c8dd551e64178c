#include "server/wire/enums.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace goad::server {
namespace {

TEST(EnumsTest, EveryReasonIsTheOneOfTheSameNameAndTheProtocolHasNoOther) {
  std::set<v1::Reason> wire;
  for (int k = 0; k < sched::kReasonCount; ++k) {
    const auto reason = static_cast<sched::Reason>(k);
    EXPECT_EQ(v1::Reason_Name(ToWire(reason)), absl::StrCat("REASON_", sched::ToString(reason)));
    wire.insert(ToWire(reason));
  }
  EXPECT_EQ(wire.size(), static_cast<size_t>(v1::Reason_descriptor()->value_count()) - 1);  // but UNSPECIFIED
}

TEST(EnumsTest, EveryVerdictIsTheOneOfTheSameNameAndTheProtocolHasNoOther) {
  for (const auto verdict : {sched::Verdict::kLocal, sched::Verdict::kOffload}) {
    EXPECT_EQ(v1::Verdict_Name(ToWire(verdict)), absl::StrCat("VERDICT_", sched::ToString(verdict)));
  }
  EXPECT_EQ(v1::Verdict_descriptor()->value_count(), 3);
}

TEST(EnumsTest, EveryMetricIsTheOneOfTheSameNameAndNumberAndTheProtocolHasNoOther) {
  for (int k = 1; k <= kUncertaintyMetrics; ++k) {
    const auto metric = static_cast<UncertaintyMetric>(k);
    EXPECT_EQ(v1::UncertaintyMetric_Name(ToWire(metric)), absl::StrCat("UNCERTAINTY_METRIC_", ToString(metric)));
    EXPECT_EQ(static_cast<int>(ToWire(metric)), k);  // clients send the number
  }
  EXPECT_EQ(v1::UncertaintyMetric_descriptor()->value_count(), kUncertaintyMetrics + 1);
}

}  // namespace
}  // namespace goad::server
