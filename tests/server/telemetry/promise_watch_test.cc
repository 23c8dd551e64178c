#include "server/telemetry/promise_watch.h"

#include "gtest/gtest.h"

namespace goad::server {
namespace {

class PromiseWatchTest : public testing::Test {
 protected:
  PromiseWatchTest() { Promise(0.75); }
  void Promise(double accuracy) {
    policy_.certificate = calibration::Certificate{accuracy, 0.9, 0.3, accuracy, 100, 0.4};
    watch_.SetConfig(policy_);
  }
  double Value(const std::string& name, const std::string& label = "") {
    for (const auto& family : registry_.Collect()) {
      if (family.name != name) continue;
      for (const auto& metric : family.metric) {
        if (label.empty() || metric.label[0].value == label) return metric.counter.value + metric.gauge.value;
      }
    }
    return -1;
  }

  prometheus::Registry registry_;
  PromiseWatch watch_{registry_};
  PolicyConfig policy_;
};

TEST_F(PromiseWatchTest, ThreeOfFourRightBreaksNothingAndOneOfTwoDoes) {
  for (int k = 0; k < 400; ++k) watch_.Rated(k % 2 == 0 ? AnsweredBy::kDevice : AnsweredBy::kEdge, k % 4 == 0 ? 0 : 1);
  EXPECT_FALSE(watch_.State().broken);
  EXPECT_EQ(watch_.State().rated[0].answers, 200u);
  EXPECT_EQ(watch_.State().rated[0].error, 100);
  EXPECT_EQ(watch_.State().rated[1].error, 0);
  EXPECT_EQ(Value("goad_promise_broken"), 0);
  for (int k = 0; k < 400; ++k) watch_.Rated(AnsweredBy::kEdge, k % 2);
  EXPECT_TRUE(watch_.State().broken);
  EXPECT_GE(watch_.State().alarm_at, 9.99);
  EXPECT_EQ(Value("goad_promise_broken"), 1);
  EXPECT_EQ(Value("goad_rated_answers_total", "edge"), 600);
  EXPECT_EQ(Value("goad_rated_error_total", "edge"), 200);
}

TEST_F(PromiseWatchTest, AnotherPromiseStartsAnewAndTheSameGoesOn) {
  for (int k = 0; k < 100; ++k) watch_.Rated(AnsweredBy::kDevice, 0);
  watch_.Decided(true, false);
  Promise(0.75);
  EXPECT_TRUE(watch_.State().broken) << "a reload that changes nothing forgives nothing";
  EXPECT_EQ(watch_.State().forced_local, 1u);
  Promise(0.7);
  EXPECT_FALSE(watch_.State().broken);
  EXPECT_EQ(watch_.State().forced_local, 0u);
  EXPECT_EQ(Value("goad_promised_accuracy"), 0.7);
  EXPECT_EQ(Value("goad_promise_broken"), 0);
  EXPECT_EQ(Value("goad_promise_evidence"), 1);
}

TEST_F(PromiseWatchTest, NothingPromisedIsNothingWatched) {
  policy_.certificate.reset();
  watch_.SetConfig(policy_);
  for (int k = 0; k < 100; ++k) watch_.Rated(AnsweredBy::kDevice, 0);
  watch_.Decided(true, false);
  watch_.Failed();
  EXPECT_FALSE(watch_.State().certificate);
  EXPECT_EQ(watch_.State().forced, 0u);
  EXPECT_FALSE(watch_.State().broken);
  EXPECT_EQ(Value("goad_promised_accuracy"), 0);
  EXPECT_EQ(Value("goad_rated_answers_total", "device"), 100) << "metrics count all the same";
  EXPECT_EQ(Value("goad_forced_queries_total", "local"), 1);
}

}  // namespace
}  // namespace goad::server
