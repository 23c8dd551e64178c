// Recorded arrivals and uplinks: what is read of them, and what is refused.
#include "scheduler/workload/trace.h"

#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace goad::sched {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::vector<Arrival>> Arrivals(const std::string& text) {
  std::istringstream in(text);
  return ReadArrivals(in, "x.csv");
}
absl::StatusOr<UplinkTrace> Uplink(const std::string& text) {
  std::istringstream in(text);
  return UplinkTrace::Read(in, "x.csv");
}
std::string ArrivalsError(const std::string& text) { return std::string(Arrivals(text).status().message()); }
std::string UplinkError(const std::string& text) { return std::string(Uplink(text).status().message()); }

TEST(Trace, ColumnsAreFoundByNameWhateverElseThereIs) {
  const auto arrivals = Arrivals(
      "output_tokens , region,time_s,prompt_tokens\r\n"
      "44,\"north\",100.5,374\r\n\r\n"
      "109,south, 104.5 ,396\r\n"
      "7,,104.5,2");
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  ASSERT_EQ(arrivals->size(), 3u);
  EXPECT_EQ((*arrivals)[0].time_s, 0);
  EXPECT_EQ((*arrivals)[1].time_s, 4);
  EXPECT_EQ((*arrivals)[2].time_s, 4);
  EXPECT_EQ((*arrivals)[1].prompt_tokens, 396);
  EXPECT_EQ((*arrivals)[1].output_tokens, 109);
}

TEST(Trace, WhatIsWrongIsNamed) {
  const std::string head = "time_s,prompt_tokens,output_tokens\n";
  EXPECT_EQ(ArrivalsError(""), "x.csv: is empty");
  EXPECT_EQ(ArrivalsError(head), "x.csv: has no rows below its header");
  EXPECT_EQ(ArrivalsError("time_s,prompt_tokens\n1,2\n"), "x.csv:1: output_tokens: no such column in the header");
  EXPECT_EQ(ArrivalsError("time_s,time_s,prompt_tokens,output_tokens\n"),
            "x.csv:1: time_s: more than one such column in the header");
  EXPECT_EQ(ArrivalsError(head + "2,1,1\n1,1,1\n"), "x.csv:3: time_s: \"1\" runs backwards");
  EXPECT_EQ(ArrivalsError(head + "-1,1,1\n"), "x.csv:2: time_s: \"-1\" is not in 0..1e+10");
  EXPECT_EQ(ArrivalsError(head + "0,-4,1\n"), "x.csv:2: prompt_tokens: \"-4\" is not in 0..1e+06");
  EXPECT_EQ(ArrivalsError(head + "0,1e9,1\n"), "x.csv:2: prompt_tokens: \"1e9\" is not in 0..1e+06");
  EXPECT_EQ(ArrivalsError(head + "0,1,1.5\n"), "x.csv:2: output_tokens: \"1.5\" is not a whole number");
  EXPECT_EQ(ArrivalsError(head + "nan,1,1\n"), "x.csv:2: time_s: \"nan\" is not in 0..1e+10");
  EXPECT_EQ(ArrivalsError(head + "0,\x1b[2Jmany,1\n"), "x.csv:2: prompt_tokens: \"\\033[2Jmany\" is not a number");
  EXPECT_EQ(ArrivalsError(head + "0,1\n"), "x.csv:2: has 2 columns where the header has 3");
  EXPECT_EQ(ArrivalsError(head + std::string(kMostTraceLine + 1, '1') + "\n"), "x.csv:2: is longer than 4096 bytes");
  EXPECT_THAT(ArrivalsError(head + "0," + std::string(500, 'x') + ",1\n"), HasSubstr("xxx...\" is not a number"));
  EXPECT_EQ(UplinkError("time_s,uplink_bps\n0,inf\n"), "x.csv:2: uplink_bps: \"inf\" is not in 0..1e+12");
  EXPECT_EQ(UplinkError("time_s,uplink_bps\n0,1\n0,2\n"), "x.csv:3: time_s: is that of the row before");
  EXPECT_EQ(UplinkError("time_s,uplink_bps\n0,0\n1,0\n"),
            "x.csv: uplink_bps: is 0 in every row, nothing would ever arrive");
}

// 1,000 bit/s for 1 s, nothing for 2 s, 3,000 bit/s for as long as the step before it, 2 s; then again from the start.
TEST(Trace, AnUplinkByHand) {
  const auto uplink = Uplink("time_s,uplink_bps\n10,1000\n11,0\n13,3000\n");
  ASSERT_TRUE(uplink.ok()) << uplink.status();
  EXPECT_EQ(uplink->period_s(), 5);
  EXPECT_EQ(uplink->mean_bps(), 1400);
  for (const auto& [time_s, bits] : std::vector<std::pair<double, double>>{
           {0, 0}, {0.5, 500}, {1, 1000}, {2.5, 1000}, {4, 4000}, {5, 7000}, {5.5, 7500}, {14, 18000}}) {
    EXPECT_DOUBLE_EQ(uplink->BitsUntil(time_s), bits) << time_s;
  }
  for (const auto& [bits, time_s] : std::vector<std::pair<double, double>>{
           {0, 0}, {500, 0.5}, {1000, 1}, {1001, 3 + 1 / 3000.0}, {7000, 5}, {8000, 6}, {18000, 14}}) {
    EXPECT_DOUBLE_EQ(uplink->TimeOf(bits), time_s) << bits;
  }
}

// What ends with an outage is through before it, in the next round as in the first.
TEST(Trace, NothingWaitsForAnOutageThatItNeedNot) {
  const auto uplink = Uplink("time_s,uplink_bps\n0,1000\n1,0\n2,0\n");
  ASSERT_TRUE(uplink.ok()) << uplink.status();
  EXPECT_EQ(uplink->period_s(), 3);
  EXPECT_DOUBLE_EQ(uplink->TimeOf(1000), 1);
  EXPECT_DOUBLE_EQ(uplink->TimeOf(2000), 4);
  const auto steady = Uplink("time_s,uplink_bps\n7,500\n");
  ASSERT_TRUE(steady.ok()) << steady.status();
  EXPECT_DOUBLE_EQ(steady->TimeOf(5000), 10);
}

}  // namespace
}  // namespace goad::sched
