#include "client_sdk/openai/sse_parser.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace goad::openai {
namespace {

using Strings = std::vector<std::string>;

Strings Events(const Strings& pieces, bool at_end = false) {
  SseParser parser(1000);
  Strings events;
  const auto add = [&](const SseEvent& event) {
    events.push_back(event.type.empty() ? event.data : event.type + "=" + event.data);
  };
  for (const std::string& piece : pieces) EXPECT_TRUE(parser.Push(piece, add));
  if (at_end) parser.End(add);
  return events;
}

TEST(SseParser, EventsCutAnywhereWithAnyLineEnd) {
  EXPECT_EQ(Events({"data: a\n\ndata: b\n\n"}), (Strings{"a", "b"}));
  EXPECT_EQ(Events({"da", "ta: a", "\n", "\ndata:b\r", "\n\r\n", "data: c\r\r"}), (Strings{"a", "b", "c"}));
  EXPECT_EQ(Events({": comment\n\nevent: x\nid: 1\ndata: one\ndata: two\n\ndata: z\n\n"}),
            (Strings{"x=one\ntwo", "z"}));
  EXPECT_EQ(Events({"data: never ended"}), Strings{});
  EXPECT_EQ(Events({"data:\n\n"}), Strings{""});
}

TEST(SseParser, WhatTheStandardSaysOfFields) {
  EXPECT_EQ(Events({"\xEF\xBB\xBF"
                    "data: a\n\n\xEF\xBB\xBF"
                    "data: b\n\n"}),
            Strings{"a"});  // one BOM, at the start
  EXPECT_EQ(Events({"\xEF", "\xBB",
                    "\xBF"
                    "data: a\n\n"}),
            Strings{"a"});
  EXPECT_EQ(Events({"data\n\ndata\ndata\n\ndata:"}), (Strings{"", "\n"}));  // the standard's own example
  EXPECT_EQ(Events({"data:  two blanks\n\ndata:\ttab\n\n"}), (Strings{" two blanks", "\ttab"}));
  EXPECT_EQ(Events({"retry: 3000\n\nid: 7\n\nevent: ping\n\n"}), Strings{});  // no data, no event
  EXPECT_EQ(Events({"event: ping\n\ndata: a\n\n"}), Strings{"a"});            // the type does not outlive its block
  EXPECT_EQ(Events({"Data: a\n\n data: b\n\ndatax: c\n\n"}), Strings{});
}

TEST(SseParser, WhatServersSendThatTheStandardHasNot) {
  EXPECT_EQ(Events({"error: {\"code\":400}\n\n"}), Strings{"error={\"code\":400}"});
  EXPECT_EQ(Events({"data: a\n\n{\"error\":{}}\n"}, /*at_end=*/true), (Strings{"a", "error={\"error\":{}}"}));
  EXPECT_EQ(Events({"data: {\"a\":1}\ndata: {\"b\":2}\ndata: [DONE]\n\n"}),
            (Strings{"{\"a\":1}", "{\"b\":2}", "[DONE]"}));
  EXPECT_EQ(Events({"data: {\"a\":[{}\ndata: ,{\"b\":2}]}\n\n"}),
            Strings{"{\"a\":[{}\n,{\"b\":2}]}"});  // one text on two lines
  EXPECT_EQ(Events({"data: a\n\ndata: [DONE]\n"}, /*at_end=*/true), (Strings{"a", "[DONE]"}));
  EXPECT_EQ(Events({"data: [DONE]"}, /*at_end=*/true), Strings{"[DONE]"});
}

TEST(SseParser, RefusesAnEventWithoutEnd) {
  for (const char* begin : {"", "data: ", ": "}) {
    SseParser parser(1000);
    bool ok = parser.Push(begin, [](const SseEvent&) {});
    for (int k = 0; k < 10; ++k) ok = ok && parser.Push(std::string(100, 'x'), [](const SseEvent&) {});
    EXPECT_FALSE(parser.Push("x", [](const SseEvent&) {})) << begin;
  }
  SseParser lines(1000);
  bool ok = true;
  for (int k = 0; k < 200 && ok; ++k) ok = lines.Push("data: xxxxxxxxxx\n", [](const SseEvent&) {});
  EXPECT_FALSE(ok) << "many lines of one event";
}

}  // namespace
}  // namespace goad::openai
