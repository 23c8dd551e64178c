#include "server/session/identity.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

bool Matches(const std::string& pattern, const std::string& name) {
  if (!absl::StartsWith(pattern, "*.")) return absl::EqualsIgnoreCase(pattern, name);
  return name.size() > pattern.size() - 1 && absl::EndsWithIgnoreCase(name, pattern.substr(1));
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

const std::string* TenantOfToken(const Config& config, const std::string& token) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest);
  const std::string* tenant = nullptr;
  for (const AuthConfig::Token& known : config.auth.tokens) {
    if (CRYPTO_memcmp(digest, known.sha256.data(), sizeof digest) == 0) tenant = &known.tenant;
  }
  return tenant;
}

}  // namespace

std::string ValidTraceparent(std::string_view value) {
  // 00-<32 hex>-<16 hex>-<2 hex>, lower case, neither id all zeros
  constexpr std::string_view kShape = "00-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
  if (value.size() != kShape.size()) return "";
  for (size_t k = 0; k < value.size(); ++k) {
    const bool good = kShape[k] == 'h' ? absl::ascii_isxdigit(static_cast<unsigned char>(value[k])) && !absl::ascii_isupper(static_cast<unsigned char>(value[k])) : value[k] == kShape[k];
    if (!good) return "";
  }
  const auto zeros = [](std::string_view id) { return id.find_first_not_of('0') == std::string_view::npos; };
  return zeros(value.substr(3, 32)) || zeros(value.substr(36, 16)) ? "" : std::string(value);
}

absl::StatusOr<Caller> IdentifyCaller(const Config& config, const std::vector<std::string>& certificate_names,
                                      const std::optional<std::string>& authorization) {
  Caller caller;
  if (!certificate_names.empty()) {
    caller.identity = absl::StrCat("certificate ", certificate_names[0]);
    if (const std::string* tenant = TenantOfCertificate(config, certificate_names)) caller.tenant = *tenant;
  }
  if (authorization) {
    const std::string* tenant =
        absl::StartsWithIgnoreCase(*authorization, "Bearer ") ? TenantOfToken(config, authorization->substr(7)) : nullptr;
    if (tenant == nullptr) return absl::UnauthenticatedError("authorization: the bearer token is not known here");
    caller.tenant = *tenant;
    if (caller.identity.empty()) caller.identity = absl::StrCat("token of ", *tenant);
  }
  if (caller.identity.empty() && config.auth.required) {
    return absl::UnauthenticatedError("authorization: want a bearer token or a client certificate");
  }
  return caller;
}

}  // namespace goad::server
