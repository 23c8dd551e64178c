// From when `goadctl log --since` prints.
#include "gtest/gtest.h"
#include "server/ctl/commands.h"

namespace goad::ctl {
namespace {

std::string Since(const std::string& text) {
  const absl::TimeZone zone = absl::FixedTimeZone(2 * 3600);
  absl::Time since;
  const absl::Time now = absl::FromCivil(absl::CivilSecond(2026, 11, 27, 18, 30, 0), zone);
  if (!ParseSince(text, now, zone, &since)) return "none";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", since, zone);
}

TEST(GoadctlLog, SinceIsATimeOfDayADateOrSoLongAgo) {
  EXPECT_EQ(Since("14:00"), "2026-11-27 14:00:00");
  EXPECT_EQ(Since("14:00:30"), "2026-11-27 14:00:30");
  EXPECT_EQ(Since("23:00"), "2026-11-26 23:00:00") << "of today it is still to come";
  EXPECT_EQ(Since("30m"), "2026-11-27 18:00:00");
  EXPECT_EQ(Since("2026-11-26"), "2026-11-26 00:00:00");
  EXPECT_EQ(Since("2026-11-26 14:00"), "2026-11-26 14:00:00");
  EXPECT_EQ(Since("2026-11-26T14:00:00Z"), "2026-11-26 16:00:00");
  for (const char* none : {"", "25:00", "soon", "-5m", "14", "14:00 tomorrow"}) EXPECT_EQ(Since(none), "none") << none;
}

}  // namespace
}  // namespace goad::ctl
