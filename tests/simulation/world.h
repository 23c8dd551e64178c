// Devices and goads in one thread and virtual time, all drawn from one seed. What must hold of one goad is in goad.h,
// of one device in device.h; here, that every question gets one answer, and that everything comes to rest.
#ifndef GOAD_TESTS_SIMULATION_WORLD_H_
#define GOAD_TESTS_SIMULATION_WORLD_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "goad/client.h"
#include "tests/simulation/device.h"
#include "tests/simulation/goad.h"
#include "tests/simulation/stage.h"

namespace goad::server {

SiteConfig MakeSite(const std::string& name, int backends, int slots);
Config MakeConfig(std::vector<SiteConfig> sites);  // with limits of some hundred milliseconds

class World {
 public:
  World(uint64_t seed, const Faults& faults) : stage_(seed, faults) {}
  ~World();

  void AddGoad(const std::string& address, Config config);
  void Start(size_t goad);  // REQUIRES: it was killed. As configured at first
  SimGoad& goad(size_t index) const { return *places_[index].running; }
  size_t goads() const { return places_.size(); }
  const std::string& address(size_t goad) const { return places_[goad].address; }
  // When devices opened streams to it, in order, whether anybody was there or not.
  const std::vector<absl::Duration>& opened(size_t goad) const { return places_[goad].opened; }

  SimDevice& AddDevice(const ClientOptions& options);
  SimDevice& device(size_t index) { return *devices_[index]; }
  size_t devices() const { return devices_.size(); }

  std::string Ask(SimDevice& device, goad::Query query);  // returns the id
  // As goad::Runtime does: a local model beside goad (question.cc).
  void AskBesideLocalModel(SimDevice& device, goad::Query query);
  void Jump(absl::Duration by) { jump_ = by; }

  // Until `over` says so and everything is quiet, or until `last`. Empty = every invariant held. It looks at the goads
  // at most once in `check_every`.
  std::string RunUntil(const std::function<bool()>& over, MonotonicTime last,
                       absl::Duration check_every = absl::ZeroDuration());
  std::string Counts() const;
  int asked() const { return asked_; }
  int answered() const { return answered_; }
  Stage& stage() { return stage_; }

 private:
  struct Question;
  struct Place {
    std::string address;
    Config config;
    SimGoad* running;  // killed, maybe
    std::vector<absl::Duration> opened;
  };

  void Settle();
  void Wake();
  void CountAnswer(const Answer& answer);

  Stage stage_;
  int asked_ = 0, answered_ = 0, edge_ = 0;
  std::map<std::string, int> why_local_;
  absl::Duration jump_;
  std::vector<Place> places_;
  std::vector<std::unique_ptr<SimGoad>> goads_;  // killed ones too
  std::vector<std::unique_ptr<SimDevice>> devices_;
  std::vector<absl::Duration> wake_;                     // of each device
  std::set<std::pair<absl::Duration, size_t>> wake_at_;  // the same, in order
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_WORLD_H_
