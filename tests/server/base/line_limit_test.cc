#include "server/base/line_limit.h"

#include "gtest/gtest.h"

namespace goad::server {
namespace {

TEST(LineLimit, AFloodIsTenLinesAndACount) {
  LineLimit limit;
  MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(100));
  int lines = 0;
  for (int k = 0; k < 1000; ++k) {
    const std::optional<int> left_out = limit.Allow(now);
    EXPECT_EQ(left_out.value_or(0), 0);
    lines += left_out.has_value();
    now = now + absl::Milliseconds(5);
  }
  EXPECT_EQ(lines, LineLimit::kMost);
  now = now + LineLimit::kWindow;
  EXPECT_EQ(limit.Allow(now), 1000 - LineLimit::kMost);
  EXPECT_EQ(limit.Allow(now), 0) << "told once";
}

}  // namespace
}  // namespace goad::server
