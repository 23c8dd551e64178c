#include "tests/simulation/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace goad::server {

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

Config MakeConfig(std::vector<SiteConfig> sites) {
  Config config;
  config.sites = std::move(sites);
  config.limits.grant = absl::Milliseconds(300);
  config.limits.queries_per_session = 3;
  config.dispatch.first_byte = absl::Milliseconds(400);
  config.dispatch.between_tokens = absl::Milliseconds(300);
  config.dispatch.total = absl::Seconds(3);
  config.dispatch.probe_period = absl::Milliseconds(200);
  return config;
}

World::~World() {
  stage_.Clear();  // holds streams, whose outboxes count into metrics
}

void World::AddGoad(const std::string& address, Config config) {
  goads_.push_back(std::make_unique<SimGoad>(&stage_, config));
  places_.push_back({address, std::move(config), goads_.back().get(), {}});
}

void World::Start(size_t goad) {
  goads_.push_back(std::make_unique<SimGoad>(&stage_, places_[goad].config));
  places_[goad].running = goads_.back().get();
}

SimDevice& World::AddDevice(const ClientOptions& options) {
  const size_t index = devices_.size();
  wake_.push_back(absl::InfiniteDuration());
  const auto at = [this](const std::string& address) {
    for (Place& place : places_) {
      if (place.address != address) continue;
      place.opened.push_back(stage_.instant());
      return place.running;
    }
    stage_.Broken("a stream to an address that nobody has: " + address);
    return places_.front().running;
  };
  const auto changed = [this, index] {
    wake_at_.erase({wake_[index], index});
    wake_[index] = devices_[index]->core().NextWake();
    wake_at_.emplace(wake_[index], index);
  };
  devices_.push_back(std::make_unique<SimDevice>(&stage_, options, at, changed));
  devices_.back()->Apply();
  return *devices_.back();
}

std::string World::Ask(SimDevice& device, goad::Query query) {
  ++asked_;
  auto answers = std::make_shared<int>(0);
  AskCallbacks callbacks;
  callbacks.on_done = [this, answers](const Answer& answer) {
    if (++*answers > 1) stage_.Broken("a caller was answered twice");
    CountAnswer(answer);
  };
  std::string id = device.core().Ask(std::move(query), std::move(callbacks), {}, stage_.instant());
  device.Apply();
  return id;
}

void World::CountAnswer(const Answer& answer) {
  ++answered_;
  answer.source == Answer::Source::kEdge ? ++edge_ : ++why_local_[answer.why_local];
  if (answer.source == Answer::Source::kEdge && answer.text.size() % 4 != 0)
    stage_.Broken("text is damaged: " + answer.text);
}

void World::Settle() {
  for (int round = 0; round < 1000; ++round) {
    bool again = false;
    for (const auto& goad : goads_) again |= goad->Step();
    Wake();
    for (const auto& goad : goads_) again |= goad->woken();
    if (!again) return;
  }
  stage_.Broken("does not settle");
}

void World::Wake() {
  std::vector<size_t> due;
  for (const auto& [at, device] : wake_at_) {
    if (at > stage_.instant()) break;
    due.push_back(device);
  }
  std::sort(due.begin(), due.end());
  for (const size_t device : due) {
    devices_[device]->core().Tick(stage_.instant());
    devices_[device]->Apply();
  }
}

std::string World::RunUntil(const std::function<bool()>& over, MonotonicTime last, absl::Duration check_every) {
  MonotonicTime check_at = stage_.now;
  for (;;) {
    Settle();
    if (check_at <= stage_.now) {
      for (const auto& goad : goads_) goad->Check();
      check_at = stage_.now + check_every;
    }
    const bool idle = std::all_of(goads_.begin(), goads_.end(), [](const auto& goad) { return goad->idle(); });
    if (!stage_.broken().empty()) return absl::StrCat(stage_.broken(), " at ", absl::FormatDuration(stage_.instant()));
    if (answered_ == asked_ && idle && over()) break;
    MonotonicTime next = stage_.next();
    for (const auto& goad : goads_) next = std::min(next, goad->NextWake());
    if (!wake_at_.empty()) next = std::min(next, MonotonicTime::FromOrigin(wake_at_.begin()->first));
    stage_.now = std::max(next, stage_.now + absl::Nanoseconds(1)) + std::exchange(jump_, absl::ZeroDuration());
    if (stage_.now > last) {
      return absl::StrCat("not quiet long after the last question: ", answered_, " of ", asked_, " answered, goads ",
                          idle ? "idle" : "busy");
    }
    stage_.Play();
  }
  for (const auto& goad : goads_) {
    if (goad->SlotsLeak()) return "a slot leaked";
  }
  return "";
}

std::string World::Counts() const {
  int lost_streams = 0, asked_elsewhere = 0;
  for (const auto& device : devices_) {
    lost_streams += device->lost_streams();
    asked_elsewhere += device->asked_elsewhere();
  }
  std::string text = absl::StrCat(asked_, " asked, ", asked_elsewhere, " again elsewhere, ", edge_, " edge, ",
                                  lost_streams, " streams lost; local:");
  for (const auto& [why, count] : why_local_) absl::StrAppend(&text, " ", why, "=", count);
  return text;
}

}  // namespace goad::server
