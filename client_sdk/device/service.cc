#include "client_sdk/device/service.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client_sdk/device/answer_json.h"
#include "client_sdk/src/random.h"

namespace goad::device {
namespace {

constexpr absl::Duration kLookAtApp = absl::Milliseconds(50);

std::string NewId() {
  static thread_local std::mt19937_64 random((uint64_t{std::random_device{}()} << 32) | std::random_device{}());
  return internal::RandomUuid(random);
}

std::string Event(const std::string& data) { return absl::StrCat("data: ", data, "\n\n"); }

ApiError TooLarge() {
  return {413, "invalid_request_error", "too_large",
          absl::StrCat("the request has more than ", kMostRequestBytes, " bytes"), ""};
}

// What the app gets when there is no whole answer.
// `local_status`: of HTTP, when the local server refused; 0 = it did not.
ApiError ErrorOf(const Answer& answer, int local_status) {
  ApiError error{502, "api_error", answer.why_local, "", ""};
  error.message = absl::StrCat("no answer: ", answer.why_local, answer.detail.empty() ? "" : ": ", answer.detail);
  // The request's own fault: says the SDK, goad (an option that its operator does not pass on; more than any server
  // can), the edge's server.
  if (answer.why_local == "INVALID_QUERY" || answer.why_local == "OUT_OF_RANGE" || answer.why_local == "NOT_ABLE" ||
      answer.why_local == "BACKEND_REFUSED") {
    error.status = 400;
    error.type = "invalid_request_error";
  } else if (answer.why_local != "LOCAL_FAILED") {
    error.status = 503;
  }
  // What the local server refuses is handed on, but for its key, which is not the app's.
  if (answer.why_local == "LOCAL_FAILED" && local_status >= 400 && local_status < 500 && local_status != 401 &&
      local_status != 403) {
    error.status = local_status;
    error.type = local_status == 429 ? "rate_limit_exceeded" : "invalid_request_error";
  }
  return error;
}

// Whoever makes a name of the web lead here (DNS rebinding) says that name.
bool NamesThisDevice(std::string host) {
  if (const size_t colon = host.rfind(':'); colon != host.npos && host.find(']', colon) == host.npos)
    host.resize(colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  in6_addr address;
  return host.empty() || absl::EqualsIgnoreCase(host, "localhost") || inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

// Where the body ends must be plain, and near: httplib reads one without a length until the connection ends, and of two
// lengths the first.
std::optional<ApiError> FramingError(const httplib::Request& request) {
  const size_t lengths = request.get_header_value_count("Content-Length");
  const size_t encodings = request.get_header_value_count("Transfer-Encoding");
  if (lengths + encodings == 0) {
    if (request.method == "GET" || request.method == "HEAD" || request.method == "OPTIONS" ||
        request.method == "DELETE")
      return std::nullopt;
    return ApiError{411, "invalid_request_error", "", "the request has no Content-Length", ""};
  }
  const ApiError bad{400, "invalid_request_error", "", "Content-Length or Transfer-Encoding: want one, and one length",
                     ""};
  if (lengths + encodings > 1) return bad;
  if (encodings == 1) {
    if (absl::EqualsIgnoreCase(request.get_header_value("Transfer-Encoding"), "chunked")) return std::nullopt;
    return bad;
  }
  uint64_t length = 0;
  const std::string text = request.get_header_value("Content-Length");
  if (text.empty() || text.size() > 19 || !std::all_of(text.begin(), text.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(text, &length))
    return bad;
  if (length > kMostRequestBytes) return TooLarge();
  return std::nullopt;
}

}  // namespace

struct Service::Running {
  Running(Service* to, AppCall asked) : service(to), call(std::move(asked)) { service->metrics_.Began(); }
  ~Running() { Leave(); }
  // Before its app knows that the answer has ended, and asks the next thing.
  void Leave() {
    if (std::exchange(left, true)) return;
    if (answering != nullptr) service->metrics_.Ended(*answering, first_piece_s);
    --service->running_;
  }
  double SinceStart() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }

  Service* const service;
  const AppCall call;
  const std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  double first_piece_s = -1;
  bool left = false;
  std::atomic<int> local_status{0};  // HTTP's, of a local server that refused
  std::unique_ptr<Answering> answering;
  std::optional<AnswerJson> json;
};

Service::Service(ServiceOptions options, Client* client, Runtime* runtime, const LocalServer* local)
    : options_(std::move(options)), client_(client), runtime_(runtime), local_(local) {}

void Service::SetFacts(LocalFacts facts) {
  std::lock_guard<std::mutex> lock(mutex_);
  facts_ = std::move(facts);
}
LocalFacts Service::facts() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return facts_;
}

void Service::Warm(const std::function<bool()>& stop, const LocalFacts& found) {
  AppCall call;
  ReadAppCall(R"({"messages":[{"role":"user","content":"Count from one to ten."}],"max_tokens":16,"temperature":0})",
              true, &call);
  const std::string model =
      !options_.local_model.empty() || found.models.empty() ? options_.local_model : found.models.front();
  const auto failure = std::make_shared<LocalFailure>();
  const auto answering = runtime_->Begin(
      call.query,
      [this, failure, body = LocalBody(call, model, found.candidates)](LocalOutput& output) {
        return local_->Run(true, body, false, output, failure.get());
      },
      Route::kLocal);
  while (!answering->ended() && !stop()) answering->Next(absl::Milliseconds(100));
}

// --- routes ----------------------------------------------------------------------------------------------------------

void Service::AddRoutes(AppListener* listener) {
  listener->set_payload_max_length(kMostRequestBytes);
  listener->set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    using Handled = httplib::Server::HandlerResponse;
    const auto refuse = [&](const ApiError& error, const char* reason) {
      AppListener::CloseAfterThis();  // its body has not been read
      Refuse(error, reason, response);
      return Handled::Handled;
    };
    if (request.has_header("Origin"))  // no page of the web speaks to what listens on this device
      return refuse({403, "invalid_request_error", "origin", "requests of web pages (Origin) are not taken", ""},
                    "origin");
    if (request.has_header("Content-Encoding"))  // httplib would unpack it without a bound
      return refuse({415, "invalid_request_error", "", "Content-Encoding: is not taken here", ""}, "encoding");
    if (const auto error = FramingError(request)) return refuse(*error, "framing");
    if (options_.loopback && !NamesThisDevice(request.get_header_value("Host")))
      return refuse({403, "invalid_request_error", "host", "Host: want an address, or localhost", ""}, "host");
    if (request.path == "/health" || Authorized(request)) return Handled::Unhandled;
    return refuse({401, "authentication_error", "invalid_api_key",
                   "the API key is missing or wrong; want Authorization: Bearer KEY", ""},
                  "api_key");
  });
  listener->Post("/v1/chat/completions",
                 [this](const auto& request, auto& response) { Complete(request, response, true); });
  listener->Post("/v1/completions",
                 [this](const auto& request, auto& response) { Complete(request, response, false); });
  listener->Get("/v1/models", [this](const auto&, auto& response) { Models(response, ""); });
  listener->Get(R"(/v1/models/(.{1,256}))",
                [this](const auto& request, auto& response) { Models(response, request.matches[1]); });
  listener->Get("/health",
                [](const auto&, auto& response) { response.set_content("{\"status\":\"ok\"}\n", "application/json"); });
  listener->Get("/metrics", [this](const auto&, auto& response) {
    response.set_content(metrics_.Page(client_->connected(), facts().reachable),
                         "text/plain; version=0.0.4; charset=utf-8");
  });
  listener->set_error_handler([this](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;  // one of ours
    AppListener::CloseAfterThis();       // who knows what of it was read
    if (AppListener::TooMuchAtOnce()) {
      response.set_header("Retry-After", "1");
      Refuse({503, "api_error", "too_much_at_once", "too many bytes of requests at once", ""}, "too_much_at_once",
             response);
    } else if (response.status == 404) {
      Refuse({404, "invalid_request_error", "unknown_url",
              absl::StrCat("no such thing here: ", request.method, " ", request.path.substr(0, 200)), ""},
             "unknown_url", response);
    } else if (response.status == 413) {
      Refuse(TooLarge(), "too_large", response);
    } else {
      Refuse({response.status, "invalid_request_error", "bad_request",
              "this is no HTTP request that is understood here", ""},
             "bad_request", response);
    }
  });
  listener->set_exception_handler([this](const auto&, httplib::Response& response, std::exception_ptr) {
    Refuse({500, "api_error", "internal", "something that should not happen", ""}, "internal", response);
  });
}

bool Service::Authorized(const httplib::Request& request) const {
  if (options_.api_key.empty()) return true;
  const std::string given = request.get_header_value("Authorization"), want = "Bearer " + options_.api_key;
  return given.size() == want.size() && CRYPTO_memcmp(given.data(), want.data(), want.size()) == 0;
}

void Service::Refuse(const ApiError& error, const char* reason, httplib::Response& response) {
  metrics_.Refused(reason);
  response.status = error.status;
  response.set_content(Dump(ErrorJson(error)), "application/json");
}

void Service::Models(httplib::Response& response, const std::string& id) {
  nlohmann::json list = nlohmann::json::array();
  const auto add = [&](const std::string& name, const char* owner) {
    list.push_back({{"id", name}, {"object", "model"}, {"created", 0}, {"owned_by", owner}});
  };
  add("auto", "goad");
  if (local_ != nullptr) add("local", "goad");
  add("edge", "goad");
  for (const std::string& name : facts().models) {
    if (name != "auto" && name != "local" && name != "edge") add(name, "local");
  }
  if (id.empty()) {
    response.set_content(Dump(nlohmann::json{{"object", "list"}, {"data", list}}), "application/json");
    return;
  }
  for (const auto& model : list) {
    if (model["id"] == id) return response.set_content(Dump(model), "application/json");
  }
  Refuse({404, "invalid_request_error", "model_not_found", absl::StrCat("no model \"", id.substr(0, 100), "\" here"),
          "model"},
         "model", response);
}

// --- answers ---------------------------------------------------------------------------------------------------------

std::optional<ApiError> Service::RouteOf(const AppCall& call, const httplib::Request& request, Route* route,
                                         std::string* local_model) const {
  const std::string header = request.get_header_value("x-goad-offload");
  const bool never = header == "never";
  if (!header.empty() && !never && header != "auto")
    return ApiError{400, "invalid_request_error", "", "x-goad-offload: want never or auto", "x-goad-offload"};
  if (call.model == "edge" || local_ == nullptr) {
    if (never || call.model == "local")
      return ApiError{400, "invalid_request_error", "model_not_found",
                      local_ == nullptr ? "there is no local model here" : "model edge, and x-goad-offload: never",
                      "model"};
    if (!call.offloadable.ok())
      return ApiError{400, "invalid_request_error", "", std::string(call.offloadable.message()), ""};
    *route = Route::kEdge;
    return std::nullopt;
  }
  const LocalFacts found = facts();
  const bool own = std::find(found.models.begin(), found.models.end(), call.model) != found.models.end();
  *local_model = own                             ? call.model
                 : !options_.local_model.empty() ? options_.local_model
                 : !found.models.empty()         ? found.models.front()
                                                 : "";
  *route = never || call.model == "local" || !call.offloadable.ok() ? Route::kLocal : Route::kAuto;
  return std::nullopt;
}

// Read by an app that is still there: goad-device ends before its answer.
void Service::GivenUp(httplib::Response& response) {
  response.headers.erase("x-goad");  // nobody answered
  Refuse({503, "api_error", "stopping", "goad-device is being stopped, or this side of the connection was closed", ""},
         "gone", response);
}

void Service::Complete(const httplib::Request& request, httplib::Response& response, bool chat) {
  AppCall call;
  if (const auto error = ReadAppCall(request.body, chat, &call)) return Refuse(*error, "request", response);
  Route route;
  std::string local_model;
  if (const auto error = RouteOf(call, request, &route, &local_model)) return Refuse(*error, "request", response);
  if (++running_ > options_.most_requests) {
    --running_;
    response.set_header("Retry-After", "1");
    return Refuse({429, "rate_limit_exceeded", "too_many_requests",
                   absl::StrCat("more than ", options_.most_requests, " requests at once"), ""},
                  "too_many_requests", response);
  }
  const auto running = std::make_shared<Running>(this, std::move(call));
  LocalModel model;
  if (local_ != nullptr) {
    const int candidates = route == Route::kLocal ? 0 : facts().candidates;
    // Runs within the answering, which `running` outlives.
    model = [this, to = running.get(), local_model, candidates](LocalOutput& output) {
      const AppCall& asked = to->call;
      LocalFailure failure;
      LocalEnd end =
          local_->Run(asked.chat, LocalBody(asked, local_model, candidates), asked.logprobs, output, &failure);
      if (absl::IsInvalidArgument(end.status) && candidates > 0) {  // it may be what was added that is refused
        failure = {};
        end = local_->Run(asked.chat, AppsOwnBody(asked, local_model), asked.logprobs, output, &failure);
      }
      if (failure.status >= 400) to->local_status = failure.status;
      return end;
    };
  }
  Query query = running->call.query;
  if (const auto limits = client_->limits(); limits && limits->max_output_tokens > 0)
    query.max_output_tokens = std::min(query.max_output_tokens, limits->max_output_tokens);
  running->answering = runtime_->Begin(std::move(query), std::move(model), route, !running->call.stream);
  Answering& answering = *running->answering;

  std::optional<AnswerPiece> first;
  while (!(first = answering.Next(kLookAtApp)) && !answering.ended()) {
    if (AppListener::AppGone()) return GivenUp(response);
  }
  const bool edge = answering.source() == Answer::Source::kEdge;
  const Answer& answer = answering.answer();
  if (!first && answer.source == Answer::Source::kNone) {
    metrics_.Refused("no_answer");
    const ApiError error = ErrorOf(answer, running->local_status);
    response.status = error.status;
    response.set_header("x-goad", absl::StrCat("none ", answer.why_local));
    return response.set_content(Dump(ErrorJson(error)), "application/json");
  }
  running->first_piece_s = running->SinceStart();
  running->json.emplace(
      running->call, NewId(),
      edge                  ? "edge"
      : local_model.empty() ? "local"
                            : local_model,
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  response.set_header("x-goad", AnsweredBy(answering.source(), answer));
  if (running->call.stream) return Stream(running, first.value_or(AnswerPiece{}), request, response);

  for (auto piece = std::move(first); piece || !answering.ended(); piece = answering.Next(kLookAtApp)) {
    if (piece) running->json->Add(*piece);
    if (AppListener::AppGone()) return GivenUp(response);
  }
  if (answer.source == Answer::Source::kNone) {
    metrics_.Refused("no_answer");
    response.headers.erase("x-goad");
    response.set_header("x-goad", absl::StrCat("none ", answer.why_local));
    response.status = 502;
    return response.set_content(Dump(ErrorJson(ErrorOf(answer, running->local_status))), "application/json");
  }
  response.set_content(running->json->Whole(answer, answering.source(), answering.uncertainty()), "application/json");
}

void Service::Stream(std::shared_ptr<Running> running, AnswerPiece first, const httplib::Request& request,
                     httplib::Response& response) {
  const auto provide = [running, first](size_t, httplib::DataSink& sink) {
    Answering& answering = *running->answering;
    AnswerJson& json = *running->json;
    const auto write = [&](const std::string& event) { return sink.write(event.data(), event.size()); };
    for (std::optional<AnswerPiece> piece = first; piece || !answering.ended(); piece = answering.Next(kLookAtApp)) {
      if (piece ? !write(Event(json.Chunk(*piece))) : AppListener::AppGone()) return false;
    }
    const Answer& answer = answering.answer();
    std::string last = Event(json.LastChunk(answer, answering.source(), answering.uncertainty()));
    if (answer.source == Answer::Source::kNone) {
      last += Event(Dump(ErrorJson(ErrorOf(answer, running->local_status))));
    } else {
      if (running->call.include_usage) last += Event(json.UsageChunk(answer));
      last += Event("[DONE]");
    }
    running->Leave();
    if (!write(last)) return false;
    sink.done();
    return true;
  };
  response.set_header("Cache-Control", "no-cache");
  if (request.version == "HTTP/1.0") {  // knows no chunks: the end of the connection ends the answer
    response.set_content_provider("text/event-stream", provide);
  } else {
    response.set_chunked_content_provider("text/event-stream", provide);
  }
}

}  // namespace goad::device
