// Who a caller is: from its verified client certificate or its bearer token to an identity and a tenant.
#ifndef GOAD_SERVER_SESSION_IDENTITY_H_
#define GOAD_SERVER_SESSION_IDENTITY_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace goad::server {

// What a caller showed: enough to identify it again under another configuration, and no secret.
struct Credentials {
  std::vector<std::string>
      certificate_names;  // of a verified client certificate: DNS alternative names, without any its common name
  std::string certificate_serial;  // its issuer and serial number, as RevokedName has them; empty = no certificate
  std::optional<std::string>
      token_sha256;  // of a bearer token, 32 bytes; empty = authorization metadata that is no bearer token
};
// From the value of the call's `authorization` metadata, "Bearer TOKEN" (RFC 6750).
std::string HashBearerToken(std::string_view authorization);

struct Caller {
  std::string identity;  // scopes query ids and counts sessions; empty = it did not say who it is
  std::string address;   // which then scopes them: anybody can say any device's name
  std::string tenant = kDefaultTenant;
  std::string traceparent;  // W3C Trace Context, of the call; empty = none
};

// The value as it may be passed on: version 00 and well-formed (W3C Trace Context, 3.2); else empty, which the standard
// asks for.
std::string ValidTraceparent(std::string_view value);

// UNAUTHENTICATED for a revoked certificate, for a token that is not in the file, whatever the certificate, and for
// nobody when auth.required. Every token of the file is compared, each in constant time. Thread-safe, pure.
absl::StatusOr<Caller> IdentifyCaller(const Config& config, const Credentials& credentials);

}  // namespace goad::server

#endif  // GOAD_SERVER_SESSION_IDENTITY_H_
