#include "tests/bench/wire_servers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <queue>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "goad/v1/offload.grpc.pb.h"
#include "server/config/config_files.h"
#include "server/daemon/daemon.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

void SayPort(int port) {
  std::printf("%d\n", port);
  std::fflush(stdout);
}

[[noreturn]] void EndWithStandardInput() {
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  _exit(0);  // streams and connections may be under way
}

std::string FileBytes(const std::string& path) {
  std::string bytes;
  std::FILE* const file = std::fopen(path.c_str(), "r");
  if (file == nullptr) std::abort();
  char block[4096];
  while (const size_t got = std::fread(block, 1, sizeof block, file)) bytes.append(block, got);
  std::fclose(file);
  return bytes;
}

class BareReactor;

// Calls Go of each answer when its next token is due.
class Pacer {
 public:
  explicit Pacer(double pace_s) : pace_s_(pace_s) {
    if (pace_s > 0) std::thread([this] { Run(); }).detach();
  }
  double pace_s() const { return pace_s_; }
  void At(MonotonicTime when, BareReactor* reactor) {
    std::lock_guard<std::mutex> lock(mutex_);
    due_.push({when, reactor});
    changed_.notify_one();
  }

 private:
  void Run();

  const double pace_s_;
  std::mutex mutex_;
  std::condition_variable changed_;
  using Due = std::pair<MonotonicTime, BareReactor*>;
  std::priority_queue<Due, std::vector<Due>, std::greater<Due>> due_;
};

class BareReactor final : public grpc::ServerBidiReactor<v1::DeviceFrame, v1::ServerFrame> {
 public:
  explicit BareReactor(Pacer* pacer) : pacer_(pacer) { StartRead(&in_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    out_.Clear();
    if (in_.has_hello()) {
      out_.mutable_welcome();
    } else if (in_.has_query()) {
      left_ = in_.query().has_inline_prompt() ? static_cast<int>(in_.query().max_output_tokens()) : 0;
      out_.mutable_decision()->set_query_id(in_.query().query_id());
      out_.mutable_decision()->set_verdict(left_ > 0 ? v1::VERDICT_OFFLOAD : v1::VERDICT_LOCAL);
      offset_ = 0;
      answering_ = left_ > 0;
      due_ = MonotonicTime::Now();
    } else {
      return StartRead(&in_);
    }
    StartWrite(&out_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return;
    if (!answering_) return StartRead(&in_);
    if (pacer_->pace_s() == 0) return Go();
    due_ = due_ + absl::Seconds(pacer_->pace_s());
    pacer_->At(due_, this);
  }
  void Go() {
    const std::string query_id = in_.query().query_id();
    out_.Clear();
    if (left_-- > 0) {
      v1::Tokens& tokens = *out_.mutable_tokens();
      tokens.set_query_id(query_id);
      tokens.set_text(" word");
      tokens.set_tokens(1);
      tokens.set_text_offset(offset_);
      offset_ += 5;
    } else {
      out_.mutable_completed()->set_query_id(query_id);
      answering_ = false;
    }
    StartWrite(&out_);
  }
  void OnDone() override {}  // a stream ends with the bench: the pacer may still name it

 private:
  Pacer* const pacer_;
  v1::DeviceFrame in_;
  v1::ServerFrame out_;
  int left_ = 0;
  uint64_t offset_ = 0;
  bool answering_ = false;
  MonotonicTime due_;
};

void Pacer::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const MonotonicTime now = MonotonicTime::Now();
    if (due_.empty()) {
      changed_.wait(lock);
    } else if (now < due_.top().first) {
      changed_.wait_for(lock, absl::ToChronoNanoseconds(due_.top().first - now));
    } else {
      BareReactor* const reactor = due_.top().second;
      due_.pop();
      lock.unlock();
      reactor->Go();
      lock.lock();
    }
  }
}

class BareService final : public v1::Offload::CallbackService {
 public:
  explicit BareService(double pace_s) : pacer_(pace_s) {}
  grpc::ServerBidiReactor<v1::DeviceFrame, v1::ServerFrame>* Session(grpc::CallbackServerContext*) override {
    return new BareReactor(&pacer_);
  }

 private:
  Pacer pacer_;
};

// One connection of the source.
struct Peer {
  std::string in;
  std::string out;
  size_t sent = 0;
  int left = 0;  // tokens of the answer under way
  bool watched_for_input = true;
  MonotonicTime due = MonotonicTime::Infinite();
};

std::string HttpChunk(const std::string& bytes) {
  char size[16];
  std::snprintf(size, sizeof size, "%zx\r\n", bytes.size());
  return absl::StrCat(size, bytes, "\r\n");
}

// As llama-server writes them.
std::string TokenEvent() {
  return HttpChunk(
      "data: {\"choices\":[{\"text\":\" word\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}],"
      "\"created\":1790000000,\"model\":\"llm\",\"system_fingerprint\":\"b1-emulated\",\"object\":\"text_completion\","
      "\"id\":\"chatcmpl-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}\n\n");
}
std::string LastEvents(int tokens) {
  return absl::StrCat(
      HttpChunk(absl::StrCat("data: {\"choices\":[{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":"
                             "\"length\"}],\"usage\":{\"completion_tokens\":",
                             tokens, ",\"prompt_tokens\":4,\"total_tokens\":", tokens + 4, "}}\n\n")),
      HttpChunk("data: [DONE]\n\n"), "0\r\n\r\n");
}

class Source {
 public:
  explicit Source(double pace_s) : pace_s_(pace_s), epoll_(epoll_create1(0)), event_(TokenEvent()) {
    listen_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listen_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listen_, 1024) != 0) std::abort();
    getsockname(listen_, reinterpret_cast<sockaddr*>(&address), &size);
    Watch(listen_, EPOLLIN);
    Watch(STDIN_FILENO, EPOLLIN);
    SayPort(ntohs(address.sin_port));
  }

  void Run() {
    for (;;) {
      MonotonicTime next = MonotonicTime::Infinite();
      const MonotonicTime now = MonotonicTime::Now();
      for (auto& [fd, peer] : peers_) {
        if (peer.due <= now) NextToken(fd, peer);
        next = std::min(next, peer.due);
      }
      const int64_t wait_us = std::clamp<int64_t>(absl::ToInt64Microseconds(next - MonotonicTime::Now()), 0, 1000000);
      const timespec wait{wait_us / 1000000, wait_us % 1000000 * 1000};
      epoll_event events[256];
      const int count = epoll_pwait2(epoll_, events, 256, &wait, nullptr);
      for (int k = 0; k < count; ++k) {
        const int fd = events[k].data.fd;
        if (fd == STDIN_FILENO) return;
        if (fd == listen_) {
          Accept();
        } else {
          OnPeer(fd);
        }
      }
    }
  }

 private:
  void Watch(int fd, uint32_t what) {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0) epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  void Accept() {
    const int fd = accept4(listen_, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return;
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    peers_[fd];
    Watch(fd, EPOLLIN);
  }
  void OnPeer(int fd) {
    const auto found = peers_.find(fd);
    if (found == peers_.end()) return;
    Peer& peer = found->second;
    char block[16384];
    ssize_t got = 0;
    while ((got = read(fd, block, sizeof block)) > 0) peer.in.append(block, static_cast<size_t>(got));
    if (got == 0) {
      close(fd);
      peers_.erase(found);
      return;
    }
    const size_t head = peer.in.find("\r\n\r\n");
    if (head != peer.in.npos) {
      const size_t at = peer.in.find("Content-Length: ");
      const size_t body = at == peer.in.npos ? 0 : static_cast<size_t>(std::atoi(peer.in.c_str() + at + 16));
      if (peer.in.size() >= head + 4 + body) Answer(fd, peer);
    }
    Flush(fd, peer);
  }
  void Answer(int fd, Peer& peer) {
    if (peer.in.rfind("POST", 0) != 0) {
      const std::string body = peer.in.rfind("GET /props", 0) == 0 ? "{\"total_slots\":256}" : "{\"status\":\"ok\"}";
      peer.out = absl::StrCat("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ", body.size(),
                              "\r\n\r\n", body);
    } else {
      const size_t at = peer.in.find("\"max_tokens\":");
      peer.left = at == peer.in.npos ? 1 : std::atoi(peer.in.c_str() + at + 13);
      peer.out = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
      const int tokens = peer.left;
      if (pace_s_ == 0) {
        for (int k = 0; k < tokens; ++k) peer.out += event_;
        peer.out += LastEvents(tokens);
      } else {
        peer.due = MonotonicTime::Now();
        NextToken(fd, peer);
      }
    }
    peer.in.clear();
  }
  void NextToken(int fd, Peer& peer) {
    peer.out += event_;
    peer.due = peer.due + absl::Seconds(pace_s_);
    if (--peer.left == 0) {
      peer.out += LastEvents(1);
      peer.due = MonotonicTime::Infinite();
    }
    Flush(fd, peer);
  }
  void Flush(int fd, Peer& peer) {
    while (peer.sent < peer.out.size()) {
      const ssize_t put = send(fd, peer.out.data() + peer.sent, peer.out.size() - peer.sent, MSG_NOSIGNAL);
      if (put <= 0) break;
      peer.sent += static_cast<size_t>(put);
    }
    const bool all = peer.sent == peer.out.size();
    if (all) {
      peer.out.clear();
      peer.sent = 0;
    }
    if (all != peer.watched_for_input) Watch(fd, all ? EPOLLIN : EPOLLIN | EPOLLOUT);
    peer.watched_for_input = all;
  }

  const double pace_s_;
  const int epoll_;
  const std::string event_;
  int listen_ = -1;
  std::unordered_map<int, Peer> peers_;
};

}  // namespace

int RunBare(const ServerOptions& options) {
  BareService service(options.pace_s);
  grpc::ServerBuilder builder;
  int port = 0;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!options.certificate.empty()) {
    grpc::SslServerCredentialsOptions tls;
    tls.pem_key_cert_pairs.push_back({FileBytes(options.key), FileBytes(options.certificate)});
    credentials = grpc::SslServerCredentials(tls);
  }
  builder.AddListeningPort("127.0.0.1:0", credentials, &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  SayPort(port);
  EndWithStandardInput();
}

int RunGoad(const ServerOptions& options) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  spdlog::set_level(spdlog::level::err);  // standard output is for the port
  Config config;
  SiteConfig site;
  site.name = "a";
  site.uplink.model = sched::UplinkModel::kShannon;
  BackendConfig backend;
  backend.url = absl::StrCat("http://127.0.0.1:", options.source_port);
  backend.slots = 256;
  site.backends = {backend};
  config.sites = {site};
  config.listen.address = "127.0.0.1:0";
  config.listen.tls.certificate = options.certificate;
  config.listen.tls.key = options.key;
  config.admin_address = config.metrics_address = "";
  config.limits.link_max_age = absl::Hours(1);  // a device reports once
  config.limits.frames_per_second = 1000000;    // of one session: the bench is a device that asks without a pause
  config.limits.queries_per_session = 4;
  for (const ConfigProblem& problem : ReadConfigFiles(&config)) {
    std::fprintf(stderr, "%s: %s\n", problem.path.c_str(), problem.message.c_str());
    return 1;
  }
  const auto daemon = Daemon::Start(config, {});
  if (!daemon.ok()) {
    std::fprintf(stderr, "%s\n", daemon.status().ToString().c_str());
    return 1;
  }
  SayPort((*daemon)->listen_port());
  EndWithStandardInput();
}

int RunSource(const ServerOptions& options) {
  Source(options.pace_s).Run();
  return 0;
}

}  // namespace goad::server
