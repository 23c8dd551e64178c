// A city: sites of several goads on a map, devices that walk over it, report the sites that they hear and ask, while
// one goad is killed and another one drained, and both come back. Beside what holds in every World: a device that hears
// sites of a goad that serves is with such a goad, within seconds; and nobody is overrun by those who come.
#ifndef GOAD_TESTS_SIMULATION_ROAMING_H_
#define GOAD_TESTS_SIMULATION_ROAMING_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/simulation/world.h"

namespace goad::server {

class Roaming {
 public:
  explicit Roaming(uint64_t seed);

  std::string Run();          // empty = all of it held
  std::string Sites() const;  // where they are
  std::string Figures() const;

 private:
  struct Spot {
    double x_m = 0, y_m = 0;
  };
  struct Walker {
    SimDevice* device = nullptr;  // null: not switched on yet
    Spot at, to;
    double speed_m_s = 0;
    uint32_t hears = 0;  // goads whose sites it hears, a bit each
    size_t home = kNone;
    // Since when it hears a goad that serves and is with none of these; infinite: it does not, or is.
    absl::Duration astray_since = absl::InfiniteDuration();
    bool of_returned = false;  // all of these came back lately, and it may not have heard of that
  };
  static constexpr size_t kNone = SIZE_MAX;

  void PlaceSites();
  void AddWalkers();
  void Walk(size_t walker);
  void Ask(size_t walker);
  void Look();  // at everybody, every 100 ms
  void LookAt(Walker& walker, uint32_t serving);
  void Faults();
  void Begin(const char* phase, size_t goad);
  uint32_t Serving() const;  // goads that take queries, a bit each
  size_t HomeOf(const Walker& walker) const;
  Spot Anywhere();
  struct Phase {  // from a fault, or the end of one, to the next
    const char* name;
    absl::Duration begin;
    size_t devices;  // that were with the goad when it was killed or drained
  };
  // Streams opened to one goad within one window of this length, at the most.
  size_t Peak(size_t phase, absl::Duration window) const;
  std::string Herd() const;  // empty = nobody was overrun
  struct AtRest {
    size_t hear = 0, with = 0;  // devices that hear some goad, and that are with such a one
    size_t streams = 0;         // of all
  };
  AtRest Rest() const;

  World world_;
  Stage& stage_;
  std::vector<Spot> sites_;
  std::vector<size_t> goad_of_;  // each site's
  std::vector<Walker> walkers_;
  size_t killed_, drained_;
  std::vector<absl::Duration> serves_since_;  // each goad; infinite: it does not
  std::vector<Phase> phases_;
  int moves_ = 0;
  absl::Duration longest_astray_, longest_return_;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_ROAMING_H_
