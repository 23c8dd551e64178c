#include "server/session/hello_codec.h"

#include <limits>

#include "gtest/gtest.h"

namespace goad::server {
namespace {

v1::Hello GoodHello() {
  v1::Hello hello;
  hello.set_protocol_version(1);
  return hello;
}
// What is wrong with it after the change; empty when nothing is.
template <typename Change>
std::string WrongAfter(Change change) {
  v1::Hello hello = GoodHello();
  change(&hello);
  double power = 0;
  LocalModelPtr model;
  const auto error = DecodeHello(hello, &power, &model);
  return error ? error->message : "";
}

TEST(DecodeHello, OfAnOldClientIsTheMarginAndNothingIsKept) {
  double power = 0;
  LocalModelPtr model = std::make_shared<LocalModel>();
  for (const auto metric : {v1::UNCERTAINTY_METRIC_UNSPECIFIED, v1::UNCERTAINTY_METRIC_MARGIN}) {
    v1::Hello hello = GoodHello();
    hello.set_uncertainty_metric(metric);
    hello.set_uncertainty_version(1);
    EXPECT_FALSE(DecodeHello(hello, &power, &model));
    EXPECT_NEAR(power, 0.2, 1e-9);
    EXPECT_EQ(model, nullptr);
    EXPECT_EQ(MetricOf(model), UncertaintyMetric::kMargin);
  }
}

TEST(DecodeHello, KeepsWhatIsSaid) {
  v1::Hello hello = GoodHello();
  hello.set_local_model("small-1b");
  hello.set_uncertainty_metric(v1::UNCERTAINTY_METRIC_MEAN_LOGPROB);
  hello.set_uncertainty_tokens(256);
  hello.set_uncertainty_candidates(2);
  hello.set_prompt_form("chat");
  double power = 0;
  LocalModelPtr model;
  ASSERT_FALSE(DecodeHello(hello, &power, &model));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->name, "small-1b");
  EXPECT_EQ(MetricOf(model), UncertaintyMetric::kMeanLogprob);
  EXPECT_EQ(model->uncertainty.tokens, 256);
  EXPECT_EQ(model->uncertainty.candidates, 2);
  EXPECT_EQ(model->uncertainty.prompt_form, "chat");
  hello = GoodHello();
  hello.set_uncertainty_metric(v1::UNCERTAINTY_METRIC_DECLARED);
  hello.set_uncertainty_method("vote-5");
  ASSERT_FALSE(DecodeHello(hello, &power, &model));
  EXPECT_EQ(model->uncertainty.method, "vote-5");
}

TEST(DecodeHello, EachBadFieldIsNamedWithValueAndRange) {
  const auto metric = [](v1::UncertaintyMetric of) {
    return [of](v1::Hello* hello) { hello->set_uncertainty_metric(of); };
  };
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_protocol_version(0); }), "hello.protocol_version: 0 is not 1");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_tx_power_dbm(61); }), "hello.tx_power_dbm: 61 is not in -60..60");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_local_model(std::string(129, 'm')); }),
            "hello.local_model: 129 bytes, want 0..128");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_uncertainty_version(2); }),
            "hello.uncertainty_version: 2 is not in 0..1");
  EXPECT_EQ(WrongAfter(metric(static_cast<v1::UncertaintyMetric>(6))),
            "hello.uncertainty_metric: 6 is not MARGIN (1), MAX_PROBABILITY (2), MEAN_LOGPROB (3), LOW_QUANTILE (4) or "
            "DECLARED (5)");
  EXPECT_EQ(WrongAfter(metric(static_cast<v1::UncertaintyMetric>(-1))).substr(0, 34),
            "hello.uncertainty_metric: -1 is no");
  EXPECT_EQ(WrongAfter(metric(v1::UNCERTAINTY_METRIC_LOW_QUANTILE)),
            "hello.uncertainty_tokens: 0 is not in 1..256 with LOW_QUANTILE");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_uncertainty_tokens(16); }),
            "hello.uncertainty_tokens: 16 is not 0 with MARGIN");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_uncertainty_tokens(std::numeric_limits<uint32_t>::max()); }),
            "hello.uncertainty_tokens: 4.29497e+09 is not in 0..256");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_uncertainty_candidates(1); }),
            "hello.uncertainty_candidates: 1 is not 0 or in 2..100");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_uncertainty_candidates(101); }),
            "hello.uncertainty_candidates: 101 is not in 0..100");
  EXPECT_EQ(WrongAfter(metric(v1::UNCERTAINTY_METRIC_DECLARED)),
            "hello.uncertainty_method: 0 bytes, want 1..64 with DECLARED");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_uncertainty_method("m"); }),
            "hello.uncertainty_method: 1 bytes, want 0 with MARGIN");
  EXPECT_EQ(WrongAfter([](v1::Hello* h) { h->set_prompt_form(std::string(65, 'p')); }),
            "hello.prompt_form: 65 bytes, want 0..64");
  for (const char* bad : {"a\nb", "\x1b[2J", "tab\t", "del\x7f", "c1\xc2\x9b"}) {
    EXPECT_NE(WrongAfter([&](v1::Hello* h) { h->set_device_name(bad); }), "") << bad;
    EXPECT_NE(WrongAfter([&](v1::Hello* h) { h->set_local_model(bad); }), "") << bad;
    EXPECT_NE(WrongAfter([&](v1::Hello* h) { h->set_prompt_form(bad); }), "") << bad;
    const std::string method = WrongAfter([&](v1::Hello* h) {
      h->set_uncertainty_metric(v1::UNCERTAINTY_METRIC_DECLARED);
      h->set_uncertainty_method(bad);
    });
    EXPECT_EQ(method.substr(0, 26), "hello.uncertainty_method: ") << bad;
  }
}

TEST(DecodeUncertainty, CandidatesMakeTheSessionsMetric) {
  v1::Query query;
  for (const auto& [token, p] : {std::pair("a", 0.6), std::pair("b", 0.4)}) {
    query.mutable_first_token()->add_top()->set_token(token);
    query.mutable_first_token()->mutable_top()->rbegin()->set_probability(p);
  }
  double uncertainty = -1;
  EXPECT_FALSE(DecodeUncertainty(query, UncertaintyMetric::kMargin, &uncertainty));
  EXPECT_NEAR(uncertainty, 0.8, 1e-12);
  EXPECT_FALSE(DecodeUncertainty(query, UncertaintyMetric::kMaxProbability, &uncertainty));
  EXPECT_NEAR(uncertainty, 0.4, 1e-12);
  for (const auto metric :
       {UncertaintyMetric::kMeanLogprob, UncertaintyMetric::kLowQuantile, UncertaintyMetric::kDeclared}) {
    EXPECT_EQ(DecodeUncertainty(query, metric, &uncertainty)->message,
              std::string("query.first_token: ") + ToString(metric) + " is not made from it; want uncertainty");
  }
  query.set_uncertainty(0.3);
  EXPECT_FALSE(DecodeUncertainty(query, UncertaintyMetric::kDeclared, &uncertainty));
  EXPECT_EQ(uncertainty, 0.3);
}

}  // namespace
}  // namespace goad::server
