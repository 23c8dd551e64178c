#include "tests/simulation/world.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/config/place.h"

namespace goad::server {
namespace {

constexpr const char* kSiteNames[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};

SiteConfig MakeSite(const std::string& name, int backends, int slots) {
  SiteConfig site;
  site.name = name;
  site.compute.token_time_s = 0.001;
  site.compute.token_time_per_query_s = 0.0002;
  for (int b = 0; b < backends; ++b) {
    BackendConfig backend;
    backend.url = absl::StrCat("http://", name, b);
    backend.slots = slots;
    if (name[0] % 2 == 1 || b % 2 == 1) {
      backend.api = BackendApi::kChat;
      backend.tools = (name[0] + b) % 2 == 1;
    }
    site.backends.push_back(backend);
  }
  return site;
}

// Of images they speak themselves.
bool SeesImages(const std::string& url) { return (url[7] + url[8]) % 2 == 1; }

Config MakeConfig() {
  Config config;
  for (const char* name : {"a", "b"}) config.sites.push_back(MakeSite(name, 2, 2));
  config.limits.grant = absl::Milliseconds(300);
  config.limits.queries_per_session = 3;
  config.dispatch.first_byte = absl::Milliseconds(400);
  config.dispatch.between_tokens = absl::Milliseconds(300);
  config.dispatch.total = absl::Seconds(3);
  config.dispatch.probe_period = absl::Milliseconds(200);
  return config;
}

}  // namespace

// The transport of one session on the server side, with its link to the device.
struct World::SimStream : SessionStream, std::enable_shared_from_this<SimStream> {
  World* world = nullptr;
  Device* device = nullptr;
  uint64_t generation = 0;
  std::shared_ptr<Session> session;
  std::unique_ptr<SessionCore> core;
  bool dead = false;
  absl::Duration last_arrival;                              // frames arrive in order
  std::map<std::string, std::string> decisions, terminals;  // by query id, as first sent
  std::map<std::string, uint64_t> text_end;

  void Pump() override;
  void End(const ErrorInfo& why) override;
  void Count(const v1::ServerFrame& frame);
};

struct World::Device {
  std::unique_ptr<internal::ClientCore> core;
  std::shared_ptr<SimStream> stream;
};

// Every backend of every site, answering by script.
class World::Backends final : public HttpTransport {
 public:
  explicit Backends(World* world) : world_(world) {}

  CallId Start(HttpRequest request, HttpListener* listener) override {
    const CallId id{++last_id_};
    live_[id] = listener;
    Script(id, request);
    return id;
  }
  void Abort(CallId id) override { live_.erase(id); }
  void SetPaused(CallId, bool) override {}

 private:
  void Script(CallId id, const HttpRequest& request) {
    const std::string url = request.backend->url;
    if (world_->Chance(world_->faults_.kill_backend)) dead_until_[url] = world_->now_ + world_->Between(50, 800);
    if (dead_until_[url] > world_->now_) return End(id, world_->Between(0, 5), TransportEnd::kConnectFailed);
    if (request.body.empty()) {
      Head(id, absl::Milliseconds(1), 200);
      if (request.path == "/props") {
        Body(id, absl::Milliseconds(1), absl::StrCat("{\"modalities\":{\"vision\":", SeesImages(url), "}}"));
      }
      return End(id, absl::Milliseconds(2), TransportEnd::kComplete);
    }
    const auto has = [&](const char* word) { return request.body.find(word) != std::string::npos; };
    const bool chat = request.backend->api == BackendApi::kChat;
    if (has("\"tools\"") && !(chat && request.backend->tools.value_or(true))) world_->Broken("tools at " + url);
    if (has("image_url") && !(chat && SeesImages(url))) world_->Broken("an image at " + url);
    if (has("a chat") && !chat) world_->Broken("chat at " + url);
    const bool bad = world_->Chance(world_->faults_.bad_backend_answer);
    const int how = bad ? static_cast<int>(world_->random_() % 7) : -1;
    absl::Duration at = world_->Between(1, 10);
    if (how == 0) return End(id, at, TransportEnd::kConnectFailed);
    if (how == 1) return;  // hangs
    if (how == 2) {
      const absl::Duration rest = world_->Chance(0.3) ? world_->Between(1, 2000) : absl::ZeroDuration();
      Head(id, at, world_->Chance(0.5) ? 503 : 429, rest);
      Body(id, at, "{\"error\":{\"message\":\"busy\"}}");
      return End(id, at, TransportEnd::kComplete);
    }
    Head(id, at, 200);
    const int tokens = static_cast<int>(world_->random_() % 6);
    for (int k = 0; k < tokens; ++k) {
      at += world_->Between(0, 15);
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
  void Later(CallId id, absl::Duration delay, std::function<void(HttpListener&)> what) {
    world_->At(delay, [this, id, what = std::move(what)] {
      const auto live = live_.find(id);
      if (live != live_.end()) what(*live->second);
    });
  }
  void Head(CallId id, absl::Duration delay, int status, absl::Duration retry_after = absl::ZeroDuration()) {
    HttpHead head;
    head.status = status;
    head.retry_after = retry_after;
    Later(id, delay, [this, head](HttpListener& listener) { listener.OnHead(head, world_->now_); });
  }
  void Body(CallId id, absl::Duration delay, std::string bytes) {
    const size_t cut = world_->random_() % bytes.size();  // anywhere, in the middle of a code point too
    Later(id, delay,
          [this, bytes, cut](HttpListener& listener) { listener.OnBody(bytes.substr(0, cut), world_->now_); });
    Later(id, delay, [this, bytes, cut](HttpListener& listener) { listener.OnBody(bytes.substr(cut), world_->now_); });
  }
  void End(CallId id, absl::Duration delay, TransportEnd end) {
    Later(id, delay, [this, id, end](HttpListener& listener) {
      live_.erase(id);
      listener.OnEnd(end, "scripted", world_->now_);
    });
  }

  World* const world_;
  uint64_t last_id_ = 0;
  std::map<CallId, HttpListener*> live_;
  std::map<std::string, MonotonicTime> dead_until_;
};

class World::Port final : public DispatchPort {
 public:
  explicit Port(World* world) : world_(world) {}
  void Start(DispatchRequest request) override {
    if (request.deadline <= world_->now_) world_->Broken("dispatched past its deadline");
    world_->dispatcher_->Start(std::move(request), world_->now_);
  }
  void Abort(QueryId id) override { world_->dispatcher_->Abort(id, world_->now_); }
  void Resume(SessionId session) override { world_->dispatcher_->Resume(session, world_->now_); }

 private:
  World* const world_;
};

World::World(uint64_t seed, int clients, Faults faults)
    : random_(seed), faults_(faults), inbox_(faults.tiny_queues ? 2 : 1000) {
  config_ = std::make_unique<ConfigStore>(MakeConfig());
  const auto config = config_->Current();
  metrics_ = std::make_unique<Metrics>(MetricsLabels::Of(*config));
  registry_ = std::make_unique<SessionRegistry>(
      config, metrics_.get(), &memory_, [this] { return now_; },
      [this](std::shared_ptr<SessionStream> stream) { woken_.push_back(stream); });
  backends_ = std::make_unique<Backends>(this);
  dispatcher_ = std::make_unique<Dispatcher>(config, backends_.get(), registry_.get(), metrics_.get(),
                                             [this](Event event) { inbox_.Push(std::move(event)); });
  port_ = std::make_unique<Port>(this);
  Engine::Ports ports;
  ports.sink = registry_.get();
  ports.dispatch = port_.get();
  ports.metrics = metrics_.get();
  ports.on_epoch = [this](std::shared_ptr<const EpochRecord> record) {
    for (const sched::Decision& decision : record->result.decisions) {
      if (decision.site == sched::SiteIndex::kNone) continue;
      if (record->config->sites[sched::ToIndex(decision.site)].presence.leaving())
        Broken("admitted to a site that is left");
    }
  };
  engine_ = std::make_unique<Engine>(config, std::move(ports));
  for (int c = 0; c < clients; ++c) {
    auto device = std::make_unique<Device>();
    ClientOptions options;
    options.device_name = absl::StrCat("device-", c);
    options.answer_budget = absl::Seconds(5);
    device->core = std::make_unique<internal::ClientCore>(options, random_());
    std::vector<Link> links;
    for (const char* name : kSiteNames)
      links.push_back({.site = name, .uplink_bps = 1e6 * static_cast<double>(1 + links.size())});
    device->core->ReportLinks(std::move(links), now_ - MonotonicTime());
    devices_.push_back(std::move(device));
  }
}
World::~World() {
  agenda_.clear();  // holds streams, whose outboxes count into metrics_
}

void World::At(absl::Duration delay, std::function<void()> what) {
  agenda_.emplace((now_ - MonotonicTime()) + delay, std::move(what));
}

// A frame that is sent again must be the one that was sent first.
void World::SimStream::Count(const v1::ServerFrame& frame) {
  std::string over;
  const auto once = [&](std::map<std::string, std::string>& sent, const std::string& id, const char* what) {
    const std::string bytes = frame.SerializeAsString();
    const auto [first, fresh] = sent.emplace(id, bytes);
    if (fresh) return;
    if (world->faults_.duplicate == 0) world->Broken(absl::StrCat("two ", what, " for ", id));
    if (first->second != bytes) world->Broken(absl::StrCat("two different ", what, " for ", id));
  };
  // Who was refused for now and asks again after its retry_after is decided anew; before that a duplicate gets the same
  // answer.
  const bool anew = frame.decision().retry_after_s() > 0 && (world->faults_.jump > 0 || world->faults_.stall > 0);
  if (frame.has_decision() && !anew) {
    once(decisions, frame.decision().query_id(), "decisions");
    if (frame.decision().verdict() == v1::VERDICT_LOCAL) over = frame.decision().query_id();
  }
  if (frame.has_tokens()) {
    uint64_t& end = text_end[frame.tokens().query_id()];
    if (frame.tokens().text_offset() != end) world->Broken("tokens twice or out of order");
    end += frame.tokens().text().size();
    if (terminals.count(frame.tokens().query_id()) != 0) world->Broken("tokens after the terminal");
  }
  if (frame.has_completed()) over = frame.completed().query_id();
  if (frame.has_failed()) over = frame.failed().query_id();
  if (frame.has_cancelled()) over = frame.cancelled().query_id();
  if (!over.empty()) once(terminals, over, "terminals");
  if (session->outbox.bytes() > 64 * 1024 + (world->faults_.tiny_queues ? 0 : 1 << 20))
    world->Broken("an outbox beyond its bound");
}

void World::SimStream::End(const ErrorInfo& why) {
  session->outbox.Close(why, world->now_);
  core->OnEnd(world->now_);
  Pump();
}

void World::SimStream::Pump() {
  Outbox::Step step = session->outbox.Next();
  if (step.resume) world->port_->Resume(session->id);
  if (step.kind == Outbox::Step::kNothing) return;
  const absl::Duration late = world->Chance(world->faults_.stall) ? world->Between(100, 3000) : world->Between(0.1, 8);
  const absl::Duration at = std::max(last_arrival, (world->now_ - MonotonicTime()) + late);
  last_arrival = at;
  auto self = shared_from_this();
  if (step.kind == Outbox::Step::kFinish) {
    world->agenda_.emplace(at, [self] { self->world->LoseStream(*self->device); });
    return;
  }
  Count(*step.frame);
  world->agenda_.emplace(at, [self, frame = step.frame] {
    self->session->outbox.WriteDone();
    if (!self->dead) self->world->Deliver(*self->device, self->generation, *frame);
    self->Pump();
  });
}

void World::Deliver(Device& device, uint64_t generation, const v1::ServerFrame& frame) {
  device.core->OnFrame(generation, frame, now_ - MonotonicTime());
  Apply(device);
  if (Chance(faults_.lose_stream)) {
    ++lost_streams_;
    LoseStream(device);
  }
}

// The device and the server hear of it at different times.
void World::LoseStream(Device& device) {
  const auto stream = device.stream;
  if (stream == nullptr || stream->dead) return;
  stream->dead = true;
  device.stream = nullptr;
  At(Between(0, 30), [this, stream] {
    stream->core->OnEnd(now_);
    registry_->Remove(stream->session->id);
  });
  At(Between(0, 30), [this, &device, stream] {
    device.core->OnStreamLost(stream->generation, "simulated", now_ - MonotonicTime());
    Apply(device);
  });
}

void World::Apply(Device& device) {
  for (internal::Action& action : device.core->TakeActions()) {
    if (const auto* open = std::get_if<internal::OpenStream>(&action)) {
      auto stream = std::make_shared<SimStream>();
      stream->world = this;
      stream->device = &device;
      stream->generation = open->generation;
      stream->session = std::make_shared<Session>(SessionId{next_session_++}, "sim",
                                                  faults_.tiny_queues ? 3 * Outbox::kSlotBytes : 1 << 20,
                                                  metrics_.get(), &outboxes_, now_);
      SessionPorts ports{
          config_.get(),
          &inbox_,
          registry_.get(),
          &memory_,
          metrics_.get(),
          &next_query_id_,
          &inline_prompt_bytes_,
          &limiter_,
          &outboxes_,
          [this](const LocalModelPtr& model) { return engine_->TauOf(config_->Current()->policy, model); }};
      stream->core = std::make_unique<SessionCore>(stream->session, Caller(), ports);
      if (registry_->Add(stream->session, stream, {"sim", kDefaultTenant, {}}, config_->Current()->limits)) {
        if (!draining_) Broken("session refused");
        At(Between(0, 30), [this, &device, generation = stream->generation] {
          device.core->OnStreamLost(generation, "draining", now_ - MonotonicTime());
          Apply(device);
        });
        continue;
      }
      device.stream = stream;
    } else if (const auto* send = std::get_if<internal::SendFrame>(&action)) {
      const auto stream = device.stream;
      if (stream == nullptr || stream->generation != send->generation) continue;
      const absl::Duration late =
          send->frame.has_prompt() && Chance(faults_.late_prompt) ? Between(200, 500) : Between(0.1, 4);
      const absl::Duration after = send->frame.has_prompt() ? late : absl::Milliseconds(1);
      for (int copies = Chance(faults_.duplicate) && !send->frame.has_hello() ? 2 : 1; copies > 0; --copies) {
        At(after, [this, stream, frame = send->frame] {
          if (stream->dead) return;
          stream->core->OnFrame(frame, now_);
          stream->Pump();
        });
      }
    } else if (auto* notify = std::get_if<internal::Notify>(&action)) {
      notify->call();
    } else if (device.stream != nullptr &&
               device.stream->generation == std::get<internal::CloseStream>(action).generation) {
      LoseStream(device);
    }
  }
}

void World::AskOne() {
  Device& device = *devices_[random_() % devices_.size()];
  goad::Query query;
  query.uncertainty = std::uniform_real_distribution<double>(0, 1)(random_);
  query.prompt = "why?";
  if (Chance(0.4)) {
    query.prompt.clear();
    const bool image = Chance(0.3);
    query.messages_json = {
        absl::StrCat(R"({"role":"user","content":[{"type":"text","text":"a chat"})",
                     image ? R"(,{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}})" : "", "]}")};
    if (Chance(0.3)) query.options_json = R"({"tools":[{"type":"function"}]})";
  }
  query.prompt_tokens = 5;
  query.max_output_tokens = 8;
  query.local_delay = Between(0, 200);
  if (Chance(0.2)) query.deadline = Between(10, 400);
  ++asked_;
  if (Chance(0.3)) return AskBesideLocalModel(device, device.core.get(), std::move(query));
  auto answers = std::make_shared<int>(0);
  AskCallbacks callbacks;
  callbacks.on_done = [this, answers](const Answer& answer) {
    if (++*answers > 1) Broken("a caller was answered twice");
    CountAnswer(answer);
  };
  const std::string id = device.core->Ask(std::move(query), std::move(callbacks), {}, now_ - MonotonicTime());
  Apply(device);
  if (Chance(faults_.cancel)) {
    At(Between(0, 60), [this, &device, id] {
      device.core->Cancel(id, now_ - MonotonicTime());
      Apply(device);
    });
  }
  if (Chance(faults_.jump)) jump_ = Between(0, 3000);
  if (Chance(faults_.reload)) {
    Config next = *config_->Current();
    next.policy.tau = Chance(0.5) ? 0.3 : 0.9;
    next.policy.name = Chance(0.5) ? "goa" : "all-edge";
    Apply(std::move(next), false);
  }
  if (Chance(faults_.sites)) ChangeSites();
}

void World::CountAnswer(const Answer& answer) {
  ++answered_;
  answer.source == Answer::Source::kEdge ? ++edge_ : ++why_local_[answer.why_local];
  if (answer.source == Answer::Source::kEdge && answer.text.size() % 4 != 0) Broken("text is damaged: " + answer.text);
}

// As the daemon does.
void World::Apply(Config next, bool keep_overrides) {
  const auto published = config_->Publish(std::move(next));
  metrics_->SetConfig(*published);
  registry_->SetConfig(published);
  inbox_.Push(ApplyConfig{published, keep_overrides});
  // The dispatcher hears of it on its own thread: later, and before what the engine sends it then.
  dispatcher_->SetConfig(published, now_);
}

void World::ChangeSites() {
  ++site_changes_;
  const Config& running = *config_->Current();
  if (Chance(0.4)) {
    Config next = running;
    const SiteConfig& site = next.sites[random_() % next.sites.size()];
    const std::string name = site.name;
    const std::string backend = Chance(0.5) ? "" : absl::StrCat(random_() % site.backends.size());
    if (SetDrained(name, backend, Chance(0.5), &next).ok()) Apply(std::move(next), true);
    return;
  }
  Config next = running;
  next.sites.clear();
  while (next.sites.empty()) {
    for (const char* name : kSiteNames) {
      if (!Chance(0.25)) continue;
      next.sites.push_back(MakeSite(name, 1 + static_cast<int>(random_() % 3), 1 + static_cast<int>(random_() % 3)));
    }
  }
  std::shuffle(next.sites.begin(), next.sites.end(), random_);
  EngineStatus status;
  // The daemon asks by the inbox, so behind the configurations before: a site that they removed gets nothing after
  // that.
  for (Event& event : inbox_.Drain(MonotonicTime())) engine_->Handle(std::move(event), now_);
  engine_->Handle(Inspect{[&](const EngineStatus& now) { status = now; }}, now_);
  const auto views = dispatcher_->Backends();
  const auto in_use = [&](size_t site, std::optional<size_t> backend) {
    for (size_t b = 0; b < views[site].size(); ++b) {
      if ((!backend || *backend == b) && views[site][b].in_flight > 0) return true;
    }
    return !backend && (site >= status.sites.size() || status.sites[site].active_queries > 0);
  };
  reload_clock_ = reload_clock_ + kPlaceKept / 2;
  if (!KeepPlaces(running, in_use, reload_clock_, &next).ok()) return Broken("no places for sites");
  for (size_t j = 0; j < running.sites.size(); ++j) places_reused_ += next.sites[j].name != running.sites[j].name;
  Apply(std::move(next), false);
}

void World::Settle() {
  for (int round = 0; round < 1000; ++round) {
    std::vector<Event> events = inbox_.Drain(MonotonicTime());
    for (Event& event : events) engine_->Handle(std::move(event), now_);
    engine_->Tick(now_);
    dispatcher_->Tick(now_);
    for (const auto& stream : std::exchange(woken_, {})) stream->Pump();
    for (auto& device : devices_) {
      if (device->core->NextWake() <= now_ - MonotonicTime()) {
        device->core->Tick(now_ - MonotonicTime());
        Apply(*device);
      }
    }
    if (events.empty() && woken_.empty()) return;
  }
  Broken("does not settle");
}

void World::Check() {
  if (const std::string broken = engine_->Broken(); !broken.empty()) Broken(broken);
  engine_->Handle(Inspect{[this](const EngineStatus& status) {
                    int active = 0;
                    for (const auto& site : status.sites) {
                      active += site.active_queries;
                      if (site.active_uplinks < 0 || site.active_uplinks > site.active_queries) {
                        Broken(absl::StrCat("uplinks leak: ", site.active_uplinks, " of ", site.active_queries));
                      }
                    }
                    if (active != status.granted + status.running) {
                      Broken(absl::StrCat("slots ", active, " but grants ", status.granted, " + ", status.running));
                    }
                  }},
                  now_);
}

// As the session writer's thread does, by the clock.
void World::Watch() {
  registry_->Watch(*config_->Current(), now_);
  At(absl::Milliseconds(100), [this] { Watch(); });
}

std::string World::Run(int queries) {
  Watch();
  for (int q = 0; q < queries; ++q) At(Between(0, 3.0 * queries), [this] { AskOne(); });
  if (Chance(faults_.drain)) {
    At(Between(0, 3.0 * queries), [this] {
      draining_ = true;
      inbox_.Push(Drain{});
      registry_->StartDrain(absl::Seconds(1), now_);
      At(absl::Seconds(2), [this] { inbox_.Push(DrainExpired{}); });
    });
  }
  const MonotonicTime last =
      now_ + absl::Milliseconds(3.0 * queries) + absl::Seconds(60) + faults_.jump * queries * absl::Seconds(3);
  for (;;) {
    Settle();
    Check();
    if (!broken_.empty()) return absl::StrCat(broken_, " at ", absl::FormatDuration(now_ - MonotonicTime()));
    if (asked_ == queries && answered_ == asked_ && engine_->idle()) break;
    MonotonicTime next = std::min(engine_->NextWake(), dispatcher_->NextWake());
    if (!agenda_.empty()) next = std::min(next, MonotonicTime::FromOrigin(agenda_.begin()->first));
    for (auto& device : devices_) next = std::min(next, MonotonicTime::FromOrigin(device->core->NextWake()));
    now_ = std::max(next, now_ + absl::Nanoseconds(1)) + std::exchange(jump_, absl::ZeroDuration());
    if (now_ > last) {
      return absl::StrCat("not quiet long after the last question: ", answered_, " of ", asked_, " answered, engine ",
                          engine_->idle() ? "idle" : "busy");
    }
    while (!agenda_.empty() && MonotonicTime::FromOrigin(agenda_.begin()->first) <= now_) {
      const auto what = std::move(agenda_.begin()->second);
      agenda_.erase(agenda_.begin());
      what();
    }
  }
  EngineStatus end;
  engine_->Handle(Inspect{[&](const EngineStatus& status) { end = status; }}, now_);
  for (const auto& site : end.sites) {
    if (site.active_queries != 0) return "a slot leaked";
  }
  return "";
}

std::string World::Counts() const {
  std::string text = absl::StrCat(asked_, " asked, ", edge_, " edge, ", lost_streams_, " streams lost, ", site_changes_,
                                  " changes of sites, ", places_reused_, " places given to another; local:");
  for (const auto& [why, count] : why_local_) absl::StrAppend(&text, " ", why, "=", count);
  return text;
}

}  // namespace goad::server
