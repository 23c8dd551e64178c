// 2,000 devices roam over the 20 sites of three goads. A failure prints its seed; GOAD_SIM_SEED=N replays one run,
// GOAD_ROAM_RUNS=N makes more of them.
#include "tests/simulation/roaming.h"

#include <cstdlib>
#include <iostream>

#include "gtest/gtest.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

TEST(Roaming, EveryQuestionHasOneAnswerAndEveryDeviceAGoad) {
  spdlog::set_level(spdlog::level::off);
  const uint64_t one = FromEnvironment("GOAD_SIM_SEED", 0);
  const uint64_t runs = one != 0 ? 1 : FromEnvironment("GOAD_ROAM_RUNS", 2);
  for (uint64_t k = 0; k < runs; ++k) {
    const uint64_t seed = one != 0 ? one : k + 1;
    Roaming city(seed);
    std::cout << "seed " << seed << ", sites: " << city.Sites() << "\n";
    const std::string broken = city.Run();
    std::cout << city.Figures() << "\n";
    ASSERT_EQ(broken, "") << "GOAD_SIM_SEED=" << seed;
  }
}

}  // namespace
}  // namespace goad::server
