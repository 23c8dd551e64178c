#include "client_sdk/openai/plain_chunk.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace goad::openai {
namespace {

using Strings = std::vector<std::string>;

// A JSON text of the fields that chunks have, at places and with values that they have or might have.
class ChunkMaker {
 public:
  explicit ChunkMaker(unsigned seed) : random_(seed) {}

  std::string Chunk() {
    std::string data = Object(
        {"id", "choices", "choices", "choices", "usage", "error", "object", "detail", "timings", "text", "index"}, 0);
    if (Below(8) == 0) data[Below(data.size())] = static_cast<char>(Below(256));
    if (Below(20) == 0) data.resize(Below(data.size()));
    return data;
  }

 private:
  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }
  std::string Pick(const Strings& of) { return of[Below(of.size())]; }
  std::string Object(const Strings& names, int depth) {
    std::string text = "{";
    for (size_t k = Below(4) + (depth < 3 ? 1 : 0); k > 0; --k) {
      const std::string name = Pick(names);
      text += '"' + name + "\":" + Value(name, depth + 1) + (k > 1 ? "," : "");
    }
    return text + "}";
  }
  std::string Value(const std::string& name, int depth) {
    if (depth < 6 && Below(4) != 0) {
      if (name == "choices") {
        const std::string choice = Choice(depth + 1);
        return Below(6) == 0 ? "[" + choice + "," + Choice(depth + 1) + "]" : "[" + choice + "]";
      }
      if (name == "delta" || name == "message") return Message(depth + 1);
      if (name == "index") return Pick({"0", "0", "1", "0.0", "-1"});
    }
    if (depth < 6 && Below(8) == 0) return Object({"content", "a", "text"}, depth + 1);
    if (depth < 6 && Below(8) == 0) return "[" + Value("", depth + 1) + "]";
    return Pick({"null",
                 "null",
                 "\"\"",
                 "\" word\"",
                 "\" word\"",
                 "\" other\"",
                 "\" third\"",
                 "\"stop\"",
                 "\"a\\u00e4\\n\"",
                 "\"\xC3\xA4\"",
                 "\"\\ud83d\"",
                 "\"\\ud83d\\ude00\"",
                 "\"\xC3\"",
                 "\"\xEF\x9E\x80\"",
                 "\"error\"",
                 "true",
                 "false",
                 "0",
                 "1",
                 "-2.5",
                 "1e400",
                 "NaN",
                 "[]",
                 "{}",
                 "123456789012345678901234567890",
                 "\"a long reason of more than 32 bytes\""});
  }
  std::string Choice(int depth) {
    return Object({"text", "text", "index", "delta", "delta", "message", "finish_reason", "logprobs", "x"}, depth);
  }
  std::string Message(int depth) {
    return Object({"content", "content", "role", "refusal", "reasoning_content", "reasoning", "thinking", "tool_calls",
                   "function_call", "reasoning_details", "thinking_blocks", "y"},
                  depth);
  }

  std::mt19937 random_;
};

TEST(ReadPlainChunk, SaysWhatTheLongWaySaysOrNothing) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  ChunkMaker maker(seed);
  int plain = 0, with_text = 0;
  for (int k = 0; k < 200000; ++k) {
    const std::string data = maker.Chunk();
    const std::optional<Chunk> got = ReadPlainChunk(data);
    if (!got) continue;
    const absl::StatusOr<Chunk> want = ParseAnyChunk(data);
    ASSERT_TRUE(want.ok()) << data;
    ASSERT_EQ(got->text, want->text) << data;
    ASSERT_EQ(got->tokens, want->tokens) << data;
    ASSERT_EQ(got->thought, want->thought) << data;
    ASSERT_EQ(got->finish_reason, want->finish_reason) << data;
    ASSERT_TRUE(want->has_choice && !want->has_other_choices && !want->tool_call && !want->is_error) << data;
    ASSERT_TRUE(!want->usage && want->logprobs.empty()) << data;
    ++plain;
    with_text += got->text.empty() ? 0 : 1;
  }
  EXPECT_GT(plain, 1000);
  EXPECT_GT(with_text, 300);
}

TEST(ReadPlainChunk, TakesWhatServersSendForAToken) {
  const auto is_plain = [](const std::string& data) { return ReadPlainChunk(data).has_value(); };
  EXPECT_TRUE(is_plain(R"({"choices":[{"text":" a","index":0,"logprobs":null,"finish_reason":null}],"created":1,)"
                       R"("object":"text_completion","timings":{"cache_n":1,"x":[1,2]}})"));
  EXPECT_TRUE(is_plain(R"({"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"b"},)"
                       R"("logprobs":null,"finish_reason":null,"token_ids":null}],"usage":null})"));
  EXPECT_TRUE(is_plain(R"({"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"c"}}]})"));
  EXPECT_FALSE(is_plain(R"({"choices":[{"text":"d","index":0}],"usage":{"completion_tokens":1}})"));
  EXPECT_FALSE(is_plain(R"({"choices":[{"text":"e","index":0,"logprobs":{"tokens":["e"]}}]})"));
}

}  // namespace
}  // namespace goad::openai
