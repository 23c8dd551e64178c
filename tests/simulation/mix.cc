#include "tests/simulation/mix.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/config/place.h"

namespace goad::server {
namespace {

constexpr const char* kSiteNames[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};

// Sites of several goads have different names.
std::string NameAt(size_t goad, const std::string& name) { return goad == 0 ? name : absl::StrCat(name, "-", goad); }
std::string AddressOf(size_t goad) { return absl::StrCat("goad-", goad, ":7443"); }

}  // namespace

Mix::Mix(uint64_t seed, int devices, const Faults& faults) : world_(seed, faults), stage_(world_.stage()) {
  const auto goads = static_cast<size_t>(faults.goads);
  for (size_t g = 0; g < goads; ++g) {
    std::vector<SiteConfig> sites;
    for (const char* name : {"a", "b"}) sites.push_back(MakeSite(NameAt(g, name), 2, 2));
    Config config = MakeConfig(std::move(sites));
    for (size_t other = 0; other < goads; ++other) {
      if (other == g) continue;
      NeighbourConfig& neighbour = config.neighbours.emplace_back();
      neighbour.address = AddressOf(other);
      for (const char* name : kSiteNames) neighbour.sites.push_back(NameAt(other, name));
    }
    world_.AddGoad(AddressOf(g), std::move(config));
  }
  for (int d = 0; d < devices; ++d) {
    const auto home = static_cast<size_t>(d) % goads;
    ClientOptions options;
    options.address = AddressOf(home);
    for (size_t g = 1; g < goads; ++g) options.other_addresses.push_back(AddressOf((home + g) % goads));
    options.device_name = absl::StrCat("device-", d);
    options.answer_budget = absl::Seconds(5);
    options.return_after = absl::Seconds(1);
    world_.AddDevice(options);
    hears_.push_back(home);
    Report(static_cast<size_t>(d));
  }
}

void Mix::Report(size_t d) {
  SimDevice& device = world_.device(d);
  std::vector<Link> links;
  for (const char* name : kSiteNames) {
    links.push_back({.site = NameAt(hears_[d], name), .uplink_bps = 1e6 * static_cast<double>(1 + links.size())});
  }
  device.core().ReportLinks(std::move(links), stage_.instant());
  device.Apply();
  if (world_.goads() > 1) stage_.At(absl::Milliseconds(500), [this, d] { Report(d); });
}

size_t Mix::Which() { return world_.goads() > 1 ? stage_.random() % world_.goads() : 0; }

void Mix::AskOne() {
  const size_t d = stage_.random() % world_.devices();
  SimDevice& device = world_.device(d);
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
  if (world_.goads() > 1) {
    if (stage_.Chance(stage_.faults.kill)) Kill(Which());
    if (stage_.Chance(stage_.faults.move)) Move(d);
  }
  if (stage_.Chance(0.3)) return world_.AskBesideLocalModel(device, std::move(query));
  const std::string id = world_.Ask(device, std::move(query));
  if (stage_.Chance(stage_.faults.cancel)) {
    stage_.At(stage_.Between(0, 60), [this, &device, id] {
      device.core().Cancel(id, stage_.instant());
      device.Apply();
    });
  }
  if (stage_.Chance(stage_.faults.jump)) world_.Jump(stage_.Between(0, 3000));
  if (stage_.Chance(stage_.faults.reload)) {
    SimGoad& goad = world_.goad(Which());
    Config next = goad.config();
    next.policy.tau = stage_.Chance(0.5) ? 0.3 : 0.9;
    next.policy.name = stage_.Chance(0.5) ? "goa" : "all-edge";
    goad.Apply(std::move(next), false);
  }
  if (stage_.Chance(stage_.faults.sites)) ChangeSites();
}

void Mix::ChangeSites() {
  ++site_changes_;
  const size_t which = Which();
  SimGoad& goad = world_.goad(which);
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
      next.sites.push_back(MakeSite(NameAt(which, name), 1 + static_cast<int>(stage_.random() % 3), slots));
    }
  }
  std::shuffle(next.sites.begin(), next.sites.end(), stage_.random);
  places_reused_ += goad.ChangeSites(std::move(next));
}

void Mix::Drain() {
  const size_t which = Which();
  SimGoad& goad = world_.goad(which);
  if (goad.killed()) return;
  goad.Drain(absl::Seconds(1), absl::Seconds(2));
  if (world_.goads() == 1) return;
  stage_.At(absl::Seconds(2) + stage_.Between(0, 100), [this, which, &goad] {
    if (&world_.goad(which) == &goad) Kill(which);
  });
}

void Mix::Kill(size_t goad) {
  if (world_.goad(goad).killed()) return;
  ++kills_;
  world_.goad(goad).Kill();
  stage_.At(stage_.Between(0, 2000), [this, goad] { world_.Start(goad); });
}

// What it heard of other goads' sites grows old.
void Mix::Move(size_t d) {
  ++moves_;
  hears_[d] = Which();
}

std::string Mix::Run(int queries) {
  // With several goads, long enough that devices come from one to the other.
  const double length_ms = (world_.goads() > 1 ? 50.0 : 3.0) * queries;
  for (int q = 0; q < queries; ++q) stage_.At(stage_.Between(0, length_ms), [this] { AskOne(); });
  if (stage_.Chance(stage_.faults.drain)) stage_.At(stage_.Between(0, length_ms), [this] { Drain(); });
  const MonotonicTime last =
      stage_.now + absl::Milliseconds(length_ms) + absl::Seconds(60) + stage_.faults.jump * queries * absl::Seconds(3);
  return world_.RunUntil([&] { return asked_ == queries; }, last);
}

std::string Mix::Counts() const {
  return absl::StrCat(world_.Counts(), "; ", site_changes_, " changes of sites, ", places_reused_,
                      " places given to another, ", kills_, " goads ended, ", moves_, " moves");
}

}  // namespace goad::server
