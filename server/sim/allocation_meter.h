// Counts what this program allocates, for the bytes column of `goad-sim bench`.
#ifndef GOAD_SERVER_SIM_ALLOCATION_METER_H_
#define GOAD_SERVER_SIM_ALLOCATION_METER_H_

#include <cstddef>

namespace goad {

// The most bytes that were allocated at once, beyond those live at the last call, since the last call. One thread.
size_t PeakBytesSinceLastCall();

}  // namespace goad

#endif  // GOAD_SERVER_SIM_ALLOCATION_METER_H_
