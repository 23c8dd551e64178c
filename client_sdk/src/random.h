// What chance is for here. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_RANDOM_H_
#define GOAD_CLIENT_SDK_SRC_RANDOM_H_

#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace goad::internal {

inline double RandomShare(std::mt19937_64& random) {  // 0..1, without 1
  return static_cast<double>(random() >> 11) * 0x1p-53;
}

// RFC 4122, version 4.
inline std::string RandomUuid(std::mt19937_64& random) {
  const uint64_t high = (random() & ~0xF000ull) | 0x4000ull;
  const uint64_t low = (random() & ~(3ull << 62)) | (2ull << 62);
  const std::string hex = absl::StrCat(absl::Hex(high, absl::kZeroPad16), absl::Hex(low, absl::kZeroPad16));
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_RANDOM_H_
