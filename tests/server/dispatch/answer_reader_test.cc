#include "server/dispatch/answer_reader.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace goad::server {
namespace {

using State = AnswerReader::State;

const char kToken[] = "data: {\"choices\":[{\"text\":\"hi \"}]}\n\n";
const char kStop[] = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
const char kDone[] = "data: [DONE]\n\n";
const char kThought[] = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";

struct Answer {
  State state = State::kReading;
  std::string text, code;
  Blame blame = Blame::kBackend;
};
std::string Finish(const std::string& reason) {
  return absl::StrCat("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"", reason, "\"}]}\n\n");
}
Answer Read(const std::string& body, TransportEnd end = TransportEnd::kComplete, bool framed = true,
            bool logprobs = false, int status = 200) {
  auto prompt = std::make_shared<PromptBody>();
  prompt->top_logprobs = logprobs ? 2 : 0;
  AnswerReader reader(prompt, /*max_output_tokens=*/4);
  HttpHead head;
  head.status = status;
  head.framed = framed;
  reader.OnHead(head);
  Answer answer;
  for (size_t at = 0; at < body.size(); at += 8192) answer.text += reader.OnBody(body.substr(at, 8192)).text;
  answer.text += reader.OnEnd(end, "").text;
  answer.state = reader.state();
  if (answer.state == State::kFailed) {
    answer.code = reader.error().code;
    answer.blame = reader.error().blame;
  }
  return answer;
}
std::string Repeated(const std::string& text, size_t bytes) {
  std::string all;
  while (all.size() < bytes) all += text;
  return all;
}

TEST(AnswerReader, WhatFollowsAFinishReasonTakesNothingAway) {
  const std::string whole = absl::StrCat(kToken, kStop);
  for (const char* end : {"data: [DONE] \n\n", "data:  [DONE]\n\n", "data: [done]\n\n", "data: {oops\n\n",
                          "data: [DONE]\n", "", ": bye\n\n"}) {
    const Answer answer = Read(absl::StrCat(whole, end));
    EXPECT_EQ(answer.state, State::kWhole) << end;
    EXPECT_EQ(answer.text, "hi ") << end;
  }
  EXPECT_EQ(Read(absl::StrCat(kToken, "data: {oops\n\n", kStop)).state, State::kFailed);  // before it, it is garbage
}

TEST(AnswerReader, AnEventOfAnotherNameCountsWhenItHoldsAChunk) {
  const Answer named = Read(absl::StrCat("event: completion.chunk\n", kToken,
                                         "event: ping\ndata: {\"type\":\"ping\"}\n\n", "event: data\n", kStop, kDone));
  EXPECT_EQ(named.state, State::kWhole);
  EXPECT_EQ(named.text, "hi ");
}

// What a llama-server sends for a call of a tool, after some thought; cut at every byte it is the same.
TEST(AnswerReader, CallsOfToolsAndThoughtsAreReadWhereTheyAreWanted) {
  const auto delta = [](const std::string& fields) {
    return absl::StrCat("data: {\"choices\":[{\"index\":0,\"delta\":{", fields, "}}]}\n\n");
  };
  const std::string body =
      delta(R"("reasoning_content":"hm\ud83d")") + delta(R"("reasoning_content":"\ude00")") +
      delta(R"("tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"weather","arguments":""}}])") +
      delta(R"("tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"K\u00f6"}}])") +
      delta(
          R"("tool_calls":[{"index":1,"id":"c2","function":{"name":"time","arguments":"{}"}},{"index":0,"function":{"arguments":"ln\"}"}}])") +
      Finish("tool_calls") + kDone;
  const auto read = [&](bool tools, bool reasoning, size_t step) {
    auto prompt = std::make_shared<PromptBody>();
    prompt->tools = tools;
    prompt->reasoning = reasoning;
    AnswerReader reader(prompt, 4);
    reader.OnHead({.status = 200});
    std::string text;
    const auto add = [&](const AnswerPart& part) {
      if (!part.reasoning.empty()) absl::StrAppend(&text, "[", part.reasoning, "]");
      for (const auto& [index, id, name, arguments] : part.tool_calls)
        absl::StrAppend(&text, index, id, name, arguments, "|");
      EXPECT_EQ(part.empty(), part.reasoning.empty() && part.tool_calls.empty());
    };
    for (size_t at = 0; at < body.size(); at += step) add(reader.OnBody(body.substr(at, step)));
    add(reader.OnEnd(TransportEnd::kComplete, ""));
    return reader.state() == State::kWhole ? text : reader.error().code + text;
  };
  const std::string calls = "0c1weather|0{\"city\":\"K\xC3\xB6|1c2time{}|0ln\"}|";
  for (size_t step = 1; step < 40; ++step) {
    EXPECT_EQ(read(true, false, step), calls) << step;
    EXPECT_EQ(read(true, true, step), "[hm][\xF0\x9F\x98\x80]" + calls) << step;
    EXPECT_EQ(read(false, false, step), "empty") << "nobody offered a tool";
  }
}

// Each server tells one call from another in its own way.
TEST(AnswerReader, CallsAreToldApartByIndexIdOrName) {
  const auto read = [](const std::vector<std::string>& chunks) {
    auto prompt = std::make_shared<PromptBody>();
    prompt->tools = true;
    AnswerReader reader(prompt, 4);
    reader.OnHead({.status = 200});
    std::vector<std::string> calls;
    for (const std::string& chunk : chunks) {
      const AnswerPart part = reader.OnBody(
          absl::StrCat("data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[", chunk, "]}}]}\n\n"));
      for (const auto& [index, id, name, arguments] : part.tool_calls) {
        if (calls.size() <= static_cast<size_t>(index)) calls.resize(static_cast<size_t>(index) + 1);
        absl::StrAppend(&calls[static_cast<size_t>(index)], id, name, arguments);
      }
    }
    return calls;
  };
  using Calls = std::vector<std::string>;
  EXPECT_EQ(read({R"({"index":0,"id":"c1","function":{"name":"f","arguments":"{"}})",
                  R"({"index":0,"id":"c1","function":{"name":"f","arguments":"}"}})"}),
            (Calls{"c1f{}"}))
      << "id and name with each piece";
  const std::string first = R"({"id":"c1","function":{"name":"f","arguments":"{}"}})",
                    second = R"({"id":"c2","function":{"name":"g","arguments":"{}"}})";
  EXPECT_EQ(read({first, second}), (Calls{"c1f{}", "c2g{}"})) << "no index, a chunk each";
  EXPECT_EQ(read({first + "," + second}), (Calls{"c1f{}", "c2g{}"})) << "no index, one chunk";
  EXPECT_EQ(read({R"({"index":0,"function":{"name":"f","arguments":"{}"}})",
                  R"({"index":0,"function":{"name":"f","arguments":"{}"}})"}),
            (Calls{"f{}", "f{}"}))
      << "no id, and the index is always 0";
  EXPECT_EQ(read({R"({"index":7,"id":"c7","function":{"name":"f","arguments":{"a":1}}})"}), (Calls{R"(c7f{"a":1})"}));
  Calls many;
  for (int k = 0; k < 200; ++k) many.push_back(absl::StrCat(R"({"index":0,"id":")", k, R"("})"));
  EXPECT_EQ(read(many).size(), 128u);
}

TEST(AnswerReader, ARefusalIsTheRestOfTheText) {
  const std::string body =
      "data: {\"choices\":[{\"delta\":{\"content\":\"Sure. \"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"refusal\":\"No.\"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\" Ask\"}}]}\n\n" +
      Finish("stop") + kDone;
  for (size_t step = 1; step <= body.size(); step += 7) {
    AnswerReader reader(std::make_shared<PromptBody>(), 4);
    reader.OnHead({.status = 200});
    std::string text, refusal;
    for (size_t at = 0; at < body.size(); at += step) {
      const AnswerPart part = reader.OnBody(body.substr(at, step));
      text += part.text;
      refusal += part.text.substr(part.text.size() - part.refusal_bytes);
    }
    EXPECT_EQ(text, "Sure. No. Ask") << step;
    EXPECT_EQ(refusal, "No. Ask") << step;
  }
}

TEST(AnswerReader, WhenAnAnswerIsWhole) {
  const std::string said = kToken;
  EXPECT_EQ(Read(said + kStop + kDone).state, State::kWhole);
  EXPECT_EQ(Read(said + kStop).state, State::kWhole) << "no [DONE]";
  EXPECT_EQ(Read(said + kStop + "data: [DONE]").state, State::kWhole) << "no line end";
  EXPECT_EQ(Read(said + std::string(kStop, sizeof kStop - 3)).state, State::kWhole)
      << "no empty line after the last event";
  EXPECT_EQ(Read(said + kStop + kDone, TransportEnd::kBroken).state, State::kWhole) << "said all, then broke";
  EXPECT_EQ(Read(said + kStop, TransportEnd::kBroken, /*framed=*/false).state, State::kWhole) << "no close_notify";
  EXPECT_EQ(Read(said + kStop, TransportEnd::kBroken).state, State::kWhole)
      << "chunked without its last chunk, or reset";
  const std::string each = "data: {\"choices\":[{\"text\":\"hi \",\"finish_reason\":\"stop\"}]}\n\n";
  EXPECT_EQ(Read(each + each, TransportEnd::kBroken).code, "broken")
      << "it ends every chunk so: there may have been more";
  EXPECT_EQ(Read(each + each + kDone).state, State::kWhole);
  const std::string error = "data: {\"error\":{\"message\":\"no\",\"code\":500}}\n\n";
  for (const std::string& after : {error, "event: error\n" + error, "error: {\"code\":500}\n\n" + std::string(kDone)}) {
    EXPECT_EQ(Read(said + kStop + after).state, State::kWhole) << after;
    EXPECT_EQ(Read(each + each + after).state, State::kFailed) << after;
    EXPECT_EQ(Read(kStop + after).blame, Blame::kBackend) << "without text it is the better reason: " << after;
  }
  EXPECT_EQ(Read(said + kDone).code, "broken") << "no finish_reason";
  EXPECT_EQ(Read(said).code, "broken");
  EXPECT_EQ(Read("").code, "broken");
  EXPECT_EQ(Read(said + kStop + kDone, TransportEnd::kComplete, true, false, 206).state, State::kWhole) << "any 2xx";
}

TEST(AnswerReader, AnswersThatAreNone) {
  for (const char* reason : {"abort", "error", "load", "insufficient_system_resource", "timeout", "network_error",
                             "malformed_function_call", "MALFORMED_FUNCTION_CALL", "repetition"}) {
    EXPECT_EQ(Read(std::string(kToken) + Finish(reason) + kDone).code, "unfinished") << reason;
    EXPECT_EQ(Read(Finish(reason) + kDone).blame, Blame::kBackend) << reason;
  }
  const std::string role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
  const std::string tool = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n";
  const std::string call = "data: {\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"f\"}}}]}\n\n";
  for (const std::string& empty :
       {kThought + Finish("length"), kThought + Finish("stop"), Finish("length"), role + Finish("stop"),
        tool + Finish("tool_calls"), call + Finish("function_call")}) {
    EXPECT_EQ(Read(empty + kDone).code, "empty") << empty;
    EXPECT_EQ(Read(empty + kDone).blame, Blame::kPrompt) << empty;
  }
  EXPECT_EQ(Read(kThought + std::string(kToken) + Finish("length") + kDone).state, State::kWhole);
  EXPECT_EQ(Read(std::string(kToken) + "data: {\"error\":{\"message\":\"no\",\"code\":500}}\n\n").blame,
            Blame::kBackend);
  EXPECT_EQ(Read("event: error\ndata: {\"error\":{\"message\":\"no\",\"code\":400}}\n\n").blame, Blame::kPrompt);
  EXPECT_EQ(Read("event: error\ndata: out of memory\n\n").blame, Blame::kBackend);
  EXPECT_EQ(Read("error: {\"code\":400,\"message\":\"too long\",\"type\":\"invalid_request_error\"}\n\n").blame,
            Blame::kPrompt);
  EXPECT_EQ(Read("<html><title>Please log in</title>").code, "garbage");
  EXPECT_EQ(Read("{\"choices\":[{\"text\":\"hi\"}").code, "garbage") << "JSON that is cut";
  EXPECT_EQ(Read("{\"object\":\"list\"}").code, "garbage");
  EXPECT_EQ(Read("{\"error\":{\"message\":\"used up\",\"code\":429}}").blame, Blame::kBusy);
  EXPECT_EQ(Read("\xEF\xBB\xBF \n{\"choices\":[{\"text\":\"hi\",\"finish_reason\":\"stop\"}]}\n").text, "hi");
}

TEST(AnswerReader, WhatIsNotOfTheAnswerIsBounded) {
  const std::string end = std::string(kToken) + kStop + kDone;
  for (const char* idle : {":\n", ": ping\n\n", "\n", "data:\n\n", "event: ping\ndata: {}\n\n", "id: 7\n", "x\n"}) {
    EXPECT_EQ(Read(Repeated(idle, 100 << 10) + end).text, "hi ") << idle;
    EXPECT_EQ(Read(Repeated(idle, 1 << 20) + end).code, "garbage") << idle;
  }
  for (const char* chunk :
       {"data: {\"choices\":[]}\n\n", "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: "
        "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"llm\","
        "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":null}],"
        "\"prompt_progress\":{\"total\":100000,\"cache\":0,\"processed\":4096,\"time_ms\":1000}}\n\n"}) {
    std::string thousands;
    for (int k = 0; k < 5000; ++k) thousands += chunk;
    EXPECT_EQ(Read(thousands + end).text, "hi ") << chunk << ": the time limits bound them";
    EXPECT_EQ(Read(Repeated(chunk, 6 << 20) + end).code, "garbage") << chunk << ": a flood";
  }
  EXPECT_EQ(Read(std::string(1 << 20, ' ') + end).code, "garbage") << "padding";
  EXPECT_EQ(Read(Repeated(": ping\n\n" + std::string(kThought), 1 << 20) + end).text, "hi ")
      << "a ping with each thought";
  EXPECT_EQ(Read(Repeated(kToken, AnswerReader::kMaxBody + 4 * AnswerReader::kBodyPerToken + 1)).code, "garbage")
      << "without end";
}

TEST(AnswerReader, AnEventMayHoldThePromptAndOneThatIsTooLargeIsHeldAgainstNobody) {
  const auto read = [](const std::string& body, size_t prompt_bytes, ServerError* error) {
    auto prompt = std::make_shared<PromptBody>();
    prompt->messages = {{"user", std::string(prompt_bytes, 'p')}};
    AnswerReader reader(prompt, 4);
    HttpHead head;
    head.status = 200;
    reader.OnHead(head);
    std::string text;
    for (size_t at = 0; at < body.size(); at += 8192) text += reader.OnBody(body.substr(at, 8192)).text;
    text += reader.OnEnd(TransportEnd::kComplete, "").text;
    *error = reader.error();
    return reader.state() == State::kWhole ? text : "";
  };
  const auto verbose = [](const char* choice, size_t bytes) {  // llama-server -v
    return absl::StrCat("data: {\"choices\":[", choice, "],\"__verbose\":{\"prompt\":\"", std::string(bytes, 'p'),
                        "\"}}\n\n");
  };
  const char* stop = "{\"delta\":{},\"finish_reason\":\"stop\"}";
  ServerError error;
  for (const size_t bytes : {80u << 10, 250u << 10}) {
    EXPECT_EQ(read(kToken + verbose(stop, 2 * bytes) + kDone, bytes, &error), "hi ") << bytes;
    EXPECT_EQ(read(verbose("", 7 * bytes) + kToken + kStop + kDone, bytes, &error), "hi ") << "vLLM's prompt_logprobs";
  }
  EXPECT_EQ(read(std::string(kToken) + kStop + verbose("", 3 << 20) + kDone, 9, &error), "hi ")
      << "it was whole before";
  EXPECT_EQ(read(kToken + verbose(stop, 300 << 10) + kDone, 9, &error), "");
  EXPECT_EQ(error.code, "garbage");
  EXPECT_TRUE(error.doubtful);
  EXPECT_EQ(read(verbose(stop, 3 << 20) + kDone, 1 << 20, &error), "") << "there is an end to it";
  EXPECT_TRUE(error.doubtful);
}

TEST(AnswerReader, AnEventIsBoundedMoreWhereLogprobsWereAskedFor) {
  const auto event = [](size_t bytes, const char* more) {
    return absl::StrCat("data: {\"choices\":[{\"text\":\"", std::string(bytes, 'a'), "\",\"finish_reason\":\"stop\"}]",
                        more, "}\n\n");
  };
  EXPECT_EQ(Read(event(60 << 10, "")).state, State::kWhole);
  EXPECT_EQ(Read(event(70 << 10, "")).code, "garbage");
  EXPECT_EQ(Read(event(70 << 10, ""), TransportEnd::kComplete, true, /*logprobs=*/true).code, "garbage")
      << "text, not log-probabilities";
  const std::string more = absl::StrCat(",\"more\":\"", std::string(200 << 10, 'x'), "\"");
  EXPECT_EQ(Read(event(3, more.c_str())).code, "garbage");
  EXPECT_EQ(Read(event(3, more.c_str()), TransportEnd::kComplete, true, /*logprobs=*/true).state, State::kWhole);
  EXPECT_EQ(Read("{\"choices\":[{\"text\":\"" + std::string(2 << 20, 'a')).code, "garbage") << "JSON without end";
  EXPECT_EQ(Read(std::string(1 << 20, 'e'), TransportEnd::kComplete, true, false, 500).code, "500");
}

TEST(AnswerReader, TokensOfLogprobsAreWholeCharacters) {
  auto prompt = std::make_shared<PromptBody>();
  prompt->top_logprobs = 2;
  AnswerReader reader(prompt, /*max_output_tokens=*/4);
  HttpHead head;
  head.status = 200;
  reader.OnHead(head);
  const AnswerPart part = reader.OnBody(
      "data: "
      "{\"choices\":[{\"text\":\"a\",\"logprobs\":{\"content\":[{\"token\":\"?\",\"bytes\":[228,189],\"logprob\":-1,"
      "\"top_logprobs\":[{\"token\":\"b\",\"logprob\":-2},{\"token\":\"?\",\"bytes\":[228],\"logprob\":-3}]}]}}]}\n\n");
  ASSERT_EQ(part.logprobs.size(), 1u);
  EXPECT_EQ(part.logprobs[0].token, "\xEF\xBF\xBD");
  EXPECT_EQ(part.logprobs[0].logprob, -1);
  ASSERT_EQ(part.logprobs[0].top.size(), 2u);
  EXPECT_EQ(part.logprobs[0].top[0].token, "b");
  EXPECT_EQ(part.logprobs[0].top[1].token, "\xEF\xBF\xBD");
  EXPECT_EQ(part.logprobs[0].top[1].logprob, -3);
}

}  // namespace
}  // namespace goad::server
