// The PEM files of a client, read and looked at before gRPC sees them: with garbage it would fail every connection
// without a word about the file, and without an authority it would trust the system's. Blocks on the disk only; any
// thread.
#ifndef GOAD_CLIENT_SDK_SRC_TLS_FILES_H_
#define GOAD_CLIENT_SDK_SRC_TLS_FILES_H_

#include <string>

#include "absl/status/statusor.h"

namespace goad::internal {

struct TlsFiles {
  std::string root_ca, certificate, key;  // PEM
};

// Certificate and key may both be empty paths. A status that names option, file and fault: not there, no regular file,
// empty, more than 1 MiB, unreadable, no certificate or key in it, a broken one, a key with a passphrase or of another
// certificate.
absl::StatusOr<TlsFiles> ReadTlsFiles(const std::string& root_ca_file, const std::string& certificate_file,
                                      const std::string& key_file);

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_TLS_FILES_H_
