// What real servers send (tests/data/conversations), through libcurl and the reader of answers, cut at every byte and
// mutated: a whole answer or a failure, and never a wrong text.
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/dispatch/answer_reader.h"
#include "server/dispatch/curl_transport.h"
#include "tests/fakes/loopback.h"

namespace goad::server {
namespace {

struct Conversation {
  std::string name, text, finish_reason;
  std::string heads;                // informational ones included, each with its empty line
  std::vector<std::string> chunks;  // of the body
  bool chunked = false;
  int prompt_tokens = -1, output_tokens = -1;

  std::string Body() const {
    std::string body;
    for (const std::string& chunk : chunks) body += chunk;
    return body;
  }
  // What goes over the wire; with chunk extensions and a trailer on request.
  std::string Wire(bool odd = false) const {
    if (!chunked) return heads + Body();
    std::ostringstream wire;
    wire << heads;
    for (const std::string& chunk : chunks)
      wire << std::hex << chunk.size() << (odd ? ";ext=1" : "") << "\r\n" << chunk << "\r\n";
    wire << "0\r\n" << (odd ? "X-Sum: 1\r\n" : "") << "\r\n";
    return wire.str();
  }
};

std::vector<Conversation> Conversations() {
  std::vector<Conversation> all;
  for (const auto& entry : std::filesystem::directory_iterator(GOAD_TEST_DATA "/conversations")) {
    if (entry.path().extension() != ".txt") continue;
    Conversation read;
    read.name = entry.path().stem();
    std::ifstream in(entry.path());
    std::string line;
    bool in_head = true, informational = false;
    while (in_head && std::getline(in, line)) {
      if (line.rfind("# ", 0) == 0) continue;
      if (line.rfind("= ", 0) == 0) {
        const size_t end = line.rfind('"') + 1;
        read.text = nlohmann::json::parse(line.substr(2, end - 2));
        const std::vector<std::string> rest = absl::StrSplit(line.substr(end + 1), ' ');
        read.finish_reason = rest.at(0);
        if (rest.at(1) == "-") continue;
        EXPECT_TRUE(absl::SimpleAtoi(rest[1], &read.prompt_tokens) && absl::SimpleAtoi(rest[2], &read.output_tokens));
        continue;
      }
      if (line.rfind("HTTP/", 0) == 0) informational = line.substr(9, 1) == "1";
      if (line == "Transfer-Encoding: chunked" || line == "transfer-encoding: chunked") read.chunked = true;
      read.heads += line + "\r\n";
      in_head = !line.empty() || informational;
    }
    std::string chunk;
    while (std::getline(in, line)) {
      if (line == "--") {
        read.chunks.push_back(std::exchange(chunk, {}));
      } else {
        chunk += line + "\n";
      }
    }
    read.chunks.push_back(chunk);
    if (const size_t length = read.heads.find("Content-Length: *"); length != std::string::npos) {
      read.heads.replace(length + 16, 1, std::to_string(read.Body().size()));
    }
    all.push_back(read);
  }
  return all;
}

struct Outcome {
  AnswerReader::State state = AnswerReader::State::kReading;
  std::string text, finish_reason, error;
  std::optional<openai::Usage> usage;
};

struct Reading final : HttpListener {
  void Take(const AnswerPart& part) { text += part.text; }
  void OnHead(const HttpHead& head, MonotonicTime) override { reader.OnHead(head); }
  void OnBody(std::string_view bytes, MonotonicTime) override { Take(reader.OnBody(bytes)); }
  void OnEnd(TransportEnd end, const std::string& detail, MonotonicTime) override {
    Take(reader.OnEnd(end, detail));
    ended = true;
  }
  Outcome Result() const {
    return {reader.state(), text, reader.finish_reason(), reader.error().words + reader.error().detail, reader.usage()};
  }

  static std::shared_ptr<const PromptBody> Prompt() {
    auto prompt = std::make_shared<PromptBody>();
    prompt->top_logprobs = 2;
    return prompt;
  }
  AnswerReader reader{Prompt(), 64};
  std::string text;
  bool ended = false;
};

void ExpectWhole(const Conversation& want, const Outcome& got, const std::string& how) {
  ASSERT_EQ(got.state, AnswerReader::State::kWhole) << want.name << " " << how << ": " << got.error;
  EXPECT_EQ(got.text, want.text) << want.name << " " << how;
  EXPECT_EQ(got.finish_reason, want.finish_reason) << want.name << " " << how;
}
void ExpectWholeOrFailure(const Conversation& want, const Outcome& got, const std::string& how) {
  ASSERT_NE(got.state, AnswerReader::State::kReading) << want.name << " " << how;
  if (got.state == AnswerReader::State::kWhole) {
    EXPECT_EQ(got.text, want.text) << want.name << " " << how;
  } else {
    EXPECT_EQ(want.text.compare(0, got.text.size(), got.text), 0) << want.name << " " << how << ": " << got.text;
  }
}

Outcome Read(const std::vector<std::string>& pieces, TransportEnd end, bool framed = true) {
  Reading reading;
  HttpHead head;
  head.status = 200;
  head.framed = framed;
  reading.OnHead(head, MonotonicTime());
  for (const std::string& piece : pieces) reading.OnBody(piece, MonotonicTime());
  reading.OnEnd(end, "", MonotonicTime());
  return reading.Result();
}

TEST(Conversations, AreReadWhole) {
  const std::vector<Conversation> all = Conversations();
  ASSERT_GE(all.size(), 9u);
  for (const Conversation& conversation : all) {
    const Outcome got = Read(conversation.chunks, TransportEnd::kComplete);
    ExpectWhole(conversation, got, "in its own chunks");
    ASSERT_EQ(got.usage.has_value(), conversation.prompt_tokens >= 0) << conversation.name;
    if (!got.usage) continue;
    EXPECT_EQ(got.usage->prompt_tokens, conversation.prompt_tokens);
    EXPECT_EQ(got.usage->output_tokens, conversation.output_tokens);
  }
}

TEST(Conversations, CutInTwoOrCutOffAtEveryByteOfTheBody) {
  for (const Conversation& conversation : Conversations()) {
    const std::string body = conversation.Body();
    size_t whole = 0;
    for (size_t cut = 0; cut <= body.size(); ++cut) {
      const std::string how = absl::StrCat("cut at byte ", cut);
      ExpectWhole(conversation, Read({body.substr(0, cut), body.substr(cut)}, TransportEnd::kComplete), how);
      for (const TransportEnd end : {TransportEnd::kComplete, TransportEnd::kBroken}) {
        const Outcome got = Read({body.substr(0, cut)}, end);
        ExpectWholeOrFailure(conversation, got, how + " and ended");
        whole += got.state == AnswerReader::State::kWhole;
      }
      if (HasFailure()) return;
    }
    EXPECT_GT(whole, 0u) << conversation.name;
    std::vector<std::string> bytes;
    for (const char c : body) bytes.emplace_back(1, c);
    ExpectWhole(conversation, Read(bytes, TransportEnd::kComplete), "byte by byte");
  }
}

// Bytes changed, taken out, put in, doubled or exchanged, but none within what the model said: whatever a network or a
// proxy may do to a stream, goad makes the same text of it or fails. (A changed letter within a text is another text;
// nothing could know.)
TEST(Conversations, TwoThousandMutationsGiveAWholeAnswerOrAFailureAndNeverAWrongText) {
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  const std::vector<Conversation> all = Conversations();
  int whole = 0;
  for (int k = 0; k < 2000; ++k) {
    const Conversation& conversation = all[random() % all.size()];
    std::vector<std::string> events = absl::StrSplit(conversation.Body(), "\n\n");
    const std::string junk[] = {": ping",
                                "event: ping\ndata: {\"type\":\"ping\"}",
                                "data:",
                                "retry: 10",
                                "data: {\"choices\":[]}",
                                "id: 3",
                                "data: null ",
                                "data: {\"choices\":[{\"index\":1,\"text\":\"no\",\"delta\":{\"content\":\"no\"}}]}",
                                "\xEF\xBB\xBF",
                                "data: {\"choi",
                                "\xFF\xFE"};
    std::string body;
    const bool put_junk = random() % 2 == 0;
    for (size_t e = 0; e < events.size(); ++e) {
      if (put_junk && random() % 3 == 0 && conversation.chunks.size() > 1)
        body += junk[random() % std::size(junk)] + "\n\n";
      body += events[e] + (e + 1 < events.size() ? "\n\n" : "");
    }
    const auto is_said = [&](size_t at) {  // within the value of a text
      for (const char* field : {"\"content\":", "\"text\":", "\"content\": "}) {
        const size_t begin = body.rfind(field, at);
        if (begin != std::string::npos && at < body.find_first_of(",}", begin) + 1) return true;
      }
      return false;
    };
    const int kind = static_cast<int>(random() % 5);
    const size_t at = random() % body.size();
    if (kind == 0) body.resize(at);
    if (kind == 1 && !is_said(at) && std::isspace(static_cast<unsigned char>(body[at])) != 0) body[at] = '\r';
    if (kind == 2 && !is_said(at)) body.insert(at, 1, '\0');
    if (kind == 3) {
      for (size_t pos = 0; (pos = body.find('\n', pos)) != std::string::npos; pos += 2) body.replace(pos, 1, "\r\n");
    }
    std::vector<std::string> pieces;
    for (size_t pos = 0; pos < body.size();) {
      const size_t length = 1 + random() % 40;
      pieces.push_back(body.substr(pos, length));
      pos += length;
    }
    const Outcome got =
        Read(pieces, random() % 4 == 0 ? TransportEnd::kBroken : TransportEnd::kComplete, random() % 2 == 0);
    ExpectWholeOrFailure(conversation, got, absl::StrCat("seed ", seed, " mutation ", k, " kind ", kind));
    whole += got.state == AnswerReader::State::kWhole;
    if (HasFailure()) return;
  }
  std::cout << whole << " of 2000 were whole\n";
  EXPECT_GT(whole, 200);
  EXPECT_LT(whole, 2000);
}

// Sends whatever it is told to to each connection, whole requests read first.
class RawServer {
 public:
  RawServer() : fd_(ListenOnLoopback(&port_)), thread_([this] { Run(); }) {}
  ~RawServer() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void set_answer(std::string answer) {
    std::lock_guard<std::mutex> lock(mutex_);
    answer_ = std::move(answer);
  }

 private:
  void Run() {
    for (;;) {
      const int client = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n{}") == std::string::npos) {  // the tests' body is {}
        const ssize_t n = recv(client, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        request.append(buffer, static_cast<size_t>(n));
      }
      std::string answer;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        answer = answer_;
      }
      [[maybe_unused]] const ssize_t sent = send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
      close(client);
    }
  }

  int port_ = 0;
  const int fd_;
  std::mutex mutex_;
  std::string answer_;
  std::thread thread_;
};

Outcome Fetch(CurlTransport& transport, RawServer& server, const std::string& wire) {
  BackendConfig backend;
  backend.url = server.url();
  server.set_answer(wire);
  Reading reading;
  transport.Start({&backend, "/v1/x", "{}", absl::Seconds(5), ""}, &reading);
  const MonotonicTime late = MonotonicTime::Now() + absl::Seconds(20);
  while (!reading.ended && MonotonicTime::Now() < late) transport.Poll(late);
  return reading.Result();
}

TEST(Conversations, OverHttpCutOffAtEveryByteOfHeadAndFrames) {
  const auto opened = CurlTransport::Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  CurlTransport& transport = **opened;
  RawServer server;
  for (const Conversation& conversation : Conversations()) {
    ExpectWhole(conversation, Fetch(transport, server, conversation.Wire()), "over HTTP");
    ExpectWhole(conversation, Fetch(transport, server, conversation.Wire(/*odd=*/true)),
                "with extensions and a trailer");
    const std::string wire = conversation.Wire();
    for (size_t cut = 0; cut < wire.size(); ++cut) {
      ExpectWholeOrFailure(conversation, Fetch(transport, server, wire.substr(0, cut)),
                           absl::StrCat("over HTTP, cut off at byte ", cut));
      if (HasFailure()) return;
    }
  }
}

// A failover begins where the first attempt's bytes are reported.
TEST(CurlTransport, ACallMayBeStartedAndEndedFromWithinAReportOfAnother) {
  const auto opened = CurlTransport::Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  CurlTransport& transport = **opened;
  RawServer server;
  server.set_answer(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
      "data: {\"choices\":[{\"text\":\"Hello world\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
  BackendConfig backend;
  backend.url = server.url();
  struct First final : HttpListener {
    void OnHead(const HttpHead&, MonotonicTime) override {}
    void OnBody(std::string_view, MonotonicTime) override { then(); }
    void OnEnd(TransportEnd, const std::string&, MonotonicTime) override {}
    std::function<void()> then;
  } first;
  Reading second;
  const HttpRequest request = {&backend, "/v1/x", "{}", absl::Seconds(5), ""};
  const CallId id = transport.Start(request, &first);
  first.then = [&] {
    transport.Abort(id);
    transport.Start(request, &second);
  };
  const MonotonicTime late = MonotonicTime::Now() + absl::Seconds(5);
  while (!second.ended && MonotonicTime::Now() < late) transport.Poll(late);
  EXPECT_EQ(second.Result().text, "Hello world");
}

struct Heard final : HttpListener {
  void OnHead(const HttpHead& of, MonotonicTime) override { head = of; }
  void OnBody(std::string_view bytes, MonotonicTime) override { body += bytes; }
  void OnEnd(TransportEnd of, const std::string& words, MonotonicTime) override {
    ended = true;
    end = of;
    detail = words;
  }
  HttpHead head;
  std::string body, detail;
  bool ended = false;
  TransportEnd end = TransportEnd::kComplete;
};

TEST(CurlTransport, WhatIsNoHttpIsSaidToBeNone) {
  const auto opened = CurlTransport::Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  RawServer server;
  const auto hear = [&](const std::string& wire) {
    BackendConfig backend;
    backend.url = server.url();
    server.set_answer(wire);
    Heard heard;
    (*opened)->Start({&backend, "/v1/x", "{}", absl::Seconds(2), ""}, &heard);
    const MonotonicTime late = MonotonicTime::Now() + absl::Seconds(20);
    while (!heard.ended && MonotonicTime::Now() < late) (*opened)->Poll(late);
    return heard;
  };
  using namespace std::string_literals;
  for (const auto& [wire, words] : std::vector<std::pair<std::string, std::string>>{
           {"\x15\x03\x01\0\x02\x02\x46"s, "the server speaks TLS: use https://"},
           {"SSH-2.0-OpenSSH_9.2p1\r\n", "the server does not speak HTTP: first bytes \"SSH-2.0-OpenSSH_9.2p1\""},
           {"hello", "the server does not speak HTTP: first bytes \"hello\""},
           {"\0\0\x12\x04"s, "the server does not speak HTTP: first bytes \"\\x00\\x00\\x12\\x04\""},
           {std::string(100000, 'x'),
            "the server does not speak HTTP: first bytes \"" + std::string(48, 'x') + "...\""}}) {
    const Heard heard = hear(wire);
    EXPECT_EQ(heard.end, TransportEnd::kBroken) << heard.detail;
    EXPECT_EQ(heard.detail, words);
    EXPECT_EQ(heard.head.status, 0);
    EXPECT_EQ(heard.body, "");
  }
  EXPECT_EQ(hear("").end, TransportEnd::kBroken);
  EXPECT_EQ(hear("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx").body, "x");
  EXPECT_EQ(hear("HTTP/1.1 301 X\r\nLocation: https://H/x\r\nContent-Length: 0\r\n\r\n").head.location, "https://H/x");
}

TEST(CurlTransport, WhatIsBoundedAndWhatIsDecoded) {
  const auto opened = CurlTransport::Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  CurlTransport& transport = **opened;
  RawServer server;
  const std::string events =
      "data: {\"choices\":[{\"text\":\"Hello world\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
  EXPECT_EQ(Fetch(transport, server, head + "X-Long: " + std::string(60000, 'a') + "\r\n\r\n" + events).text,
            "Hello world");
  std::string many;
  for (int k = 0; k < 3000; ++k) many += "X-Header-" + std::to_string(k) + ": " + std::string(50, 'a') + "\r\n";
  EXPECT_EQ(Fetch(transport, server, head + many + "\r\n" + events).state, AnswerReader::State::kFailed)
      << "200 KiB of headers";
  EXPECT_EQ(Fetch(transport, server, "HTTP/1.0 200 OK\r\n\r\n" + events).text, "Hello world");
  // The same events through gzip, though none was asked for.
  const std::string gzip = absl::HexStringToBytes(
      "1f8b08000000000002034b492c49b452a8564acec8cf4c4e2d56b28aae562a49ad2851b252f248cdc9c95728cf2fca49"
      "51d2514acbcccb2cce882f4a4d2ccecf03ca1697e41728d5c6d67271a5808d8876f1f7738de5e202003f42de00510000"
      "00");
  EXPECT_EQ(Fetch(transport, server, head + "Content-Encoding: gzip\r\n\r\n" + gzip).text, "Hello world");
  const Outcome odd = Fetch(transport, server, head + "Content-Encoding: snappy\r\n\r\n" + events);
  EXPECT_EQ(odd.state, AnswerReader::State::kFailed);
  EXPECT_NE(odd.error.find("encoding"), std::string::npos) << odd.error;
  const Outcome moved =
      Fetch(transport, server, "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(moved.error, "HTTP 307");
}

}  // namespace
}  // namespace goad::server
