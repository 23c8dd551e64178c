#include "client_sdk/openai/utf8.h"

#include <random>

#include "gtest/gtest.h"

namespace goad::openai {
namespace {

TEST(Utf8, AnyCutGivesTheSameText) {
  const std::string text = "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80!";
  ASSERT_TRUE(IsValidUtf8(text));
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    for (size_t second = cut; second <= text.size(); ++second) {
      Utf8Assembler assembler;
      std::string out = assembler.Push(text.substr(0, cut));
      EXPECT_TRUE(IsValidUtf8(out));
      out += assembler.Push(text.substr(cut, second - cut));
      out += assembler.Push(text.substr(second));
      EXPECT_EQ(out + assembler.Finish(), text);
    }
  }
}

TEST(Utf8, InvalidBytesBecomeReplacements) {
  const auto all = [](const std::string& bytes) {
    Utf8Assembler assembler;
    const std::string out = assembler.Push(bytes);
    return out + assembler.Finish();
  };
  EXPECT_EQ(all("a\xFFz"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(all("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong
  EXPECT_EQ(all("\xED\xA0\x80"), "\xEF\xBF\xBD");          // half of a UTF-16 pair
  EXPECT_EQ(all("\xED\xA0\x80"
                "a\xED\xB0\x80"),
            "\xEF\xBF\xBD"
            "a\xEF\xBF\xBD");
  EXPECT_EQ(all("\xED\xA0\xBD\xED\xB8\x80"), "\xF0\x9F\x98\x80");  // both
  EXPECT_EQ(all("\xE2\x82"), "\xEF\xBF\xBD");                      // the end is missing
  std::mt19937 random(1);
  for (int k = 0; k < 2000; ++k) {
    std::string bytes(random() % 12, 0);
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_TRUE(IsValidUtf8(all(bytes)));
  }
}

}  // namespace
}  // namespace goad::openai
