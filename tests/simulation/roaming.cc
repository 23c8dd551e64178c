#include "tests/simulation/roaming.h"

#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace goad::server {
namespace {

constexpr size_t kSitesOf[] = {7, 7, 6};  // from west to east
constexpr size_t kGoads = std::size(kSitesOf), kSites = 20, kDevices = 2000;
constexpr double kSide_m = 3000, kReach_m = 700;
constexpr absl::Duration kStep = absl::Seconds(1);         // of a walker, which then reports its links
constexpr absl::Duration kLook = absl::Milliseconds(100);  // between two looks at all of them
constexpr double kBetweenQuestions_ms = 8000;              // of one device, on average

// By the clock of a run.
constexpr absl::Duration kArrival = absl::Seconds(5);  // devices are switched on
constexpr absl::Duration kKilled = absl::Seconds(25), kStarted = absl::Seconds(45);
constexpr absl::Duration kDrained = absl::Seconds(75), kDrainTime = absl::Seconds(2), kResumed = absl::Seconds(90);
constexpr absl::Duration kEnd = absl::Seconds(125);

constexpr double kWalk_per_s = 100;  // streams opened to a goad by devices that walk: 5 % of all, every second

// What a device that hears a goad that serves may be without it.
constexpr absl::Duration kAstray = absl::Seconds(5);
constexpr absl::Duration kReturn = absl::Seconds(12);  // a goad that came back: backoff_most, and a step

std::string AddressOf(size_t goad) { return absl::StrCat("goad-", goad, ":7443"); }
std::string NameOf(size_t site) { return std::string(1, static_cast<char>('a' + site)); }

std::string Listed(uint32_t goads) {
  std::string text;
  for (size_t goad = 0; goad < kGoads; ++goad) {
    if ((goads >> goad & 1) != 0) absl::StrAppend(&text, " ", goad);
  }
  return text;
}

template <typename Spot>
double Distance_m(const Spot& a, const Spot& b) {
  return std::hypot(a.x_m - b.x_m, a.y_m - b.y_m);
}

Faults FaultsOfACity() {
  Faults faults;
  faults.lose_stream = 0.0005;
  faults.bad_backend_answer = 0.01;
  faults.goads = static_cast<int>(kGoads);
  return faults;
}

}  // namespace

Roaming::Roaming(uint64_t seed)
    : world_(seed, FaultsOfACity()),
      stage_(world_.stage()),
      killed_(stage_.random() % kGoads),
      drained_((killed_ + 1 + stage_.random() % (kGoads - 1)) % kGoads),
      serves_since_(kGoads, -absl::InfiniteDuration()) {
  PlaceSites();
  AddWalkers();
  Faults();
  stage_.At(kLook, [this] { Look(); });
}

Roaming::Spot Roaming::Anywhere() {
  std::uniform_real_distribution<double> side(0, kSide_m);
  const double x_m = side(stage_.random);
  return {x_m, side(stage_.random)};
}

// Each as far from the others as the best of ten draws; the goads have them from west to east.
void Roaming::PlaceSites() {
  const auto room = [this](const Spot& spot) {
    double least = 2 * kSide_m;
    for (const Spot& site : sites_) least = std::min(least, Distance_m(site, spot));
    return least;
  };
  while (sites_.size() < kSites) {
    Spot best = Anywhere();
    for (int draw = 1; draw < 10; ++draw) {
      if (const Spot spot = Anywhere(); room(spot) > room(best)) best = spot;
    }
    sites_.push_back(best);
  }
  std::sort(sites_.begin(), sites_.end(), [](const Spot& a, const Spot& b) { return a.x_m < b.x_m; });
  std::vector<std::vector<std::string>> names(kGoads);
  for (size_t goad = 0; goad < kGoads; ++goad) {
    for (size_t k = 0; k < kSitesOf[goad]; ++k) {
      names[goad].push_back(NameOf(goad_of_.size()));
      goad_of_.push_back(goad);
    }
  }
  for (size_t goad = 0; goad < kGoads; ++goad) {
    std::vector<SiteConfig> sites;
    for (const std::string& name : names[goad]) sites.push_back(MakeSite(name, 1, 16));
    Config config = MakeConfig(std::move(sites));
    config.dispatch.probe_period = absl::Seconds(1);
    for (size_t other = 0; other < kGoads; ++other) {
      if (other != goad) config.neighbours.push_back({AddressOf(other), names[other]});
    }
    world_.AddGoad(AddressOf(goad), std::move(config));
  }
}

// Their lists of goads begin anywhere: who set them up did not know where they would be.
void Roaming::AddWalkers() {
  walkers_.resize(kDevices);
  for (size_t w = 0; w < kDevices; ++w) {
    walkers_[w].at = Anywhere(), walkers_[w].to = Anywhere();
    walkers_[w].speed_m_s = std::uniform_real_distribution<double>(1, 30)(stage_.random);
    stage_.At(absl::ToDoubleSeconds(kArrival) * stage_.Between(0, 1000), [this, w] {
      ClientOptions options;
      options.device_name = absl::StrCat("device-", w);
      const size_t first = stage_.random() % kGoads;
      options.address = AddressOf(first);
      for (size_t g = 1; g < kGoads; ++g) options.other_addresses.push_back(AddressOf((first + g) % kGoads));
      walkers_[w].device = &world_.AddDevice(options);
      Walk(w);
      stage_.At(stage_.Between(0, 2 * kBetweenQuestions_ms), [this, w] { Ask(w); });
    });
  }
}

void Roaming::Walk(size_t w) {
  Walker& walker = walkers_[w];
  const double step_m = walker.speed_m_s * absl::ToDoubleSeconds(kStep), left_m = Distance_m(walker.at, walker.to);
  if (left_m <= step_m) {
    walker.at = std::exchange(walker.to, Anywhere());
  } else {
    walker.at.x_m += (walker.to.x_m - walker.at.x_m) * step_m / left_m;
    walker.at.y_m += (walker.to.y_m - walker.at.y_m) * step_m / left_m;
  }
  std::vector<Link> links;
  walker.hears = 0;
  for (size_t site = 0; site < kSites; ++site) {
    const double distance_m = Distance_m(walker.at, sites_[site]);
    if (distance_m > kReach_m) continue;
    walker.hears |= 1U << goad_of_[site];
    links.push_back({.site = NameOf(site), .uplink_bps = 30e6 / (1 + std::pow(distance_m / 250, 3))});
  }
  walker.device->core().ReportLinks(std::move(links), stage_.instant());
  walker.device->Apply();
  stage_.At(kStep, [this, w] { Walk(w); });
}

void Roaming::Ask(size_t w) {
  if (stage_.instant() >= kEnd) return;
  goad::Query query;
  query.uncertainty = std::uniform_real_distribution<double>(0, 1)(stage_.random);
  query.prompt = "why?";
  query.prompt_tokens = 5;
  query.max_output_tokens = 8;
  query.local_delay = stage_.Between(0, 200);
  world_.Ask(*walkers_[w].device, std::move(query));
  stage_.At(stage_.Between(0, 2 * kBetweenQuestions_ms), [this, w] { Ask(w); });
}

void Roaming::Begin(const char* phase, size_t goad) {
  const auto there =
      std::count_if(walkers_.begin(), walkers_.end(), [&](const Walker& walker) { return HomeOf(walker) == goad; });
  phases_.push_back({phase, stage_.instant(), static_cast<size_t>(there)});
}

void Roaming::Faults() {
  stage_.AtInstant(kKilled, [this] {
    Begin("killed", killed_);
    world_.goad(killed_).Kill();
    serves_since_[killed_] = absl::InfiniteDuration();
  });
  stage_.AtInstant(kStarted, [this] {
    world_.Start(killed_);
    serves_since_[killed_] = stage_.instant();
    phases_.push_back({"back", stage_.instant(), phases_.back().devices});
  });
  stage_.AtInstant(kDrained, [this] {
    Begin("drained", drained_);
    world_.goad(drained_).Drain(absl::Seconds(5), kDrainTime);
    serves_since_[drained_] = absl::InfiniteDuration();
  });
  stage_.AtInstant(kDrained + kDrainTime + absl::Milliseconds(100), [this] { world_.goad(drained_).Kill(); });
  stage_.AtInstant(kResumed, [this] {
    world_.Start(drained_);
    serves_since_[drained_] = stage_.instant();
    phases_.push_back({"back", stage_.instant(), phases_.back().devices});
  });
}

uint32_t Roaming::Serving() const {
  uint32_t serving = 0;
  for (size_t goad = 0; goad < kGoads; ++goad) {
    if (serves_since_[goad] < absl::InfiniteDuration()) serving |= 1U << goad;
  }
  return serving;
}

size_t Roaming::HomeOf(const Walker& walker) const {
  const SimGoad* const home = walker.device == nullptr ? nullptr : walker.device->home();
  for (size_t goad = 0; goad < kGoads; ++goad) {
    if (home == &world_.goad(goad)) return goad;
  }
  return kNone;
}

void Roaming::Look() {
  const uint32_t serving = Serving();
  for (Walker& walker : walkers_) {
    if (walker.device != nullptr) LookAt(walker, serving);
  }
  stage_.At(kLook, [this] { Look(); });
}

void Roaming::LookAt(Walker& walker, uint32_t serving) {
  const size_t home = HomeOf(walker);
  if (home != kNone && home != walker.home) {
    moves_ += walker.home != kNone;
    walker.home = home;
  }
  const uint32_t wanted = walker.hears & serving;
  if (wanted == 0 || (home != kNone && (wanted >> home & 1) != 0)) {
    walker.astray_since = absl::InfiniteDuration();
    return;
  }
  if (walker.astray_since == absl::InfiniteDuration()) {
    walker.astray_since = stage_.instant();
    walker.of_returned = true;
    for (size_t goad = 0; goad < kGoads; ++goad) {
      const bool lately = serves_since_[goad] > stage_.instant() - kReturn;
      walker.of_returned &= lately || (wanted >> goad & 1) == 0;
    }
  }
  const absl::Duration astray = stage_.instant() - walker.astray_since;
  absl::Duration& longest = walker.of_returned ? longest_return_ : longest_astray_;
  longest = std::max(longest, astray);
  if (astray > (walker.of_returned ? kReturn : kAstray)) {
    stage_.Broken(absl::StrCat(
        "device-", &walker - walkers_.data(), absl::StrFormat(" at (%.0f m, %.0f m)", walker.at.x_m, walker.at.y_m),
        " that hears goads", Listed(walker.hears), " is with ", home == kNone ? "none" : absl::StrCat(home),
        " while these serve:", Listed(serving), ", for ", absl::FormatDuration(astray)));
  }
}

std::string Roaming::Run() {
  const std::string broken = world_.RunUntil([&] { return stage_.instant() >= kEnd; },
                                             MonotonicTime::FromOrigin(kEnd + absl::Seconds(20)), kLook);
  if (!broken.empty()) return broken;
  if (std::string herd = Herd(); !herd.empty()) return herd;
  const AtRest rest = Rest();
  if (rest.with < rest.hear * 98 / 100) {  // the others are on their way
    return absl::StrCat("in the end ", rest.with, " of ", rest.hear, " devices are with a goad that they hear");
  }
  if (rest.streams > kDevices * 102 / 100) return absl::StrCat("in the end ", rest.streams, " streams are open");
  return "";
}

size_t Roaming::Peak(size_t phase, absl::Duration window) const {
  const absl::Duration end = phase + 1 < phases_.size() ? phases_[phase + 1].begin : kEnd;
  size_t most = 0;
  for (size_t goad = 0; goad < kGoads; ++goad) {
    const std::vector<absl::Duration>& opened = world_.opened(goad);
    auto first = std::lower_bound(opened.begin(), opened.end(), phases_[phase].begin);
    for (auto last = first; last != opened.end() && *last < end; ++last) {
      while (*first + window <= *last) ++first;
      most = std::max(most, static_cast<size_t>(last - first) + 1);
    }
  }
  return most;
}

// Who loses a goad comes to the next within half a second, evenly, and at once to one more when that one sends it on,
// so at worst all to the same one and twice as dense at the end: two fifths in 100 ms. Nobody knocks there twice in a
// second. Beside these come those who walk.
std::string Roaming::Herd() const {
  for (size_t phase = 0; phase < phases_.size(); ++phase) {
    const auto devices = static_cast<double>(phases_[phase].devices);
    const double most = devices + kWalk_per_s, most_in_100_ms = 0.4 * devices + kWalk_per_s / 10;
    const size_t peak = Peak(phase, absl::Seconds(1)), peak_in_100_ms = Peak(phase, absl::Milliseconds(100));
    if (static_cast<double>(peak) > most || static_cast<double>(peak_in_100_ms) > most_in_100_ms) {
      return absl::StrCat("a herd: ", phases_[phase].name, " with ", devices, " devices, and ", peak, " came in 1 s, ",
                          peak_in_100_ms, " in 100 ms; want at most ", most, ", ", most_in_100_ms);
    }
  }
  return "";
}

Roaming::AtRest Roaming::Rest() const {
  AtRest rest;
  for (const Walker& walker : walkers_) {
    const size_t home = HomeOf(walker);
    rest.hear += walker.hears != 0;
    rest.with += home != kNone && (walker.hears >> home & 1) != 0;
    rest.streams += walker.device->streams();
  }
  return rest;
}

std::string Roaming::Sites() const {
  std::string text;
  for (size_t site = 0; site < kSites; ++site) {
    absl::StrAppendFormat(&text, "%s%s goad-%d (%.0f m, %.0f m)", site == 0 ? "" : ", ", NameOf(site), goad_of_[site],
                          sites_[site].x_m, sites_[site].y_m);
  }
  return text;
}

std::string Roaming::Figures() const {
  std::string text =
      absl::StrCat(world_.Counts(), "\n  ", moves_, " moves; without a goad that it hears ",
                   absl::FormatDuration(longest_astray_), " at most, ", absl::FormatDuration(longest_return_),
                   " when that came back\n  streams opened to one goad at most in 1 s and 100 ms:");
  for (size_t phase = 0; phase < phases_.size(); ++phase) {
    absl::StrAppend(&text, " ", phases_[phase].name, " (", phases_[phase].devices, " devices) ",
                    Peak(phase, absl::Seconds(1)), " and ", Peak(phase, absl::Milliseconds(100)), ";");
  }
  const AtRest rest = Rest();
  absl::StrAppend(&text, "\n  in the end ", rest.with, " of ", rest.hear, " that hear a goad are with it, by ",
                  rest.streams, " streams of");
  for (size_t goad = 0; goad < kGoads; ++goad) absl::StrAppend(&text, " ", world_.opened(goad).size());
  return text;
}

}  // namespace goad::server
