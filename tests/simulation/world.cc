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

World::World(uint64_t seed, int devices, const Faults& faults) : stage_(seed, faults) {
  goads_.push_back(std::make_unique<SimGoad>(&stage_, MakeConfig()));
  for (int d = 0; d < devices; ++d) {
    ClientOptions options;
    options.device_name = absl::StrCat("device-", d);
    options.answer_budget = absl::Seconds(5);
    const size_t index = devices_.size();
    wake_.push_back(absl::InfiniteDuration());
    devices_.push_back(std::make_unique<SimDevice>(
        &stage_, options, [this](const std::string& address) { return At(address); },
        [this, index] {
          wake_at_.erase({wake_[index], index});
          wake_[index] = devices_[index]->core().NextWake();
          wake_at_.emplace(wake_[index], index);
        }));
    std::vector<Link> links;
    for (const char* name : kSiteNames)
      links.push_back({.site = name, .uplink_bps = 1e6 * static_cast<double>(1 + links.size())});
    devices_.back()->core().ReportLinks(std::move(links), stage_.instant());
    devices_.back()->Apply();
  }
}

World::~World() {
  stage_.Clear();  // holds streams, whose outboxes count into metrics
}

SimGoad* World::At(const std::string&) { return goads_.front().get(); }

void World::AskOne() {
  SimDevice& device = *devices_[stage_.random() % devices_.size()];
  goad::Query query;
  query.uncertainty = std::uniform_real_distribution<double>(0, 1)(stage_.random);
  query.prompt = "why?";
  if (stage_.Chance(0.4)) {
    query.prompt.clear();
    const bool image = stage_.Chance(0.3);
    query.messages_json = {
        absl::StrCat(R"({"role":"user","content":[{"type":"text","text":"a chat"})",
                     image ? R"(,{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}})" : "", "]}")};
    if (stage_.Chance(0.3)) query.options_json = R"({"tools":[{"type":"function"}]})";
  }
  query.prompt_tokens = 5;
  query.max_output_tokens = 8;
  query.local_delay = stage_.Between(0, 200);
  if (stage_.Chance(0.2)) query.deadline = stage_.Between(10, 400);
  ++asked_;
  if (stage_.Chance(0.3)) return AskBesideLocalModel(device, std::move(query));
  auto answers = std::make_shared<int>(0);
  AskCallbacks callbacks;
  callbacks.on_done = [this, answers](const Answer& answer) {
    if (++*answers > 1) stage_.Broken("a caller was answered twice");
    CountAnswer(answer);
  };
  const std::string id = device.core().Ask(std::move(query), std::move(callbacks), {}, stage_.instant());
  device.Apply();
  if (stage_.Chance(stage_.faults.cancel)) {
    stage_.At(stage_.Between(0, 60), [this, &device, id] {
      device.core().Cancel(id, stage_.instant());
      device.Apply();
    });
  }
  if (stage_.Chance(stage_.faults.jump)) jump_ = stage_.Between(0, 3000);
  SimGoad& goad = *goads_.front();
  if (stage_.Chance(stage_.faults.reload)) {
    Config next = goad.config();
    next.policy.tau = stage_.Chance(0.5) ? 0.3 : 0.9;
    next.policy.name = stage_.Chance(0.5) ? "goa" : "all-edge";
    goad.Apply(std::move(next), false);
  }
  if (stage_.Chance(stage_.faults.sites)) ChangeSites(goad);
}

void World::CountAnswer(const Answer& answer) {
  ++answered_;
  answer.source == Answer::Source::kEdge ? ++edge_ : ++why_local_[answer.why_local];
  if (answer.source == Answer::Source::kEdge && answer.text.size() % 4 != 0)
    stage_.Broken("text is damaged: " + answer.text);
}

void World::ChangeSites(SimGoad& goad) {
  ++site_changes_;
  Config next = goad.config();
  if (stage_.Chance(0.4)) {
    const SiteConfig& site = next.sites[stage_.random() % next.sites.size()];
    const std::string name = site.name;
    const std::string backend = stage_.Chance(0.5) ? "" : absl::StrCat(stage_.random() % site.backends.size());
    if (SetDrained(name, backend, stage_.Chance(0.5), &next).ok()) goad.Apply(std::move(next), true);
    return;
  }
  next.sites.clear();
  while (next.sites.empty()) {
    for (const char* name : kSiteNames) {
      if (!stage_.Chance(0.25)) continue;
      const int slots = 1 + static_cast<int>(stage_.random() % 3);
      next.sites.push_back(MakeSite(name, 1 + static_cast<int>(stage_.random() % 3), slots));
    }
  }
  std::shuffle(next.sites.begin(), next.sites.end(), stage_.random);
  places_reused_ += goad.ChangeSites(std::move(next));
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

std::string World::Run(int queries) {
  for (int q = 0; q < queries; ++q) stage_.At(stage_.Between(0, 3.0 * queries), [this] { AskOne(); });
  if (stage_.Chance(stage_.faults.drain)) {
    stage_.At(stage_.Between(0, 3.0 * queries), [this] { goads_.front()->Drain(absl::Seconds(1), absl::Seconds(2)); });
  }
  const MonotonicTime last = stage_.now + absl::Milliseconds(3.0 * queries) + absl::Seconds(60) +
                             stage_.faults.jump * queries * absl::Seconds(3);
  for (;;) {
    Settle();
    bool idle = true;
    for (const auto& goad : goads_) {
      goad->Check();
      idle &= goad->idle();
    }
    if (!stage_.broken().empty()) return absl::StrCat(stage_.broken(), " at ", absl::FormatDuration(stage_.instant()));
    if (asked_ == queries && answered_ == asked_ && idle) break;
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
  int lost_streams = 0;
  for (const auto& device : devices_) lost_streams += device->lost_streams();
  std::string text = absl::StrCat(asked_, " asked, ", edge_, " edge, ", lost_streams, " streams lost, ", site_changes_,
                                  " changes of sites, ", places_reused_, " places given to another; local:");
  for (const auto& [why, count] : why_local_) absl::StrAppend(&text, " ", why, "=", count);
  return text;
}

}  // namespace goad::server
