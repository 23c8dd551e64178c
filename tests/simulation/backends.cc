#include "tests/simulation/backends.h"

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

// Of images they speak themselves.
bool SeesImages(const std::string& url) { return (url[7] + url[8]) % 2 == 1; }

}  // namespace

CallId SimBackends::Start(HttpRequest request, HttpListener* listener) {
  const CallId id{++last_id_};
  live_[id] = listener;
  Script(id, request);
  return id;
}

void SimBackends::Script(CallId id, const HttpRequest& request) {
  const std::string url = request.backend->url;
  if (stage_->Chance(stage_->faults.kill_backend)) dead_until_[url] = stage_->now + stage_->Between(50, 800);
  if (dead_until_[url] > stage_->now) return End(id, stage_->Between(0, 5), TransportEnd::kConnectFailed);
  if (request.body.empty()) {
    Head(id, absl::Milliseconds(1), 200);
    if (request.path == "/props") {
      Body(id, absl::Milliseconds(1), absl::StrCat("{\"modalities\":{\"vision\":", SeesImages(url), "}}"));
    }
    return End(id, absl::Milliseconds(2), TransportEnd::kComplete);
  }
  const auto has = [&](const char* word) { return request.body.find(word) != std::string::npos; };
  const bool chat = request.backend->api == BackendApi::kChat;
  if (has("\"tools\"") && !(chat && request.backend->tools.value_or(true))) stage_->Broken("tools at " + url);
  if (has("image_url") && !(chat && SeesImages(url))) stage_->Broken("an image at " + url);
  if (has("a chat") && !chat) stage_->Broken("chat at " + url);
  const bool bad = stage_->Chance(stage_->faults.bad_backend_answer);
  const int how = bad ? static_cast<int>(stage_->random() % 7) : -1;
  absl::Duration at = stage_->Between(1, 10);
  if (how == 0) return End(id, at, TransportEnd::kConnectFailed);
  if (how == 1) return;  // hangs
  if (how == 2) {
    const absl::Duration rest = stage_->Chance(0.3) ? stage_->Between(1, 2000) : absl::ZeroDuration();
    Head(id, at, stage_->Chance(0.5) ? 503 : 429, rest);
    Body(id, at, "{\"error\":{\"message\":\"busy\"}}");
    return End(id, at, TransportEnd::kComplete);
  }
  Head(id, at, 200);
  const int tokens = static_cast<int>(stage_->random() % 6);
  for (int k = 0; k < tokens; ++k) {
    at += stage_->Between(0, 15);
    Body(id, at,
         chat ? "data: {\"choices\":[{\"delta\":{\"content\":\"w\xC3\xA9 \"}}]}\n\n"
              : "data: {\"choices\":[{\"text\":\"w\xC3\xA9 \"}]}\n\n");
  }
  if (how == 3) return Body(id, at, "data: {\"choi\n\ndata: []\n\n");
  if (how == 4) return End(id, at, TransportEnd::kBroken);
  if (how == 5) return;  // hangs mid-stream
  if (how == 6) {
    Body(id, at, "data: [DONE]\n\n");
    return End(id, at, TransportEnd::kComplete);
  }
  Body(id, at,
       "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}],\"usage\":{\"completion_tokens\":3}}\n\n");
  Body(id, at, "data: [DONE]\n\n");
  End(id, at, TransportEnd::kComplete);
}

void SimBackends::Later(CallId id, absl::Duration delay, std::function<void(HttpListener&)> what) {
  stage_->At(delay, [this, id, what = std::move(what)] {
    const auto live = live_.find(id);
    if (live != live_.end()) what(*live->second);
  });
}

void SimBackends::Head(CallId id, absl::Duration delay, int status, absl::Duration retry_after) {
  HttpHead head;
  head.status = status;
  head.retry_after = retry_after;
  Later(id, delay, [this, head](HttpListener& listener) { listener.OnHead(head, stage_->now); });
}

void SimBackends::Body(CallId id, absl::Duration delay, const std::string& bytes) {
  const size_t cut = stage_->random() % bytes.size();  // anywhere, in the middle of a code point too
  Later(id, delay, [this, bytes, cut](HttpListener& listener) { listener.OnBody(bytes.substr(0, cut), stage_->now); });
  Later(id, delay, [this, bytes, cut](HttpListener& listener) { listener.OnBody(bytes.substr(cut), stage_->now); });
}

void SimBackends::End(CallId id, absl::Duration delay, TransportEnd end) {
  Later(id, delay, [this, id, end](HttpListener& listener) {
    live_.erase(id);
    listener.OnEnd(end, "scripted", stage_->now);
  });
}

}  // namespace goad::server
