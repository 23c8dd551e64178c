// A few devices that hear every site, and faults at every boundary, by chance.
#ifndef GOAD_TESTS_SIMULATION_MIX_H_
#define GOAD_TESTS_SIMULATION_MIX_H_

#include <string>
#include <vector>

#include "tests/simulation/world.h"

namespace goad::server {

class Mix {
 public:
  Mix(uint64_t seed, int devices, const Faults& faults);

  // Asks `queries` questions spread over time, then runs until everything is quiet. Empty = every invariant held.
  std::string Run(int queries);
  std::string Counts() const;

 private:
  size_t Which();  // of the goads, by chance
  void AskOne();
  void ChangeSites();
  // The processes: one goad only drains, and nothing comes after it; of several, each is started again.
  void Drain();
  void Kill(size_t goad);
  void Move(size_t device);
  void Report(size_t device);  // what it hears; of several goads, again and again

  World world_;
  Stage& stage_;
  std::vector<size_t> hears_;  // of each device: the goad whose sites it hears
  int asked_ = 0, site_changes_ = 0, places_reused_ = 0, kills_ = 0, moves_ = 0;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_MIX_H_
