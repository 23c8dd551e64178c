#ifndef GOAD_CLIENT_SDK_SRC_INSTANT_H_
#define GOAD_CLIENT_SDK_SRC_INSTANT_H_

#include "absl/time/time.h"

namespace goad::internal {

using Instant = absl::Duration;  // on a monotonic clock, since an arbitrary origin

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_INSTANT_H_
