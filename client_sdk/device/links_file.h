// The radio links of this device, as whatever reads the modem writes them: a JSON list of
// {"site": NAME, and one of "gain_db", "rsrp_dbm", "uplink_snr_db", "uplink_bps"}.
#ifndef GOAD_CLIENT_SDK_DEVICE_LINKS_FILE_H_
#define GOAD_CLIENT_SDK_DEVICE_LINKS_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "goad/query.h"

namespace goad::device {

// At most 64 KiB and 64 links; their age is the file's. Errors name the file and the place. Ranges are the client's to
// check.
absl::StatusOr<std::vector<Link>> ReadLinksFile(const std::string& path);

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_LINKS_FILE_H_
