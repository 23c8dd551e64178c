// What is in PEM files: certificates, bundles of them, and a private key. Pure: works on their text.
#ifndef GOAD_SERVER_CONFIG_CERTIFICATES_H_
#define GOAD_SERVER_CONFIG_CERTIFICATES_H_

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace goad::server {

// Each gives what is wrong, "" = nothing, and adds to `warnings` what will be wrong or is wrong for some peers only.
// Every certificate in the text is read, not only the first: a library that loads the file stops at the first bad one
// without a word.

// A bundle of authorities. At least one must be valid now; each of the others that is not is a warning with its name.
std::string BundleProblem(const std::string& pem, absl::Time now, std::vector<std::string>* warnings);

// A server's chain, its own certificate first, and the key to it. `expires`: of its own.
std::string PairProblem(const std::string& chain_pem, const std::string& key_pem, absl::Time now,
                        std::vector<std::string>* warnings, absl::Time* expires);

// A list of revoked certificates (RFC 5280, 5), or several in one text, each signed by an authority in `bundle_pem`:
// fills in what RevokedName would say of each certificate in them. A list past its next update is a warning: what it
// revokes stays revoked.
std::string CrlProblem(const std::string& crl_pem, const std::string& bundle_pem, absl::Time now,
                       std::vector<std::string>* warnings, std::vector<std::string>* revoked);

// The issuer and the serial number of a certificate, in one form; "" when the text is no certificate.
std::string RevokedName(const std::string& certificate_pem);

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CERTIFICATES_H_
