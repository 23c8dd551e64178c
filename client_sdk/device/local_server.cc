#include "client_sdk/device/local_server.h"

#include <fcntl.h>
#include <httplib.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client_sdk/device/api_error.h"
#include "client_sdk/device/local_answer.h"
#include "client_sdk/device/socket_stream.h"
#include "client_sdk/openai/json_fields.h"
#include "client_sdk/openai/json_text.h"

namespace goad::device {
namespace {

constexpr size_t kMostFailureBytes = 64 << 10;
constexpr size_t kMostLookBytes = 1 << 20;
constexpr int kCandidates = 10;
constexpr auto kAfterLast = std::chrono::seconds(1);
constexpr auto kConnectTime = std::chrono::seconds(5);
constexpr auto kSlice = std::chrono::milliseconds(50);  // how soon a connection that is being made is given up

// The server's own words, clipped.
std::string WordsOf(const std::string& body) {
  if (openai::CheckJson(body, kMostFailureBytes).ok()) {
    const auto json = nlohmann::json::parse(openai::StrictJson(body), nullptr, false);
    const auto& error = openai::Get(json, "error");
    const std::string message = error.is_string() ? error.get<std::string>() : openai::Text(error, "message");
    if (!message.empty()) return message.substr(0, 300);
  }
  return body.substr(0, 300);
}

nlohmann::json GetJson(httplib::ClientImpl& client, const std::string& path, const httplib::Headers& headers,
                       int* status) {
  std::string body;
  const auto result = client.Get(path, headers, [&](const char* data, size_t size) {
    body.append(data, size);
    return body.size() <= kMostLookBytes;
  });
  *status = result ? result->status : 0;
  if (!result || result->status != 200 || !openai::CheckJson(body, kMostLookBytes).ok()) return nullptr;
  return nlohmann::json::parse(openai::StrictJson(body), nullptr, false);
}

// cpp-httplib's client on a stream with bounds, that can be stopped at any moment: its own stop() waits for a
// connection that is being made, and is forgotten before there is one.
class LocalConnection : public httplib::ClientImpl {
 public:
  LocalConnection(const LocalAddress& address, SocketStream::Clock::time_point until)
      : httplib::ClientImpl(address.host, address.port), until_(until) {
    set_decompress(false);  // without a bound, as httplib does it
  }
  // Any thread; does not block.
  void Stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    if (socket_in_use_ >= 0) shutdown(socket_in_use_, SHUT_RDWR);
  }
  SocketStream* stream() { return stream_; }  // while a response is read

 private:
  bool create_and_connect_socket(Socket& to, httplib::Error& error) override {
    error = httplib::Error::Connection;
    addrinfo hints = {}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host_.c_str(), std::to_string(port_).c_str(), &hints, &found) != 0) return false;
    const auto until = std::min(until_, SocketStream::Clock::now() + kConnectTime);
    for (const addrinfo* at = found; at != nullptr && !to.is_open() && !stopped_; at = at->ai_next) {
      const int made = ::socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (made < 0) continue;
      bool connected = connect(made, at->ai_addr, at->ai_addrlen) == 0;
      while (!connected && (errno == EINPROGRESS || errno == EINTR) && !stopped_ &&
             SocketStream::Clock::now() < until) {
        if (!SocketStream::Ready(made, POLLOUT, SocketStream::Clock::now() + kSlice)) {
          errno = EINPROGRESS;
          continue;
        }
        int failed = 0;
        socklen_t size = sizeof(failed);
        getsockopt(made, SOL_SOCKET, SO_ERROR, &failed, &size);
        connected = failed == 0;
        errno = failed;
      }
      if (!connected) {
        close(made);
        continue;
      }
      const int yes = 1;
      setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
      fcntl(made, F_SETFL, fcntl(made, F_GETFL) & ~O_NONBLOCK);
      to.sock = made;
    }
    freeaddrinfo(found);
    if (to.is_open()) error = httplib::Error::Success;
    return to.is_open();
  }
  bool process_socket(const Socket& from, std::function<bool(httplib::Stream&)> callback) override {
    SocketStream stream(from.sock, std::chrono::seconds(30));
    stream.ReadUntil(until_);
    stream.BeginHead();
    if (!Use(from.sock)) return false;
    stream_ = &stream;
    const bool done = callback(stream);
    stream_ = nullptr;
    Use(-1);
    return done;
  }
  bool Use(int socket) {
    std::lock_guard<std::mutex> lock(mutex_);
    socket_in_use_ = socket;
    return !stopped_;
  }

  const SocketStream::Clock::time_point until_;
  SocketStream* stream_ = nullptr;
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  int socket_in_use_ = -1;
};

// Takes the first token's candidates and nothing else.
class Trial : public LocalOutput {
 public:
  bool Push(AnswerPiece piece) override {
    if (first_s_ == 0) first_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    for (const TokenLogprob& token : piece.logprobs)
      candidates_ = std::max(candidates_, static_cast<int>(token.top.size()));
    return true;
  }
  void Uncertainty(double) override {}
  void OnUnwanted(std::function<void()>) override {}
  int candidates() const { return candidates_; }
  double first_s() const { return first_s_; }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int candidates_ = 0;
  double first_s_ = 0;
};

}  // namespace

absl::StatusOr<LocalAddress> ReadLocalAddress(const std::string& url) {
  const auto bad = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", url.substr(0, 200), "\": ", what, "; want http://HOST[:PORT]"));
  };
  absl::string_view rest(url);
  if (!absl::ConsumePrefix(&rest, "http://")) return bad("is not http");
  LocalAddress address;
  const size_t slash = rest.find('/');
  absl::string_view host = rest.substr(0, slash);
  if (slash != rest.npos) {
    absl::string_view path = rest.substr(slash);
    while (absl::ConsumeSuffix(&path, "/")) continue;
    absl::ConsumeSuffix(&path, "/v1");
    address.path = std::string(path);
  }
  if (address.path.find_first_of("?# \r\n") != std::string::npos) return bad("has more than a path");
  if (host.find('@') != host.npos) return bad("has a password in it; --local-key-file takes a key");
  const size_t colon = host.rfind(':'), bracket = host.rfind(']');
  if (colon != host.npos && (bracket == host.npos || colon > bracket)) {
    if (!absl::SimpleAtoi(host.substr(colon + 1), &address.port) || address.port < 1 || address.port > 65535)
      return bad("the port is not in 1..65535");
    host = host.substr(0, colon);
  }
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  if (host.empty()) return bad("names no host");
  address.host = std::string(host);
  return address;
}

LocalServer::LocalServer(LocalAddress address, std::string api_key, std::chrono::seconds silence)
    : address_(std::move(address)), api_key_(std::move(api_key)), silence_(silence) {}

LocalEnd LocalServer::Run(bool chat, const std::string& body, bool logprobs, LocalOutput& output,
                          LocalFailure* failure) const {
  LocalConnection client(address_, SocketStream::Clock::now() + silence_);
  output.OnUnwanted([&client] { client.Stop(); });

  std::unique_ptr<LocalAnswer> answer;
  httplib::Request request;
  request.method = "POST";
  request.path = address_.path + (chat ? "/v1/chat/completions" : "/v1/completions");
  request.headers = {
      {"Content-Type", "application/json"}, {"Accept", "text/event-stream"}, {"Accept-Encoding", "identity"}};
  if (!api_key_.empty()) request.headers.emplace("Authorization", "Bearer " + api_key_);
  request.body = body;
  request.response_handler = [&](const httplib::Response& response) {
    client.stream()->HeadIsRead();
    failure->status = response.status;
    if (response.status == 200) {
      const std::string type = response.get_header_value("Content-Type");
      answer = std::make_unique<LocalAnswer>(type.rfind("application/json", 0) != 0, logprobs, &output);
    }
    return true;
  };
  request.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
    if (answer != nullptr) {
      const int before = answer->pieces();
      const bool goes_on = answer->Push({data, size});
      // Bytes that are no piece are silence. After the last piece come the usage and the end.
      if (answer->finished()) {
        client.stream()->ReadUntil(SocketStream::Clock::now() +
                                   std::min<SocketStream::Clock::duration>(silence_, kAfterLast));
      } else if (answer->pieces() > before) {
        client.stream()->ReadUntil(SocketStream::Clock::now() + silence_);
      }
      return goes_on;
    }
    failure->body.append(data, std::min(size, kMostFailureBytes - failure->body.size()));
    return failure->body.size() < kMostFailureBytes;
  };
  const auto result = client.send(request);
  output.OnUnwanted(nullptr);

  if (answer != nullptr) {
    LocalEnd end = answer->End();
    if (!end.status.ok()) failure->status = 0;
    return end;
  }
  LocalEnd end;
  if (failure->status != 0) {
    const std::string said = absl::StrCat("HTTP ", failure->status, ": ", WordsOf(failure->body),
                                          failure->status == 401 ? " (it wants a key: --local-key-file)" : "");
    end.status = failure->status < 500 && failure->status != 429 ? absl::InvalidArgumentError(said)
                                                                 : absl::UnavailableError(said);
  } else {
    end.status = absl::UnavailableError(absl::StrCat("http://", address_.host, ":", address_.port, ": ",
                                                     httplib::to_string(result.error()), " failed"));
  }
  return end;
}

LocalFacts LocalServer::LookAtModels() const {
  LocalFacts facts;
  LocalConnection client(address_, SocketStream::Clock::now() + std::chrono::seconds(10));
  httplib::Headers headers = {{"Accept-Encoding", "identity"}};
  if (!api_key_.empty()) headers.emplace("Authorization", "Bearer " + api_key_);
  int status = 0;
  const auto models = GetJson(client, address_.path + "/v1/models", headers, &status);
  if (status == 0) {
    facts.problem = absl::StrCat("no answer at http://", address_.host, ":", address_.port);
    return facts;
  }
  facts.reachable = true;
  std::string owner;
  const auto& list = openai::Get(models, "data");
  for (size_t k = 0; k < list.size() && k < 100; ++k) {
    const std::string id = openai::Text(openai::Get(list, k), "id");
    if (id.empty() || id.size() > 256) continue;
    if (facts.models.empty()) owner = openai::Text(openai::Get(list, k), "owned_by");
    facts.models.push_back(id);
  }
  facts.kind = owner == "llamacpp"  ? "llama-server"
               : owner == "library" ? "Ollama"
               : owner == "vllm"    ? "vLLM"
                                    : "an OpenAI server";
  if (status != 200) {
    facts.problem =
        absl::StrCat("GET /v1/models: HTTP ", status, status == 401 ? " (it wants a key: --local-key-file)" : "");
  }
  return facts;
}

LocalFacts LocalServer::Look(const std::string& model) const {
  LocalFacts facts = LookAtModels();
  if (!facts.problem.empty()) return facts;
  const std::string asked = !model.empty() ? model : facts.models.empty() ? "" : facts.models.front();
  const nlohmann::json hello = {{{"role", "user"}, {"content", "Hello"}}};
  const std::array<std::pair<bool, nlohmann::json>, 3> trials = {{
      {true, {{"messages", hello}, {"logprobs", true}, {"top_logprobs", kCandidates}}},
      {true, {{"messages", hello}}},                              // it may take no log-probabilities, or
      {false, {{"prompt", "Hello"}, {"logprobs", kCandidates}}},  // no chat
  }};
  Trial trial;
  LocalEnd end;
  for (auto [chat, body] : trials) {
    body["max_tokens"] = 1, body["temperature"] = 0, body["stream"] = true;
    if (!asked.empty()) body["model"] = asked;
    LocalFailure failure;
    end = LocalServer(address_, api_key_, std::min(silence_, std::chrono::seconds(10)))
              .Run(chat, Dump(body), true, trial, &failure);
    if (!absl::IsInvalidArgument(end.status)) break;
  }
  facts.answers = end.status.ok();
  facts.candidates = trial.candidates();
  facts.first_token_s = trial.first_s();
  if (!end.status.ok()) {
    facts.problem = absl::StrCat("a trial question failed: ", std::string(end.status.message()));
  } else if (facts.candidates < 2) {
    facts.problem = "it gives no log-probabilities, so no answer's uncertainty is known";
  }
  return facts;
}

}  // namespace goad::device
