// Seeded runs of the whole system in virtual time. A failure prints its seed; GOAD_SIM_SEED=N replays one run of the
// fault mix that is named with it, GOAD_SIM_RUNS=N makes more runs.
#include <cstdlib>
#include <iostream>

#include "gtest/gtest.h"
#include "spdlog/spdlog.h"
#include "tests/simulation/mix.h"

namespace goad::server {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

void RunSeeds(const Faults& faults) {
  spdlog::set_level(spdlog::level::off);
  const uint64_t one = FromEnvironment("GOAD_SIM_SEED", 0);
  const uint64_t runs = one != 0 ? 1 : FromEnvironment("GOAD_SIM_RUNS", 20);
  for (uint64_t k = 0; k < runs; ++k) {
    const uint64_t seed = one != 0 ? one : k + 1;
    Mix mix(seed, 8, faults);
    const std::string broken = mix.Run(300);
    ASSERT_EQ(broken, "") << "GOAD_SIM_SEED=" << seed << " (" << mix.Counts() << ")";
    if (k == 0) std::cout << "seed " << seed << ": " << mix.Counts() << "\n";
  }
}

TEST(Simulation, Calm) { RunSeeds({}); }
TEST(Simulation, LostStreams) { RunSeeds({.lose_stream = 0.05}); }
TEST(Simulation, LatePrompts) { RunSeeds({.late_prompt = 0.5}); }
TEST(Simulation, Cancels) { RunSeeds({.cancel = 0.5}); }
TEST(Simulation, DyingBackends) { RunSeeds({.bad_backend_answer = 0.4, .kill_backend = 0.02}); }
TEST(Simulation, StalledReaders) { RunSeeds({.stall = 0.05}); }
TEST(Simulation, StalledReadersWithTinyQueues) { RunSeeds({.stall = 0.05, .tiny_queues = true}); }
TEST(Simulation, FramesTwice) { RunSeeds({.lose_stream = 0.01, .duplicate = 0.3}); }
TEST(Simulation, JumpingClock) { RunSeeds({.late_prompt = 0.1, .jump = 0.05}); }
TEST(Simulation, DrainInTheMiddle) { RunSeeds({.bad_backend_answer = 0.1, .late_prompt = 0.1, .drain = 1}); }
TEST(Simulation, SitesComeAndGo) { RunSeeds({.bad_backend_answer = 0.05, .late_prompt = 0.1, .sites = 0.2}); }
TEST(Simulation, GoadsDie) { RunSeeds({.lose_stream = 0.01, .late_prompt = 0.1, .goads = 3, .kill = 0.03}); }
TEST(Simulation, DevicesMove) { RunSeeds({.late_prompt = 0.1, .drain = 1, .goads = 3, .move = 0.1}); }
TEST(Simulation, EverythingAtOnce) {
  RunSeeds({.lose_stream = 0.02,
            .bad_backend_answer = 0.2,
            .kill_backend = 0.01,
            .late_prompt = 0.1,
            .cancel = 0.1,
            .reload = 0.05,
            .sites = 0.05,
            .stall = 0.01,
            .duplicate = 0.05,
            .jump = 0.005,
            .drain = 0.2});
}
TEST(Simulation, EverythingAtOnceWithSeveralGoads) {
  RunSeeds({.lose_stream = 0.02,
            .bad_backend_answer = 0.2,
            .kill_backend = 0.01,
            .late_prompt = 0.1,
            .cancel = 0.1,
            .reload = 0.05,
            .sites = 0.05,
            .stall = 0.01,
            .duplicate = 0.05,
            .jump = 0.005,
            .drain = 0.5,
            .goads = 3,
            .kill = 0.01,
            .move = 0.05});
}

}  // namespace
}  // namespace goad::server
