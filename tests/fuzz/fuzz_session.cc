// libFuzzer: bytes as a device's frames into a session, with an engine that answers at random. The input is a row of
// (length byte, that many bytes of a DeviceFrame); a length of 0 is an engine step, told by the byte that follows.
#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <cstdlib>
#include <set>

#include "server/session/session_core.h"

namespace goad::server {
namespace {

struct NoStream final : SessionStream {
  void Pump() override {}
  void End(const ErrorInfo&) override {}
};

Config OneSite() {
  Config config;
  config.sites.resize(1);
  config.sites[0].name = "a";
  config.sites[0].backends.resize(1);
  return config;
}

SessionEvent Answer(QueryId id, uint8_t what) {
  if (what < 32) return DecisionEvent{id, 1};
  if (what < 64) {
    DecisionEvent offload{id, 1, sched::Verdict::kOffload, sched::Reason::kUncertain, sched::SiteIndex{0}};
    offload.upload_within_s = what % 2;
    return offload;
  }
  if (what < 128) return TokensEvent{id, 0, "x", 1};
  if (what < 192) {
    CompletedEvent completed{id, "stop"};
    completed.site = sched::SiteIndex{0};
    return completed;
  }
  return FailedEvent{id};
}

void Run(const uint8_t* data, size_t size) {
  google::protobuf::SetLogHandler(nullptr);
  static ConfigStore* const config = new ConfigStore(OneSite());
  static Metrics* const metrics = new Metrics({{"a"}, {{"b"}}});
  Inbox inbox(8);
  QueryMemory memory(16);
  TenantLimiter limiter;
  OutboxBudget outboxes;
  MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(1));
  SessionRegistry registry(
      config->Current(), metrics, &memory, [&] { return now; }, [](auto) {});
  std::atomic<uint64_t> next_query_id{1};
  std::atomic<int64_t> inline_bytes{0};
  SessionPorts ports{config,         &inbox,        &registry, &memory,   metrics,
                     &next_query_id, &inline_bytes, &limiter,  &outboxes, [](const LocalModelPtr&) { return 0.8; }};
  auto session = std::make_shared<Session>(SessionId{1}, "fuzz", 64 << 10, metrics, &outboxes, now);
  if (registry.Add(session, std::make_shared<NoStream>(), {"fuzz", kDefaultTenant, {}}, config->Current()->limits))
    abort();
  SessionCore core(session, Caller(), ports);
  std::set<QueryId> live;
  for (size_t at = 0; at < size;) {
    const size_t length = data[at++];
    now = now + absl::Milliseconds(1);
    if (length > 0) {
      const size_t most = std::min(length, size - at);
      v1::DeviceFrame frame;
      if (frame.ParseFromArray(data + at, static_cast<int>(most)) && !core.OnFrame(frame, now)) break;
      at += most;
    } else if (at < size) {
      const uint8_t what = data[at++];
      if (!live.empty()) {
        const QueryId id = *std::next(live.begin(), what % static_cast<uint8_t>(std::min<size_t>(live.size(), 255)));
        registry.Deliver(SessionId{1}, Answer(id, what));
      }
    }
    for (const Event& event : inbox.Drain(MonotonicTime())) {
      if (const auto* submit = std::get_if<SubmitQuery>(&event)) live.insert(submit->id);
    }
    for (Outbox::Step step = session->outbox.Next(); step.kind == Outbox::Step::kWrite; step = session->outbox.Next()) {
      if (!step.frame->IsInitialized() || step.frame->ByteSizeLong() > 1 << 20) abort();
      session->outbox.WriteDone();
    }
    if (session->outbox.live() > 4 || session->outbox.bytes() > 64 << 10) abort();
  }
  core.OnEnd(MonotonicTime());
  registry.Remove(SessionId{1});
}

}  // namespace
}  // namespace goad::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  goad::server::Run(data, size);
  return 0;
}
