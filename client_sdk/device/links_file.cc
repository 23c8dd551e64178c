#include "client_sdk/device/links_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client_sdk/openai/json_text.h"

namespace goad::device {
namespace {

constexpr size_t kMostBytes = 64 << 10, kMostLinks = 64;

}  // namespace

absl::StatusOr<std::vector<Link>> ReadLinksFile(const std::string& path) {
  const auto bad = [&](absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what)); };
  struct stat about = {};
  if (stat(path.c_str(), &about) != 0 || !S_ISREG(about.st_mode)) return absl::NotFoundError(path + ": no such file");
  std::ifstream in(path, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (const absl::Status bounded = openai::CheckJson(text, kMostBytes, 4); !bounded.ok())
    return bad(std::string(bounded.message()));
  const auto list = nlohmann::json::parse(text, nullptr, false);
  if (!list.is_array() || list.size() > kMostLinks)
    return bad(absl::StrCat("is no JSON list of at most ", kMostLinks, " links"));
  std::vector<Link> links;
  for (size_t k = 0; k < list.size(); ++k) {
    Link link;
    link.age = absl::Seconds(std::clamp<double>(std::difftime(std::time(nullptr), about.st_mtime), 0, 3600));
    for (const auto& [field, value] : list[k].items()) {
      std::optional<double>* const to = field == "gain_db"         ? &link.gain_db
                                        : field == "rsrp_dbm"      ? &link.rsrp_dbm
                                        : field == "uplink_snr_db" ? &link.uplink_snr_db
                                        : field == "uplink_bps"    ? &link.uplink_bps
                                                                   : nullptr;
      if (field == "site" && value.is_string()) {
        link.site = value.get<std::string>();
      } else if (to != nullptr && value.is_number()) {
        *to = value.get<double>();
      } else {
        return bad(absl::StrCat("link ", k + 1, ": ", field.substr(0, 40),
                                ": want \"site\" and a number as gain_db, rsrp_dbm, uplink_snr_db or uplink_bps"));
      }
    }
    links.push_back(std::move(link));
  }
  return links;
}

}  // namespace goad::device
