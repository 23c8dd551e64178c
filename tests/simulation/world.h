// Devices, goads and all that goes wrong between them, in one thread and virtual time, drawn from one seed. What must
// hold of one goad is in goad.h, of one device in device.h; here, that every question gets one answer.
#ifndef GOAD_TESTS_SIMULATION_WORLD_H_
#define GOAD_TESTS_SIMULATION_WORLD_H_

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

class World {
 public:
  World(uint64_t seed, int devices, const Faults& faults);
  ~World();

  // Asks `queries` questions spread over time, then runs until everything is quiet. Empty = every invariant held.
  std::string Run(int queries);
  std::string Counts() const;

 private:
  struct Question;

  SimGoad* At(const std::string& address);
  void Settle();
  void Wake();
  void AskOne();
  // As goad::Runtime does: a local model beside goad (question.cc).
  void AskBesideLocalModel(SimDevice& device, goad::Query query);
  void CountAnswer(const Answer& answer);
  void ChangeSites(SimGoad& goad);

  Stage stage_;
  int site_changes_ = 0, places_reused_ = 0;
  int asked_ = 0, answered_ = 0, edge_ = 0;
  std::map<std::string, int> why_local_;
  absl::Duration jump_;
  std::vector<std::unique_ptr<SimGoad>> goads_;
  std::vector<std::unique_ptr<SimDevice>> devices_;
  std::vector<absl::Duration> wake_;                     // of each device
  std::set<std::pair<absl::Duration, size_t>> wake_at_;  // the same, in order
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_WORLD_H_
