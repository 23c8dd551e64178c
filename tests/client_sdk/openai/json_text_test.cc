#include "client_sdk/openai/json_text.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace goad::openai {
namespace {

std::string Repeat(const std::string& what, int times) {
  std::string all;
  for (int k = 0; k < times; ++k) all += what;
  return all;
}

TEST(CheckJson, BoundsSizeAndDepthWithoutRecursion) {
  EXPECT_TRUE(CheckJson(Repeat("[", 64) + Repeat("]", 64), 1 << 20).ok());
  EXPECT_EQ(CheckJson(Repeat("[", 65) + Repeat("]", 65), 1 << 20).message(),
            "JSON text: more than 64 arrays and objects within each other at byte 64");
  EXPECT_EQ(CheckJson("[1,2]", 4).message(), "JSON text: 5 bytes, want at most 4");
  EXPECT_FALSE(CheckJson(Repeat("{\"a\":[", 2'000'000), 64 << 20).ok());
  EXPECT_TRUE(CheckJson(Repeat("[],{},", 100'000), 1 << 20).ok()) << "beside each other is no depth";
}

TEST(CheckJson, BracketsInStringsAreText) {
  EXPECT_TRUE(CheckJson("[\"" + Repeat("[", 1000) + "\"]", 1 << 20).ok());
  EXPECT_TRUE(CheckJson("[\"\\\"" + Repeat("[", 1000) + "\"]", 1 << 20).ok())
      << "an escaped quote does not end the string";
  EXPECT_FALSE(CheckJson("[\"\\\\\"" + Repeat(",[", 1000), 1 << 20).ok()) << "an escaped backslash is no escape";
  EXPECT_TRUE(CheckJson("\"\\", 10).ok()) << "cut in an escape";
}

TEST(StrictJson, WritesWhatPythonWritesAsStrings) {
  EXPECT_EQ(StrictJson(R"([NaN, Infinity,-Infinity,nan,-inf,1e999,-1e999])"),
            R"(["NaN", "Infinity","-Infinity","nan","-inf","1e999","-1e999"])");
  const char* strict = R"({"NaN":"Infinity, -inf","a":[1.5e3,-0,null,true]})";
  EXPECT_EQ(StrictJson(strict), strict);
  EXPECT_EQ(StrictJson("[wrong, 1e, -]"), "[wrong, 1e, -]") << "a parser's to refuse";
}

TEST(StrictJson, HalvesBecomeTheReplacementCharacter) {
  EXPECT_EQ(StrictJson(R"(["\ud83d\ude00","\ud83d","\ude00x","\\ud83d"])"),
            R"(["\ud83d\ude00","\ufffd","\ufffdx","\\ud83d"])");
  EXPECT_EQ(StrictJson("[\"\xe4\",\"\xe4\xbd\xa0\",\"\xed\xa0\x80\"]"),
            "[\"\xEF\xBF\xBD\",\"\xe4\xbd\xa0\",\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"]");
  EXPECT_EQ(StrictJson("\"\\\xff"), "\"\\\xEF\xBF\xBD");
  EXPECT_EQ(StrictJson("\"\\"), "\"\\");
}

TEST(StrictJson, LeavesValidTextAlone) {
  const nlohmann::json document = {
      {"text", "\"\\\n\t{[ \xe4\xbd\xa0 \xF0\x9F\x98\x80"}, {"numbers", {1, -2.5, 1e300, 1e-300}}, {"none", nullptr}};
  for (const bool ascii : {false, true})
    EXPECT_EQ(StrictJson(document.dump(2, ' ', ascii)), document.dump(2, ' ', ascii));
}

}  // namespace
}  // namespace goad::openai
