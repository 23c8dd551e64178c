#include "server/config/config_files.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/base/read_file.h"
#include "server/calibration/calibration_file.h"
#include "server/config/certificates.h"

namespace goad::server {
namespace {

constexpr size_t kMostPem = 4 << 20;  // of certificates
constexpr size_t kMostKeyPem = 64 << 10;
constexpr size_t kMostApiKey = 8 << 10;  // what HTTP servers take of a header
constexpr size_t kMostTokens = 16 << 20;

// Why a key will not be what its server expects, or "".
std::string KeyProblem(const std::string& key) {
  constexpr char kQuotes[] = "\"'`{}";
  const bool quoted = std::string_view(kQuotes).find(key.front()) != std::string_view::npos ||
                      std::string_view(kQuotes).find(key.back()) != std::string_view::npos;
  if (quoted) return "the key has quotes around it; want the key and nothing else";
  // A line of an environment file. Keys in base 64 end in =.
  const size_t equals = key.find('=');
  if (equals == std::string::npos || key.find_first_not_of('=', equals) == std::string::npos) return "";
  const std::string name = absl::AsciiStrToLower(key.substr(0, equals));
  const bool is_name =
      std::all_of(name.begin(), name.end(), [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-'; });
  if (!is_name || (!absl::StrContains(name, "key") && !absl::StrContains(name, "token"))) return "";
  return "the key looks like NAME=KEY; want the key and nothing else";
}

// Reads the files and collects what is wrong with them.
class Reader {
 public:
  explicit Reader(Config* config) : config_(config) {}

  // False, and the problem noted, when it cannot be read. A byte order mark is no part of the text.
  bool Text(const std::string& field, const std::string& path, size_t most, std::string* out) {
    absl::StatusOr<std::string> text = ReadFile(path, most);
    if (!text.ok()) return Bad(field, std::string(text.status().message()));
    if (read_.insert(path).second) config_->files.push_back(Loaded(path, *text));  // one key, many backends
    *out = *std::move(text);
    if (absl::StartsWith(*out, "\xef\xbb\xbf")) out->erase(0, 3);
    return true;
  }
  bool Bad(const std::string& field, std::string message) {
    problems.push_back({field, std::move(message)});
    return false;
  }
  bool Bundle(const std::string& field, const std::string& path, std::string* out) {
    if (!Text(field, path, kMostPem, out)) return false;
    std::vector<std::string> warnings;
    if (const std::string problem = BundleProblem(*out, now_, &warnings); !problem.empty()) {
      return Bad(field, absl::StrCat(path, ": ", problem));
    }
    Warn(field, path, warnings);
    return true;
  }

  void Tls(TlsConfig& tls) {
    if (tls.certificate.empty() || tls.key.empty()) return;  // the validator knows what to say
    const bool certificate = Text("listen.tls.certificate", tls.certificate, kMostPem, &tls.certificate_pem);
    const bool key = Text("listen.tls.key", tls.key, kMostKeyPem, &tls.key_pem);
    if (certificate && key) {
      std::vector<std::string> warnings;
      const std::string problem = PairProblem(tls.certificate_pem, tls.key_pem, now_, &warnings, &tls.expires);
      if (const size_t colon = problem.find(": "); colon != std::string::npos) {  // "certificate: " or "key: "
        const std::string which = problem.substr(0, colon);
        Bad(absl::StrCat("listen.tls.", which),
            absl::StrCat(which == "key" ? tls.key : tls.certificate, problem.substr(colon)));
      }
      Warn("listen.tls.certificate", tls.certificate, warnings);
    }
    if (!tls.client_ca.empty()) Bundle("listen.tls.client_ca", tls.client_ca, &tls.client_ca_pem);
    std::string crl;
    if (tls.crl.empty() || tls.client_ca_pem.empty() || !Text("listen.tls.crl", tls.crl, kMostPem, &crl)) return;
    std::vector<std::string> warnings;
    if (const std::string problem = CrlProblem(crl, tls.client_ca_pem, now_, &warnings, &tls.revoked);
        !problem.empty()) {
      Bad("listen.tls.crl", absl::StrCat(tls.crl, ": ", problem));
    }
    std::sort(tls.revoked.begin(), tls.revoked.end());
    Warn("listen.tls.crl", tls.crl, warnings);
  }

  void Tokens(AuthConfig& auth) {
    std::string text;
    if (auth.tokens_file.empty() || !Text("auth.tokens_file", auth.tokens_file, kMostTokens, &text)) return;
    int number = 0;
    for (absl::string_view row : absl::StrSplit(text, '\n')) {
      ++number;
      std::string line(absl::StripAsciiWhitespace(row));
      if (line.empty() || line[0] == '#') continue;
      const size_t colon = line.rfind(':');
      const std::string hex = colon == std::string::npos ? "" : line.substr(colon + 1);
      if (hex.size() != 64 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
        Bad("auth.tokens_file",
            absl::StrCat(auth.tokens_file, ":", number, ": want TENANT:HEX, HEX the 64 digits of a token's SHA-256"));
        return;
      }
      auth.tokens.push_back({line.substr(0, colon), absl::HexStringToBytes(hex)});
    }
  }

  // Ranges are the validator's, which says more of what is out of them.
  void Calibrate(PolicyConfig& policy, const std::vector<std::string>& kinds) {
    const std::string& path = policy.calibration_file;
    std::string text;
    if (path.empty() || !Text("policy.calibration", path, kMostCalibrationBytes, &text)) return;
    const absl::StatusOr<Calibration> read = ReadCalibration(text);
    if (!read.ok()) {
      Bad("policy.calibration", absl::StrCat(path, ": ", std::string(read.status().message())));
      return;
    }
    policy.curves = std::make_shared<const calibration::Curves>(read->curves);
    std::set<std::string> unknown;
    for (const calibration::Curve& curve : read->curves) {
      if (!curve.kind.empty() && std::count(kinds.begin(), kinds.end(), curve.kind) == 0) unknown.insert(curve.kind);
    }
    if (!unknown.empty()) {
      Warn("policy.calibration", path,
           {absl::StrCat("has curves for ", unknown.size(), " kinds that are not in kinds (", *unknown.begin(),
                         unknown.size() > 1 ? ", ..." : "", "): no question can be of them")});
    }
    if (!policy.accuracy || !InRange(*policy.accuracy, kLeastAccuracy, kMostAccuracy) ||
        !InRange(policy.confidence, kLeastConfidence, kMostConfidence)) {
      return;
    }
    const calibration::Evidence& evidence = read->evidence;
    if (evidence.steps.empty()) {
      Bad("policy.accuracy",
          absl::StrCat(*policy.accuracy, " cannot be certified: the labels of ", path,
                       " do not say whether the edge is right (edge_correct); give value_tau instead"));
      return;
    }
    policy.certificate = calibration::Certify(evidence, *policy.accuracy, policy.confidence);
    if (policy.certificate) return;
    const double best = calibration::BoundOf(evidence, evidence.steps[0], policy.confidence);
    Bad("policy.accuracy",
        absl::StrCat(*policy.accuracy, " is held by no tau with confidence ", policy.confidence, " as far as the ",
                     evidence.labels, " labels of ", path, " say; the best is ", std::floor(best * 1e4) / 1e4));
  }

  void Backend(const std::string& path, BackendConfig& backend) {
    if (!backend.api_key_file.empty()) ApiKey(path + ".api_key_file", backend);
    if (backend.ca_file.empty()) return;
    const auto [found, first] = bundles_.try_emplace(backend.ca_file);  // one file, many backends: read once
    if (first) {
      std::string pem;
      if (Bundle(path + ".ca_file", backend.ca_file, &pem))
        found->second = std::make_shared<const std::string>(std::move(pem));
    }
    backend.ca_pem = found->second;
  }

  std::vector<ConfigProblem> problems;

 private:
  static bool InRange(double value, double least, double most) { return value >= least && value <= most; }
  void ApiKey(const std::string& field, BackendConfig& backend) {
    std::string key;
    if (!Text(field, backend.api_key_file, kMostApiKey, &key)) return;
    absl::StripAsciiWhitespace(&key);
    if (key.empty()) {
      Bad(field, absl::StrCat(backend.api_key_file, ": is empty"));
      return;
    }
    for (size_t k = 0; k < key.size(); ++k) {  // it becomes a line of a request's head
      if (key[k] > ' ' && key[k] < 127) continue;
      Bad(field, absl::StrCat(backend.api_key_file, ": byte ", k + 1,
                              " of the key is a blank, a line end, a control character or beyond "
                              "ASCII; want one key and nothing else"));
      return;
    }
    if (const std::string problem = KeyProblem(key); !problem.empty()) {
      Bad(field, absl::StrCat(backend.api_key_file, ": ", problem));
      return;
    }
    backend.api_key = std::move(key);
  }
  void Warn(const std::string& field, const std::string& path, const std::vector<std::string>& warnings) {
    for (const std::string& warning : warnings)
      config_->warnings.push_back(absl::StrCat(field, ": ", path, ": ", warning));
  }

  Config* const config_;
  std::set<std::string> read_;
  const absl::Time now_ = absl::Now();  // certificates live by the wall clock
  std::map<std::string, std::shared_ptr<const std::string>> bundles_;
};

}  // namespace

std::vector<ConfigProblem> ReadConfigFiles(Config* config) {
  Reader reader(config);
  reader.Tls(config->listen.tls);
  reader.Tokens(config->auth);
  reader.Calibrate(config->policy, config->kinds);
  for (size_t j = 0; j < config->sites.size(); ++j) {
    for (size_t b = 0; b < config->sites[j].backends.size(); ++b) {
      reader.Backend(absl::StrCat("sites[", j, "].backends[", b, "]"), config->sites[j].backends[b]);
    }
  }
  return std::move(reader.problems);
}

LoadedFile Loaded(const std::string& path, const std::string& text) {
  return {path, std::hash<std::string_view>()(text)};
}

std::string DifferenceOfFiles(const Config& config) {
  std::vector<std::string> differences;
  for (const LoadedFile& file : config.files) {
    const absl::StatusOr<std::string> text = ReadFile(file.path);
    if (!text.ok()) {
      differences.emplace_back(text.status().message());
    } else if (Loaded(file.path, *text).hash != file.hash) {
      differences.push_back(absl::StrCat(file.path, " has changed"));
    }
  }
  return absl::StrJoin(differences, "; ");
}

}  // namespace goad::server
