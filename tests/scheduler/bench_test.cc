#include "scheduler/sim/bench.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::sched {
namespace {

TEST(Bench, RowsForEachPolicyAndSizeWithTheReferenceBesideThem) {
  BenchOptions options;
  options.policies = {"goa", "min-delay"};
  options.users = {10, 300};
  const auto rows = RunBench(options);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 5u);  // reference at 10 users only
  EXPECT_EQ((*rows)[2].policy, "reference");
  for (const BenchRow& row : *rows) {
    EXPECT_GT(row.seconds, 0);
    EXPECT_GT(row.evaluations_per_assignment, 0);
  }
  const auto json = nlohmann::json::parse(BenchJson(*rows));
  for (const char* key : {"policy", "users", "sites", "seconds", "evaluations_per_assignment"}) {
    EXPECT_TRUE(json[0].contains(key)) << key;
  }
  EXPECT_NE(BenchTable(*rows).find("N^"), std::string::npos);
}

// Under `goa` a key of 0 is never below 0.
TEST(Bench, WhoIsWorthNothingIsNotOffloaded) {
  BenchOptions options;
  options.users = {100};
  options.zero_share = 1;
  const auto rows = RunBench(options);
  ASSERT_TRUE(rows.ok()) << rows.status();
  for (const BenchRow& row : *rows) {
    EXPECT_EQ(row.offloaded_share, 0) << row.policy;
    EXPECT_EQ(row.forced_share, 0) << row.policy;
  }
}

TEST(Bench, BadOptionsAreRefused) {
  BenchOptions options;
  options.users = {0};
  EXPECT_FALSE(RunBench(options).ok());
  options.users = {10};
  options.sites = 0;
  EXPECT_EQ(RunBench(options).status().message(), "sites: 0 is not in 1..1000");
  options.sites = 2;
  options.zero_share = 1.5;
  EXPECT_EQ(RunBench(options).status().message(), "zeros: 1.5 is not in 0..1");
  options.zero_share = 0;
  options.policies = {"best"};
  EXPECT_FALSE(RunBench(options).ok());
}

}  // namespace
}  // namespace goad::sched
