// The numbers of the batching model that suit the roofline sites best: what --learn true tells the engine, and what
// the configured numbers are wrong about.
#ifndef GOAD_SERVER_SIM_RIGHT_NUMBERS_H_
#define GOAD_SERVER_SIM_RIGHT_NUMBERS_H_

#include <array>
#include <vector>

#include "server/config/config.h"

namespace goad::server {

// By site; before the first one becomes slower, and after.
using SiteNumbers = std::vector<std::array<ComputeConfig, 2>>;

struct ServiceSample {
  double prompt_tokens = 0, output_tokens = 0;
  double queries = 0;  // on its backend, mean over its life
  double seconds = 0;
};
using ServiceSamples = std::vector<std::array<std::vector<ServiceSample>, 2>>;

// What somebody would configure who measured each site by itself and in peace: fitted to prompts that wait for nobody
// and batches of every size.
SiteNumbers NumbersInPeace(size_t sites);

// Fitted to what queries took; where there are none, as in `otherwise`.
SiteNumbers NumbersOf(const ServiceSamples& samples, const SiteNumbers& otherwise);

// Says `factor` times as fast as `numbers`.
SiteNumbers Faster(SiteNumbers numbers, double factor);

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_RIGHT_NUMBERS_H_
