#include "goad/uncertainty.h"

#include <cmath>
#include <fstream>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad {
namespace {

TEST(MarginUncertainty, HandWorked) {
  EXPECT_NEAR(*MarginUncertainty({{"a", 0.6}, {"b", 0.4}}), 0.8, 1e-12);
  EXPECT_NEAR(*MarginUncertainty({{"a", 1.0}}), 0, 1e-12);                          // one left: sure
  EXPECT_NEAR(*MarginUncertainty({{"a", 0.5}, {"b", 0.5}}), 1, 1e-12);              // a tie
  EXPECT_NEAR(*MarginUncertainty({{" Yes", 0.3}, {"yes", 0.3}, {"no", 0.2}}), 0.5, 1e-12);  // merged, renormalised
  std::vector<TokenProbability> many;
  for (int k = 0; k < 12; ++k) many.push_back({std::string(1, static_cast<char>('a' + k)), k < 10 ? 0.09 : 0.04});
  EXPECT_NEAR(*MarginUncertainty(many), 1, 1e-12);                                  // only the best ten count
}

TEST(MarginUncertainty, RefusesWhatIsNoProbability) {
  EXPECT_EQ(MarginUncertainty({}).status().message(), "first_token.top: 0 entries, want at least 1");
  EXPECT_EQ(MarginUncertainty({{"a", std::nan("")}}).status().message(),
            "first_token.top[0].probability: nan is not in 0..1");
  EXPECT_EQ(MarginUncertainty({{"a", 0.5}, {"b", -1}}).status().message(),
            "first_token.top[1].probability: -1 is not in 0..1");
  EXPECT_FALSE(MarginUncertainty({{"a", 0}}).ok());
}

TEST(MarginUncertainty, AgreesWithTheRecordedWorkload) {
  std::ifstream in(std::string(GOAD_SOURCE_DIR) + "/deploy/llm/workload.jsonl");
  std::string line;
  int rows = 0;
  while (std::getline(in, line)) {
    const auto row = nlohmann::json::parse(line);
    std::vector<TokenProbability> top;
    for (const auto& entry : row["slm"]["top10"]) top.push_back({entry[0], entry[1]});
    ASSERT_NEAR(*MarginUncertainty(top), row["slm"]["alpha"].get<double>(), 5e-6) << row["id"];  // top10 is rounded
    ++rows;
  }
  EXPECT_EQ(rows, 2000);
}

TEST(FirstTokenFromJson, ReadsEveryForm) {
  const char* native = R"({"completion_probabilities":[{"token":" a","top_logprobs":[{"token":" a","logprob":-0.5},{"token":"b","logprob":-2}]}]})";
  const char* chat = R"({"choices":[{"logprobs":{"content":[{"top_logprobs":[{"token":" a","logprob":-0.5},{"token":"b","logprob":-2}]}]}}]})";
  const char* classic = R"({"choices":[{"logprobs":{"top_logprobs":[{" a":-0.5,"b":-2}]}}]})";
  for (const char* text : {native, chat, classic}) {
    const auto top = FirstTokenFromJson(text);
    ASSERT_TRUE(top.ok()) << top.status();
    ASSERT_EQ(top->size(), 2u);
    EXPECT_EQ((*top)[0].token, " a");
    EXPECT_NEAR((*top)[0].probability, std::exp(-0.5), 1e-15);
  }
  for (const char* bad : {"", "[]", "{}", R"({"choices":[]})", R"({"completion_probabilities":[{"top_logprobs":[]}]})"}) {
    EXPECT_FALSE(FirstTokenFromJson(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace goad
