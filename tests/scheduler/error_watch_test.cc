// The watch over a promised accuracy: how often it cries wolf, and how soon it is right.
#include "scheduler/calibration/error_watch.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace goad::calibration {
namespace {

constexpr int kRuns = 2000;
constexpr size_t kOutcomes = 2000;  // of each run

// Whether it breaks within so many outcomes that are wrong with a probability of `error`, and after how many.
size_t BrokenAfter(ErrorWatch watch, double error, size_t most, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t k = 1; k <= most; ++k) {
    watch.Add(static_cast<double>(random() >> 11) * 0x1p-53 < error ? 1 : 0);
    if (watch.broken()) return k;
  }
  return 0;
}

TEST(ErrorWatchTest, CriesWolfAsSeldomAsItsConfidenceSays) {
  for (const double allowed : {0.05, 0.25, 0.5}) {
    for (const double confidence : {0.9, 0.95}) {
      int broken = 0;
      for (uint64_t seed = 1; seed <= kRuns; ++seed) {
        broken += BrokenAfter(ErrorWatch(allowed, confidence), allowed, kOutcomes, seed) > 0 ? 1 : 0;
      }
      EXPECT_LE(broken, (1 - confidence) * kRuns) << "error " << allowed << ", confidence " << confidence;
      EXPECT_GT(broken, 0) << "a watch that never breaks sees nothing";
    }
  }
}

TEST(ErrorWatchTest, FindsADoubledError) {
  std::vector<size_t> after;
  for (uint64_t seed = 1; seed <= kRuns; ++seed) {
    after.push_back(BrokenAfter(ErrorWatch(0.25, 0.9), 0.5, kOutcomes, seed));
    ASSERT_GT(after.back(), 0u) << "seed " << seed;
  }
  std::sort(after.begin(), after.end());
  EXPECT_LE(after[kRuns / 2], 30u);
  EXPECT_LE(after[kRuns * 99 / 100], 150u);
}

TEST(ErrorWatchTest, FindsAnErrorThatDoublesAfterAGoodWhile) {
  std::vector<size_t> after;
  for (uint64_t seed = 1; seed <= kRuns; ++seed) {
    ErrorWatch watch(0.25, 0.9);
    std::mt19937_64 random(seed);
    for (int k = 0; k < 10000; ++k) watch.Add(random() % 5 == 0 ? 1 : 0);  // 20 % wrong: within what is allowed
    if (watch.broken()) continue;
    after.push_back(BrokenAfter(watch, 0.5, kOutcomes, seed + kRuns));
    ASSERT_GT(after.back(), 0u) << "seed " << seed;
  }
  EXPECT_GE(after.size(), kRuns * 0.9);
  std::sort(after.begin(), after.end());
  EXPECT_LE(after[after.size() / 2], 150u) << "what was long ago does not hide it";
}

TEST(ErrorWatchTest, IsTheProductOfItsDefinition) {
  ErrorWatch watch(0.25, 0.9);
  EXPECT_EQ(watch.Evidence(), 1);
  EXPECT_NEAR(watch.AlarmAt(), 10, 1e-12);
  watch.Add(1);
  EXPECT_EQ(watch.Evidence(), 1) << "before anything was seen nothing is bet";
  // The start counts as 10 outcomes: a mean of 0.25 and a variance of 0.1875, each moved by an eleventh.
  const double mean = 0.25 + 0.75 / 11, variance = 0.1875 + (0.5625 - 0.1875) / 11, excess = mean - 0.25;
  const double bet = excess / (variance + excess * excess);
  watch.Add(1);
  EXPECT_NEAR(watch.Evidence(), 1 + bet * 0.75, 1e-12);
  EXPECT_EQ(watch.outcomes(), 2u);
}

TEST(ErrorWatchTest, RatingsMayBeBetweenAndTheWorstIsFinite) {
  ErrorWatch halves(0.25, 0.9), worst(0.25, 0.9);
  for (int k = 0; k < 100000; ++k) halves.Add(0.5), worst.Add(1);
  EXPECT_TRUE(halves.broken());
  EXPECT_TRUE(worst.broken());
  EXPECT_NEAR(std::log(worst.Evidence()), std::log(1e300), 1e-9);
  for (int k = 0; k < 1000; ++k) halves.Add(0);
  EXPECT_TRUE(halves.broken()) << "what has been reached stays reached";
}

}  // namespace
}  // namespace goad::calibration
