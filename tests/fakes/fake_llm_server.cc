#include "tests/fakes/fake_llm_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "nlohmann/json.hpp"
#include "tests/fakes/loopback.h"

namespace goad::server {

bool FakeLlmServer::Exchange::Send(const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}
bool FakeLlmServer::Exchange::Head(int status) {
  return Send("HTTP/1.1 " + std::to_string(status) +
              " X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
}
bool FakeLlmServer::Exchange::Token(const std::string& text) {
  return Send("data: " + nlohmann::json{{"choices", {{{"text", text}, {"index", 0}}}}}.dump() + "\n\n");
}
bool FakeLlmServer::Exchange::Finish(bool finish_reason, bool done) {
  nlohmann::json event = {{"choices", {{{"text", ""}, {"index", 0}}}},
                          {"usage", {{"prompt_tokens", 5}, {"completion_tokens", 3}}}};
  if (finish_reason) event["choices"][0]["finish_reason"] = "stop";
  return Send("data: " + event.dump() + "\n\n" + (done ? "data: [DONE]\n\n" : ""));
}
bool FakeLlmServer::Exchange::ClientLeftWithin(absl::Duration most) {
  const MonotonicTime until = MonotonicTime::Now() + most;
  while (MonotonicTime::Now() < until && !server_->stop_) {
    pollfd waiting{fd_, POLLIN | POLLRDHUP, 0};
    if (poll(&waiting, 1, 10) <= 0) continue;
    char byte;
    if (recv(fd_, &byte, 1, MSG_PEEK) <= 0) {
      ++server_->left_;
      return true;
    }
  }
  return false;
}
bool FakeLlmServer::Exchange::WaitForRelease() {
  std::unique_lock<std::mutex> lock(server_->mutex_);
  server_->changed_.wait(lock, [this] { return server_->releases_ > 0 || server_->stop_; });
  if (server_->stop_) return false;
  --server_->releases_;
  return true;
}

void FakeLlmServer::Answer(Exchange& exchange) {
  exchange.Head() && exchange.Token("hi ") && exchange.Token("there") && exchange.Finish();
}

FakeLlmServer::FakeLlmServer(Script script, int slots) : slots_(slots), script_(std::move(script)) {
  listen_fd_ = ListenOnLoopback(&port_);
  acceptor_ = std::thread([this] { Accept(); });
}

FakeLlmServer::~FakeLlmServer() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  shutdown(listen_fd_, SHUT_RDWR);
  acceptor_.join();
  close(listen_fd_);
  for (std::thread& worker : workers_) worker.join();
}

std::string FakeLlmServer::url() const { return "http://127.0.0.1:" + std::to_string(port_); }

void FakeLlmServer::set_script(Script script) {
  std::lock_guard<std::mutex> lock(mutex_);
  script_ = std::move(script);
}

void FakeLlmServer::Release() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++releases_;
  }
  changed_.notify_one();
}

void FakeLlmServer::set_props(std::string json) {
  std::lock_guard<std::mutex> lock(mutex_);
  props_ = std::move(json);
}

void FakeLlmServer::Accept() {
  for (;;) {
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0 && errno == EMFILE) {  // a test that takes this process's descriptors takes ours, too, for a while
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    if (fd < 0) return;  // shut down
    workers_.emplace_back([this, fd] {
      Serve(fd);
      close(fd);
    });
  }
}

void FakeLlmServer::Serve(int fd) {
  std::string request;
  char buffer[65536];
  size_t end = std::string::npos;
  size_t length = 0;
  for (;;) {
    pollfd waiting{fd, POLLIN, 0};
    if (stop_) return;
    if (poll(&waiting, 1, 20) <= 0) continue;
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) return;
    request.append(buffer, static_cast<size_t>(n));
    if (end == std::string::npos && (end = request.find("\r\n\r\n")) != std::string::npos) {
      const size_t at = request.find("Content-Length: ");
      length = at < end ? std::strtoull(request.c_str() + at + 16, nullptr, 10) : 0;
    }
    if (end != std::string::npos && request.size() >= end + 4 + length) break;
  }
  const bool post = request.rfind("POST ", 0) == 0;
  Exchange exchange(this, fd, request.substr(0, end), request.substr(end + 4));
  if (!post) {
    std::string body = "{}";
    if (request.rfind("GET /props", 0) == 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      body = props_.empty() ? "{\"total_slots\":" + std::to_string(slots_) + "}" : props_;
    }
    exchange.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                  "\r\n\r\n" + body);
    return;
  }
  ++requests_;
  Script script;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    script = script_;
  }
  script(exchange);
}

}  // namespace goad::server
