#include "tests/simulation/goad.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/config/place.h"

namespace goad::server {

class SimGoad::Port final : public DispatchPort {
 public:
  explicit Port(SimGoad* goad) : goad_(goad) {}
  void Start(DispatchRequest request) override {
    if (request.deadline <= goad_->stage_->now) goad_->stage_->Broken("dispatched past its deadline");
    goad_->dispatcher_->Start(std::move(request), goad_->stage_->now);
  }
  void Abort(QueryId id) override { goad_->dispatcher_->Abort(id, goad_->stage_->now); }
  void Resume(SessionId session) override { goad_->dispatcher_->Resume(session, goad_->stage_->now); }

 private:
  SimGoad* const goad_;
};

SimGoad::SimGoad(Stage* stage, Config config)
    : stage_(stage),
      config_(std::move(config)),
      metrics_(MetricsLabels::Of(*config_.Current())),
      inbox_(stage->faults.tiny_queues ? 2 : 1000),
      backends_(stage) {
  const auto running = config_.Current();
  registry_ = std::make_unique<SessionRegistry>(
      running, &metrics_, &memory_, [this] { return stage_->now; },
      [this](std::shared_ptr<SessionStream> stream) { woken_.push_back(std::move(stream)); });
  dispatcher_ = std::make_unique<Dispatcher>(running, &backends_, registry_.get(), &metrics_,
                                             [this](Event event) { inbox_.Push(std::move(event)); });
  port_ = std::make_unique<Port>(this);
  Engine::Ports ports;
  ports.sink = registry_.get();
  ports.dispatch = port_.get();
  ports.metrics = &metrics_;
  ports.on_epoch = [this](std::shared_ptr<const EpochRecord> record) {
    for (const sched::Decision& decision : record->result.decisions) {
      if (decision.site == sched::SiteIndex::kNone) continue;
      if (record->config->sites[sched::ToIndex(decision.site)].presence.leaving())
        stage_->Broken("admitted to a site that is left");
    }
  };
  engine_ = std::make_unique<Engine>(running, std::move(ports));
  Watch();
}

SimGoad::~SimGoad() = default;

std::shared_ptr<SimStream> SimGoad::Open(SimPeer* peer, uint64_t generation) {
  if (killed_) return nullptr;
  auto stream = std::make_shared<SimStream>(this, peer, generation);
  stream->session_ = std::make_shared<Session>(SessionId{next_session_++}, "sim",
                                               stage_->faults.tiny_queues ? 3 * Outbox::kSlotBytes : 1 << 20, &metrics_,
                                               &outboxes_, stage_->now);
  SessionPorts ports{&config_,
                     &inbox_,
                     registry_.get(),
                     &memory_,
                     &metrics_,
                     &next_query_id_,
                     &inline_prompt_bytes_,
                     &limiter_,
                     &outboxes_,
                     [this](const LocalModelPtr& model) { return engine_->TauOf(config().policy, model); }};
  stream->core_ = std::make_unique<SessionCore>(stream->session_, Caller(), ports);
  if (registry_->Add(stream->session_, stream, {"sim", kDefaultTenant, {}}, config().limits)) {
    if (!draining_) stage_->Broken("session refused");
    return nullptr;
  }
  streams_[stream->session_->id] = stream;
  return stream;
}

void SimGoad::Drain(absl::Duration reconnect_after, absl::Duration timeout) {
  draining_ = true;
  registry_->StartDrain(reconnect_after, stage_->now);
  inbox_.Push(server::Drain{});
  stage_->At(timeout, [this] { inbox_.Push(DrainExpired{}); });
}

void SimGoad::Kill() {
  for (const auto& [id, stream] : std::exchange(streams_, {})) stream->Lose();
  killed_ = true;
  backends_.AbortAll();
  woken_.clear();
}

void SimGoad::Apply(Config next, bool keep_overrides) {
  if (killed_) return;
  const auto published = config_.Publish(std::move(next));
  metrics_.SetConfig(*published);
  registry_->SetConfig(published);
  inbox_.Push(ApplyConfig{published, keep_overrides});
  // The dispatcher hears of it on its own thread: later, and before what the engine sends it then.
  dispatcher_->SetConfig(published, stage_->now);
}

int SimGoad::ChangeSites(Config next) {
  if (killed_) return 0;
  const auto running = config_.Current();
  EngineStatus status;
  // The daemon asks by the inbox, so behind the configurations before: a site that they removed gets nothing after
  // that.
  for (Event& event : inbox_.Drain(MonotonicTime())) engine_->Handle(std::move(event), stage_->now);
  engine_->Handle(Inspect{[&](const EngineStatus& now) { status = now; }}, stage_->now);
  const auto views = dispatcher_->Backends();
  const auto in_use = [&](size_t site, std::optional<size_t> backend) {
    for (size_t b = 0; b < views[site].size(); ++b) {
      if ((!backend || *backend == b) && views[site][b].in_flight > 0) return true;
    }
    return !backend && (site >= status.sites.size() || status.sites[site].active_queries > 0);
  };
  reload_clock_ = reload_clock_ + kPlaceKept / 2;
  if (!KeepPlaces(*running, in_use, reload_clock_, &next).ok()) {
    stage_->Broken("no places for sites");
    return 0;
  }
  int reused = 0;
  for (size_t j = 0; j < running->sites.size(); ++j) reused += next.sites[j].name != running->sites[j].name;
  Apply(std::move(next), false);
  return reused;
}

bool SimGoad::Step() {
  if (killed_) return false;
  std::vector<Event> events = inbox_.Drain(MonotonicTime());
  for (Event& event : events) engine_->Handle(std::move(event), stage_->now);
  engine_->Tick(stage_->now);
  dispatcher_->Tick(stage_->now);
  for (const auto& stream : std::exchange(woken_, {})) stream->Pump();
  return !events.empty();
}

MonotonicTime SimGoad::NextWake() const {
  return killed_ ? MonotonicTime::Infinite() : std::min(engine_->NextWake(), dispatcher_->NextWake());
}

void SimGoad::Check() {
  if (killed_) return;
  if (const std::string broken = engine_->Broken(); !broken.empty()) stage_->Broken(broken);
  engine_->Handle(Inspect{[this](const EngineStatus& status) { CheckStatus(status); }}, stage_->now);
}

void SimGoad::CheckStatus(const EngineStatus& status) {
  int active = 0;
  for (const auto& site : status.sites) {
    active += site.active_queries;
    if (site.active_uplinks < 0 || site.active_uplinks > site.active_queries) {
      stage_->Broken(absl::StrCat("uplinks leak: ", site.active_uplinks, " of ", site.active_queries));
    }
  }
  if (active != status.granted + status.running) {
    stage_->Broken(absl::StrCat("slots ", active, " but grants ", status.granted, " + ", status.running));
  }
}

bool SimGoad::SlotsLeak() {
  if (killed_) return false;
  bool leak = false;
  engine_->Handle(Inspect{[&](const EngineStatus& status) {
                    for (const auto& site : status.sites) leak |= site.active_queries != 0;
                  }},
                  stage_->now);
  return leak;
}

// As the session writer's thread does, by the clock.
void SimGoad::Watch() {
  if (killed_) return;
  registry_->Watch(config(), stage_->now);
  stage_->At(absl::Milliseconds(100), [this] { Watch(); });
}

// --- streams ---------------------------------------------------------------------------------------------------------

void SimStream::Send(const v1::DeviceFrame& frame, absl::Duration after) {
  goad_->stage_->At(after, [self = shared_from_this(), frame] {
    if (self->dead_) return;
    self->core_->OnFrame(frame, self->goad_->stage_->now);
    self->Pump();
  });
}

void SimStream::Lose() {
  if (std::exchange(dead_, true)) return;
  Stage& stage = *goad_->stage_;
  auto self = shared_from_this();
  stage.At(stage.Between(0, 30), [self] {
    SimGoad& goad = *self->goad_;
    if (goad.killed_) return;
    self->core_->OnEnd(goad.stage_->now);
    goad.registry_->Remove(self->session_->id);
    goad.streams_.erase(self->session_->id);
  });
  stage.At(stage.Between(0, 30), [self] { self->peer_->Lost(self->generation_, "simulated"); });
}

void SimStream::End(const ErrorInfo& why) {
  session_->outbox.Close(why, goad_->stage_->now);
  core_->OnEnd(goad_->stage_->now);
  Pump();
}

void SimStream::Pump() {
  if (goad_->killed_) return;
  Stage& stage = *goad_->stage_;
  Outbox::Step step = session_->outbox.Next();
  if (step.resume) goad_->port_->Resume(session_->id);
  if (step.kind == Outbox::Step::kNothing) return;
  const absl::Duration late = stage.Chance(stage.faults.stall) ? stage.Between(100, 3000) : stage.Between(0.1, 8);
  last_arrival_ = std::max(last_arrival_, stage.instant() + late);
  auto self = shared_from_this();
  if (step.kind == Outbox::Step::kFinish) {
    stage.AtInstant(last_arrival_, [self] { self->Lose(); });
    return;
  }
  Count(*step.frame);
  stage.AtInstant(last_arrival_, [self, frame = step.frame] {
    self->session_->outbox.WriteDone();
    if (!self->dead_) self->peer_->Deliver(self->generation_, *frame);
    self->Pump();
  });
}

// A frame that is sent again must be the one that was sent first.
void SimStream::Count(const v1::ServerFrame& frame) {
  Stage& stage = *goad_->stage_;
  std::string over;
  const auto once = [&](std::map<std::string, std::string>& sent, const std::string& id, const char* what) {
    const std::string bytes = frame.SerializeAsString();
    const auto [first, fresh] = sent.emplace(id, bytes);
    if (fresh) return;
    if (stage.faults.duplicate == 0) stage.Broken(absl::StrCat("two ", what, " for ", id));
    if (first->second != bytes) stage.Broken(absl::StrCat("two different ", what, " for ", id));
  };
  // Who was refused for now and asks again after its retry_after is decided anew; before that a duplicate gets the same
  // answer.
  const bool anew = frame.decision().retry_after_s() > 0 && (stage.faults.jump > 0 || stage.faults.stall > 0);
  if (frame.has_decision() && !anew) {
    once(decisions_, frame.decision().query_id(), "decisions");
    if (frame.decision().verdict() == v1::VERDICT_LOCAL) over = frame.decision().query_id();
  }
  if (frame.has_tokens()) {
    uint64_t& end = text_end_[frame.tokens().query_id()];
    if (frame.tokens().text_offset() != end) stage.Broken("tokens twice or out of order");
    end += frame.tokens().text().size();
    if (terminals_.count(frame.tokens().query_id()) != 0) stage.Broken("tokens after the terminal");
  }
  if (frame.has_completed()) over = frame.completed().query_id();
  if (frame.has_failed()) over = frame.failed().query_id();
  if (frame.has_cancelled()) over = frame.cancelled().query_id();
  if (!over.empty()) once(terminals_, over, "terminals");
  if (session_->outbox.bytes() > 64 * 1024 + (stage.faults.tiny_queues ? 0 : 1 << 20))
    stage.Broken("an outbox beyond its bound");
}

}  // namespace goad::server
