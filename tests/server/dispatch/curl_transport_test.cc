#include "server/dispatch/curl_transport.h"

#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fakes/loopback.h"

namespace goad::server {
namespace {

constexpr int kAtOnce = 8;

bool ReadRequest(int connection) {
  std::string request;
  char buffer[4096];
  while (request.find("\r\n\r\n{}") == std::string::npos) {  // the tests' body is {}
    const ssize_t n = recv(connection, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    request.append(buffer, static_cast<size_t>(n));
  }
  return true;
}

// A thread for each connection, which stays until the server goes.
class KeepingServer {
 public:
  using Serve = std::function<void(int connection)>;
  explicit KeepingServer(Serve serve)
      : serve_(std::move(serve)), fd_(ListenOnLoopback(&port_)), acceptor_([this] { Accept(); }) {}
  ~KeepingServer() {
    shutdown(fd_, SHUT_RDWR);
    acceptor_.join();
    for (const int connection : connections_) shutdown(connection, SHUT_RDWR);
    for (std::thread& worker : workers_) worker.join();
    for (const int connection : connections_) close(connection);
    close(fd_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  void Accept() {
    for (;;) {
      const int connection = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      connections_.push_back(connection);
      workers_.emplace_back([this, connection] { serve_(connection); });
    }
  }

  const Serve serve_;
  int port_ = 0;
  const int fd_;
  std::vector<int> connections_;  // the acceptor's, until it has ended
  std::vector<std::thread> workers_;
  std::thread acceptor_;
};

void Send(int connection, const std::string& bytes) {
  [[maybe_unused]] const ssize_t sent = send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

// Answers the first request of each connection, when kAtOnce have come in all, and keeps the connection; breaks it at
// the second, as a server that has been started again does behind a proxy, or one whose patience ended meanwhile.
class ForgetfulServer {
 public:
  explicit ForgetfulServer(std::string farewell) : farewell_(std::move(farewell)) {}
  std::string url() const { return server_.url(); }
  int broken() {
    std::lock_guard<std::mutex> lock(mutex_);
    return broken_;
  }
  int answered() {
    std::lock_guard<std::mutex> lock(mutex_);
    return answered_;
  }

 private:
  void Serve(int connection) {
    if (!ReadRequest(connection)) return;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ++answered_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return answered_ >= kAtOnce; });
    }
    Send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if (!ReadRequest(connection)) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++broken_;
    }
    Send(connection, farewell_);
    shutdown(connection, SHUT_RDWR);
  }

  const std::string farewell_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int answered_ = 0, broken_ = 0;
  KeepingServer server_{[this](int connection) { Serve(connection); }};  // last: it calls at once
};

// One answer and the end.
class OneAnswer {
 public:
  explicit OneAnswer(std::string answer)
      : fd_(ListenOnLoopback(&port_)), thread_([this, answer = std::move(answer)] {
          const int connection = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
          if (connection < 0) return;
          char request[4096];
          [[maybe_unused]] const ssize_t got = recv(connection, request, sizeof request, 0);
          [[maybe_unused]] const ssize_t sent = send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
          close(connection);
        }) {}
  ~OneAnswer() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  int port_ = 0;
  const int fd_;
  std::thread thread_;
};

std::string Gzip(const std::string& text) {
  z_stream stream{};
  if (deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK) std::abort();
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) std::abort();
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// Answers each request with its number, and says something unasked after the first answer, when it may.
class TalkativeServer {
 public:
  explicit TalkativeServer(std::string unasked) : unasked_(std::move(unasked)) {}
  std::string url() const { return server_.url(); }
  void SpeakUnasked() {  // the first answer has been read; returns when it has spoken
    std::unique_lock<std::mutex> lock(mutex_);
    may_speak_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return spoken_; });
  }

 private:
  void Answer(int connection) {
    std::unique_lock<std::mutex> lock(mutex_);
    Send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + std::to_string(++answered_));
    if (answered_ > 1) return;
    changed_.wait(lock, [this] { return may_speak_; });
    Send(connection, unasked_);
    spoken_ = true;
    changed_.notify_all();
  }

  const std::string unasked_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int answered_ = 0;
  bool may_speak_ = false, spoken_ = false;
  KeepingServer server_{[this](int connection) {
    while (ReadRequest(connection)) Answer(connection);
  }};
};

struct Call final : HttpListener {
  void OnHead(const HttpHead& head, MonotonicTime) override { status = head.status; }
  void OnBody(std::string_view bytes, MonotonicTime) override { body += bytes; }
  void OnEnd(TransportEnd how, const std::string& what, MonotonicTime) override {
    ++ends;
    end = how;
    detail = what;
  }
  int status = 0, ends = 0;
  std::string body, detail;
  TransportEnd end = TransportEnd::kBroken;
};

class CurlTransportTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = CurlTransport::Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    transport_ = std::move(*opened);
  }
  void Run(std::vector<Call>& calls) {
    for (Call& call : calls) transport_->Start({&backend_, "/v1/x", "{}", absl::Seconds(5), ""}, &call);
    const MonotonicTime late = MonotonicTime::Now() + absl::Seconds(20);
    for (const Call& call : calls) {
      while (call.ends == 0 && MonotonicTime::Now() < late) transport_->Poll(late);
    }
  }

  BackendConfig backend_;
  std::unique_ptr<CurlTransport> transport_;
};

// libcurl tries a few connections that it has kept, and gives up when all of them are dead. A 408 is what a server says
// of the silence before the request.
TEST_F(CurlTransportTest, ACallThatFindsOnlyDeadConnectionsMakesANewOne) {
  for (const char* farewell : {"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate",
                               "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"}) {
    ForgetfulServer server(farewell);
    backend_.url = server.url();
    std::vector<Call> first(kAtOnce);
    Run(first);
    for (const Call& call : first) EXPECT_EQ(call.body, "ok") << call.detail;
    std::vector<Call> second(1);
    Run(second);
    EXPECT_EQ(second[0].end, TransportEnd::kComplete) << farewell << second[0].detail;
    EXPECT_EQ(second[0].status, 200) << farewell;
    EXPECT_EQ(second[0].body, "ok") << farewell;
    EXPECT_EQ(second[0].ends, 1);
    EXPECT_GT(server.broken(), 0);              // connections were kept
    EXPECT_EQ(server.answered(), kAtOnce + 1);  // and one more was made
  }
}

// Else the next one who asks is told what was said to another, and so on.
TEST_F(CurlTransportTest, AConnectionOnWhichSomethingCameUnaskedIsNotUsedAgain) {
  for (const char* unasked :
       {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nX", "HTTP/1.1 408 Request Timeout\r\n\r\n", "\r\n"}) {
    TalkativeServer server(unasked);
    backend_.url = server.url();
    std::string answers;
    for (int k = 0; k < 4; ++k) {
      std::vector<Call> calls(1);
      Run(calls);
      EXPECT_EQ(calls[0].end, TransportEnd::kComplete) << unasked << calls[0].detail;
      answers += calls[0].body;
      if (k > 0) continue;
      server.SpeakUnasked();
    }
    EXPECT_EQ(answers, "1234") << unasked;
  }
}

// Nobody reads its socket then, which is not to say that nobody wants what comes.
TEST_F(CurlTransportTest, WhatComesWhileACallIsPausedIsHeardAfterwards) {
  int port = 0;
  const int listening = ListenOnLoopback(&port);
  backend_.url = "http://127.0.0.1:" + std::to_string(port);
  Call call;
  const CallId id = transport_->Start({&backend_, "/v1/x", "{}", absl::Seconds(5), ""}, &call);
  const MonotonicTime late = MonotonicTime::Now() + absl::Seconds(20);
  const auto poll_until = [&](const auto& done) {
    while (!done() && MonotonicTime::Now() < late)
      transport_->Poll(std::min(late, MonotonicTime::Now() + absl::Milliseconds(10)));
  };
  std::promise<void> paused, sent;
  std::thread server([&] {
    const int connection = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    EXPECT_TRUE(ReadRequest(connection));
    const std::string first = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour";
    EXPECT_EQ(send(connection, first.data(), first.size(), MSG_NOSIGNAL), static_cast<ssize_t>(first.size()));
    paused.get_future().wait();
    EXPECT_EQ(send(connection, "more", 4, MSG_NOSIGNAL), 4);
    sent.set_value();
    char byte = 0;
    [[maybe_unused]] const ssize_t ended = recv(connection, &byte, 1, 0);
    close(connection);
  });
  poll_until([&] { return call.body == "four"; });
  transport_->SetPaused(id, true);
  paused.set_value();
  sent.get_future().wait();
  for (int k = 0; k < 3; ++k) transport_->Poll(MonotonicTime::Now());
  EXPECT_EQ(call.body, "four");
  transport_->SetPaused(id, false);
  poll_until([&] { return call.ends > 0; });
  EXPECT_EQ(call.body, "fourmore") << call.detail;
  EXPECT_EQ(call.end, TransportEnd::kComplete);
  transport_.reset();  // closes the connection
  server.join();
  close(listening);
}

// A few bytes may unpack to a thousand times as many: what one turn reads is bounded before anybody looks at it.
TEST_F(CurlTransportTest, ABodyThatUnpacksToTooMuchAtOnceIsBroken) {
  for (const size_t bytes : {size_t{500} << 10, size_t{4} << 20}) {
    const std::string packed = Gzip(std::string(bytes, 'a'));
    ASSERT_LT(packed.size(), 5000u);
    OneAnswer server("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + std::to_string(packed.size()) +
                     "\r\n\r\n" + packed);
    backend_.url = server.url();
    std::vector<Call> calls(1);
    Run(calls);
    const bool fits = bytes < size_t{1} << 20;
    EXPECT_EQ(calls[0].end, fits ? TransportEnd::kComplete : TransportEnd::kBroken) << calls[0].detail;
    EXPECT_EQ(calls[0].detail.find("unpack") == std::string::npos, fits) << calls[0].detail;
    EXPECT_LE(calls[0].body.size(), size_t{1} << 20);
    EXPECT_EQ(calls[0].body.size() == bytes, fits);
  }
}

// What is not packed comes whole, however much of it waits at once: curl reads on while there is something.
TEST_F(CurlTransportTest, ALargeBodyThatIsNotPackedComesWhole) {
  const size_t bytes = size_t{6} << 20;
  OneAnswer server("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n" +
                   std::string(bytes, 'a'));
  backend_.url = server.url();
  std::vector<Call> calls(1);
  Run(calls);
  EXPECT_EQ(calls[0].end, TransportEnd::kComplete) << calls[0].detail;
  EXPECT_EQ(calls[0].body.size(), bytes);
}

}  // namespace
}  // namespace goad::server
