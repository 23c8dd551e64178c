// The median of measured values. Pure.
#ifndef GOAD_SERVER_BASE_MEDIAN_H_
#define GOAD_SERVER_BASE_MEDIAN_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace goad::server {

// The upper one of two. Leaves `values`, which are not empty, in another order.
inline double MedianOf(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_MEDIAN_H_
