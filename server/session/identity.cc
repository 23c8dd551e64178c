#include "server/session/identity.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

// A leading "*." stands for one label (RFC 6125, 6.4.3).
bool Matches(const std::string& pattern, const std::string& name) {
  if (!absl::StartsWith(pattern, "*.")) return absl::EqualsIgnoreCase(pattern, name);
  const size_t dot = name.find('.');
  return dot != std::string::npos && dot > 0 && absl::EqualsIgnoreCase(pattern.substr(1), name.substr(dot));
}

const std::string* TenantOfCertificate(const Config& config, const std::vector<std::string>& names) {
  for (const TenantConfig& tenant : config.tenants) {
    for (const std::string& pattern : tenant.certificates) {
      for (const std::string& name : names) {
        if (Matches(pattern, name)) return &tenant.name;
      }
    }
  }
  return nullptr;
}

const std::string* TenantOfToken(const Config& config, const std::string& sha256) {
  const std::string* tenant = nullptr;
  for (const AuthConfig::Token& known : config.auth.tokens) {
    if (sha256.size() == known.sha256.size() && CRYPTO_memcmp(sha256.data(), known.sha256.data(), sha256.size()) == 0) {
      tenant = &known.tenant;
    }
  }
  return tenant;
}

}  // namespace

std::string ValidTraceparent(std::string_view value) {
  // 00-<32 hex>-<16 hex>-<2 hex>, lower case, neither id all zeros
  constexpr std::string_view kShape = "00-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
  if (value.size() != kShape.size()) return "";
  for (size_t k = 0; k < value.size(); ++k) {
    const bool good = kShape[k] == 'h' ? absl::ascii_isxdigit(static_cast<unsigned char>(value[k])) &&
                                             !absl::ascii_isupper(static_cast<unsigned char>(value[k]))
                                       : value[k] == kShape[k];
    if (!good) return "";
  }
  const auto zeros = [](std::string_view id) { return id.find_first_not_of('0') == std::string_view::npos; };
  return zeros(value.substr(3, 32)) || zeros(value.substr(36, 16)) ? "" : std::string(value);
}

std::string HashBearerToken(std::string_view authorization) {
  if (!absl::StartsWithIgnoreCase(absl::string_view(authorization.data(), authorization.size()), "Bearer ")) return "";
  authorization.remove_prefix(7);
  if (authorization.empty()) return "";
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(authorization.data()), authorization.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

absl::StatusOr<Caller> IdentifyCaller(const Config& config, const Credentials& credentials) {
  Caller caller;
  const std::vector<std::string>& revoked = config.listen.tls.revoked;
  if (std::binary_search(revoked.begin(), revoked.end(), credentials.certificate_serial)) {
    return absl::UnauthenticatedError("certificate: is revoked");
  }
  if (!credentials.certificate_names.empty()) {
    caller.identity = absl::StrCat("certificate ", credentials.certificate_names[0]);
    if (const std::string* tenant = TenantOfCertificate(config, credentials.certificate_names)) caller.tenant = *tenant;
  }
  if (credentials.token_sha256) {
    const std::string* tenant = TenantOfToken(config, *credentials.token_sha256);
    if (tenant == nullptr) return absl::UnauthenticatedError("the bearer token is not known here");
    caller.tenant = *tenant;
    if (caller.identity.empty()) caller.identity = absl::StrCat("token of ", *tenant);
  }
  if (caller.identity.empty() && config.auth.required) {
    return absl::UnauthenticatedError("want a bearer token or a client certificate");
  }
  return caller;
}

}  // namespace goad::server
