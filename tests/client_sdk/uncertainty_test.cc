#include "goad/uncertainty.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad {
namespace {

TEST(MarginUncertainty, HandWorked) {
  EXPECT_NEAR(*MarginUncertainty({{"a", 0.6}, {"b", 0.4}}), 0.8, 1e-12);
  EXPECT_NEAR(*MarginUncertainty({{"a", 1}, {"b", 1e-300}}), 0, 1e-12);                     // sure
  EXPECT_NEAR(*MarginUncertainty({{"a", 0.5}, {"b", 0.5}}), 1, 1e-12);                      // a tie
  EXPECT_NEAR(*MarginUncertainty({{" Yes", 0.3}, {"yes", 0.3}, {"no", 0.2}}), 0.5, 1e-12);  // merged, renormalised
  std::vector<TokenProbability> many;
  for (int k = 0; k < 12; ++k) many.push_back({std::string(1, static_cast<char>('a' + k)), k < 10 ? 0.09 : 0.04});
  EXPECT_NEAR(*MarginUncertainty(many), 1, 1e-12);  // only the best ten count
}

TEST(MarginUncertainty, RefusesWhatIsNoProbability) {
  EXPECT_EQ(MarginUncertainty({}).status().message(), "first_token.top: 0 entries, want at least 2");
  EXPECT_EQ(MarginUncertainty({{"a", std::nan("")}, {"b", 0.5}}).status().message(),
            "first_token.top[0].probability: nan is not in 0..1");
  EXPECT_EQ(MarginUncertainty({{"a", 0.5}, {"b", -1}}).status().message(),
            "first_token.top[1].probability: -1 is not in 0..1");
  EXPECT_FALSE(MarginUncertainty({{"a", 0}, {"b", 0}}).ok());
  for (const std::vector<TokenProbability>& alone :
       std::vector<std::vector<TokenProbability>>{{{"a", 0.9}, {"A ", 0.1}},
                                                  {{"\n", 0.5}, {" ", 0.5}},
                                                  {{"a", 1}, {"b", 0}},
                                                  {{"b", 0}, {"a", 0.3}, {" a", 0.2}}}) {
    const absl::Status status = MarginUncertainty(alone).status();
    EXPECT_NE(status.message().find("1 answer"), std::string::npos) << status;
  }
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

// The same tau cuts another share of the questions with fewer candidates: they are renormalised.
TEST(MarginUncertainty, DependsOnTheNumberOfCandidates) {
  std::ifstream in(std::string(GOAD_SOURCE_DIR) + "/deploy/llm/workload.jsonl");
  std::string line;
  int above_of_10 = 0, above_of_3 = 0;
  while (std::getline(in, line)) {
    const auto row = nlohmann::json::parse(line);
    std::vector<TokenProbability> top;
    for (const auto& entry : row["slm"]["top10"]) top.push_back({entry[0], entry[1]});
    above_of_10 += *MarginUncertainty(top) > 0.8;
    top.resize(3);  // the best first
    above_of_3 += *MarginUncertainty(top) > 0.8;
  }
  EXPECT_EQ(above_of_10, 876);  // 44 % of 2000
  EXPECT_EQ(above_of_3, 394);   // 20 %
}

TEST(MaxProbabilityUncertainty, HandWorked) {
  EXPECT_NEAR(*MaxProbabilityUncertainty({{"a", 0.6}, {"b", 0.4}}), 0.4, 1e-12);
  EXPECT_NEAR(*MaxProbabilityUncertainty({{"a", 1}, {"b", 1e-300}}), 0, 1e-12);
  EXPECT_NEAR(*MaxProbabilityUncertainty({{" Yes", 0.3}, {"yes", 0.3}, {"no", 0.2}}), 0.25, 1e-12);
  std::vector<TokenProbability> many;
  for (int k = 0; k < 12; ++k) many.push_back({std::string(1, static_cast<char>('a' + k)), k < 10 ? 0.09 : 0.04});
  EXPECT_NEAR(*MaxProbabilityUncertainty(many), 0.9, 1e-12);  // only the best ten count
  EXPECT_EQ(MaxProbabilityUncertainty({{"a", 1}}).status(), MarginUncertainty({{"a", 1}}).status());
}

TEST(FirstTokenUncertainty, IsTheMetricAskedForOrNone) {
  const std::vector<TokenProbability> top = {{"a", 0.6}, {"b", 0.4}};
  EXPECT_NEAR(*FirstTokenUncertainty(UncertaintyMetric::kMargin, top), 0.8, 1e-12);
  EXPECT_NEAR(*FirstTokenUncertainty(UncertaintyMetric::kMaxProbability, top), 0.4, 1e-12);
  for (const auto& [metric, name] : {std::pair(UncertaintyMetric::kMeanLogprob, "MEAN_LOGPROB"),
                                     std::pair(UncertaintyMetric::kLowQuantile, "LOW_QUANTILE"),
                                     std::pair(UncertaintyMetric::kDeclared, "DECLARED")}) {
    EXPECT_EQ(FirstTokenUncertainty(metric, top).status().message(),
              std::string("first_token: ") + name + " is not made from it; want uncertainty");
  }
}

TEST(MeanLogprobUncertainty, HandWorked) {
  const double half = std::log(0.5), eighth = std::log(0.125);
  EXPECT_NEAR(*MeanLogprobUncertainty({half}), 0.5, 1e-12);
  EXPECT_NEAR(*MeanLogprobUncertainty({half, eighth}), 0.75, 1e-12);  // 1 - sqrt(1/16)
  EXPECT_EQ(*MeanLogprobUncertainty({0, 0, 0}), 0);
  EXPECT_EQ(*MeanLogprobUncertainty({0.01}), 0);  // rounding
  EXPECT_NEAR(*MeanLogprobUncertainty({-1e-12}), 1e-12, 1e-24);
  EXPECT_EQ(*MeanLogprobUncertainty({0, -std::numeric_limits<double>::infinity()}), 1);
  EXPECT_EQ(*MeanLogprobUncertainty(std::vector<double>(256, -9999)), 1);
}

TEST(LowQuantileUncertainty, HandWorked) {
  std::vector<double> eleven, one = {std::log(0.3)};
  for (int k = 11; k >= 1; --k) eleven.push_back(std::log(0.05 * k));
  EXPECT_NEAR(*LowQuantileUncertainty(one), 0.7, 1e-12);
  EXPECT_NEAR(*LowQuantileUncertainty(eleven), 0.9, 1e-12);  // place 0.1 * 10 is the second least, 0.1
  // Place 0.1 of two: a tenth of the way from the least.
  EXPECT_NEAR(*LowQuantileUncertainty({-1, -2}), 1 - std::exp(-1.9), 1e-12);
  EXPECT_EQ(*LowQuantileUncertainty({0, 0, 0}), 0);
  // What a mean hides: one guess in eight sure tokens.
  const std::vector<double> guess = {0, 0, 0, std::log(0.01), 0, 0, 0, 0};
  EXPECT_NEAR(*MeanLogprobUncertainty(guess), 1 - std::pow(0.01, 1.0 / 8), 1e-12);  // 0.44
  EXPECT_NEAR(*LowQuantileUncertainty(guess), 1 - std::pow(0.01, 0.3), 1e-12);      // 0.75
}

TEST(LogprobUncertainties, RefuseWhatIsNone) {
  for (const auto uncertainty : {+[](std::vector<double> l) { return MeanLogprobUncertainty(l); },
                                 +[](std::vector<double> l) { return LowQuantileUncertainty(std::move(l)); }}) {
    EXPECT_EQ(uncertainty({}).status().message(), "logprobs: 0 tokens, want 1..256");
    EXPECT_EQ(uncertainty(std::vector<double>(257, -1)).status().message(), "logprobs: 257 tokens, want 1..256");
    EXPECT_EQ(uncertainty({-1, 0.02}).status().message(),
              "logprobs[1]: 0.02 is no natural logarithm of a probability, want at most 0");
    EXPECT_EQ(uncertainty({std::nan("")}).status().message(),
              "logprobs[0]: nan is no natural logarithm of a probability, want at most 0");
  }
}

// All in 0..1, and never lower when the model is less sure of something.
TEST(Uncertainties, StayInRangeAndAreMonotone) {
  const char* const given = std::getenv("GOAD_TEST_SEED");
  const auto seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
  SCOPED_TRACE("GOAD_TEST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  const auto uniform = [&] { return std::uniform_real_distribution<double>()(random); };
  for (int run = 0; run < 2000; ++run) {
    std::vector<TokenProbability> top(2 + random() % 12);
    for (size_t k = 0; k < top.size(); ++k) top[k] = {std::string(1, static_cast<char>('a' + k)), uniform()};
    const double margin = *MarginUncertainty(top), max = *MaxProbabilityUncertainty(top);
    EXPECT_TRUE(0 <= max && max <= margin && margin <= 1) << max << " " << margin;
    auto best = std::max_element(top.begin(), top.end(),
                                 [](const auto& a, const auto& b) { return a.probability < b.probability; });
    best->probability = std::min(1.0, best->probability + 0.1);
    EXPECT_LE(*MarginUncertainty(top), margin + 1e-12);
    EXPECT_LE(*MaxProbabilityUncertainty(top), max + 1e-12);

    std::vector<double> logprobs(1 + random() % 40);
    for (double& logprob : logprobs) logprob = random() % 20 == 0 ? -9999 : std::log(1 - uniform());
    const double mean = *MeanLogprobUncertainty(logprobs), low = *LowQuantileUncertainty(logprobs);
    EXPECT_TRUE(0 <= mean && mean <= 1 && 0 <= low && low <= 1) << mean << " " << low;
    double& one = logprobs[random() % logprobs.size()];
    one = std::min(0.0, one + uniform());
    EXPECT_LE(*MeanLogprobUncertainty(logprobs), mean + 1e-12);
    EXPECT_LE(*LowQuantileUncertainty(logprobs), low + 1e-12);
  }
}

TEST(CheckUncertaintySource, NamesWhatDoesNotBelongToTheMetric) {
  const auto wrong = [](const UncertaintySource& source) {
    return std::string(CheckUncertaintySource(source).message());
  };
  using Metric = UncertaintyMetric;
  EXPECT_EQ(wrong({}), "");
  EXPECT_EQ(wrong({.metric = static_cast<Metric>(6)}),
            "metric: 6 is not MARGIN (1), MAX_PROBABILITY (2), MEAN_LOGPROB (3), LOW_QUANTILE (4) or DECLARED (5)");
  EXPECT_EQ(wrong({.tokens = 1}), "tokens: 1 is not 0 with MARGIN");
  EXPECT_EQ(wrong({.metric = Metric::kDeclared, .tokens = -1, .method = "m"}), "tokens: -1 is not 0 with DECLARED");
  for (const Metric metric : {Metric::kMeanLogprob, Metric::kLowQuantile}) {
    EXPECT_EQ(wrong({.metric = metric, .tokens = 1}), "");
    EXPECT_EQ(wrong({.metric = metric, .tokens = 256}), "");
    EXPECT_EQ(wrong({.metric = metric}), std::string("tokens: 0 is not in 1..256 with ") + ToString(metric));
    EXPECT_EQ(wrong({.metric = metric, .tokens = 257}),
              std::string("tokens: 257 is not in 1..256 with ") + ToString(metric));
  }
  EXPECT_EQ(wrong({.candidates = 1}), "candidates: 1 is not 0 or in 2..100");
  EXPECT_EQ(wrong({.candidates = 101}), "candidates: 101 is not 0 or in 2..100");
  EXPECT_EQ(wrong({.candidates = 100}), "");
  EXPECT_EQ(wrong({.metric = Metric::kMaxProbability, .method = "m"}), "method: 1 bytes, want 0 with MAX_PROBABILITY");
  EXPECT_EQ(wrong({.metric = Metric::kDeclared}), "method: 0 bytes, want 1..64 with DECLARED");
  EXPECT_EQ(wrong({.metric = Metric::kDeclared, .method = std::string(65, 'm')}),
            "method: 65 bytes, want 1..64 with DECLARED");
  EXPECT_EQ(wrong({.metric = Metric::kDeclared, .method = std::string(64, 'm')}), "");
  EXPECT_EQ(wrong({.prompt_form = std::string(65, 'p')}), "prompt_form: 65 bytes, want 0..64");
}

TEST(FirstTokenFromJson, ReadsEveryForm) {
  const char* native = R"({"completion_probabilities":[{"token":" a","top_logprobs":[{"token":" a","logprob":-0.5},
      {"token":"b","logprob":-2}]}]})";
  const char* chat = R"({"choices":[{"logprobs":{"content":[{"top_logprobs":[{"token":" a","logprob":-0.5},
      {"token":"b","logprob":-2}]}]}}]})";
  const char* classic = R"({"choices":[{"logprobs":{"top_logprobs":[{" a":-0.5,"b":-2}]}}]})";
  for (const char* text : {native, chat, classic}) {
    const auto top = FirstTokenFromJson(text);
    ASSERT_TRUE(top.ok()) << top.status();
    ASSERT_EQ(top->size(), 2u);
    EXPECT_EQ((*top)[0].token, " a");
    EXPECT_NEAR((*top)[0].probability, std::exp(-0.5), 1e-15);
  }
  for (const char* bad :
       {"", "[]", "{}", R"({"choices":[]})", R"({"completion_probabilities":[{"top_logprobs":[]}]})"}) {
    EXPECT_FALSE(FirstTokenFromJson(bad).ok()) << bad;
  }
}

TEST(MarginUncertainty, PartsOfCharactersStayApart) {
  EXPECT_NEAR(*MarginUncertainty({{"\xEF\xBF\xBD", 0.5}, {"\xEF\xBF\xBD", 0.5}}), 1, 1e-12);
  EXPECT_NEAR(*MarginUncertainty({{"\xe4", 0.5}, {"\xe5", 0.5}}), 1, 1e-12);
}

TEST(MarginUncertainty, OneCandidateSaysNothing) {
  EXPECT_EQ(MarginUncertainty({{"a", 1.0}}).status().message(), "first_token.top: 1 entries, want at least 2");
}

std::string Entry(const std::string& token, double logprob, const std::string& top = "") {
  const std::string named = nlohmann::json(token).dump();
  return "{\"token\":" + named + ",\"logprob\":" + std::to_string(logprob) + ",\"top_logprobs\":[" +
         (top.empty() ? "{\"token\":" + named + ",\"logprob\":-0.1},{\"token\":\"zz\",\"logprob\":-30}" : top) + "]}";
}
const char kTie[] = R"({"token":"yes","logprob":-0.7},{"token":"no","logprob":-0.7})";

// A chat answer of these tokens; the tie is at "yes".
std::string Chat(const std::vector<std::string>& tokens, const std::string& message = "{\"content\":null}") {
  std::string list;
  for (const std::string& token : tokens)
    list += (list.empty() ? "" : ",") + Entry(token, -0.1, token == "yes" ? kTie : "");
  return R"({"choices":[{"index":0,"message":)" + message + R"(,"logprobs":{"content":[)" + list + "]}}]}";
}
std::string Chunk(const std::string& token, const std::string& delta = "{}") {
  return R"({"choices":[{"index":0,"delta":)" + delta + R"(,"logprobs":{"content":[)" +
         Entry(token, -0.1, token == "yes" ? kTie : "") + "]}}]}";
}
// The uncertainty, or the error.
std::string Read(const std::string& json) {
  const auto top = FirstTokenFromJson(json);
  if (!top.ok()) return std::string(top.status().message());
  const auto margin = MarginUncertainty(*top);
  return margin.ok() ? std::to_string(*margin) : std::string(margin.status().message());
}
const char kUnsure[] = "1.000000";

TEST(FirstTokenFromJson, PassesOverWhatComesBeforeAnAnswer) {
  const std::vector<std::vector<std::string>> starts = {
      {"yes"},
      {"", "yes"},
      {"<s>", "yes"},
      {"<think>", "\n", "Let", " me", "</think>", "\n\n", "yes"},
      {"<think>", "</think>", "yes"},
      {"<think></think>", "\n", "yes"},
      {"<", "think", ">", "well", "</", "think", ">", "\n", "yes"},
      {"\n", "<think>", "well", "</think>", "yes"},
      {"Well", ",", "</think>", "\n\n", "yes"},  // the prompt had opened it
      {"[THINK]", "x", "[/THINK]", "yes"},
      {"\xE2\x97\x81think\xE2\x96\xB7", "x", "\xE2\x97\x81/think\xE2\x96\xB7", "yes"},
      {"<|channel|>", "analysis", "<|message|>", "The", " user", "<|end|>", "<|start|>", "assistant", "<|channel|>",
       "final", "<|message|>", "yes"},
      {"<|channel|>", "final", "<|message|>", "yes"},
      {"<|im_start|>", "assistant", "\n", "yes"},
      {"<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n", "yes"},
      {"<unused0>", "yes"},
      {"<unused94>", "\n", "yes"},
      {"<unused94>", "thought", "\n", "hm", "<unused95>", "yes"},
      {"<|channel>", "thought", "\n", "hm", "<channel|>", "yes"},
      {"<reserved_special_token_12>", "yes"},
      {"<|reserved_special_token_5|>", "yes"},
      {"<reserved_106>", "yes"},
      {"[unused7]", "yes"},
      {"<SPECIAL_20>", "yes"},
      {"<extra_id_0>", "yes"},
      {"<\xEF\xBD\x9C"
       "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
       "yes"},
  };
  for (const auto& tokens : starts) {
    EXPECT_EQ(Read(Chat(tokens)), kUnsure) << tokens[0];
    if (tokens[0] == "Well") continue;  // streamed, nobody can know
    FirstTokenReader reader;            // the same in chunks
    for (const std::string& token : tokens) ASSERT_TRUE(reader.Push(Chunk(token)).ok());
    const auto top = reader.Candidates();
    ASSERT_TRUE(top.ok()) << tokens[0] << ": " << top.status();
    EXPECT_NEAR(*MarginUncertainty(*top), 1, 1e-9) << tokens[0];
  }
}

TEST(FirstTokenFromJson, TheFirstTokenOfAnAnswerMayBeAnything) {
  for (const char* first : {" ", "\n\n", "<", "<p>", "<table", "[", "[1]", "<|", "|", "think", "token_id:5", "<unused>",
                            "unused5", "[reserved]", "<h1>", "<0x0A>"}) {
    EXPECT_EQ(Read(Chat({first, "yes"})), "0.000000") << first;
    EXPECT_EQ(Read(Chat({first})), "0.000000") << first;
  }
}

TEST(FirstTokenFromJson, NamesWhatCameInsteadOfAnAnswer) {
  EXPECT_EQ(Read(Chat({"<|im_end|>"})), "no token of the answer: it begins with \"<|im_end|>\" and ends there");
  EXPECT_EQ(Read(Chat({"<think>", "hm", " hm"})),
            "no token of the answer: it begins with \"<think>hm hm\" and ends there");
  EXPECT_EQ(Read("{}"), "no log-probabilities (is logprobs or n_probs asked for?)");
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":null}]})"), "no log-probabilities (is logprobs or n_probs asked for?)");
  EXPECT_EQ(Read(""), "not a JSON object");
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"content":[{"token":"a","logprob":0,"top_logprobs":[{"token":"a",
      "logprob":0}]}]}}]})"),
            "first token \"a\": 1 candidates, want at least 2 (ask for top_logprobs)");
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[null],"top_logprobs":[null]}}]})"),
            "first token \"a\": 0 candidates, want at least 2 (ask for top_logprobs)");
  EXPECT_EQ(Read(R"({"logprobs":[{"token":"a","top_logprobs":[{"token":"a","logprob":null},{"token":"b",
      "logprob":-9999}]}]})"),
            "first token: every candidate has probability 0");
  EXPECT_EQ(Read(std::string(200, '[')), "JSON text: more than 64 arrays and objects within each other at byte 64");
}

TEST(FirstTokenFromJson, BelievesAServerThatTellsThoughtFromAnswer) {
  const std::string message = R"({"reasoning_content":"hm, yes","content":"\n\nyes"})";
  EXPECT_EQ(Read(Chat({"hm", ",", " yes", "</think>", "\n\n", "yes"}, message)), kUnsure);
  EXPECT_EQ(Read(Chat({"hm", ",", " yes", "\n\n", "yes", "<|im_end|>"}, message)), kUnsure) << "its marker is hidden";
  EXPECT_EQ(Read(Chat({"yes"}, message)), kUnsure) << "the tokens are the answer's alone";
  FirstTokenReader reader;  // streamed, with a marker that nobody sees
  for (const char* token : {"hm", ","}) EXPECT_FALSE(*reader.Push(Chunk(token, R"({"reasoning_content":"x"})")));
  EXPECT_TRUE(*reader.Push(Chunk("yes", R"({"content":"yes"})")));
  EXPECT_NEAR(*MarginUncertainty(*reader.Candidates()), 1, 1e-9);
  FirstTokenReader ollama;
  EXPECT_FALSE(*ollama.Push(R"({"message":{"content":"","thinking":"hm"},"logprobs":[)" + Entry("hm", -0.1) + "]}"));
  EXPECT_TRUE(*ollama.Push(R"({"message":{"content":"yes"},"logprobs":[)" + Entry("yes", -0.1, kTie) + "]}"));
}

TEST(FirstTokenFromJson, IdentityIsIdOrBytesWhereGiven) {
  // Halves that print alike: by bytes, by id, and by neither.
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"content":[{"token":"\ufffd","top_logprobs":[
      {"token":"\ufffd","bytes":[228],"logprob":-0.7},{"token":"\ufffd","bytes":[229],"logprob":-0.7}]}]}}]})"),
            kUnsure);
  EXPECT_EQ(Read(R"({"choices":[{"logprobs":{"content":[{"token":"\ufffd","top_logprobs":[
      {"token":"\ufffd","bytes":[239,191,189],"logprob":-0.7},{"token":"\ufffd","bytes":[239,191,189],"logprob":-0.7}]}]}}]})"),
            kUnsure);
  EXPECT_EQ(Read("{\"logprobs\":[{\"token\":\"\xe4\",\"top_logprobs\":[{\"token\":\"\xe4\",\"logprob\":-0.7},"
                 "{\"token\":\"\xe5\",\"logprob\":-0.7}]}]}"),
            kUnsure)
      << "bytes that are not UTF-8 in the text";
  EXPECT_EQ(Read(R"({"meta_info":{"output_token_logprobs":[[-0.7,5,null]],"output_top_logprobs":[[[-0.7,5,null],
      [-0.7,6,null]]]}})"),
            kUnsure);
  // The paper's merge goes by the text, whatever the ids; one token that is listed twice counts once.
  EXPECT_EQ(Read(R"({"logprobs":[{"token":"a","top_logprobs":[{"id":1,"token":" Yes","logprob":-0.7},
      {"id":2,"token":"yes","logprob":-0.7},{"id":3,"token":"no","logprob":-30}]}]})"),
            "0.000000");
  EXPECT_EQ(Read(R"({"logprobs":[{"token":"a","top_logprobs":[{"id":1,"token":"yes","logprob":-0.7},
      {"id":2,"token":"no","logprob":-0.7},{"id":1,"token":"yes","logprob":-0.7}]}]})"),
            kUnsure);
}

TEST(FirstTokenFromJson, MoreThanTenAreCutToTheBestTen) {
  std::string top;
  for (int k = 0; k < 15; ++k) {
    top += (k ? "," : "") + std::string("{\"token\":\"t") + std::to_string(k) +
           "\",\"logprob\":" + std::to_string(-15 + k) + "}";
  }
  const auto best = FirstTokenFromJson(R"({"logprobs":[{"token":"t","top_logprobs":[)" + top + "]}]}");
  ASSERT_EQ(best->size(), 10u);
  EXPECT_EQ((*best)[0].token, "t14");
  EXPECT_EQ((*best)[9].token, "t5");
}

TEST(FirstTokenFromJson, SglangChunksThatBeginAgainEachTime) {
  FirstTokenReader reader;
  EXPECT_FALSE(*reader.Push(R"({"text":"<think>","meta_info":{"completion_tokens":1,"output_token_logprobs":[[0,1,
      "<think>"]],
      "output_top_logprobs":[[[0,1,"<think>"],[-9,2,"x"]]]}})"));
  EXPECT_TRUE(*reader.Push(R"({"text":"<think></think>yes","meta_info":{"completion_tokens":3,
      "output_token_logprobs":[[0,1,"<think>"],[0,3,"</think>"],[-0.7,4,"yes"]],
      "output_top_logprobs":[[[0,1,"<think>"],[-9,2,"x"]],[[0,3,"</think>"],[-9,2,"x"]],[[-0.7,4,"yes"],[-0.7,5,
      "no"]]]}})"));
  EXPECT_NEAR(*MarginUncertainty(*reader.Candidates()), 1, 1e-9);
}

}  // namespace
}  // namespace goad
